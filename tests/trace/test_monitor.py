"""Threads that look at loops: a busy one lets them in, and only where that is needed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from kingdom_async import trace
from kingdom_async.testing import Deadlock, run_virtual
from kingdom_async.trace.control import way_in
from kingdom_async.trace.here import current_loop
from kingdom_async.trace.monitor import Monitor
from support.backends import chosen
from support.turns import settle

if TYPE_CHECKING:
    from kingdom_async.trace.loops import Loop

MONITOR = sys.modules[Monitor.__module__]


class FakeLoop:
    """A loop of another thread; it keeps what it is to call later."""

    backend, thread, run = "asyncio", 0, 7

    def __init__(self) -> None:
        self.asked: list[tuple[float, Callable[[], object]]] = []
        self.has_ended = False

    def call(self, func: Callable[[], object]) -> None:
        self._check()
        func()

    def later(self, seconds: float, func: Callable[[], object]) -> Callable[[], object]:
        self._check()
        self.asked.append((seconds, func))
        return self.asked.clear

    def turn(self) -> None:
        """What was asked for is due."""
        _, func = self.asked.pop()
        func()

    def is_idle(self) -> bool:
        return False

    def _check(self) -> None:
        if self.has_ended:
            raise RuntimeError("the loop has ended")


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Monitor:
    """One whose thread waits, and is due in 3 seconds; the time is 10."""
    monkeypatch.setattr(MONITOR, "now", lambda: 10.0)
    monitor = Monitor()
    monitor._wants_in = 13.0
    return monitor


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the loop let go of the interpreter; nobody waits."""
    found: list[float] = []
    monkeypatch.setattr(MONITOR, "sleep", found.append)
    return found


def ask(monitor: Monitor, loop: FakeLoop) -> None:
    monitor._ask(cast("Loop", loop))


def test_a_loop_pauses_until_the_thread_is_done(
    monitor: Monitor, loop: FakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer each time, and no longer than needed; then again when the thread is due."""
    found: list[float] = []

    def sleep(seconds: float) -> None:
        found.append(seconds)
        if len(found) == 2:
            monitor._wants_in = 13.0

    monkeypatch.setattr(MONITOR, "sleep", sleep)
    monitor._wants_in = 0.0
    ask(monitor, loop)
    assert found == [5e-5, 1e-4]
    assert [seconds for seconds, _ in loop.asked] == [pytest.approx(3.002)]


def test_a_thread_that_takes_its_time_is_not_waited_for(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """The loop pauses for less than 2 ms, and again a tenth of a second later."""
    monitor._wants_in = 0.0
    ask(monitor, loop)
    assert len(pauses) == 5
    assert sum(pauses) < 0.002
    assert [seconds for seconds, _ in loop.asked] == [0.1]


def test_a_loop_is_left_alone_when_the_thread_comes_in_by_itself(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """Not at the first time: it may be busy again."""
    ask(monitor, loop)
    turns = 0
    while loop.asked:
        loop.turn()
        turns += 1
    assert turns == 8
    assert pauses == []
    assert monitor._pauses == {}


def test_a_loop_that_pauses_already_is_not_asked_again(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """There is one timer for each."""
    ask(monitor, loop)
    ask(monitor, loop)
    assert len(loop.asked) == 1


def test_a_loop_is_left_alone_when_there_is_nothing_to_look_for(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """The last job has ended."""
    ask(monitor, loop)
    monitor._wants_in = inf
    loop.turn()
    assert (loop.asked, pauses, monitor._pauses) == ([], [], {})


def test_a_loop_that_ends_is_not_asked(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """Neither by the thread nor by itself."""
    ask(monitor, loop)
    loop.has_ended = True
    loop.turn()
    ask(monitor, loop)
    assert loop.asked == []


def test_a_loop_pauses_until_a_request_is_answered(
    loop: FakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, and then no more."""
    found: list[float] = []
    monkeypatch.setattr(way_in, "sleep", found.append)
    answered = way_in.ask_for_turns(cast("Loop", loop))
    for _ in range(3):
        loop.turn()
    answered()
    loop.turn()
    assert found == [0.0001] * 4
    assert loop.asked == []


def test_a_loop_pauses_for_a_request_for_a_moment_only(
    loop: FakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client may be slow to take the answer."""
    found: list[float] = []
    monkeypatch.setattr(way_in, "sleep", found.append)
    times = iter((10.0, 10.05, 10.11))
    monkeypatch.setattr(way_in, "now", lambda: next(times))
    way_in.ask_for_turns(cast("Loop", loop))
    loop.turn()
    assert (found, loop.asked) == ([0.0001], [])


@pytest.mark.parametrize("state", ["idle", "ended"])
def test_a_loop_that_is_not_busy_is_not_asked_to_pause(loop: FakeLoop, state: str) -> None:
    """An idle one is not woken, one that has ended does no harm."""
    loop.has_ended = state == "ended"
    loop.is_idle = lambda: state == "idle"  # type: ignore[method-assign]
    way_in.ask_for_turns(cast("Loop", loop))()
    assert loop.asked == []


async def test_a_loop_calls_later_once(anyio_backend: Any) -> None:
    """Not before the time; on trio at the end of a turn."""
    called: list[str] = []
    loop = current_loop()
    loop.later(3600.0, lambda: called.append("in an hour"))
    loop.later(0.0, lambda: called.append("now"))
    while not called:
        await settle()
    await settle()
    assert called == ["now"]


def test_a_loop_may_have_the_number_of_one_that_has_ended(
    monitor: Monitor, loop: FakeLoop, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pauses as well."""
    ask(monitor, loop)
    (first,) = loop.asked
    monkeypatch.setattr(MONITOR, "now", lambda: 20.0)
    ask(monitor, loop)
    assert len(loop.asked) == 1
    assert loop.asked != [first]


def test_a_loop_pauses_for_the_job_that_is_due_first(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """Also where it was to pause much later, for another one."""
    monitor._wants_in = 70.0
    ask(monitor, loop)
    monitor._wants_in = 13.0
    ask(monitor, loop)
    assert [seconds for seconds, _ in loop.asked] == [pytest.approx(3.002)]


def test_an_idle_loop_is_not_woken_to_pause(
    monitor: Monitor, loop: FakeLoop, pauses: list[float]
) -> None:
    """Who came late did so for another reason."""
    loop.is_idle = lambda: True  # type: ignore[method-assign]
    ask(monitor, loop)
    assert loop.asked == []


async def test_a_pause_is_taken_back_with_the_last_job(anyio_backend: Any) -> None:
    """The job of a loop, whichever others there are."""
    monitor, loop, other = Monitor(), current_loop(), cast("Loop", FakeLoop())
    ends = [
        monitor.add(lambda at: at + 3600.0, each, after=3600.0) for each in (loop, loop, other)
    ]
    taken_back: list[str] = []
    monitor._pauses[loop.run] = 3600.0, lambda: taken_back.append("this one")
    ends[0]()
    assert taken_back == []
    ends[1]()
    assert taken_back == ["this one"]
    assert monitor._pauses == {}
    ends[2]()


@pytest.mark.parametrize("backend", chosen(("asyncio", "trio")))
def test_a_clock_of_the_program_does_not_jump_to_a_pause(backend: str) -> None:
    """A deadlock in virtual time is found when it begins."""
    began: list[float] = []
    found: list[float] = []

    async def main() -> None:
        began.append(anyio.current_time())
        with trace.recording():
            try:
                await anyio.sleep_forever()
            finally:
                found.append(anyio.current_time())

    with pytest.raises(Deadlock):
        run_virtual(main, backend=backend)
    assert found == began


async def test_what_is_to_come_later_is_taken_back(anyio_backend: Any) -> None:
    """And nothing is called; twice does no harm."""
    called: list[str] = []
    back = current_loop().later(0.0, lambda: called.append("now"))
    back()
    back()
    await settle()
    assert called == []


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants a watchdog then is told; the next one has it, when there are threads again."""
    looked = threading.Event()

    def look(at: float) -> float:
        looked.set()
        return at + 60

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monitor, loop = Monitor(), cast("Loop", FakeLoop())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            monitor.add(look, loop)
    assert not monitor._jobs
    end = monitor.add(look, loop)
    assert looked.wait(30)
    end()
