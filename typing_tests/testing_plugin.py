"""Types of the pytest plugin, and of all else that `kingdom_async.testing` exports."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal

import pytest
from typing_extensions import assert_type

import kingdom_async as ka
from kingdom_async.pytest_plugin import VirtualClock, every_backend
from kingdom_async.testing import (
    Deadlock,
    Failure,
    FeatureOff,
    LeakError,
    Report,
    cancel_everywhere,
    explore,
    no_leaks,
    run_virtual,
)

Kind = Literal[
    "task",
    "thread",
    "process",
    "pool",
    "stream",
    "queue",
    "token",
    "coroutine",
    "generator",
]

anyio_backend = every_backend  # as a conftest has it


@pytest.fixture
async def held() -> AsyncGenerator[ka.TaskGroup]:
    async with ka.TaskGroup() as group:
        yield group


async def test_time(held: ka.TaskGroup, virtual_clock: VirtualClock) -> None:
    assert_type(virtual_clock.now, float)
    assert_type(virtual_clock.grace, float)
    virtual_clock.grace = 1
    virtual_clock.now = 5  # type: ignore  # sleep instead
    virtual_clock.grace = "long"  # type: ignore


def test_tools(
    cancel_everywhere: Callable[..., Report], explore: Callable[..., Report], kingdom_seed: int
) -> None:
    assert_type(cancel_everywhere(body).points, int)
    assert_type(explore(body).failures, list[Failure])


async def body() -> None:
    await ka.checkpoint()


def plain() -> None:
    """Not async."""


def functions(report: Report, failure: Failure, lock: ka.Lock) -> None:
    block: AbstractAsyncContextManager[None] = no_leaks(grace=2, allow={"task beat"})
    print(block)
    assert_type(run_virtual(body, backend="asyncio", grace=0), None)
    made = cancel_everywhere(
        body,
        backend="asyncio",
        check=plain,
        watch=(lock, lambda: lock),
        mode="native",
        task="worker*",
        raises=(ValueError, KeyError),
        seed=7,
        clock="real",
        grace=0.5,
        patience=2,
        only=3,
    )
    assert_type(made, Report)
    assert_type(explore(body, seeds=range(10), check=plain).outcomes, Counter[str])
    assert_type(report.call, str)
    assert_type(report.backend, str)
    assert_type(report.points, int)
    assert_type(report.injected, int)
    assert_type(report.remarks, list[str])
    assert_type(report.raise_if_failed(), None)
    assert_type(failure.replay, str)
    assert_type(failure.error, BaseException)
    assert_type(failure.seed, "int | None")
    assert_type(failure.place, str)
    failure.place = "here"  # type: ignore  # it is frozen
    cancel_everywhere(plain)  # type: ignore
    cancel_everywhere(body, clock="fast")  # type: ignore
    cancel_everywhere(body, watch=lock)  # type: ignore
    explore(body, check=body())  # type: ignore
    run_virtual(plain)  # type: ignore
    no_leaks(allow=7)  # type: ignore


def errors(deadlock: Deadlock, leak: LeakError, off: FeatureOff) -> None:
    kind: Kind = leak.leaks[0].kind
    print(kind == "task", kind == "tsak")  # type: ignore
    assert_type(leak.leaks[0].place, str)
    problems: list[Exception] = [deadlock, leak, off]
    assertion: AssertionError = leak
    print(problems, assertion)
