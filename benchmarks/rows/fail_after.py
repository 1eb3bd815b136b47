"""What does a timeout cost that does not strike?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO, TRIO, Comparison, Run, Side


def entered(timeout: Callable[[float], AbstractContextManager[object]]) -> Run:
    async def run(times: int) -> int:
        done = 0
        for _ in range(times):
            with timeout(5):
                done += 1
        return done

    return run


def entered_async(timeout: Callable[[float], AbstractAsyncContextManager[object]]) -> Run:
    async def run(times: int) -> int:
        done = 0
        for _ in range(times):
            async with timeout(5):
                done += 1
        return done

    return run


def trio_fail_after(seconds: float) -> AbstractContextManager[object]:
    import trio

    return trio.fail_after(seconds)


def quattro_fail_after(seconds: float) -> AbstractContextManager[object]:
    import quattro

    return quattro.fail_after(seconds)


COMPARISON = Comparison(
    "fail_after",
    Side("ours", entered(ka.fail_after)),
    (
        Side(
            "anyio.fail_after",
            entered(anyio.fail_after),
            {"asyncio": 0.75, "asyncio+uvloop": 0.75, "trio": 0.9},
        ),
        *(
            [Side("asyncio.timeout", entered_async(asyncio.timeout), loops=ASYNCIO)]
            if sys.version_info >= (3, 11)
            else []
        ),
        Side("trio.fail_after", entered(trio_fail_after), loops=TRIO),
        Side("quattro.fail_after", entered(quattro_fail_after), loops=ASYNCIO, needs="quattro"),
    ),
    times=2_000,
    more_rounds=2,
    outcome=lambda times: times,
)
