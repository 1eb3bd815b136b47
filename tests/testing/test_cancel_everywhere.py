"""`cancel_everywhere`: what it counts, where it strikes, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import anyio
import pytest
import trio

import kingdom_async as ka
from kingdom_async.testing.faults import cancel_everywhere
from kingdom_async.testing.reports import Broken, Report
from kingdom_async.testing.runs.injection import InjectedError
from support.backends import REAL, chosen

BACKENDS = chosen(REAL)
every_backend = pytest.mark.parametrize("backend", BACKENDS)
asyncio_backends = pytest.mark.parametrize(
    "backend", [name for name in BACKENDS if name != "trio"]
)


async def three_turns() -> None:
    for _ in range(3):
        await ka.checkpoint()


async def forgets_the_lock() -> None:
    LOCKS.append(lock := ka.Lock())
    await lock.acquire()
    await ka.sleep(0.001)
    lock.release()


LOCKS: list[ka.Lock] = []


# --- counting and striking -------------------------------------------------------------


@every_backend
def test_each_step_counted_is_a_step_injected(backend: str) -> None:
    """A body that waits three times has three points, and none after its end."""
    report = cancel_everywhere(three_turns, backend=backend)
    assert (report.points, report.injected) == (3, 3)
    assert report.outcomes == {"cancelled": 3}
    assert not report.failures


@every_backend
def test_the_steps_of_children_count(backend: str) -> None:
    """Those of every task that the body starts, however deep, and no others."""

    async def child(deeper: int) -> None:
        async with ka.TaskGroup() as group:
            if deeper:
                group.start_soon(child, deeper - 1)
            await ka.checkpoint()

    report = cancel_everywhere(partial(child, 2), backend=backend)
    report.raise_if_failed()
    assert report.injected == report.points
    alone = cancel_everywhere(partial(child, 0), backend=backend)
    assert report.points > 2 * alone.points


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none before")
@pytest.mark.parametrize("native", [False, True])
def test_the_steps_of_eager_tasks_count(native: bool) -> None:
    """anyio's groups make them on their own; asyncio's begin in a step of the parent."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        if native:
            async with asyncio.TaskGroup() as group:
                group.create_task(three_turns())
        else:
            async with ka.TaskGroup() as group:
                group.start_soon(three_turns)

    report = cancel_everywhere(body, backend="asyncio")
    report.raise_if_failed()
    assert (report.injected, report.points) == ((3, 3) if native else (4, 4))


@every_backend
def test_each_run_is_cancelled_at_another_place(backend: str) -> None:
    """After the k-th step the task is parked at its k-th wait, and gets no further."""
    reached: list[int] = []

    async def body() -> None:
        reached.append(0)
        for number in range(4):
            await ka.sleep(0.001)
            reached[-1] = number + 1

    cancel_everywhere(body, backend=backend)
    assert reached == [4, 0, 1, 2, 3]


@every_backend
def test_only_one_run(backend: str) -> None:
    """``only`` makes the counting run and the one that is asked for."""
    runs: list[int] = []

    async def body() -> None:
        runs.append(1)
        await three_turns()

    report = cancel_everywhere(body, backend=backend, only=2)
    assert (len(runs), report.points, report.injected) == (2, 3, 1)


@every_backend
def test_one_task_only(backend: str) -> None:
    """The others go on, and the body comes to its end."""
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await three_turns()
        except ka.get_cancelled_exc_class():
            ended.append(f"{name} cancelled")
            raise
        ended.append(name)

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(work, "a", name="a")
            group.start_soon(work, "b", name="b")

    report = cancel_everywhere(body, backend=backend, task="a")
    report.raise_if_failed()
    assert (report.points, report.outcomes) == (3, {"finished": 3})
    assert sorted(ended) == ["a"] + ["a cancelled"] * 3 + ["b"] * 4


@asyncio_backends
@pytest.mark.parametrize("mode", ["native", "twice"])
def test_native_cancellation_goes_through_shields(mode: Any, backend: str) -> None:
    """As Task.cancel() does; a scope's does not."""
    through: list[str] = []

    async def body() -> None:
        with anyio.CancelScope(shield=True):
            try:
                await three_turns()
            except asyncio.CancelledError:
                through.append(mode)
                raise

    cancel_everywhere(body, backend=backend)
    assert not through
    cancel_everywhere(body, backend=backend, mode=mode)
    assert through


@every_backend
def test_an_error_instead(backend: str) -> None:
    """It comes out of the very wait, once, and no cancellation with it."""
    caught: list[int] = []

    async def body() -> None:
        for number in range(3):
            try:
                await ka.sleep(0.001)
            except InjectedError:
                caught.append(number)
        await ka.checkpoint()

    report = cancel_everywhere(body, backend=backend, mode="error")
    report.raise_if_failed()
    assert caught == [0, 1, 2]
    assert report.outcomes == {"finished": 3, "raised InjectedError": 1}


@every_backend
def test_an_error_in_the_sleeps_of_the_loop_itself(backend: str) -> None:
    """Not everybody sleeps by anyio's function."""

    async def body() -> None:
        if backend == "trio":
            await trio.sleep(0.001)
            await trio.lowlevel.checkpoint()
        else:
            await asyncio.sleep(0.001)
            await asyncio.sleep(0)

    report = cancel_everywhere(body, backend=backend, mode="error")
    report.raise_if_failed()
    assert report.outcomes == {"raised InjectedError": 2}


@every_backend
def test_an_error_comes_only_where_one_can(backend: str) -> None:
    """Not out of locks, groups and events, which never raise what is none of their own."""

    async def body() -> None:
        async with ka.Lock(), ka.TaskGroup() as group:
            event = ka.Event()
            group.start_soon(event.wait)
            await ka.checkpoint()
            event.set()

    report = cancel_everywhere(body, backend=backend, mode="error")
    report.raise_if_failed()
    assert report.points == 1


@every_backend
@pytest.mark.parametrize("seed", range(3))
def test_under_a_schedule(seed: int, backend: str) -> None:
    """With a seed as well, each step counted is a step injected, and the replay names it."""

    async def body() -> None:
        async with ka.TaskGroup() as group:
            for _ in range(3):
                group.start_soon(three_turns)

    report = cancel_everywhere(body, backend=backend, seed=seed)
    report.raise_if_failed()
    assert report.injected == report.points > 8
    assert f"seed={seed}" in report.call


def test_trio_runs_are_alike() -> None:
    """trio takes its tasks in the same order in each run, unless a seed says otherwise."""
    orders: list[list[str]] = []

    async def child(name: str) -> None:
        await ka.checkpoint()
        orders[-1].append(name)

    async def body() -> None:
        orders.append([])
        async with ka.TaskGroup() as group:
            for name in "abcdef":
                group.start_soon(child, name)
        await ka.checkpoint()

    for _ in range(5):
        cancel_everywhere(body, backend="trio", only=10**6)
    assert len({tuple(order) for order in orders}) == 1


@every_backend
def test_steps_that_come_and_go(backend: str) -> None:
    """Where a step is not there in its own run, the report says so."""
    runs: list[int] = []

    async def body() -> None:
        runs.append(1)
        for _ in range(3 if len(runs) == 1 else 2):
            await ka.checkpoint()

    report = cancel_everywhere(body, backend=backend)
    report.raise_if_failed()
    assert (report.injected, report.points) == (2, 3)
    assert "not reached this time: 1 of the steps" in str(report)


# --- what is said ----------------------------------------------------------------------


@every_backend
def test_a_failure_says_where_and_how_to_see_it_again(backend: str) -> None:
    """Step, file and line, what is wrong, and one line to run."""
    report = cancel_everywhere(forgets_the_lock, backend=backend, watch=[lambda: LOCKS[-1]])
    steps, points = [failure.step for failure in report.failures], report.points
    assert steps == [*range(1, points + 1)][-len(steps) :]
    last = report.failures[-1]
    assert re.fullmatch(
        rf"step {points}, test_cancel_everywhere\.py:\d+ in forgets_the_lock: held after "
        r"the run: <.*> \(locked\)\n  replay: cancel_everywhere\(forgets_the_lock, "
        rf"backend='{re.escape(backend)}', watch=\[lambda: LOCKS\[-1\]\], only={points}\)",
        str(last),
    )
    assert isinstance(last.error, Broken)


@every_backend
def test_what_is_held_is_the_same_in_each_run(backend: str) -> None:
    """The lock of another run is at another address, and told as the same bug all the same."""
    made: list[Any] = []

    async def body() -> None:
        made.append(lock := anyio.Lock())  # all are kept: else one address would do for all
        await lock.acquire()
        for _ in range(3):
            await ka.checkpoint()
        lock.release()

    report = cancel_everywhere(body, backend=backend, watch=[lambda: made[-1]])
    assert len({str(failure.error) for failure in report.failures}) == 1
    assert "like it: step" in str(report)


@every_backend
def test_a_task_that_runs_no_line_of_the_program_is_told_by_its_name(backend: str) -> None:
    """Workers wait for their turn in the package's code, which says nothing of the body."""

    async def ask(number: int) -> None:
        await ka.checkpoint()

    async def body() -> None:
        await ka.amap(ask, range(3), limit=3, rate=ka.RateLimit(1000))

    def check() -> None:
        raise ValueError("never right")

    report = cancel_everywhere(body, check=check, backend=backend)
    places = {failure.place.partition(":")[0] for failure in report.failures}
    assert places == {"", "test_cancel_everywhere.py", f"task 'amap({ask.__qualname__})'"}
    with pytest.raises(AssertionError) as raised:
        report.raise_if_failed()
    assert str(raised.value) == str(report)
    assert raised.value.__cause__ is report.failures[0].error


def test_a_report_without_failures_raises_nothing() -> None:
    """And says how many points there were."""
    report = Report("cancel_everywhere(body)", "trio", points=3, injected=3)
    report.outcomes["cancelled"] = 3
    report.raise_if_failed()
    assert str(report) == (
        "cancel_everywhere(body) on trio: 3 of 3 points, none failed (3 cancelled)"
    )


@every_backend
def test_the_error_of_check_is_the_failure(backend: str) -> None:
    """The same object, of the run that it came from."""
    error = ValueError("out of balance")

    def check() -> None:
        raise error

    report = cancel_everywhere(three_turns, backend=backend, check=check)
    assert [failure.error for failure in report.failures] == [error] * 4
    assert [failure.step for failure in report.failures] == [None, 1, 2, 3]
    assert ": 3 of 3 points, 3 failed, and the undisturbed run (" in str(report)


@every_backend
def test_what_the_body_raises_by_itself(backend: str) -> None:
    """It fails the run without a cancellation already, unless it is allowed."""

    async def body() -> None:
        await ka.checkpoint()
        raise LookupError("nothing there")

    report = cancel_everywhere(body, backend=backend)
    assert [failure.step for failure in report.failures] == [None]
    assert ": 1 of 1 points, the undisturbed run failed (1 cancelled)" in str(report)
    assert "undisturbed: LookupError: nothing there" in str(report)
    cancel_everywhere(body, backend=backend, raises=LookupError).raise_if_failed()


@every_backend
def test_a_semaphore_of_the_body(backend: str) -> None:
    """One that knows how many may have it is watched; of one that does not, that is said."""
    made: list[Any] = []

    async def bounded() -> None:
        made.append(anyio.Semaphore(2, max_value=2))
        await made[-1].acquire()
        await ka.checkpoint()
        made[-1].release()

    async def unbounded() -> None:
        made.append(anyio.Semaphore(2))
        await made[-1].acquire()
        await ka.checkpoint()
        made[-1].release()

    report = cancel_everywhere(bounded, backend=backend, watch=[lambda: made[-1]])
    assert "held after the run: <" in str(report.failures[-1])
    report = cancel_everywhere(unbounded, backend=backend, watch=[lambda: made[-1]])
    assert report.failures[0].step is None
    assert "does not know how many may have it; make it with max_value" in str(report)


@every_backend
def test_an_offload_may_return_although_cancelled(backend: str) -> None:
    """Its result came late, and what was done must be known: this is no swallowing."""

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(ka.offload, int)
            await ka.checkpoint()

    cancel_everywhere(body, backend=backend).raise_if_failed()


async def _waits_behind_a_shield() -> None:
    try:
        await three_turns()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await ka.Event().wait()
        raise


async def _waits_behind_a_shield_of_trios() -> None:
    try:
        await three_turns()
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.Event().wait()
        raise


async def _waits_beside_a_cancelled_body() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(_waits_behind_a_shield)
        await three_turns()


HANGING = [
    (body, backend, clock)
    for body in (
        _waits_behind_a_shield,
        _waits_behind_a_shield_of_trios,
        _waits_beside_a_cancelled_body,
    )
    for backend in chosen(REAL)
    for clock in ("virtual", "real")
    if backend == "trio" or body is not _waits_behind_a_shield_of_trios
    if backend != "asyncio+uvloop" or clock == "real"
]


@pytest.mark.parametrize(("body", "backend", "clock"), HANGING)
def test_hung_runs_end_it(
    body: Callable[[], Awaitable[None]], backend: str, clock: Literal["virtual", "real"]
) -> None:
    """A run that waits for ever behind a shield is given up; after three of them, all is.

    On virtual time that is a deadlock, which nobody has to be patient for.
    """
    patience = 0.2 if clock == "real" else 60
    report = cancel_everywhere(body, backend=backend, clock=clock, patience=patience)
    assert report.outcomes == {"hung": 3}
    assert "stopped early: 3 runs were hung" in str(report)
    assert all(re.search("deadlock|hung", str(failure)) for failure in report.failures)


@every_backend
def test_what_polls_is_given_time(backend: str) -> None:
    """A task that is told anew in each turn may wait for one that finishes, as `save` here."""

    async def body() -> None:
        is_saved = False

        async def save() -> None:
            nonlocal is_saved
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
                await anyio.sleep(0.02)
            is_saved = True

        async with ka.TaskGroup() as group:
            group.start_soon(save)
            try:
                await three_turns()
            except anyio.get_cancelled_exc_class():
                while not is_saved:
                    with contextlib.suppress(anyio.get_cancelled_exc_class()):
                        await anyio.sleep(1)
                raise

    report = cancel_everywhere(body, backend=backend)
    assert not report.failures, report


@every_backend
def test_what_polls_for_ever_is_given_up(backend: str) -> None:
    """Also where another task of the body is there, and takes no step."""

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(_waits_behind_a_shield)
            rounds = 0
            while rounds < 5:
                with contextlib.suppress(BaseException):
                    await anyio.sleep(0.01)
                    rounds += 1

    report = cancel_everywhere(body, backend=backend, only=2)
    assert report.outcomes == {"hung": 1}
    assert "goes on for ever" in str(report)


# --- what is left open ------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize(("mended"), [False, True], ids=["planted", "mended"])
def test_a_socket_that_is_not_closed(mended: bool, backend: str) -> None:
    """Python closes it when it is dropped, and only warns; here that fails the run."""

    async def body() -> None:
        first, second = socket.socketpair()
        try:
            await ka.checkpoint()
        finally:
            if mended:
                first.close()
                second.close()
        first.close()
        second.close()

    report = cancel_everywhere(body, backend=backend)
    assert [failure.step for failure in report.failures] == ([] if mended else [1])
    if not mended:
        assert "left behind: unclosed <socket.socket family=" in str(report)
        allowed = cancel_everywhere(body, backend=backend, raises=ResourceWarning)
        allowed.raise_if_failed()


@every_backend
@pytest.mark.parametrize(("mended"), [False, True], ids=["planted", "mended"])
def test_a_connection_that_is_not_closed(mended: bool, backend: str) -> None:
    """Each in the run that left it, though loops keep what they listen to until they end."""

    async def body() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            stream = await anyio.connect_tcp("127.0.0.1", port)
            try:
                await ka.checkpoint()
            finally:
                if mended:
                    await anyio.aclose_forcefully(stream)
            await stream.aclose()

    report = cancel_everywhere(body, backend=backend)
    steps = {failure.step for failure in report.failures}
    assert len(steps) == (0 if mended else 1), report
    assert mended or "left behind: unclosed " in str(report)


@every_backend
def test_worker_processes_leave_nothing_to_blame_the_body_for(backend: str) -> None:
    """Where one is cancelled in its start, asyncio and trio leave their pipes to Python."""

    async def body() -> None:
        await ka.offload(int, to="process")

    cancel_everywhere(body, backend=backend).raise_if_failed()


@every_backend
def test_a_group_that_is_entered_and_never_left(backend: str) -> None:
    """The cancellation of a run may come out of its loop then; here it does not."""

    async def body() -> None:
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(ka.sleep, 0.01)
        await ka.checkpoint()
        await group.__aexit__(None, None, None)

    report = cancel_everywhere(body, backend=backend)
    assert report.injected == report.points >= 3
    assert re.search("was entered and never left|[Cc]ancel scope|nursery", str(report))


# --- its replay, pasted ------------------------------------------------------------------


class Shop:
    """It has its lock for ever, where it is cancelled at the wrong moment."""

    def __init__(self) -> None:
        self.lock = anyio.Semaphore(1, max_value=1)

    async def sell(self) -> None:
        self.lock = anyio.Semaphore(1, max_value=1)
        await self.lock.acquire()
        await ka.checkpoint()
        self.lock.release()


@every_backend
def test_a_replay_can_be_pasted_where_the_call_is(backend: str) -> None:
    """Whatever is a method, a partial or a lambda there stands as it is written."""
    shop = Shop()

    async def sell(shop: Shop) -> None:
        await shop.sell()

    reports = [
        cancel_everywhere(shop.sell, backend=backend, watch=[lambda: shop.lock]),
        cancel_everywhere(partial(sell, shop), watch=[lambda: shop.lock], backend=backend),
        cancel_everywhere(
            lambda: shop.sell(),
            backend=backend,
            check=lambda: shop.lock.value == 1,
            raises=(LookupError, OSError),
            patience=3,
        ),
    ]
    for report in reports:
        found = report.failures[-1]
        again = eval(found.replay, {**globals(), **locals()})
        assert (again.injected, again.points) == (1, report.points)
        assert again.failures[-1].step == found.step
        assert str(again.failures[-1].error)[-9:] == str(found.error)[-9:]


def test_a_replay_where_there_is_no_source() -> None:
    """Names must do then."""
    report = eval("cancel_everywhere(forgets_the_lock, watch=[lambda: LOCKS[-1]])")
    assert ", watch=…, only=" in report.failures[0].replay


# --- around it -------------------------------------------------------------------------


@every_backend
def test_nothing_is_left_of_it(backend: str) -> None:
    """No thread, no frozen objects, and the filters of warnings as they were."""
    gc.unfreeze()  # what conftest.py has frozen
    threads, filters = threading.active_count(), [*warnings.filters]
    cancel_everywhere(three_turns, backend=backend)
    assert threading.active_count() == threads
    assert [*warnings.filters] == filters
    assert gc.get_freeze_count() == 0  # also of those that Python itself had frozen


def test_what_the_program_has_frozen_stays_frozen() -> None:
    """Whoever had frozen its objects finds them so, also when there are more by now."""
    gc.freeze()
    before = gc.get_freeze_count()
    assert before > 5000
    later = [[number] for number in range(20_000)]
    for _ in range(2):
        cancel_everywhere(three_turns)
        assert gc.get_freeze_count() > before * 0.9
    assert len(later) == 20_000


@every_backend
def test_warnings_of_the_body_come_out_once(backend: str) -> None:
    """However many runs there were; those that the report tells of do not."""

    async def body() -> None:
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
        anyio.create_memory_object_stream[int]()
        await three_turns()

    with pytest.warns(DeprecationWarning, match="old name") as caught:
        report = cancel_everywhere(body, backend=backend)
    assert len(caught) == 1
    assert "left behind: stream" in str(report)


@every_backend
def test_a_point_costs_little(backend: str) -> None:
    """At most 3 000 calls of Python functions for a trivial body, which take a ms or two."""
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    cancel_everywhere(three_turns, backend=backend)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        report = cancel_everywhere(three_turns, backend=backend)
    finally:
        sys.setprofile(before)
    assert 100 < calls / (report.injected + 1) < 3000


# --- arguments -------------------------------------------------------------------------


async def test_inside_a_loop_it_says_so() -> None:
    """It starts loops of its own."""
    with pytest.raises(
        RuntimeError,
        match=r"^cancel_everywhere\(three_turns\) inside a running (asyncio|trio) loop; it "
        r"starts loops of its own, so call it from an ordinary function$",
    ):
        cancel_everywhere(three_turns)


async def _needs_an_account(account: str) -> None:
    await ka.checkpoint()


async def _async_check() -> None:
    raise AssertionError("it is never run")


def _check_of_a_run(run: object) -> None:
    raise AssertionError("it is never called")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"body": 3}, TypeError, "takes an async function, not 3"),
        ({"body": lambda: 3}, TypeError, "takes an async function, and .* returned 3"),
        (
            {"body": _needs_an_account},
            TypeError,
            r"its body without arguments, and _needs_an_account\(\) needs account; write",
        ),
        ({"check": 3}, TypeError, "check must be a function, not 3"),
        ({"check": _async_check}, TypeError, "check must be an ordinary function"),
        (
            {"check": lambda: _async_check()},
            TypeError,
            "check must be an ordinary function",
        ),
        (
            {"check": _check_of_a_run},
            TypeError,
            "check is called without arguments",
        ),
        ({"mode": "thrice"}, ValueError, "mode must be one of 'once', 'twice'"),
        ({"mode": "native", "backend": "trio"}, ValueError, "which trio does not have"),
        ({"watch": 3}, TypeError, r"watch takes a list, not 3; write watch=\[lock\]"),
        ({"watch": [3]}, TypeError, "watch takes locks, semaphores, conditions"),
        (
            {"task": "x"},
            ValueError,
            "no task called 'x' .*; there were '.*three_turns'",
        ),
        ({"task": 3}, TypeError, r"task takes the name of tasks, not 3; write task='worker\*'"),
        ({"raises": [OSError]}, TypeError, "raises takes a class of errors or a tuple of them"),
        ({"seed": "7"}, TypeError, "seed takes one whole number, not '7'"),
        ({"clock": "unreal"}, ValueError, "clock must be 'virtual' or 'real', not 'unreal'"),
        ({"grace": "x"}, TypeError, "grace must be a number of seconds, not 'x'"),
        ({"patience": 0}, ValueError, "patience must be more than 0 seconds"),
        ({"only": 0}, ValueError, "only must be 1 or more, not 0"),
        ({"only": "3"}, TypeError, "only must be a whole number, not '3'"),
        ({"backend": "curio"}, ValueError, "backend='curio' is no backend"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """Each is refused at once, with what to write instead."""
    body = arguments.pop("body", three_turns)
    with pytest.raises(error, match=says) as caught:
        cancel_everywhere(body, **{"backend": "asyncio", **arguments})
    assert type(caught.value) is error


def test_a_coroutine_is_refused_and_closed() -> None:
    """Warnings are errors here: nothing is left that nobody awaits."""
    with pytest.raises(TypeError, match=r"pass three_turns, not three_turns\(\)"):
        cancel_everywhere(three_turns())  # type: ignore[arg-type]


@every_backend
def test_a_check_that_compares_and_raises_nothing(backend: str) -> None:
    """False is as good as an error."""
    report = cancel_everywhere(three_turns, backend=backend, check=lambda: 1 == 2)
    assert [failure.step for failure in report.failures] == [None, 1, 2, 3]
    assert "returned False" in str(report)
    cancel_everywhere(three_turns, backend=backend, check=lambda: True).raise_if_failed()


def test_a_step_that_does_not_come() -> None:
    """A replay of a body that has changed meanwhile fails, and says so."""
    report = cancel_everywhere(three_turns, backend="asyncio", only=99)
    told = "step 99: it did not come: the body took 3 steps, and nothing was cancelled; leave "
    with pytest.raises(AssertionError, match=told):
        report.raise_if_failed()
    assert report.injected == 0


def test_a_body_that_never_waits() -> None:
    """There is no point at which it could be cancelled."""

    async def body() -> None:
        pass

    with pytest.raises(ValueError, match="it never waits, so it cannot be cancelled"):
        cancel_everywhere(body, backend="asyncio")
