"""first_success and first_finished: one decides, the others have ended, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import asyncio_only, virtual_time
from support.errors import shape

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

RACES = pytest.mark.parametrize("race", [ka.first_success, ka.first_finished])


async def value_after(seconds: float, value: Any) -> Any:
    await anyio.sleep(seconds)
    return value


async def fail_after(seconds: float, error: Exception) -> Any:
    await anyio.sleep(seconds)
    raise error


async def stubborn(value: Any) -> Any:
    """A loser that ends well although it is cancelled."""
    try:
        await anyio.sleep_forever()
    except ka.get_cancelled_exc_class():
        return value


async def fail_in_cleanup(error: Exception) -> Any:
    try:
        await anyio.sleep_forever()
    finally:
        raise error


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


# --- both ----------------------------------------------------------------------------------


@RACES
@virtual_time
async def test_the_first_value_wins(race: Any) -> None:
    """The value of the fastest is returned, wherever it stands."""
    assert await race(value_after(3, "c"), value_after(1, "a"), value_after(2, "b")) == "a"


@RACES
async def test_the_others_have_ended_when_it_returns(race: Any) -> None:
    """Losers are cancelled and have cleaned up before the caller goes on."""
    cleaned: list[int] = []

    async def lose(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(1):
                await checkpoint()
            cleaned.append(number)

    async def win() -> str:
        await anyio.wait_all_tasks_blocked()
        return "won"

    assert await race(lose(1), win(), lose(2)) == "won"
    assert sorted(cleaned) == [1, 2]


@RACES
async def test_of_one_is_that_one(race: Any) -> None:
    """A race of one returns its value."""
    assert await race(value_after(0, "alone")) == "alone"


@RACES
async def test_none_is_a_value(race: Any) -> None:
    """A winner may well return None."""
    assert await race(value_after(0, None), anyio.sleep_forever()) is None


@RACES
async def test_of_nothing_is_an_error(race: Any) -> None:
    """There is no first of nothing, and the message says so."""
    name = race.__name__
    with pytest.raises(
        ValueError,
        match=re.escape(f"{name}() needs at least one coroutine: write {name}(fetch(1))") + "$",
    ):
        await race()


@RACES
async def test_a_cancelled_caller_cancels_them_all(race: Any) -> None:
    """Cancelling the caller leaves no task behind."""
    ended = 0

    async def work() -> None:
        nonlocal ended
        try:
            await anyio.sleep_forever()
        finally:
            ended += 1

    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.sleep_forever()

        await race(work(), cancel(), work())
    assert scope.cancelled_caught
    assert ended == 2


@RACES
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_late_value_is_discarded(
    race: Any, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A loser that ends well all the same: its value goes to discard, sync or async."""
    discarded: list[str] = []

    async def discard_async(value: str) -> None:
        await checkpoint()
        discarded.append(value)

    discard = discard_async if is_async else discarded.append
    won = await race(stubborn("a"), value_after(0, "won"), stubborn("b"), discard=discard)
    assert won == "won"
    assert sorted(discarded) == ["a", "b"]
    assert messages(caplog) == []


@RACES
async def test_a_late_value_without_discard_is_logged(
    race: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that nobody gets does not vanish without a word."""
    assert await race(stubborn("late"), value_after(0, "won")) == "won"
    assert messages(caplog) == [
        f"{race.__name__}(): 'late' came too late and was dropped; pass discard= to close it"
    ]


@RACES
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_failing_discard_is_logged_and_the_rest_is_discarded(
    race: Any, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One discard that fails neither spoils the result nor the other discards."""
    seen: list[str] = []

    def discard(value: str) -> Any:
        seen.append(value)
        error = ValueError(value)
        if is_async:
            return fail_after(0, error)
        raise error

    won = await race(stubborn("a"), stubborn("a"), value_after(0, "won"), discard=discard)
    assert won == "won"
    assert seen == ["a", "a"]
    assert messages(caplog) == [f"{race.__name__}(): discard('a') failed"] * 2


@RACES
@virtual_time
async def test_a_discard_that_hangs_is_cut_off(
    race: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """discard gets five seconds, then the race goes on and says so."""

    async def hang(value: str) -> None:
        await anyio.sleep_forever()

    start = anyio.current_time()
    won = await race(stubborn("late"), value_after(0, "won"), discard=hang)
    assert won == "won"
    assert anyio.current_time() - start == pytest.approx(5)
    assert messages(caplog) == [f"{race.__name__}(): discard('late') failed"]


@asyncio_only
@RACES
async def test_every_late_value_is_discarded_though_discards_are_cancelled(race: Any) -> None:
    """A native cancellation, even one in each discard, keeps no value from its discard."""
    discarded: list[str] = []

    async def discard(value: str) -> None:
        discarded.append(value)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await race(*(stubborn(name) for name in "abcd"), value_after(0, "won"), discard=discard)
    assert sorted(discarded) == ["a", "b", "c", "d", "won"]


@RACES
async def test_a_winner_whose_caller_is_cancelled_is_discarded(
    race: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The value was won, but nobody is left to take it: discard gets it."""
    discarded: list[str] = []

    async def discard(value: str) -> None:
        await checkpoint()  # the cancellation does not reach in here
        discarded.append(value)

    with anyio.CancelScope() as scope:

        async def cancel_late() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                scope.cancel()

        await race(cancel_late(), value_after(0, "won"), discard=discard)
    assert scope.cancelled_caught
    assert discarded == ["won"]
    assert messages(caplog) == []


@RACES
async def test_a_loser_that_fails_as_it_is_cancelled_is_logged(
    race: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error does not spoil the winner's value, and is not lost."""
    won = await race(fail_in_cleanup(ValueError("x")), value_after(0, "won"))
    assert won == "won"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    name = race.__name__
    assert record.getMessage() == f"{name}(): a loser failed while being cancelled"
    assert record.exc_info is not None
    assert shape(record.exc_info[1]) == (ValueError, "x")


@RACES
async def test_a_base_exception_ends_the_race(race: Any) -> None:
    """What is no Exception is no way to lose: it is raised."""

    class Unusual(BaseException):
        pass

    async def fail() -> None:
        raise Unusual

    with pytest.raises(Unusual):
        await race(anyio.sleep_forever(), fail())


@asyncio_only
@RACES
async def test_a_natively_cancelled_runner_raises_task_cancelled(race: Any) -> None:
    """A task that asyncio cancelled is not taken for a loser of ours."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    name = f"{__name__}.{cancelled.__qualname__}"
    with pytest.raises(
        ka.TaskCancelled,
        match=re.escape(
            f"{race.__name__}(): the task of {name} was cancelled from outside, "
            "by asyncio.Task.cancel()"
        )
        + "$",
    ):
        await race(anyio.sleep_forever(), cancelled())


async def fail_as(scope: anyio.CancelScope, error: Exception, *, in_cleanup: bool) -> Any:
    """Fail in the turn in which *scope* is cancelled, or because it is."""
    await checkpoint()
    scope.cancel()
    if in_cleanup:
        await fail_in_cleanup(error)
    raise error


@RACES
@pytest.mark.parametrize("in_cleanup", [False, True], ids=["same turn", "cleanup"])
async def test_a_failure_in_the_turn_of_the_cancellation_wins(
    race: Any, in_cleanup: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """On every backend the failure is raised, as gather() and TaskGroup do."""
    error = ValueError("x")
    raised: list[BaseException] = []
    with anyio.CancelScope() as scope:
        try:
            await race(fail_as(scope, error, in_cleanup=in_cleanup))
        except BaseException as caught:
            raised.append(caught)
    (caught_one,) = raised
    if race is ka.first_success:
        assert isinstance(caught_one, ExceptionGroup)
        assert caught_one.exceptions == (error,)
    else:
        assert caught_one is error
    assert messages(caplog) == []


@asyncio_only
@RACES
async def test_a_cancelled_runner_does_not_outlive_its_cancelled_caller(
    race: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """When asyncio cancels both, as at the end of a program, no error comes of it."""
    before = asyncio.all_tasks()
    call = asyncio.ensure_future(race(anyio.sleep_forever(), anyio.sleep_forever()))
    await anyio.wait_all_tasks_blocked()
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert messages(caplog) == []


# --- first_success -------------------------------------------------------------------------


@virtual_time
async def test_failures_do_not_end_it_while_one_is_left() -> None:
    """Only a value wins; those that fail before are out of the race."""
    won = await ka.first_success(
        fail_after(1, ValueError()), value_after(3, "slow"), fail_after(2, KeyError())
    )
    assert won == "slow"


@virtual_time
async def test_failures_before_the_winner_are_debug_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are what the race is for: no alarm, yet not without a trace."""
    caplog.set_level(logging.DEBUG, "kingdom_async")
    await ka.first_success(fail_after(1, ValueError("x")), value_after(2, "won"))
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == "first_success(): failed before another won"
    assert record.exc_info is not None
    assert shape(record.exc_info[1]) == (ValueError, "x")


@virtual_time
@pytest.mark.parametrize("number", [1, 3])
async def test_if_all_fail_a_group_has_their_errors_in_argument_order(number: int) -> None:
    """One error or many: always a group, ordered as the arguments are."""
    errors = [ValueError(index) for index in range(number)]
    with pytest.raises(
        ExceptionGroup, match=re.escape(f"first_success(): all {number} failed")
    ) as caught:
        await ka.first_success(
            *(fail_after(number - index, error) for index, error in enumerate(errors))
        )
    assert list(caught.value.exceptions) == errors


@virtual_time
async def test_failures_are_logged_when_the_caller_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Errors that would have stood in the group do not vanish with a timeout."""
    with ka.move_on_after(2):
        await ka.first_success(fail_after(1, ValueError("x")), anyio.sleep_forever())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "first_success(): failed while its caller was cancelled"
    assert record.exc_info is not None
    assert shape(record.exc_info[1]) == (ValueError, "x")


async def note_start(log: list[tuple[str, float]], name: str, then: Any) -> Any:
    log.append((name, anyio.current_time()))
    return await then


def starts(log: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(name, round(at - log[0][1], 3)) for name, at in log]


@virtual_time
async def test_stagger_starts_one_after_the_other() -> None:
    """The next one starts so many seconds after the last; those not needed never start."""
    log: list[tuple[str, float]] = []
    won = await ka.first_success(
        note_start(log, "a", value_after(100, "a")),
        note_start(log, "b", value_after(100, "b")),
        note_start(log, "c", value_after(5, "c")),
        value_after(1, "never"),
        stagger=10,
    )
    assert won == "c"
    assert starts(log) == [("a", 0), ("b", 10), ("c", 20)]


@virtual_time
async def test_stagger_starts_the_next_at_once_when_one_fails() -> None:
    """Any started one that fails brings the next start forward, the last or an earlier one."""
    log: list[tuple[str, float]] = []
    won = await ka.first_success(
        note_start(log, "a", fail_after(13, ValueError())),
        note_start(log, "b", value_after(100, "b")),
        note_start(log, "c", fail_after(4, ValueError())),
        note_start(log, "d", value_after(12, "d")),
        note_start(log, "e", value_after(100, "e")),
        stagger=10,
    )
    assert won == "d"
    assert starts(log) == [("a", 0), ("b", 10), ("c", 13), ("d", 17), ("e", 27)]


@virtual_time
async def test_stagger_when_all_fail_waits_for_nothing() -> None:
    """Each failure starts the next one, so a long stagger delays no bad news."""
    start = anyio.current_time()
    with pytest.raises(ExceptionGroup) as caught:
        await ka.first_success(
            *(fail_after(1, ValueError(number)) for number in range(3)), stagger=1000
        )
    assert anyio.current_time() - start == pytest.approx(3)
    assert [error.args for error in caught.value.exceptions] == [(0,), (1,), (2,)]


@virtual_time
async def test_stagger_of_zero_starts_all() -> None:
    """stagger=0 is no wait between the starts."""
    won = await ka.first_success(
        value_after(3, "a"), value_after(2, "b"), value_after(1, "c"), stagger=0
    )
    assert won == "c"


@virtual_time
async def test_unstarted_coroutines_are_closed() -> None:
    """Those that stagger never got to leave no never-awaited warning, whoever ends it."""
    unstarted = [value_after(0, "never") for _ in range(2)]
    assert await ka.first_success(value_after(0, "won"), unstarted[0], stagger=1) == "won"
    with ka.move_on_after(1):
        await ka.first_success(anyio.sleep_forever(), unstarted[1], stagger=10)
    assert [coro.cr_frame for coro in unstarted] == [None, None]


@pytest.mark.parametrize("stagger", [-1, float("nan"), True])
async def test_an_impossible_stagger_is_refused(stagger: float) -> None:
    """The message says what stagger may be, and the coroutines are closed."""
    coro = value_after(0, "never")
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"stagger must be 0 or more seconds, not {stagger!r}; "
            "leave it out to start all at once"
        )
        + "$",
    ):
        await ka.first_success(coro, stagger=stagger)
    assert coro.cr_frame is None


# --- first_finished ------------------------------------------------------------------------


@virtual_time
async def test_the_first_failure_decides_too() -> None:
    """first_finished raises the very error of the first to end."""
    error = ValueError("x")
    with pytest.raises(ValueError, match=r"^x$") as caught:
        await ka.first_finished(value_after(2, "slow"), fail_after(1, error))
    assert caught.value is error


async def test_work_until_an_event() -> None:
    """first_finished(work(), stop.wait()): the work ends when the event is set."""
    stop = anyio.Event()
    log: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("work ended")

    async with anyio.create_task_group() as group:

        async def set_it() -> None:
            await anyio.wait_all_tasks_blocked()
            stop.set()

        group.start_soon(set_it)
        await ka.first_finished(work(), stop.wait())
    assert log == ["work ended"]


async def test_a_late_value_beside_a_failure_is_discarded() -> None:
    """When a failure decides, a loser's value is late all the same."""
    discarded: list[str] = []
    with pytest.raises(ValueError, match=r"^x$"):
        await ka.first_finished(
            stubborn("late"), fail_after(0, ValueError("x")), discard=discarded.append
        )
    assert discarded == ["late"]


async def test_a_second_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One failure decides; another one, in the cleanup of a loser, is logged."""
    with pytest.raises(ValueError, match=r"^x$"):
        await ka.first_finished(
            fail_in_cleanup(KeyError("loser")), fail_after(0, ValueError("x"))
        )
    assert messages(caplog) == ["first_finished(): a loser failed while being cancelled"]


async def test_a_decisive_failure_wins_over_a_cancelled_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As from a group: what failed is raised, also when the caller was cancelled meanwhile."""
    with anyio.CancelScope() as scope:

        async def cancel_late() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                scope.cancel()

        with pytest.raises(ValueError, match=r"^x$"):
            await ka.first_finished(cancel_late(), fail_after(0, ValueError("x")))
    assert messages(caplog) == []
