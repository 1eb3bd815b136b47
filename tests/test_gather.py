"""gather: all results in order, or the first failure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import asyncio_only
from support.errors import chain_end, shape


async def after(gate: anyio.Event | None, value: str, opens: anyio.Event | None = None) -> str:
    if gate is not None:
        await gate.wait()
    if opens is not None:
        opens.set()
    return value


async def fail(error: BaseException) -> Any:
    raise error


async def fail_in_cleanup(error: BaseException) -> Any:
    try:
        await anyio.sleep_forever()
    finally:
        raise error


async def test_results_come_in_the_order_given() -> None:
    """The order of the arguments is the order of the results, whoever ends first."""
    one, two = anyio.Event(), anyio.Event()
    results = await ka.gather(
        after(two, "a"), after(one, "b", opens=two), after(None, "c", one)
    )
    assert results == ("a", "b", "c")


async def test_of_nothing_is_nothing() -> None:
    """gather() of no coroutines is an empty tuple."""
    assert await ka.gather() == ()
    assert await ka.gather(return_exceptions=True) == ()


async def test_all_run_at_the_same_time() -> None:
    """No coroutine waits for another one to end."""
    running = 0
    all_run = anyio.Event()

    async def work() -> None:
        nonlocal running
        running += 1
        if running == 10:
            all_run.set()
        await all_run.wait()

    await ka.gather(*(work() for _ in range(10)))


async def test_the_first_failure_is_raised_once_the_others_have_ended() -> None:
    """Siblings are cancelled, clean up, and then the failure itself comes out."""
    error = ValueError("x")
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(1):
                await checkpoint()
            cleaned.append("work")

    async def fail_later() -> None:
        await anyio.wait_all_tasks_blocked()
        raise error

    with pytest.raises(ValueError, match=r"^x$") as caught:
        await ka.gather(work(), fail_later())
    assert caught.value is error
    assert cleaned == ["work"]


async def test_other_failures_are_notes_in_the_chain_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in TaskGroup(errors="first"), no failure is lost."""

    async def fail_later() -> None:
        await anyio.wait_all_tasks_blocked()
        raise ValueError("first")

    with pytest.raises(ValueError, match=r"^first") as caught:
        await ka.gather(fail_later(), fail_in_cleanup(KeyError("other")))
    name = f"{__name__}.fail_in_cleanup"
    assert caught.value.__notes__ == [  # type: ignore[attr-defined]
        f"also failed: task {name!r}: KeyError('other')"
    ]
    assert shape(chain_end(caught.value))[1:] == ((KeyError, "other"),)  # type: ignore[index]
    (record,) = caplog.records
    assert record.getMessage() == f"also failed, beside ValueError('first'): task {name!r}"


async def test_cancelling_the_caller_cancels_them_all() -> None:
    """A cancelled gather leaves no task behind and raises the cancellation."""
    ended = 0

    async def work() -> None:
        nonlocal ended
        try:
            await anyio.sleep_forever()
        finally:
            ended += 1

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: ka.gather(work(), work()))
        await anyio.wait_all_tasks_blocked()
        group.cancel()
    assert ended == 2


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_a_cancelled_caller_runs_no_coroutine_past_its_first_wait(
    return_exceptions: bool,
) -> None:
    """Called in a cancelled scope, gather raises the cancellation; none is left unawaited."""
    done: list[str] = []

    async def work() -> None:
        await checkpoint()
        done.append("work")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await ka.gather(work(), work(), return_exceptions=return_exceptions)
    assert scope.cancelled_caught
    assert done == []


# --- return_exceptions ---------------------------------------------------------------------


async def test_exceptions_as_values_leave_the_siblings_alone() -> None:
    """An Exception stands in its place, and the others go on to their results."""
    error = ValueError("x")

    async def work() -> str:
        await anyio.wait_all_tasks_blocked()
        return "done"

    results = await ka.gather(work(), fail(error), work(), return_exceptions=True)
    assert results == ("done", error, "done")


async def test_a_group_of_exceptions_is_a_value_too() -> None:
    """A nested anyio group that fails is an Exception like any other."""

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail, ValueError("x"))

    (error,) = await ka.gather(work(), return_exceptions=True)
    assert shape(error)[1:] == ((ValueError, "x"),)  # type: ignore[index]


async def test_cancellation_is_never_a_value() -> None:
    """With return_exceptions a cancelled caller is still cancelled."""
    results: list[object] = []
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

        results += await ka.gather(cancel(), anyio.sleep_forever(), return_exceptions=True)
    assert results == []
    assert scope.cancelled_caught


async def test_a_base_exception_is_never_a_value() -> None:
    """What is no Exception ends the call, also with return_exceptions."""

    class Unusual(BaseException):
        pass

    with pytest.raises(Unusual):
        await ka.gather(fail(Unusual()), anyio.sleep_forever(), return_exceptions=True)


# --- native cancellation of a child --------------------------------------------------------


@asyncio_only
@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_a_child_cancelled_natively_raises_task_cancelled(
    return_exceptions: bool,
) -> None:
    """Never a short result: the task that asyncio cancelled is named."""

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    name = f"{__name__}.{cancelled.__qualname__}"
    with pytest.raises(
        ka.TaskCancelled,
        match=re.escape(
            f"gather(): the task of {name} was cancelled from outside, by asyncio.Task.cancel()"
        )
        + "$",
    ) as caught:
        await ka.gather(anyio.sleep_forever(), cancelled(), return_exceptions=return_exceptions)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


@asyncio_only
async def test_a_failure_wins_over_a_child_cancelled_natively() -> None:
    """A sibling that fails as it is cancelled for that is what is raised."""

    async def cancelled() -> None:
        await anyio.wait_all_tasks_blocked()
        raise asyncio.CancelledError

    with pytest.raises(ValueError, match=r"^x$"):
        await ka.gather(cancelled(), fail_in_cleanup(ValueError("x")))


# --- misuse --------------------------------------------------------------------------------


async def fetch(number: int) -> int:
    return number


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "function": (
        lambda: fetch,
        "the function fetch; write {call}(fetch(…)), with what fetch() takes",
    ),
    "list": (
        lambda: [fetch(1)],
        "a list; write {call}(*coros)",
    ),
    "number": (lambda: 3, "3; write {call}(fetch(1), fetch(2))"),
    "future": (
        lambda: Awaited(),
        "<Awaited>; await it in an async function of your own, and give a call of that",
    ),
}


class Awaited:
    def __await__(self) -> Any:
        yield

    def __repr__(self) -> str:
        return "<Awaited>"


@pytest.mark.parametrize("call", [ka.gather, ka.first_success, ka.first_finished])
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_no_coroutine_gets_a_sentence(
    call: Callable[..., Coroutine[Any, Any, Any]], wrong: str
) -> None:
    """The message says what to write, and no coroutine is left unawaited."""
    make, sentence = WRONG[wrong]
    good = fetch(1)
    name = call.__name__
    expected = f"{name}() takes coroutines, not " + sentence.format(call=name)
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        await call(good, make())
    assert good.cr_frame is None  # closed
