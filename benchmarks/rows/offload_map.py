"""What does a tiny blocking function cost when threads run it over many items?"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import anyio
from anyio import to_thread

import kingdom_async as ka

from ..comparison import ASYNCIO_ALWAYS, Comparison, Side

LIMIT = 8


def echo(item: int) -> int:
    return item


async def ours(times: int) -> list[int]:
    return await ka.offload_map(echo, range(times), limit=LIMIT)


async def executor_map(times: int) -> list[int]:
    with ThreadPoolExecutor(LIMIT) as pool:
        return list(pool.map(echo, range(times)))


async def run_in_executor(times: int) -> list[int]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(LIMIT) as pool:
        calls = [loop.run_in_executor(pool, echo, item) for item in range(times)]
        return await asyncio.gather(*calls)


async def anyio_per_item(times: int) -> list[int]:
    limiter = anyio.CapacityLimiter(LIMIT)

    async def call(item: int) -> int:
        return await to_thread.run_sync(echo, item, limiter=limiter)

    return await anyio.amap(call, range(times))


COMPARISON = Comparison(
    "offload_map(limit=8)",
    Side("ours", ours),
    (
        Side("ThreadPoolExecutor.map", executor_map, 0.1),
        Side("run_in_executor", run_in_executor, loops=ASYNCIO_ALWAYS),
        Side("anyio.to_thread per item", anyio_per_item),
    ),
    times=4_000,
    outcome=lambda times: list(range(times)),
)
