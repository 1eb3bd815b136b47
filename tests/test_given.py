"""Coroutines given to a call that is cancelled before its own first step."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import asyncio_only

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


@every_call
def test_what_is_never_awaited_is_one_warning(call: Call) -> None:
    """A forgotten await names the call, and not what it was given besides."""
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


@every_call
async def test_closing_it_closes_what_it_was_given(call: Call) -> None:
    """A call that is closed in place of being awaited warns of nothing."""
    given = [work(), work()]
    call(*given).close()
    assert [inspect.getcoroutinestate(coro) for coro in given] == ["CORO_CLOSED"] * 2
