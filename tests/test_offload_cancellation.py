"""Cancelling an offloaded call: it waits, returns what came late, and hides no failure."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import kingdom_async as ka
from support.backends import asyncio_only
from support.threads import Held, seen, tokens_back

LATE = 30.0  # seconds


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def failures(caplog: pytest.LogCaptureFixture) -> list[BaseException | None]:
    """The errors logged for abandoned calls; anything else in the log is a mistake."""
    for record in caplog.records:
        assert record.name == "kingdom_async"
        assert re.fullmatch(r"offload\(.*\) failed after it was abandoned", record.getMessage())
    return [record.exc_info[1] for record in caplog.records if record.exc_info]


# --- threads -------------------------------------------------------------------------


async def test_cancelling_waits_and_returns_the_late_result() -> None:
    """The cancelled caller gets the result; the cancellation strikes where it next waits."""
    held = Held("late")
    results: list[str] = []
    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:

            async def cancel() -> None:
                await held.until_started()
                scope.cancel()
                held.let_go()

            with ka.CancelScope(shield=True):
                group.start_soon(cancel)
            results.append(await ka.offload(held))
            await ka.checkpoint()
            results.append("went on")
    assert scope.cancelled_caught
    assert results == ["late"]


async def test_cancelling_waits_and_raises_the_late_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error of a cancelled call is raised to its caller, and so is not logged as well."""
    error = ValueError("late")
    held = Held(error)
    with ka.CancelScope() as scope:
        async with ka.TaskGroup(errors="first") as group:

            async def cancel() -> None:
                await held.until_started()
                scope.cancel()
                held.let_go()

            group.start_soon(cancel)
            with pytest.raises(ValueError, match=r"^late$") as caught:
                await ka.offload(held)
            assert caught.value is error
    assert failures(caplog) == []


async def test_the_function_may_stop_early() -> None:
    """check_cancelled() in the thread raises once the caller is cancelled."""
    inside, cancelled = threading.Event(), threading.Event()
    passed: list[str] = []

    def work() -> None:
        ka.check_cancelled()
        passed.append("before")
        inside.set()
        assert cancelled.wait(LATE)
        ka.check_cancelled()
        passed.append("after")

    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:

            async def cancel() -> None:
                with ka.CancelScope(shield=True):
                    await seen(inside)
                    scope.cancel()
                    cancelled.set()

            group.start_soon(cancel)
            await ka.offload(work)
            passed.append("returned")
    assert scope.cancelled_caught
    assert passed == ["before"]


async def test_a_call_back_of_a_cancelled_call_is_cancelled() -> None:
    """from_thread.run() in the thread is where a cancelled function stops waiting."""
    inside = threading.Event()

    def work() -> None:
        inside.set()
        ka.from_thread.run(ka.sleep_forever)

    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:

            async def cancel() -> None:
                with ka.CancelScope(shield=True):
                    await seen(inside)
                scope.cancel()

            group.start_soon(cancel)
            await ka.offload(work)
    assert scope.cancelled_caught


async def test_an_abandoned_call_lets_its_caller_go_at_once() -> None:
    """With abandon_on_cancel the caller does not wait; the function ends by itself."""
    held = Held()
    async with ka.TaskGroup() as group:
        call = group.start_soon(lambda: ka.offload(held, abandon_on_cancel=True))
        await held.until_started()
        group.cancel()
    assert held.running == 1
    assert call.status is ka.TaskHandle.Status.CANCELLED
    held.let_go()
    await held.until_ended()


@pytest.mark.parametrize("error", [ValueError("late"), SystemExit("late")], ids=repr)
async def test_the_failure_of_an_abandoned_call_is_logged_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is left to raise it to: it goes to the log, with its traceback."""
    limiter = ka.Limiter(1, name="one")
    held = Held(error)

    def work() -> None:
        held()

    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(work, limiter=limiter, abandon_on_cancel=True))
        await held.until_started()
        group.cancel()
    held.let_go()
    await tokens_back(limiter)
    assert failures(caplog) == [error]
    assert caplog.records[0].levelname == "ERROR"
    assert (
        caplog.records[0].getMessage().endswith("<locals>.work) failed after it was abandoned")
    )
    assert error.__traceback__ is not None


async def test_an_abandoned_call_that_succeeds_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A result that nobody takes is no failure."""
    limiter = ka.Limiter(1, name="one")
    held = Held("unwanted")
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(held, limiter=limiter, abandon_on_cancel=True))
        await held.until_started()
        group.cancel()
    held.let_go()
    await tokens_back(limiter)
    assert failures(caplog) == []


async def test_an_abandoned_function_that_stops_early_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cancellation that check_cancelled() raises is no failure either."""
    limiter = ka.Limiter(1, name="one")
    held = Held()

    def work() -> None:
        held()
        ka.check_cancelled()

    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(work, limiter=limiter, abandon_on_cancel=True))
        await held.until_started()
        group.cancel()
    held.let_go()
    await tokens_back(limiter)
    assert failures(caplog) == []


# --- threads, natively ---------------------------------------------------------------


@asyncio_only
@pytest.mark.parametrize("abandon", [False, True])
async def test_a_native_cancellation_abandons(
    abandon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Task.cancel() cannot be held back: the caller goes, a late failure is logged once."""
    limiter = ka.Limiter(1, name="one")
    error = ValueError("late")
    held = Held(error)
    call = ka.offload(held, limiter=limiter, abandon_on_cancel=abandon)
    task = asyncio.ensure_future(call)
    await held.until_started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.running == 1
    held.let_go()
    await tokens_back(limiter)
    assert failures(caplog) == [error]


@asyncio_only
async def test_a_failure_is_raised_or_logged_whatever_the_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Cancelled natively at any turn, a call that has started fails where it is seen, once."""
    limiter = ka.Limiter(1, name="one")
    failed: list[ValueError] = []
    raised: list[BaseException | None] = []

    def fail() -> None:
        failed.append(ValueError(len(failed)))
        raise failed[-1]

    for turns in range(12):
        for _ in range(20):
            task = asyncio.ensure_future(ka.offload(fail, limiter=limiter))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                raised.append(task.exception())
    await tokens_back(limiter)
    assert failed
    seen_once = sorted(raised + failures(caplog), key=lambda error: failed.index(error))  # type: ignore[arg-type]
    assert seen_once == failed


@asyncio_only
async def test_a_call_that_failed_in_the_turn_of_its_cancellation_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The outcome is there, the task is about to take it, and is cancelled: not lost."""
    limiter = ka.Limiter(1, name="one")
    error = ValueError("just then")
    held = Held(error)
    task = asyncio.ensure_future(ka.offload(held, limiter=limiter))
    await held.until_started()
    held.let_go()
    # No await: the thread ends while the loop stands still, its report is delivered in the
    # next turn, and the cancellation strikes after it, before the task runs.
    with held._changed:
        assert held._changed.wait_for(lambda: not held.running, LATE)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await tokens_back(limiter)
    raised = [] if task.cancelled() else [task.exception()]
    assert raised + failures(caplog) == [error]


# --- executors -----------------------------------------------------------------------


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_pending_executor_call_is_withdrawn(
    executor: ThreadPoolExecutor, abandon: bool
) -> None:
    """What the executor has not started never starts, and the caller need not wait."""
    busy, never = Held(), Held()
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(busy, to=executor))
        await busy.until_started()
        async with ka.TaskGroup() as pending:
            pending.start_soon(
                lambda: ka.offload(never, to=executor, abandon_on_cancel=abandon)
            )
            await anyio.wait_all_tasks_blocked()
            pending.cancel()
        assert busy.running == 1
        busy.let_go()
    assert await ka.offload(str, "next", to=executor) == "next"
    assert never.started == 0


async def test_a_running_executor_call_is_waited_for(executor: ThreadPoolExecutor) -> None:
    """As with a thread, the late result comes back."""
    held = Held("late")
    results: list[str] = []
    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:

            async def cancel() -> None:
                await held.until_started()
                scope.cancel()
                held.let_go()

            group.start_soon(cancel)
            results.append(await ka.offload(held, to=executor))
    assert results == ["late"]


async def test_a_running_executor_call_may_be_abandoned(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller goes at once; the failure is logged once."""
    error = ValueError("late")
    held = Held(error)
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(held, to=executor, abandon_on_cancel=True))
        await held.until_started()
        group.cancel()
    assert held.running == 1
    held.let_go()
    await ka.offload(int, to=executor)  # one worker: the other call has ended, and reported
    assert failures(caplog) == [error]


@asyncio_only
async def test_a_native_cancellation_abandons_an_executor_call(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Task.cancel() lets the caller go, even one that waits already for a late result."""
    error = ValueError("late")
    held = Held(error)
    scopes: list[ka.CancelScope] = []

    async def call() -> None:
        with ka.CancelScope() as scope:
            scopes.append(scope)
            await ka.offload(held, to=executor)

    task = asyncio.ensure_future(call())
    await held.until_started()
    scopes[0].cancel()
    await anyio.wait_all_tasks_blocked()
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert held.running == 1
    held.let_go()
    await ka.offload(int, to=executor)
    assert failures(caplog) == [error]


@asyncio_only
async def test_native_cancellation_of_an_executor_call_at_every_turn(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that started is raised or logged once; one that did not is withdrawn."""
    failed: list[ValueError] = []
    raised: list[BaseException | None] = []

    def fail() -> None:
        failed.append(ValueError(len(failed)))
        raise failed[-1]

    for turns in range(6):
        for _ in range(20):
            task = asyncio.ensure_future(ka.offload(fail, to=executor))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                raised.append(task.exception())
    await ka.offload(int, to=executor)
    seen_once = sorted(raised + failures(caplog), key=lambda error: failed.index(error))  # type: ignore[arg-type]
    assert seen_once == failed


async def test_a_cancelled_caller_submits_nothing(executor: ThreadPoolExecutor) -> None:
    """Like every await of ours, the call is a checkpoint."""
    never = Held()
    with ka.CancelScope() as scope:
        scope.cancel()
        await ka.offload(never, to=executor)
    assert scope.cancelled_caught
    assert never.started == 0
