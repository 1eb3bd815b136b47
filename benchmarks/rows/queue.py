"""What does an item cost on its way through a queue with room for 100?"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO, ASYNCIO_ALWAYS, TRIO, Comparison, Run, Side

SIZE = 100

Put: TypeAlias = Callable[[int], Awaitable[object]]
Get: TypeAlias = Callable[[], Awaitable[int]]
Pass: TypeAlias = Callable[[Put, Get, int], Awaitable[int]]


async def between_two_tasks(put: Put, get: Get, times: int) -> int:
    """The producer runs ahead until the queue is full, the consumer until it is empty."""

    async def produce() -> None:
        for item in range(times):
            await put(item)

    total = 0
    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        for _ in range(times):
            total += await get()
    return total


async def within_one_task(put: Put, get: Get, times: int) -> int:
    """Nobody ever waits: what the calls themselves cost."""
    total = 0
    for item in range(times):
        await put(item)
        total += await get()
    return total


def ours(how: Pass) -> Run:
    async def run(times: int) -> int:
        queue = ka.Queue[int](SIZE)
        return await how(queue.put, queue.get, times)

    return run


def asyncio_queue(how: Pass) -> Run:
    async def run(times: int) -> int:
        queue: asyncio.Queue[int] = asyncio.Queue(SIZE)
        return await how(queue.put, queue.get, times)

    return run


def anyio_stream(how: Pass) -> Run:
    async def run(times: int) -> int:
        send, receive = anyio.create_memory_object_stream[int](SIZE)
        with send, receive:
            return await how(send.send, receive.receive, times)

    return run


def trio_channel(how: Pass) -> Run:
    async def run(times: int) -> int:
        import trio

        send, receive = trio.open_memory_channel[int](SIZE)
        with send, receive:
            return await how(send.send, receive.receive, times)

    return run


def culsans_queue(how: Pass) -> Run:
    async def run(times: int) -> int:
        import culsans

        queue: Any = culsans.Queue[int](SIZE).async_q
        return await how(queue.put, queue.get, times)

    return run


async def bare_pair(times: int) -> int:
    items: deque[int] = deque()

    async def put(item: int) -> None:
        items.append(item)

    async def get() -> int:
        return items.popleft()

    return await within_one_task(put, get, times)


def others(how: Pass) -> tuple[Side, ...]:
    return (
        Side("asyncio.Queue", asyncio_queue(how), 0.8, ASYNCIO_ALWAYS),
        Side("anyio memory stream", anyio_stream(how), 0.12),
        Side("trio memory channel", trio_channel(how), 0.09, TRIO),
        Side("culsans.Queue", culsans_queue(how), loops=ASYNCIO, needs="culsans"),
    )


TWO_TASKS = Comparison(
    "Queue.put + get, two tasks",
    Side("ours", ours(between_two_tasks)),
    others(between_two_tasks),
    times=10_000,
    outcome=lambda times: sum(range(times)),
)

ONE_TASK = Comparison(
    "Queue.put + get, one task",
    Side("ours", ours(within_one_task)),
    (*others(within_one_task), Side("bare deque pair", bare_pair)),
    times=10_000,
    outcome=lambda times: sum(range(times)),
)
