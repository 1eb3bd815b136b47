"""What does an item cost when the consumer takes what is there, up to 100 at once?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO_ALWAYS, Comparison, Side
from .queue import asyncio_queue, between_two_tasks

SIZE = 100


async def through(
    put: Callable[[int], Awaitable[object]],
    get_batch: Callable[[], Awaitable[list[int]]],
    times: int,
) -> int:
    async def produce() -> None:
        for item in range(times):
            await put(item)

    taken = total = 0
    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        while taken < times:
            batch = await get_batch()
            taken += len(batch)
            total += sum(batch)
    return total


async def ours(times: int) -> int:
    queue = ka.Queue[int](SIZE)
    return await through(queue.put, lambda: queue.get_batch(100), times)


async def asyncio_by_hand(times: int) -> int:
    queue: asyncio.Queue[int] = asyncio.Queue(SIZE)

    async def get_batch() -> list[int]:
        batch = [await queue.get()]
        while len(batch) < 100 and not queue.empty():
            batch.append(queue.get_nowait())
        return batch

    return await through(queue.put, get_batch, times)


COMPARISON = Comparison(
    "Queue.get_batch(100)",
    Side("ours", ours),
    (
        Side("asyncio.Queue put + get", asyncio_queue(between_two_tasks), 0.6, ASYNCIO_ALWAYS),
        Side("asyncio.Queue by hand", asyncio_by_hand, loops=ASYNCIO_ALWAYS),
    ),
    times=10_000,
    outcome=lambda times: sum(range(times)),
)
