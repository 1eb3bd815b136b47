"""What does an item cost in amap() beside a task for each, and beside no concurrency?"""

from __future__ import annotations

import asyncio
from functools import partial

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO, ASYNCIO_ALWAYS, Comparison, Side

LIMIT = 64


async def echo(item: int) -> int:
    return item


async def ours(times: int) -> list[int]:
    return await ka.amap(echo, range(times), limit=LIMIT)


async def asyncio_gather(times: int) -> list[int]:
    return await asyncio.gather(*map(echo, range(times)))


async def anyio_amap(times: int) -> list[int]:
    return await anyio.amap(echo, range(times))


async def bare_await(times: int) -> list[int]:
    return [await echo(item) for item in range(times)]


async def aiometer_run_all(times: int) -> list[int]:
    import aiometer

    calls = [partial(echo, item) for item in range(times)]
    return await aiometer.run_all(calls, max_at_once=LIMIT)


async def quattro_gather(times: int) -> list[int]:
    import quattro

    return list(await quattro.gather(*map(echo, range(times)), concurrency_limit=LIMIT))


COMPARISON = Comparison(
    "amap(limit=64)",
    Side("ours", ours),
    (
        Side("asyncio.gather", asyncio_gather, 0.11, ASYNCIO_ALWAYS),
        Side("anyio.amap", anyio_amap, 0.028),
        Side("bare await", bare_await),
        Side("aiometer.run_all", aiometer_run_all, needs="aiometer"),
        Side("quattro.gather", quattro_gather, loops=ASYNCIO, needs="quattro"),
    ),
    times=5_000,
    outcome=lambda times: list(range(times)),
)
