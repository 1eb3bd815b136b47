"""TaskGroup(errors="first"): which failure is raised, and where the others are."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import REAL, asyncio_only, chosen
from support.errors import chain_end, shape

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


async def fail(error: BaseException) -> None:
    raise error


async def fail_in_cleanup(error: BaseException) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise error


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def logged(caplog: pytest.LogCaptureFixture) -> list[BaseException | None]:
    """The errors that were logged."""
    records = [record for record in caplog.records if record.name == "kingdom_async"]
    assert all(record.levelno == logging.ERROR for record in records)
    return [record.exc_info[1] if record.exc_info else None for record in records]


# --- which one is raised ------------------------------------------------------------------


async def test_a_failure_is_raised_itself() -> None:
    """The very object that the child raised comes out, so its own type catches it."""
    error = ValueError("x")
    with pytest.raises(ValueError, match=r"^x") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(anyio.sleep_forever)
            group.start_soon(fail, error)
    assert caught.value is error
    assert notes(error) == []
    assert error.__context__ is None
    assert error.__cause__ is None


async def test_the_body_is_one_of_the_tasks() -> None:
    """What the body raises is raised itself too, once the tasks have ended."""
    error = ValueError("body")
    ended: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("work")

    with pytest.raises(ValueError, match=r"^body") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            raise error
    assert caught.value is error
    assert ended == ["work"]


@pytest.mark.parametrize("body_first", [False, True])
async def test_the_first_recorded_wins(
    body_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of body and child the one that failed first is raised, the other one is a note."""
    with pytest.raises((ValueError, KeyError)) as caught:
        async with ka.TaskGroup(errors="first") as group:
            if body_first:
                group.start_soon(fail_in_cleanup, ValueError("child"), name="child")
                await anyio.wait_all_tasks_blocked()
                raise KeyError("body")
            group.start_soon(fail, ValueError("child"), name="child")
            await fail_in_cleanup(KeyError("body"))
    if body_first:
        expected, note = (KeyError, "body"), "also failed: task 'child': ValueError('child')"
    else:
        expected, note = (ValueError, "child"), "also failed: the body: KeyError('body')"
    assert shape(caught.value) == expected
    assert notes(caught.value) == [note]


async def test_children_are_raised_in_the_order_they_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The order of failing counts, not the order of starting."""
    gates = [anyio.Event() for _ in range(3)]

    async def hold_on(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(60):
                await gates[number].wait()
            if number:
                gates[number - 1].set()
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"^2") as caught:
        async with ka.TaskGroup(errors="first") as group:
            for number in range(3):
                group.start_soon(hold_on, number, name=number)
            await anyio.wait_all_tasks_blocked()
            gates[2].set()
            group.cancel()
    assert notes(caught.value) == [
        "also failed: task '1': ValueError(1)",
        "also failed: task '0': ValueError(0)",
    ]


async def test_failures_of_one_tick_are_all_kept(caplog: pytest.LogCaptureFixture) -> None:
    """One is raised, every other one is a note; those that are alike have one line of log."""
    with pytest.raises(ValueError, match=r"^[0-4]") as caught:
        async with ka.TaskGroup(errors="first") as group:
            for number in range(5):
                group.start_soon(fail, ValueError(number), name=number)
    (raised,) = caught.value.args
    others = {number for number in range(5) if number != raised}
    assert set(notes(caught.value)) == {
        f"also failed: task '{number}': ValueError({number})" for number in others
    }
    assert logged(caplog) == [None]  # whose traceback is that of the one raised
    message = caplog.records[0].getMessage()
    head = f"also failed, like ValueError({raised}): "
    assert message.startswith(head)
    assert sorted(message[len(head) :].split("; ")) == [
        f"task '{number}': ValueError({number})" for number in sorted(others)
    ]


async def test_failures_of_another_kind_are_logged_with_one_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error of another class, or from another line, is not passed over."""

    async def fail_elsewhere(error: Exception) -> None:
        raise error

    with pytest.raises((ValueError, KeyError)) as caught:
        async with ka.TaskGroup(errors="first") as group:
            for number in range(2):
                group.start_soon(fail, ValueError(number), name=number)
                group.start_soon(fail, KeyError(number), name=number)
                group.start_soon(fail_elsewhere, ValueError(10 + number), name=number)
    assert len(notes(caught.value)) == 5
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert sum(message.startswith("also failed, like ") for message in said) == 1
    assert sum("; like it: task '" in message for message in said) == 2
    assert [error is None for error in logged(caplog)].count(False) == 2


def nested(depth: int, error: BaseException) -> BaseException:
    for _ in range(depth):
        error = BaseExceptionGroup("nested", [error])
    return error


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("where", ["body", "task"])
async def test_a_group_of_one_is_that_one(depth: int, where: str) -> None:
    """A group that holds a single error, however deep, is unwrapped; its notes stay."""
    error = ValueError("x")
    group_error = nested(depth, error)
    group_error.__notes__ = ["of the group"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"^x") as caught:
        async with ka.TaskGroup(errors="first") as group:
            if where == "body":
                raise group_error
            group.start_soon(fail, group_error)
    assert caught.value is error
    assert notes(error)[-1] == "of the group"


async def test_what_a_group_of_one_came_from_is_in_the_chain() -> None:
    """Where somebody wrote ``from``; and the message of the group is a note."""
    origin = OSError("disk full")

    async def save() -> None:
        raise ExceptionGroup("cannot save", [ValueError("row 3")]) from origin

    with pytest.raises(ValueError, match="row 3") as caught:
        await ka.gather(save(), anyio.sleep_forever())
    assert notes(caught.value) == ["in a group: cannot save"]
    assert chain_end(caught.value) is origin


async def test_a_group_of_several_stays_a_group() -> None:
    """Nothing is picked out of a group that a task raised on purpose."""
    error = ExceptionGroup("mine", [ValueError("a"), KeyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail, error)
    assert shape(caught.value) == shape(error)


@pytest.mark.parametrize("where", ["body", "task"])
async def test_plain_groups_of_anyio_inside_are_seen_through(where: str) -> None:
    """A single failure in a nested anyio group, two levels down, comes out bare."""
    error = ValueError("deep")

    async def work() -> None:
        async with anyio.create_task_group() as one:
            one.start_soon(anyio.sleep_forever)
            async with anyio.create_task_group() as two:
                two.start_soon(fail, error)
                await anyio.sleep_forever()

    with pytest.raises(ValueError, match=r"^deep") as caught:
        async with ka.TaskGroup(errors="first") as group:
            if where == "body":
                await work()
            else:
                group.start_soon(work)
    assert caught.value is error


async def test_the_traceback_leads_through_a_group_of_one() -> None:
    """From the task to the function that held the group, and on to what failed in it."""

    async def load() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail, ValueError("deep"))

    async def handle() -> None:
        await load()

    with pytest.raises(ValueError, match=r"^deep") as caught:
        await ka.gather(handle(), anyio.sleep_forever())
    lines = [line.name for line in traceback.extract_tb(caught.value.__traceback__)]
    handled = lines.index("handle")
    assert lines[handled : handled + 2] == ["handle", "load"]
    assert lines[-1] == "fail"
    assert lines.count("load") == 1


async def test_first_inside_a_plain_group_of_anyio() -> None:
    """The other way round, anyio wraps what comes out of ours, as it wraps any error."""
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as outer:
            outer.start_soon(anyio.sleep_forever)
            async with ka.TaskGroup(errors="first") as group:
                group.start_soon(fail, ValueError("x"))
    assert shape(caught.value) == (ExceptionGroup, (ValueError, "x"))


# --- TaskFailed -----------------------------------------------------------------------------


@pytest.mark.parametrize("awaiting", ["body", "task", "task of a task", "nested group"])
async def test_awaiting_a_failed_task_is_no_second_failure(
    awaiting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A TaskFailed that only repeats a failure of the group is that failure."""
    error = ValueError("x")

    async def await_it(handle: ka.TaskHandle[Any]) -> None:
        with anyio.CancelScope(shield=True):
            await handle

    async def await_it_in_a_group(handle: ka.TaskHandle[Any]) -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(await_it, handle)

    with pytest.raises(ValueError, match=r"^x") as caught:
        async with ka.TaskGroup(errors="first") as group:
            handle = group.start_soon(fail, error)
            if awaiting == "body":
                await await_it(handle)
            elif awaiting == "task":
                group.start_soon(await_it, handle)
            elif awaiting == "nested group":
                group.start_soon(await_it_in_a_group, handle)
            else:
                group.start_soon(await_it, group.start_soon(await_it, handle))
    assert caught.value is error
    assert notes(error) == []
    assert logged(caplog) == []


async def test_a_task_failed_of_another_group_stays_what_it_is() -> None:
    """A TaskFailed whose failure another group reports is news in this one."""
    async with anyio.create_task_group() as outer:
        scope = anyio.CancelScope(shield=True)
        with pytest.raises(ExceptionGroup):
            async with anyio.create_task_group() as other:
                handle = other.start_soon(fail, ValueError("x"))
        with scope, pytest.raises(ka.TaskFailed) as caught:
            async with ka.TaskGroup(errors="first"):
                await handle
        outer.cancel()
    assert shape(caught.value.__cause__) == (ValueError, "x")


async def test_a_failure_made_from_a_task_failed_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error of its own, raised from a TaskFailed, is reported beside the first."""

    async def translate(handle: ka.TaskHandle[Any]) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await handle
            except ka.TaskFailed as error:
                raise KeyError("translated") from error

    with pytest.raises(ValueError, match=r"^x") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(translate, group.start_soon(fail, ValueError("x")), name="second")
    assert notes(caught.value) == ["also failed: task 'second': KeyError('translated')"]


async def test_an_error_raised_twice_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same object out of two tasks and the body is one failure."""
    error = ValueError("x")
    with pytest.raises(ValueError, match=r"^x") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail, error)
            group.start_soon(fail, error)
            await fail_in_cleanup(error)
    assert caught.value is error
    assert notes(error) == []
    assert logged(caplog) == []


# --- cancellation --------------------------------------------------------------------------


async def test_a_failure_wins_over_a_cancellation_from_outside() -> None:
    """A cleanup that fails is raised out of the cancelled scope, not swallowed by it."""
    with pytest.raises(ValueError, match=r"^cleanup"), anyio.CancelScope() as scope:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, ValueError("cleanup"))
            group.start_soon(anyio.sleep_forever)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.sleep_forever()


async def test_a_failure_wins_when_the_body_caught_the_cancellation_in_a_group() -> None:
    """So it does where a nested group hands out cancellations and failures together."""

    async def work() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(fail_in_cleanup, ValueError("cleanup"))
            inner.start_soon(anyio.sleep_forever)

    with pytest.raises(ValueError, match=r"^cleanup"), anyio.CancelScope() as scope:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()


async def test_a_failure_beside_a_cancelled_group_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Taking cancellations out of a group makes a new one; its task is still known."""

    async def work() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(fail_in_cleanup, ValueError("a"))
            inner.start_soon(fail_in_cleanup, ValueError("b"))
            inner.start_soon(anyio.sleep_forever)

    async def late() -> None:
        await anyio.wait_all_tasks_blocked()
        raise KeyError("first")

    with pytest.raises(KeyError) as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(late)
            group.start_soon(work, name="work")
    (note,) = notes(caught.value)
    assert note.startswith("also failed: task 'work': ExceptionGroup(")


async def test_cancelling_the_group_does_not_hide_a_failure() -> None:
    """group.cancel() ends the tasks in peace, but not those that fail on the way."""
    with pytest.raises(ValueError, match=r"^cleanup"):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, ValueError("cleanup"))
            await anyio.wait_all_tasks_blocked()
            group.cancel()


@pytest.mark.parametrize("errors", ["group", "first"])
async def test_a_failure_before_started_is_raised_though_the_caller_was_cancelled(
    errors: Any,
) -> None:
    """A task that fails while start() is cancelled is heard (anyio on asyncio drops it)."""

    origin = OSError("origin")

    async def late(*, task_status: ka.TaskStatus[None]) -> None:
        try:
            await fail_in_cleanup(origin)
        except OSError:
            raise ValueError("cleanup")  # noqa: B904

    with pytest.raises((ValueError, ExceptionGroup)) as caught, anyio.CancelScope() as scope:
        async with ka.TaskGroup(errors=errors) as group:

            async def cancel() -> None:
                await anyio.wait_all_tasks_blocked()
                scope.cancel()

            group.start_soon(cancel)
            await group.start(late)
    error: Any = caught.value
    if errors == "group":
        (error,) = error.exceptions
    assert shape(error) == (ValueError, "cleanup")
    if ka.current_backend() != "trio":  # trio before 0.33 puts its own group there
        assert error.__context__ is origin


async def test_what_failed_before_the_body_is_first() -> None:
    """The order is that of failing, also where anyio records a task's failure a turn later."""
    with pytest.raises(ValueError, match=r"^task") as caught:
        async with ka.TaskGroup(errors="first") as group:
            await group.start_soon(fail, ValueError("task")).wait()
            raise KeyError("body")
    assert notes(caught.value) == ["also failed: the body: KeyError('body')"]


# --- where the others are ------------------------------------------------------------------


async def test_every_other_failure_is_noted_chained_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others are notes, a group at the end of the chain, and ERROR log records."""
    with pytest.raises(ValueError, match=r"^users") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, ValueError("x"), name="posts")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, ValueError("users"))
            await fail_in_cleanup(KeyError("y"))
    assert sorted(notes(caught.value)) == [
        "also failed: task 'posts': ValueError('x')",
        "also failed: the body: KeyError('y')",
    ]
    others = chain_end(caught.value)
    assert shape(others) == (ExceptionGroup, (KeyError, "y"), (ValueError, "x"))
    assert isinstance(others, ExceptionGroup)
    assert set(logged(caplog)) == set(others.exceptions)
    assert sorted(record.getMessage() for record in caplog.records) == [
        "also failed, beside ValueError('users'): task 'posts'",
        "also failed, beside ValueError('users'): the body",
    ]


async def test_the_others_keep_their_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    """Each shows the line that raised it, in the chain, in the log, and when printed."""
    with pytest.raises(ValueError, match=r"^first") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, KeyError("other"))
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, ValueError("first"))
    others = chain_end(caught.value)
    assert isinstance(others, ExceptionGroup)
    (other,) = others.exceptions
    frames = [frame.name for frame in traceback.extract_tb(other.__traceback__)]
    assert frames[-1] == "fail_in_cleanup"
    assert "in fail_in_cleanup" in caplog.text
    printed = "".join(traceback.format_exception(caught.value))
    assert "KeyError: 'other'" in printed
    assert "in fail_in_cleanup" in printed


@pytest.mark.parametrize("link", ["cause", "context", "neither"])
async def test_the_chain_of_the_first_is_kept(
    link: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the first was raised from stays; the others stand behind it."""

    async def work() -> None:
        try:
            raise OSError("origin")
        except OSError as error:
            if link == "cause":
                raise ValueError("first") from error
            if link == "context":
                raise ValueError("first")  # noqa: B904
        raise ValueError("first")

    with pytest.raises(ValueError, match=r"^first") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, KeyError("other"))
            await anyio.wait_all_tasks_blocked()
            group.start_soon(work)
            await anyio.sleep_forever()
    first = caught.value
    if link == "cause":
        assert shape(first.__cause__) == (OSError, "origin")
    else:
        assert first.__cause__ is None
    if link == "context":
        assert shape(first.__context__) == (OSError, "origin")
    assert shape(chain_end(first)) == (ExceptionGroup, (KeyError, "other"))


async def test_the_chain_is_kept_through_the_frames_of_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Frames on the way out, and the body's cancellation, do not replace the chain."""

    async def inner() -> None:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, KeyError("other"))
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, ValueError("first"))
            await anyio.sleep_forever()

    async def outer() -> None:
        try:
            await inner()
        finally:
            await checkpoint()

    with pytest.raises(ValueError, match=r"^first") as caught:
        await outer()
    assert shape(chain_end(caught.value)) == (ExceptionGroup, (KeyError, "other"))


async def test_a_failure_that_is_in_the_chain_already_is_not_put_there_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cause that also failed by itself is a note and logged; the chain names it once."""
    cause = KeyError("cause")

    async def work() -> None:
        raise ValueError("first") from cause

    with pytest.raises(ValueError, match=r"^first") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, cause, name="other")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(work)
    assert caught.value.__cause__ is cause
    assert notes(caught.value) == ["also failed: task 'other': KeyError('cause')"]
    assert logged(caplog) == [cause]
    assert not isinstance(chain_end(caught.value), ExceptionGroup)


@asyncio_only  # trio itself breaks down over such an error
async def test_an_unprintable_failure_is_reported_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure whose repr() fails does not get in the way of the first."""

    class Unprintable(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

        __str__ = __repr__

    with pytest.raises(ValueError, match=r"^first") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, Unprintable(), name="other")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, ValueError("first"))
    (note,) = notes(caught.value)
    assert note.startswith("also failed: task 'other': <Unprintable instance at 0x")


async def test_a_single_failure_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What is raised is the caller's to handle; the log is for the others."""
    with pytest.raises(ValueError, match=r"^x"):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail, ValueError("x"))
    assert logged(caplog) == []


# --- KeyboardInterrupt and SystemExit --------------------------------------------------------


@pytest.mark.parametrize("grave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_exit_outranks_every_failure(
    grave: type[BaseException], wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An interrupt in the body is raised, though a task failed before; the task is noted."""
    error = grave("now")
    with pytest.raises(grave, match=r"^now") as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail, ValueError("x"), name="child")
            await fail_in_cleanup(nested(2, error) if wrapped else error)
    assert caught.value is error
    assert notes(error)[-1] == "also failed: task 'child': ValueError('x')"
    assert [shape(other) for other in logged(caplog)] == [(ValueError, "x")]
    assert shape(chain_end(error)) == (ExceptionGroup, (ValueError, "x"))


async def test_an_exit_outranks_other_base_exceptions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """KeyboardInterrupt, then what is no Exception, then the rest."""

    class Unusual(BaseException):
        pass

    with pytest.raises(KeyboardInterrupt) as caught:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail_in_cleanup, Unusual("x"), name="unusual")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, ValueError("y"), name="child")
            await fail_in_cleanup(KeyboardInterrupt())
    assert notes(caught.value) == [
        "also failed: task 'unusual': Unusual('x')",
        "also failed: task 'child': ValueError('y')",
    ]
    assert type(chain_end(caught.value)) is BaseExceptionGroup


@pytest.mark.parametrize("grave", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("errors", ["group", "first"])
@pytest.mark.parametrize("backend", chosen(REAL))
def test_an_exit_in_a_child_ends_the_run(
    grave: type[BaseException], errors: Any, backend: Any
) -> None:
    """On asyncio it tears through the loop, on trio through the group; both end in it."""
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append("work")

    async def main() -> None:
        async with ka.TaskGroup(errors=errors) as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, grave("now"))

    with pytest.raises(BaseException) as caught:  # noqa: PT011
        ka.run(main, backend=backend)
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert type(error) is grave
    assert cleaned == ["work"]
    if errors == "first":
        assert caught.value is error


@pytest.mark.parametrize("backend", chosen(REAL))
def test_an_exit_in_a_child_leaves_no_worker_thread_behind(backend: Any) -> None:
    """The interpreter could not end while an idle one waits for work."""

    async def main() -> None:
        await ka.gather(ka.offload(int), fail(SystemExit("now")))

    before = set(threading.enumerate())
    with pytest.raises(SystemExit, match=r"^now"):
        ka.run(main, backend=backend)
    for thread in set(threading.enumerate()) - before:
        if "AnyIO" in thread.name:  # trio keeps its own, as daemons
            thread.join(10)
            assert not thread.is_alive()


# --- what is left behind -----------------------------------------------------------------


async def boom() -> None:
    raise ValueError("x")  # no local name for it: that alone would be a cycle


async def raise_from_anyio() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(boom)
        group.start_soon(anyio.sleep_forever)


async def raise_from_first() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(boom)
        group.start_soon(anyio.sleep_forever)


async def raise_from_group() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(boom)
        group.start_soon(anyio.sleep_forever)


async def raise_from_body() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(anyio.sleep_forever)
        raise ValueError("x")


async def raise_from_gather() -> None:
    await ka.gather(boom(), anyio.sleep_forever())


async def raise_from_first_success() -> None:
    await ka.first_success(boom(), boom())


async def raise_from_first_finished() -> None:
    await ka.first_finished(boom(), anyio.sleep_forever())


@pytest.mark.parametrize(
    "raises",
    [
        raise_from_anyio,
        raise_from_first,
        raise_from_group,
        raise_from_body,
        raise_from_gather,
        raise_from_first_success,
        raise_from_first_finished,
    ],
    ids=lambda function: function.__name__,
)
async def test_an_error_is_gone_with_its_last_reference(
    raises: Callable[[], Awaitable[None]],
) -> None:
    """No frame of ours holds the error it raised: nothing is left for the collector.

    (The frames of anyio's start() do.)
    """
    gc.collect()
    gc.disable()
    try:
        before = {id(thing) for thing in gc.get_objects()}
        with contextlib.suppress(Exception):
            await raises()
        await checkpoint()
        left = [
            thing
            for thing in gc.get_objects()
            if isinstance(thing, Exception) and id(thing) not in before
        ]
        assert left == []
    finally:
        gc.enable()
