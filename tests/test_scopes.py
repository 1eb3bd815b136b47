"""Timeouts, shields, and the time that is left."""
# ruff: noqa: ASYNC100, ASYNC116, SIM117  # the blocks themselves are the matter

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import logging
import math
import pickle
import re
import sys
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import asyncio_only, chosen, virtual_time
from support.errors import shape

FAILING = pytest.mark.parametrize("call", ["fail_after", "fail_at"])
MOVING = pytest.mark.parametrize("call", ["move_on_after", "move_on_at"])
ALL = pytest.mark.parametrize("call", ["fail_after", "fail_at", "move_on_after", "move_on_at"])


def in_seconds(call: str, seconds: float | None, *args: Any, **kwargs: Any) -> Any:
    """What *call* makes of so many seconds from now."""
    if call.endswith("at") and seconds is not None:
        seconds += anyio.current_time()
    return getattr(ka, call)(seconds, *args, **kwargs)


# --- drop-in for anyio's -------------------------------------------------------------------


@ALL
def test_signatures_are_those_of_anyio(call: str) -> None:
    """Same names, same order, same defaults, so that one import replaces the other."""
    ours = inspect.signature(getattr(ka, call)).parameters.values()
    theirs = inspect.signature(getattr(anyio, call)).parameters.values()
    assert list(ours) == list(theirs)


@ALL
async def test_the_block_is_given_a_cancel_scope_of_anyio(call: str) -> None:
    """`as scope` is a scope with all that anyio's has."""
    with in_seconds(call, 5) as scope:
        assert isinstance(scope, ka.CancelScope)
        assert scope.deadline - anyio.current_time() == pytest.approx(5, abs=1)
        assert (scope.shield, scope.cancel_called) == (False, False)
    assert not scope.cancelled_caught


@MOVING
@virtual_time
async def test_a_scope_can_be_made_first_and_entered_later(call: str) -> None:
    """scope = move_on_after(5); with scope: … works, and the scope tells how it ended."""
    scope = in_seconds(call, 5)
    assert isinstance(scope, ka.CancelScope)
    with scope as entered:
        await anyio.sleep_forever()
    assert entered is scope
    assert scope.cancelled_caught


@ALL
@virtual_time
async def test_none_is_no_limit(call: str) -> None:
    """With None the block takes as long as it takes."""
    with in_seconds(call, None) as scope:
        await anyio.sleep(1e6)
    assert scope.deadline == math.inf
    assert not scope.cancel_called


@ALL
@virtual_time
async def test_a_block_that_is_done_in_time_is_left_alone(call: str) -> None:
    """No timeout, no trace of one."""
    with in_seconds(call, 2) as scope:
        await anyio.sleep(1)
    await anyio.sleep(2)
    assert not scope.cancel_called


@FAILING
@virtual_time
async def test_time_that_runs_out_is_a_timeout_error(call: str) -> None:
    """`except TimeoutError` catches it, as it catches anyio's."""
    with pytest.raises(TimeoutError):
        with in_seconds(call, 1) as scope:
            await anyio.sleep_forever()
    assert scope.cancelled_caught


@MOVING
@virtual_time
async def test_time_that_runs_out_leaves_the_block(call: str) -> None:
    """move_on_* goes on behind the block, and the scope knows why."""
    start = anyio.current_time()
    with in_seconds(call, 1) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() - start == pytest.approx(1)


@ALL
@virtual_time
async def test_the_deadline_can_be_moved(call: str) -> None:
    """More time, or none any more: the scope's deadline is live."""
    with in_seconds(call, 1) as scope:
        scope.deadline += 10
        await anyio.sleep(5)
        scope.deadline = math.inf
        await anyio.sleep(100)
    assert not scope.cancel_called


@ALL
@virtual_time
async def test_a_shield_keeps_outside_cancellation_out(call: str) -> None:
    """shield=True, as second argument or by name; the block's own deadline still holds."""
    for args, kwargs in (((True,), {}), ((), {"shield": True})):
        with anyio.CancelScope() as outer:
            outer.cancel()
            with in_seconds(call, 2, *args, **kwargs) as scope:
                await anyio.sleep(1)
            done = True
            await checkpoint()
        assert done
        assert scope.shield
        assert outer.cancelled_caught


@ALL
@virtual_time
async def test_an_outside_cancellation_is_not_its_timeout(call: str) -> None:
    """Where an outer scope ends the block first, it is the outer scope's doing."""
    with ka.move_on_after(1) as outer:
        with in_seconds(call, 2) as scope:
            await anyio.sleep_forever()
    assert outer.cancelled_caught
    assert not scope.cancelled_caught


# --- the clock starts on entry -------------------------------------------------------------


@pytest.mark.parametrize("call", ["fail_after", "move_on_after"])
@virtual_time
async def test_the_clock_starts_on_entry(call: str) -> None:
    """A scope made early has its full time (anyio's move_on_after starts when made)."""
    block = getattr(ka, call)(2)
    await anyio.sleep(10)
    with block as scope:
        await anyio.sleep(1)
    assert not scope.cancel_called


@virtual_time
async def test_the_deadline_before_entry_is_that_of_an_entry_now() -> None:
    """So it can be read, compared, and set, and what is set stays."""
    now = anyio.current_time()
    scope = ka.move_on_after(10)
    assert scope.deadline == pytest.approx(now + 10)
    scope.deadline = min(scope.deadline, now + 3)
    await anyio.sleep(1)
    with scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(now + 3)


async def test_a_scope_cancelled_before_entry_is_cancelled_in_it() -> None:
    """As with anyio's scope, cancel() may come first."""
    scope = ka.move_on_after(1000)
    scope.cancel("not needed")
    with scope:
        await checkpoint()
    assert scope.cancelled_caught


# --- DeadlineExceeded ----------------------------------------------------------------------


@FAILING
@virtual_time
async def test_the_error_says_what_took_too_long_and_how_long(call: str) -> None:
    """reason, seconds and elapsed, cleanup included, in attributes and message."""
    with pytest.raises(
        ka.DeadlineExceeded,
        match=re.escape("loading the profile: not done after 5 s (took 7.5 s)") + "$",
    ) as caught:
        with in_seconds(call, 5, reason="loading the profile"):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2.5)
    error = caught.value
    assert error.reason == "loading the profile"
    assert (error.seconds, error.elapsed) == (pytest.approx(5), pytest.approx(7.5))


@FAILING
@virtual_time
@pytest.mark.parametrize("moved", [-2, 3])
async def test_the_error_counts_to_where_the_deadline_was_moved(call: str, moved: int) -> None:
    """seconds is the time that the block had, and not the one it was to have at first."""
    with pytest.raises(ka.DeadlineExceeded) as caught:
        with in_seconds(call, 5) as scope:
            scope.deadline += moved
            await anyio.sleep_forever()
    assert caught.value.seconds == pytest.approx(5 + moved)


@virtual_time
async def test_without_a_reason_the_error_still_says_how_long() -> None:
    """The reason is optional, the numbers are not."""
    with pytest.raises(
        ka.DeadlineExceeded, match=re.escape("not done after 0.5 s (took 0.5 s)") + "$"
    ) as caught:
        with ka.fail_after(0.5):
            await anyio.sleep_forever()
    assert caught.value.reason is None


@virtual_time
async def test_the_cause_shows_where_time_ran_out() -> None:
    """The cancellation is the cause; its traceback has the line that was waiting."""

    async def the_slow_line() -> None:
        await anyio.sleep_forever()

    with pytest.raises(ka.DeadlineExceeded) as caught:
        with ka.fail_after(1):
            await the_slow_line()
    cause = caught.value.__cause__
    assert isinstance(cause, ka.get_cancelled_exc_class())
    frames = []
    traceback = cause.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "the_slow_line" in frames


@FAILING
@virtual_time
async def test_a_timeout_error_from_inside_is_told_apart(call: str) -> None:
    """A TimeoutError that the block raises is not ours, however late it is."""
    for seconds in (1, 10):
        with pytest.raises(TimeoutError, match=r"^socket$") as caught:
            with in_seconds(call, 5):
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(seconds)
                raise TimeoutError("socket")
        assert type(caught.value) is TimeoutError


@virtual_time
async def test_nested_timeouts_are_told_apart() -> None:
    """The scope whose time ran out raises, and the other one lets it pass."""
    with pytest.raises(ka.DeadlineExceeded, match=r"^inner: ") as caught:
        with ka.fail_after(10, reason="outer"), ka.fail_after(1, reason="inner"):
            await anyio.sleep_forever()
    assert caught.value.reason == "inner"
    with pytest.raises(ka.DeadlineExceeded, match=r"^outer: "):
        with ka.fail_after(1, reason="outer"), ka.fail_after(10, reason="inner"):
            await anyio.sleep_forever()


@FAILING
@virtual_time
async def test_cancelled_by_hand_is_no_timeout(call: str) -> None:
    """scope.cancel() ends the block in peace…"""
    with in_seconds(call, 5) as scope:
        scope.cancel()
        await anyio.sleep_forever()
    assert scope.cancelled_caught


@FAILING
@virtual_time
async def test_cancelled_by_hand_with_a_cleanup_past_the_deadline_is_one(call: str) -> None:
    """… unless its cleanup outlasts the deadline, as with anyio's."""
    with pytest.raises(ka.DeadlineExceeded):
        with in_seconds(call, 5) as scope:
            scope.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(6)


@FAILING
@virtual_time
async def test_a_cleanup_that_fails_is_raised_instead(call: str) -> None:
    """An error raised on the way out of a timeout is not covered up by it."""
    with pytest.raises(ValueError, match=r"^cleanup$"):
        with in_seconds(call, 1):
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("cleanup")


@pytest.mark.parametrize("again", [pickle.loads, copy.copy], ids=["pickled", "copied"])
def test_the_error_can_be_sent_elsewhere(again: Any) -> None:
    """It survives pickling and copying with all its attributes."""
    error = ka.DeadlineExceeded("saving", 5.0, 5.5)
    same = again(pickle.dumps(error)) if again is pickle.loads else again(error)
    assert type(same) is ka.DeadlineExceeded
    assert str(same) == str(error)
    assert (same.reason, same.seconds, same.elapsed) == ("saving", 5.0, 5.5)


# --- misuse --------------------------------------------------------------------------------


@FAILING
async def test_a_reason_in_the_place_of_shield_gets_a_sentence(call: str) -> None:
    """fail_after(5, "loading") says where the reason goes."""
    with pytest.raises(
        TypeError,
        match=re.escape(
            f"{call}(): the second argument is shield, not 'loading'; "
            f"write {call}(…, reason='loading')"
        )
        + "$",
    ):
        getattr(ka, call)(5, "loading")


@MOVING
async def test_text_in_the_place_of_shield_gets_a_sentence(call: str) -> None:
    """move_on_* take no reason, and say so."""
    with pytest.raises(
        TypeError,
        match=re.escape(
            f"{call}(): the second argument is shield, not 'loading'; pass True or False"
        )
        + "$",
    ):
        getattr(ka, call)(5, "loading")


@pytest.mark.parametrize(
    ("call", "example"),
    [
        ("fail_after", "5"),
        ("fail_at", "current_time() + 5"),
        ("move_on_after", "5"),
        ("move_on_at", "current_time() + 5"),
    ],
)
@pytest.mark.parametrize(
    ("given", "error"), [("5", TypeError), (True, TypeError), (float("nan"), ValueError)]
)
async def test_a_time_that_is_no_number_gets_a_sentence(
    call: str, example: str, given: object, error: type[Exception]
) -> None:
    """The message says what is taken; True is a shield that was forgotten to be named."""
    with pytest.raises(
        error,
        match=re.escape(
            f"{call}() takes seconds as a number, or None for no limit, not {given!r}; "
            f"write {call}({example})"
        )
        + "$",
    ):
        getattr(ka, call)(given)


# --- with_timeout --------------------------------------------------------------------------


@virtual_time
async def test_with_timeout_gives_the_value_or_the_default() -> None:
    """In time the value, else the default; None is no limit."""

    async def fetch(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "page"

    assert await ka.with_timeout(2, fetch(1), default=None) == "page"
    assert await ka.with_timeout(1, fetch(2), default=None) is None
    assert await ka.with_timeout(None, fetch(1e6), default=None) == "page"


@virtual_time
async def test_with_timeout_has_cleaned_up_before_it_returns() -> None:
    """On timeout the coroutine has ended, cleanup and all."""
    cleaned = False

    async def fetch() -> None:
        nonlocal cleaned
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(5):
                await anyio.sleep(1)
            cleaned = True

    assert await ka.with_timeout(1, fetch(), default="default") == "default"
    assert cleaned


async def test_with_timeout_raises_what_the_coroutine_raises() -> None:
    """An error is no timeout."""

    async def fetch() -> None:
        raise TimeoutError("socket")

    with pytest.raises(TimeoutError, match=r"^socket$"):
        await ka.with_timeout(1, fetch(), default=None)


async def test_with_timeout_waits_only_where_its_coroutine_does() -> None:
    """It is no checkpoint of its own: a coroutine that never waits gives its value."""

    async def at_once() -> str:
        return "value"

    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await ka.with_timeout(0, at_once(), default="default") == "value"
    assert not scope.cancelled_caught


async def test_with_timeout_always_closes_the_coroutine() -> None:
    """Also when it never gets to run it."""
    coro = anyio.sleep(1)
    with pytest.raises(TypeError):
        await ka.with_timeout("1", coro, default=None)  # type: ignore[arg-type]
    assert coro.cr_frame is None  # type: ignore[attr-defined]


async def test_with_timeout_passes_an_outside_cancellation_on() -> None:
    """The default is for the timeout only."""
    results: list[object] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        results.append(await ka.with_timeout(1000, anyio.sleep_forever(), default=None))
    assert scope.cancelled_caught
    assert results == []


async def test_with_timeout_of_no_coroutine_gets_a_sentence() -> None:
    """with_timeout(2, fetch) says what to write."""
    with pytest.raises(
        TypeError,
        match=re.escape(
            "with_timeout() takes a coroutine, not 3; "
            "write with_timeout(2, fetch(url), default=None)"
        )
        + "$",
    ):
        await ka.with_timeout(2, 3, default=None)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=re.escape("write with_timeout(2, fetch(url), default=None)") + "$"
    ):
        await ka.with_timeout("2", anyio.sleep(1), default=None)  # type: ignore[arg-type]


# --- shielded ------------------------------------------------------------------------------


@virtual_time
async def test_a_cleanup_under_shielded_finishes() -> None:
    """Cancel scopes outside do not reach in, and the cancellation then goes on."""
    log: list[str] = []
    with ka.move_on_after(1) as scope:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(5):
                await anyio.sleep(2)
                log.append("saved")
            await checkpoint()
            log.append("not reached")
    assert scope.cancelled_caught
    assert log == ["saved"]


@virtual_time
async def test_shielded_gives_a_scope_with_the_grace_as_its_deadline() -> None:
    """`as scope` is anyio's, shielded, and its clock starts on entry."""
    block = ka.shielded(5)
    await anyio.sleep(100)
    with block as scope:
        assert isinstance(scope, ka.CancelScope)
        assert scope.shield
        assert ka.remaining() == pytest.approx(5)


@virtual_time
async def test_what_the_grace_cuts_off_is_an_error() -> None:
    """A cleanup that hangs does not outlive every deadline, and says so."""
    with pytest.raises(
        ka.DeadlineExceeded,
        match=re.escape("cleanup under shielded(): not done after 5 s (took 5 s)") + "$",
    ) as caught:
        with ka.shielded(5):
            await anyio.sleep_forever()
    assert (caught.value.seconds, caught.value.elapsed) == (5, pytest.approx(5))


@virtual_time
async def test_a_grace_that_was_moved_is_told_as_it_came_to_be() -> None:
    """The scope's deadline may be moved, as that of fail_after()."""
    with pytest.raises(ka.DeadlineExceeded) as caught, ka.shielded(5) as scope:
        scope.deadline += 3
        await anyio.sleep_forever()
    assert (caught.value.seconds, caught.value.elapsed) == (8, 8)


@virtual_time
async def test_an_error_under_way_is_in_the_chain_of_the_late_cleanup() -> None:
    """The cleanup of a failure that hangs does not bury the failure."""
    failure = ValueError("under way")
    with pytest.raises(ka.DeadlineExceeded) as caught:
        try:
            raise failure
        finally:
            with ka.shielded(5):
                await anyio.sleep_forever()
    chain: list[BaseException | None] = [caught.value]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    assert failure in chain


@virtual_time
async def test_while_a_cancellation_is_handled_the_late_cleanup_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cancellation goes on, caught by the scope it belongs to."""
    with ka.move_on_after(1) as scope:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(5):
                await anyio.sleep_forever()
    assert scope.cancelled_caught
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("kingdom_async", logging.ERROR)
    assert record.getMessage() == (
        "cleanup under shielded(): not done after 5 s (took 5 s); the cancellation goes on"
    )


async def overrun_in_the_cleanup_of_a_cleanup() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        try:
            raise ValueError("the cleanup fails too")
        except ValueError:
            with ka.shielded(5):
                await anyio.sleep_forever()


@virtual_time
async def test_a_cancellation_handled_further_up_goes_on_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In an ``except`` for what failed in the cleanup, the cancellation is not replaced."""
    with ka.move_on_after(1) as scope:
        await overrun_in_the_cleanup_of_a_cleanup()
    assert scope.cancelled_caught
    assert len(caplog.records) == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Task does not tell on 3.10")
@pytest.mark.parametrize("anyio_backend", chosen(("asyncio+virtual",)), indirect=True)
async def test_a_native_cancellation_handled_further_up_goes_on_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same for Task.cancel()."""
    task = asyncio.ensure_future(overrun_in_the_cleanup_of_a_cleanup())
    await anyio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(caplog.records) == 1


@virtual_time
async def test_a_cancellation_that_is_over_hides_no_late_cleanup(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a timeout its cancellation is in the chain still, and no longer under way."""
    late = r"^cleanup under shielded"
    with pytest.raises(ka.DeadlineExceeded, match=late) as caught:
        try:
            with ka.fail_after(1):
                await anyio.sleep_forever()
        except ka.DeadlineExceeded as error:
            assert isinstance(error.__cause__, ka.get_cancelled_exc_class())  # noqa: PT017
            with ka.shielded(5):
                await anyio.sleep_forever()
    assert caught.value.seconds == 5
    assert caplog.records == []


@virtual_time
async def test_inside_another_shield_a_late_cleanup_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No scope reaches in there, though asyncio still counts its cancellation."""
    seen: list[float] = []
    with ka.move_on_after(1) as scope:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(100):
                try:
                    try:
                        raise ValueError("under way")
                    finally:
                        with ka.shielded(5):
                            await anyio.sleep_forever()
                except ka.DeadlineExceeded as late:
                    seen.append(late.seconds)
    assert scope.cancelled_caught
    assert seen == [5]
    assert caplog.records == []


@virtual_time
async def test_a_late_cleanup_of_a_cancelled_group_is_logged_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In each task of a cancelled group: none turns its cancellation into a failure."""

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(5):
                await anyio.sleep_forever()

    with ka.move_on_after(1) as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(work)
            group.start_soon(work)
    assert scope.cancelled_caught
    assert len(caplog.records) == 2


@virtual_time
async def test_an_error_in_the_shielded_block_is_raised() -> None:
    """shielded() swallows nothing of what the block itself raises."""
    with pytest.raises(ValueError, match=r"^x$"), ka.shielded(5):
        raise ValueError("x")


@virtual_time
async def test_a_shielded_block_cancelled_by_hand_ends_in_peace() -> None:
    """Its scope may be cancelled from within; that is no lateness."""
    with ka.shielded(5) as scope:
        scope.cancel()
        await anyio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize("grace", [None, True, "5"])
async def test_shielded_without_a_bound_is_refused(grace: Any) -> None:
    """None would outlive every deadline; inf must be written out."""
    with pytest.raises(
        TypeError,
        match=re.escape(f"shielded({grace!r}): cleanup needs a bound; write shielded(5)") + "$",
    ):
        ka.shielded(grace)
    with ka.shielded(math.inf):
        await checkpoint()


@asyncio_only
async def test_a_native_cancellation_goes_through_shielded() -> None:
    """asyncio has no way to hold it back: said in the docstring, and true."""
    ended: list[str] = []

    async def save() -> None:
        with ka.shielded(1000):
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("save")

    task = asyncio.ensure_future(save())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["save"]


@asyncio_only
@pytest.mark.parametrize("call", ["fail_after", "fail_at", "move_on_after", "move_on_at"])
async def test_a_native_cancellation_is_not_taken_for_a_timeout(call: str) -> None:
    """Task.cancel() passes through every scope as what it is."""

    async def work() -> None:
        with in_seconds(call, 1000):
            await anyio.sleep_forever()

    task = asyncio.ensure_future(work())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


# --- remaining -----------------------------------------------------------------------------


@virtual_time
async def test_remaining_counts_down_to_the_nearest_deadline() -> None:
    """inf without one, the nearest of several, and none from outside a shield."""
    assert ka.remaining() == math.inf
    with ka.move_on_after(10):
        assert ka.remaining() == pytest.approx(10)
        await anyio.sleep(3)
        assert ka.remaining() == pytest.approx(7)
        with ka.fail_after(100):
            assert ka.remaining() == pytest.approx(7)
        with ka.fail_after(2):
            assert ka.remaining() == pytest.approx(2)
        with anyio.CancelScope(shield=True):
            assert ka.remaining() == math.inf
    assert ka.remaining() == math.inf


@virtual_time
async def test_remaining_is_zero_when_time_is_up_or_the_scope_cancelled() -> None:
    """Never negative, so that it can be passed on as a timeout."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert ka.remaining() == 0
    with ka.move_on_after(-1):
        assert ka.remaining() == 0


@virtual_time
async def test_remaining_holds_in_the_tasks_of_a_group() -> None:
    """A deadline around a group is in force in its tasks."""
    seen: list[float] = []

    async def work() -> None:
        seen.append(ka.remaining())

    with ka.fail_after(10):
        async with ka.TaskGroup() as group:
            group.start_soon(work)
    assert seen == [pytest.approx(10)]


def test_shape_of_the_error() -> None:
    """A TimeoutError that says all in its message."""
    assert shape(ka.DeadlineExceeded(None, 1, 2)) == (
        ka.DeadlineExceeded,
        "not done after 1 s (took 2 s)",
    )


@pytest.mark.parametrize("call", [ka.fail_after, ka.fail_at, ka.shielded])
async def test_a_block_is_entered_once(call: Any) -> None:
    """Two tasks in one block would cut each other's scopes off."""
    block = call(1e9)
    with block, pytest.raises(RuntimeError, match="can be entered once; call it anew"), block:
        pass
    with pytest.raises(RuntimeError, match="can be entered once; call it anew"), block:
        pass


async def test_a_negative_grace_is_refused() -> None:
    """The message says what is taken."""
    with pytest.raises(ValueError, match="grace must be 0 or more seconds, not -1"):
        ka.shielded(-1)


@pytest.mark.parametrize(
    "call",
    [ka.fail_after, ka.fail_at, ka.move_on_after, ka.move_on_at, ka.shielded],
    ids=lambda f: f.__name__,
)
async def test_async_with_gets_a_sentence(call: Any) -> None:
    """On every Python: 3.10 would say no more than AttributeError."""
    block = call(1)
    with pytest.raises(
        TypeError,
        match=re.escape(
            "blocks such as fail_after(5) and shielded(5) are entered with a plain with: "
            "write with fail_after(5):, not async with"
        )
        + "$",
    ):
        async with block:
            pass
    assert not isinstance(block, contextlib.AbstractAsyncContextManager)
