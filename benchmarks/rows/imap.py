"""What does an item cost when results are consumed one by one as they come?"""

from __future__ import annotations

import asyncio

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO, ASYNCIO_ALWAYS, Comparison, Side

LIMIT = 64


async def echo(item: int) -> int:
    return item


async def ours(times: int) -> int:
    total = 0
    async with ka.imap(echo, range(times), limit=LIMIT) as results:
        async for result in results:
            total += result
    return total


async def asyncio_gather(times: int) -> int:
    return sum(await asyncio.gather(*map(echo, range(times))))


async def anyio_as_completed(times: int) -> int:
    total = 0
    async with anyio.as_completed(*map(echo, range(times))) as handles:
        async for handle in handles:
            total += handle.return_value
    return total


async def aiometer_amap(times: int) -> int:
    import aiometer

    total = 0
    async with aiometer.amap(echo, range(times), max_at_once=LIMIT) as results:
        async for result in results:
            total += result
    return total


async def aiotools_as_completed_safe(times: int) -> int:
    import aiotools

    total = 0
    async for result in aiotools.as_completed_safe(map(echo, range(times))):
        total += await result
    return total


COMPARISON = Comparison(
    "imap(limit=64)",
    Side("ours", ours),
    (
        Side("asyncio.gather", asyncio_gather, 0.33, ASYNCIO_ALWAYS),
        Side("anyio.as_completed", anyio_as_completed),
        Side("aiometer.amap", aiometer_amap, needs="aiometer"),
        Side(
            "aiotools.as_completed_safe",
            aiotools_as_completed_safe,
            loops=ASYNCIO,
            needs="aiotools",
        ),
    ),
    times=5_000,
    outcome=lambda times: sum(range(times)),
)
