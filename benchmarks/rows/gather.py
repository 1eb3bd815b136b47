"""What does a coroutine cost in gather(), with many of them and with three?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO, Comparison, Run, Side


async def echo(item: int) -> int:
    return item


def at_once(gather: Callable[..., Awaitable[Any]]) -> Run:
    async def run(times: int) -> list[int]:
        return list(await gather(*map(echo, range(times))))

    return run


def by_threes(gather: Callable[..., Awaitable[Any]]) -> Run:
    async def run(times: int) -> list[int]:
        results: list[int] = []
        for item in range(0, times, 3):
            results += await gather(echo(item), echo(item + 1), echo(item + 2))
        return results[:times]

    return run


async def aiotools_gather_safe(*coros: Any) -> Any:
    import aiotools

    return await aiotools.gather_safe(coros)


async def quattro_gather(*coros: Any) -> Any:
    import quattro

    return await quattro.gather(*coros)


def others(how: Callable[[Callable[..., Awaitable[Any]]], Run]) -> tuple[Side, ...]:
    return (
        Side("anyio.gather", how(anyio.gather), 1.05),
        Side("asyncio.gather", how(asyncio.gather), loops=ASYNCIO),
        Side(
            "aiotools.gather_safe",
            how(aiotools_gather_safe),
            loops=ASYNCIO,
            needs="aiotools.taskscope",
        ),
        Side("quattro.gather", how(quattro_gather), loops=ASYNCIO, needs="quattro"),
    )


MANY = Comparison(
    "gather, 1 000 coroutines",
    Side("ours", at_once(ka.gather)),
    others(at_once),
    times=1_000,
    outcome=lambda times: list(range(times)),
)

THREE = Comparison(
    "gather, 3 coroutines",
    Side("ours", by_threes(ka.gather)),
    others(by_threes),
    times=999,
    outcome=lambda times: list(range(times)),
)
