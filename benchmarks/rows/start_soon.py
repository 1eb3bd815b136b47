"""What does a task cost, from start_soon() until its group is left?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import anyio

import kingdom_async as ka

from ..comparison import ASYNCIO, TRIO, Comparison, Run, Side


def with_start_soon(make_group: Callable[[], Any]) -> Run:
    async def run(times: int) -> int:
        done: list[int] = []

        async def work(item: int) -> None:
            done.append(item)

        async with make_group() as group:
            for item in range(times):
                group.start_soon(work, item)
        return len(done)

    return run


def with_create_task(make_group: Callable[[], Any]) -> Run:
    async def run(times: int) -> int:
        done: list[int] = []

        async def work(item: int) -> None:
            done.append(item)

        async with make_group() as group:
            for item in range(times):
                group.create_task(work(item))
        return len(done)

    return run


def trio_nursery() -> Any:
    import trio

    return trio.open_nursery()


def aiotools_scope() -> Any:
    import aiotools

    return aiotools.TaskScope()


def quattro_group() -> Any:
    import quattro

    return quattro.TaskGroup()


ANYIO = with_start_soon(anyio.create_task_group)
OTHERS = (
    *(
        [Side("asyncio.TaskGroup", with_create_task(asyncio.TaskGroup), loops=ASYNCIO)]
        if sys.version_info >= (3, 11)
        else []
    ),
    Side("trio nursery", with_start_soon(trio_nursery), loops=TRIO),
    Side(
        "aiotools.TaskScope",
        with_create_task(aiotools_scope),
        loops=ASYNCIO,
        needs="aiotools.taskscope",
    ),
    Side("quattro.TaskGroup", with_create_task(quattro_group), loops=ASYNCIO, needs="quattro"),
)

GROUP = Comparison(
    "TaskGroup.start_soon",
    Side("ours", with_start_soon(ka.TaskGroup)),
    (Side("anyio's task group", ANYIO, 1.05), *OTHERS),
    times=1_000,
    outcome=lambda times: times,
)

FIRST = Comparison(
    'TaskGroup(errors="first").start_soon',
    Side("ours", with_start_soon(lambda: ka.TaskGroup(errors="first"))),
    (Side("anyio's task group", ANYIO, 1.15),),
    times=1_000,
    outcome=lambda times: times,
)
