"""What does one blocking call in a thread cost?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from anyio import to_thread

import kingdom_async as ka

from ..comparison import ASYNCIO, TRIO, Comparison, Run, Side


def echo(item: int) -> int:
    return item


def one_by_one(call: Callable[[Callable[[int], int], int], Awaitable[int]]) -> Run:
    async def run(times: int) -> int:
        total = 0
        for item in range(times):
            total += await call(echo, item)
        return total

    return run


async def trio_to_thread(func: Callable[[int], int], item: int) -> int:
    import trio

    return await trio.to_thread.run_sync(func, item)


COMPARISON = Comparison(
    "offload, one call",
    Side("ours", one_by_one(ka.offload)),
    (
        Side("anyio.to_thread.run_sync", one_by_one(to_thread.run_sync), 1.08),
        Side("asyncio.to_thread", one_by_one(asyncio.to_thread), loops=ASYNCIO),
        Side("trio.to_thread.run_sync", one_by_one(trio_to_thread), loops=TRIO),
    ),
    times=200,
    more_rounds=4,
    outcome=lambda times: sum(range(times)),
)
