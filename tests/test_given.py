"""Coroutines given to a call that is cancelled before its own first step."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import REAL, asyncio_only

Call = Callable[..., Coroutine[Any, Any, object]]


def with_timeout(*coros: Coroutine[Any, Any, int]) -> Coroutine[Any, Any, object]:
    for spare in coros[1:]:
        spare.close()
    return ka.with_timeout(1, coros[0], default=None)


every_call = pytest.mark.parametrize(
    "call",
    [ka.gather, ka.first_success, ka.first_finished, with_timeout],
    ids=["gather", "first_success", "first_finished", "with_timeout"],
)


async def work() -> int:
    await anyio.sleep_forever()
    return 1


@every_call
@asyncio_only
async def test_a_task_cancelled_before_its_first_step_closes_what_it_was_given(
    call: Call,
) -> None:
    """``asyncio.create_task(gather(…)).cancel()``: no coroutine stays unawaited."""
    given = [work(), work()]
    task = asyncio.create_task(call(*given))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await checkpoint()  # the turn that resumed this one still holds the task
    gc.collect()
    assert [inspect.getcoroutinestate(coro) for coro in given] == ["CORO_CLOSED"] * 2


@every_call
async def test_a_cancelled_group_closes_what_its_tasks_were_given(call: Call) -> None:
    """The same in a group that is cancelled at once."""
    given = [work(), work()]
    async with ka.TaskGroup() as group:
        group.create_task(call(*given))
        group.cancel()
    gc.collect()
    assert [inspect.getcoroutinestate(coro) for coro in given] == ["CORO_CLOSED"] * 2


def group_of(*coros: Coroutine[Any, Any, int]) -> Coroutine[Any, Any, object]:
    async def run() -> None:
        async with ka.TaskGroup(errors="first") as group:
            for coro in coros:
                group.create_task(coro)

    return run()


def gather_values(*coros: Coroutine[Any, Any, int]) -> Coroutine[Any, Any, object]:
    return ka.gather(*coros, return_exceptions=True)


@pytest.mark.parametrize("backend", REAL)
@pytest.mark.parametrize(
    "call",
    [group_of, ka.gather, gather_values, ka.first_success, ka.first_finished],
    ids=lambda call: call.__name__,
)
def test_an_exit_before_a_task_started_closes_its_coroutine(call: Call, backend: Any) -> None:
    """sys.exit() tears through asyncio's loop: what is to start next never does."""
    given: list[Coroutine[Any, Any, int]] = []

    async def leave() -> int:
        sys.exit(3)

    async def main() -> None:
        given.extend([leave(), work(), work()])
        await call(*given)

    with pytest.raises(SystemExit):
        ka.run(main, backend=backend)
    assert [inspect.getcoroutinestate(coro) for coro in given] == ["CORO_CLOSED"] * 3


@asyncio_only
async def test_a_task_of_a_group_cancelled_before_its_first_step_is_closed() -> None:
    """Task.cancel() of a child: the group closes what it was to run."""
    before = asyncio.all_tasks()
    given = work()
    async with ka.TaskGroup() as group:
        group.create_task(given)
        for task in asyncio.all_tasks() - before:
            task.cancel()
    assert inspect.getcoroutinestate(given) == "CORO_CLOSED"


@every_call
def test_what_is_never_awaited_is_one_warning(call: Call) -> None:
    """A forgotten await names the call, and not what it was given besides."""
    gc.collect()  # what others have left behind
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coro = call(work(), work())
        assert inspect.iscoroutine(coro)
        name = coro.__qualname__
        del coro
        gc.collect()
    assert [str(warning.message).split("\n")[0] for warning in caught] == [
        f"coroutine '{name}' was never awaited"
    ]
    assert getattr(ka, name)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no mark before 3.12")
@pytest.mark.parametrize(
    "call", [ka.gather, ka.first_success, ka.first_finished, ka.with_timeout]
)
def test_they_count_as_async_functions(call: Call) -> None:
    """Mocks and frameworks ask, and are told."""
    assert inspect.iscoroutinefunction(call)


@every_call
async def test_closing_it_closes_what_it_was_given(call: Call) -> None:
    """A call that is closed in place of being awaited warns of nothing."""
    given = [work(), work()]
    call(*given).close()
    assert [inspect.getcoroutinestate(coro) for coro in given] == ["CORO_CLOSED"] * 2
