"""The service in the picture of ``kingdom-async trace top``: orders wait, a report blocks."""

from __future__ import annotations

import random
import time
from functools import partial

import anyio

import kingdom_async as ka

prices = [f"https://shop.example/price/{number}" for number in range(40)]
chance = random.Random(4)


async def fetch_price(url: str) -> int:
    await ka.sleep(chance.uniform(0.2, 2.5))
    return len(url)


async def refresh_prices() -> None:
    while True:
        await ka.amap(fetch_price, prices, limit=4)


async def stock(lock: anyio.Lock) -> None:
    async with lock:
        await ka.sleep(0.01)


async def handle(lock: anyio.Lock, mails: ka.Queue[str], order: str) -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(stock, lock)
    await mails.put(order)


async def send(mails: ka.Queue[str]) -> None:
    async for _ in mails:
        await ka.sleep(0.4)


def summarise() -> None:
    time.sleep(0.25)


async def report() -> None:
    while True:
        summarise()
        await ka.sleep(3.1)


async def hold_stock(lock: anyio.Lock) -> None:
    await ka.sleep(2)
    async with lock:
        await ka.sleep(60)


async def main() -> None:
    lock, mails = anyio.Lock(), ka.Queue[str](5)
    async with ka.TaskGroup() as service:
        service.start_soon(refresh_prices)
        service.start_soon(hold_stock, lock)
        service.start_soon(partial(send, mails), name="invoices")
        service.start_soon(report)
        for number in range(400):
            path = f"/orders/{number}"
            service.start_soon(handle, lock, mails, path, name=f"handle({path})")
            await ka.sleep(0.1)


if __name__ == "__main__":
    ka.run(main)
