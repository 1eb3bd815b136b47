"""The watchdog: who blocks the loop, told while it does, and never without need.

Rule: a test that blocks the loop goes on as soon as that was reported.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import sniffio
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import guard
from kingdom_async.trace.here import current_loop
from kingdom_async.trace.lints.pings import Watchdog
from kingdom_async.trace.monitor import monitor
from support.backends import REAL, backend_and_options, chosen
from support.turns import settle

#: Not the function of that name.
pings = sys.modules[Watchdog.__module__]
#: `trace.watchdog` is the function, not the file.
watchdog_module = sys.modules["kingdom_async.trace.lints.watchdog"]
_LATE = 30.0
SOON = 0.05


class Reports(logging.Handler):
    """The records of our logger, and an event for the first."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.came.set()

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    # Two ways to block the loop until it was reported.

    def wait_in_c(self) -> None:
        assert self.came.wait(_LATE)

    def spin(self) -> None:
        until = time.monotonic() + _LATE
        while not self.came.is_set():
            assert time.monotonic() < until

    def sleep(self) -> None:
        until = time.monotonic() + _LATE
        while not self.came.is_set():
            time.sleep(0.2)
            assert time.monotonic() < until


@pytest.fixture
def reports() -> Iterator[Reports]:
    handler = Reports()
    logger = logging.getLogger("kingdom_async.trace")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "kingdom_async.trace"]


async def answered(pings: Callable[[], int], more: int = 3) -> None:
    """Wait until the loop has answered some more pings."""
    wanted = pings() + more
    with anyio.fail_after(_LATE):
        while pings() < wanted:  # noqa: ASYNC110  # they come from a thread
            await anyio.sleep(0.005)


@pytest.mark.parametrize(
    ("block", "source"),
    [
        (Reports.wait_in_c, "assert self.came.wait(_LATE)"),
        (Reports.spin, ""),  # one of its lines
        (Reports.sleep, "time.sleep(0.2)"),
    ],
)
async def test_who_blocks_the_loop(
    reports: Reports, block: Callable[[Reports], None], source: str
) -> None:
    """Told while it blocks, once, and again at its end: task, line and stack, and a lint."""

    async def work() -> None:
        await checkpoint()
        block(reports)

    with trace.recording() as recording, trace.watchdog(SOON):
        async with ka.TaskGroup() as group:
            group.start_soon(work, name="worker")
        await answered(lambda: len(recording.lags))

    first, second = reports.records
    name = block.__name__
    assert (first.levelno, first.task_name) == (logging.WARNING, "worker")  # type: ignore[attr-defined]
    head, *stack = first.getMessage().splitlines()
    assert head.startswith("blocked-loop: task 'worker' (test_watchdog.py:")
    assert f" in {name}) has held the loop for 0." in head
    assert head.endswith(source)
    assert [line.partition(" in ")[2] for line in stack][-2] == "work: block(reports)"
    assert stack[-1].partition(" in ")[2].startswith(f"{name}: {source}")
    assert second.getMessage().startswith("blocked-loop: task 'worker' (test_watchdog.py:")
    assert " let go of the loop after 0." in second.getMessage()

    (lint,) = [each for each in recording.lints if each.kind == "blocked-loop"]
    # Of what is over, the recording has the true length.
    length = second.getMessage().partition(" let go of the loop after ")[2]
    assert f" in {name}) held the loop for {length}" in lint.message
    assert lint.message.endswith(source)
    assert lint.task == next(task.serial for task in recording.tasks if task.name == "worker")
    assert lint.place == first.place  # type: ignore[attr-defined]
    assert max(lag.seconds for lag in recording.lags) >= SOON


async def test_a_block_that_is_not_over_when_the_recording_ends(reports: Reports) -> None:
    """The recording has what was known then, and does not change any more."""
    with trace.watchdog(SOON):
        recording = trace.start()
        async with ka.TaskGroup() as group:
            group.start_soon(_stop_in_a_block, reports, name="worker")
        (lint,) = recording.lints
        assert " has held the loop for 0." in lint.message
        await until_told(reports, 2)
    assert " let go of the loop after " in reports.messages[1]
    assert recording.lints == (lint,)


async def _stop_in_a_block(reports: Reports) -> None:
    reports.wait_in_c()
    trace.stop()


async def until_told(reports: Reports, number: int) -> None:
    with anyio.fail_after(_LATE):
        while len(reports.messages) < number:  # noqa: ASYNC110  # they come from a thread
            await anyio.sleep(0.005)


async def test_a_callback_that_blocks_the_loop(reports: Reports) -> None:
    """No task, but the line."""
    with trace.watchdog(SOON):
        if sniffio.current_async_library() == "trio":
            import trio

            trio.lowlevel.current_trio_token().run_sync_soon(reports.wait_in_c)
        else:
            asyncio.get_running_loop().call_soon(reports.wait_in_c)
        await settle(3)
    head, *stack = reports.messages[0].splitlines()
    assert head.startswith("blocked-loop: a callback (test_watchdog.py:")
    assert " in wait_in_c) has held the loop for 0." in head
    assert len(stack) == 1
    assert " let go of the loop after " in reports.messages[1]


async def test_a_task_of_others_that_blocks_the_loop(reports: Reports) -> None:
    """Named as its loop names it, and without any recording."""

    async def work() -> None:
        reports.wait_in_c()

    with trace.watchdog(SOON):
        async with anyio.create_task_group() as group:
            group.start_soon(work, name="theirs")
    assert reports.messages[0].startswith("blocked-loop: task 'theirs' (test_watchdog.py:")


async def test_which_recordings_are_told(reports: Reports) -> None:
    """Every one that is on, or the one that was asked for."""
    with trace.recording() as first, trace.recording("steps") as second:
        with trace.watchdog(SOON, recording=first):
            reports.wait_in_c()
            await answered(lambda: len(first.lags))
        lags = len(first.lags)
        assert (len(first.lints), len(second.lags)) == (1, 0)
        reports.came.clear()
        with trace.watchdog(SOON):
            reports.wait_in_c()
            await answered(lambda: len(second.lags))
    kinds = [
        [lint.kind for lint in each.lints if lint.kind == "blocked-loop"]
        for each in (first, second)
    ]
    assert [len(each) for each in kinds] == [2, 1]
    assert len(first.lags) > lags


async def test_no_alarm_where_nothing_blocks(reports: Reports) -> None:
    """An idle loop and a busy one both answer, and how long it took is noted."""
    with trace.recording() as recording, trace.watchdog(0.8):
        await answered(lambda: len(recording.lags), more=2)
        before = len(recording.lags)
        with anyio.fail_after(_LATE):
            while len(recording.lags) < before + 2:
                await checkpoint()
    assert reports.messages == []
    assert all(0 <= lag.seconds < 0.8 for lag in recording.lags)
    assert all(
        recording.snapshot().began <= lag.at <= trace.records.now() for lag in recording.lags
    )


async def test_no_thread_stays_behind() -> None:
    """Watchdogs and recordings share one thread, which ends with the last of them."""
    with trace.watchdog(1), trace.recording():
        with trace.watchdog(2):
            assert threads() == ["kingdom_async.trace"]
        assert threads() == ["kingdom_async.trace"]
    assert threads() == []
    for _ in range(200):
        with trace.watchdog(1):
            pass
    assert threads() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_is_not_watched_yet() -> None:
    """Its loop may be: a watchdog of the parent's does not stand in the way."""
    with watchdog_module.of_program(60):
        pid = os.fork()
        if not pid:
            os._exit(len(watchdog_module._dogs) + len(watchdog_module._on))
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222  # it ends at once
    assert os.waitstatus_to_exitcode(status) == 0


# --- by hand -------------------------------------------------------------------------------


class Times:
    """The time and the processor's time of a watchdog that is called by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = self.cpu = 1000.0
        #: How long the watchdog's thread stood in line for a processor, where that is told.
        self.line: float | None = 0.0
        monkeypatch.setattr(pings, "now", lambda: self.at)
        monkeypatch.setattr(pings, "process_time", lambda: self.cpu)
        monkeypatch.setattr(pings, "_time_in_line", lambda: self.line)

    def pass_(self, dog: Watchdog, seconds: float, cpu: float = 0.0) -> float:
        self.at += seconds
        self.cpu += cpu
        return dog(self.at) - self.at


async def test_it_comes_when_it_has_to(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Pings are a quarter apart; a report comes at the limit, once, and one at the end."""
    times = Times(monkeypatch)
    dog = Watchdog(1.0, current_loop())
    assert times.pass_(dog, 0) == 0.25
    await settle(3)
    assert times.pass_(dog, 0.25) == 0.25  # answered, and the next one sent
    for _ in range(3):
        times.pass_(dog, 0.25)
    assert reports.messages == []
    times.pass_(dog, 0.25)
    assert len(reports.messages) == 1
    for _ in range(20):  # told once
        times.pass_(dog, 0.25)
    dog.leave()
    assert len(reports.messages) == 2
    assert " let go of the loop after 6 s" in reports.messages[1]


async def test_a_process_that_stood_still_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Stopped, or without a processor: the loop gets the time that it did not have."""
    times = Times(monkeypatch)
    dog = Watchdog(1.0, current_loop())
    times.pass_(dog, 0)
    times.pass_(dog, 60.25)  # and no processor time is used
    times.pass_(dog, 0.25)
    assert reports.messages == []
    await settle(3)
    times.pass_(dog, 60)
    assert reports.messages == []


@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_loop_that_waits_for_the_processor_blocks_nothing(
    backend: str, monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Where the machine is busy, an idle loop may be late to answer; it is no task's fault."""
    times, seen = Times(monkeypatch), list[float]()

    async def main() -> None:
        loop = current_loop()
        dog = Watchdog(1.0, loop)
        monkeypatch.setattr(loop, "call", lambda func: None)  # it does not get to answer
        monkeypatch.setattr(loop, "is_idle", lambda: False)

        def looks() -> None:
            until = time.monotonic() + _LATE
            for _ in range(7):  # until right before the limit twice
                while backend != "asyncio+uvloop" and not waits(loop.thread):
                    assert time.monotonic() < until
                seen.append(times.pass_(dog, 0.25))

        times.pass_(dog, 0)
        await anyio.to_thread.run_sync(looks)

    name, options = backend_and_options(backend)
    anyio.run(main, backend=name, backend_options=options)
    assert len(seen) == 7
    assert reports.messages == []


def waits(thread: int) -> bool:
    """True while a loop's thread is where it waits for events."""
    frame = sys._current_frames()[thread]
    return frame.f_code.co_name in {"select", "get_events"}


async def test_c_code_that_holds_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Nothing can look meanwhile; it is told when the call is over."""
    times = Times(monkeypatch)
    dog = Watchdog(1.0, current_loop())
    with trace.recording() as recording:
        times.pass_(dog, 0)
        await settle(3)  # it has answered: there was no question when it happened
        times.pass_(dog, 2.25, cpu=2.0)
        assert len(reports.messages) == 1
        times.pass_(dog, 0.25)
    assert len(reports.messages) == 1
    head = reports.messages[0].splitlines()[0]
    assert " after 2 s in which no thread could run; a call of C code held the inte" in head
    assert "test_watchdog.py:" in head
    assert [lint.kind for lint in recording.lints] == ["blocked-loop"]


@pytest.mark.parametrize(
    ("line", "cpu", "is_told"),
    [
        (0.5, 0.3, True),  # C code, given a tenth of a processor
        (1.95, 0.3, False),  # this thread itself was given none
        (None, 0.3, False),  # it is not told which of the two it was
        (None, 1.5, True),
        (0.5, 0.05, False),  # the process was stopped
    ],
)
async def test_c_code_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
    reports: Reports,
    line: float | None,
    cpu: float,
    is_told: bool,
) -> None:
    """What this thread's lateness comes from is told apart, however little it was given."""
    times = Times(monkeypatch)
    dog = Watchdog(1.0, current_loop())
    with trace.recording() as recording:
        times.line = None if line is None else 0.0
        times.pass_(dog, 0)
        await settle(3)
        times.line = line
        times.pass_(dog, 2.25, cpu=cpu)
    assert len(reports.messages) == is_told
    assert (max(lag.seconds for lag in recording.lags) == 2) == is_told


async def test_c_code_that_is_over(monkeypatch: pytest.MonkeyPatch, reports: Reports) -> None:
    """Nobody who is there now is blamed for it."""
    times = Times(monkeypatch)
    dog = Watchdog(1.0, current_loop())
    nobody = pings.holder_of(current_loop(), [])._replace(is_nobody=True)
    monkeypatch.setattr(pings, "holder_of", lambda *_: nobody)
    times.pass_(dog, 0)
    await settle(3)
    times.pass_(dog, 2.25, cpu=2.0)
    (message,) = reports.messages
    assert message == (
        "blocked-loop: the loop was held for 2 s in which no thread could run, by a call of C "
        "code that is over; the line is not known any more"
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a busy machine hides it")
async def test_a_regular_expression_that_explodes(reports: Reports) -> None:
    """It lets no other thread run; it is told of, and is in the lags."""
    import re

    async def work() -> None:
        until, length = time.monotonic() + 0.5, 18
        while time.monotonic() < until:  # until one that takes long is among them
            began = time.monotonic()
            re.match("(a+)+$", "a" * length + "!")
            if time.monotonic() - began < 0.5:
                length += 1
                until = time.monotonic() + 0.5

    with trace.recording() as recording, trace.watchdog(0.2):
        for _ in range(3):
            await answered(lambda: len(recording.lags))
            await work()
        await answered(lambda: len(recording.lags))
    # Where the call is over when the watchdog gets to look, it does not say who it was.
    told = (" in work)", "in which no thread could run")
    assert any(text in message for message in reports.messages for text in told)
    assert max(lag.seconds for lag in recording.lags) >= 0.5


@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_loop_that_has_ended_blocks_nothing(
    backend: str, monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Whoever keeps a watchdog longer than its loop gets no false alarm."""
    times = Times(monkeypatch)
    dogs: list[Watchdog] = []

    async def main() -> None:
        dogs.append(Watchdog(1.0, current_loop()))
        times.pass_(dogs[0], 0)

    name, options = backend_and_options(backend)
    anyio.run(main, backend=name, backend_options=options)
    for seconds in (0.25, 0.25, 0.25, 1.25, 60, 60):
        times.pass_(dogs[0], seconds, cpu=0)
    assert reports.messages == []


@pytest.mark.skipif("asyncio" not in chosen(("asyncio",)), reason="asyncio only")
def test_a_loop_that_is_stopped_for_a_while_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """asyncio takes calls for a loop that does not run; none is asked then."""
    times, dogs = Times(monkeypatch), list[Watchdog]()
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        dogs.append(Watchdog(1.0, current_loop()))

    loop.run_until_complete(begin())
    for _ in range(20):
        times.pass_(dogs[0], 0.25)
    loop.run_until_complete(asyncio.sleep(0))
    for _ in range(20):
        times.pass_(dogs[0], 0.25)
    loop.close()
    times.pass_(dogs[0], 0.25)
    assert reports.messages == []


async def test_a_loop_that_ends_before_it_answers_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """It was asked in its last moment."""
    times, loop = Times(monkeypatch), current_loop()
    dog = Watchdog(1.0, loop)
    times.pass_(dog, 0)
    monkeypatch.setattr(loop, "runs", lambda: False)
    for _ in range(9):
        times.pass_(dog, 0.25)
    assert reports.messages == []


# --- clocks --------------------------------------------------------------------------------


def in_time(func: Callable[[], object]) -> None:
    """Run *func* in a thread that has to end."""
    thread = threading.Thread(target=func, daemon=True)
    thread.start()
    thread.join(_LATE)
    assert not thread.is_alive(), "it hangs"


@pytest.mark.skipif("trio" not in chosen(("trio",)), reason="trio only")
@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_pings_do_not_keep_a_clock_from_jumping(threshold: float, reports: Reports) -> None:
    """An autojump clock jumps when nothing happens; a ping each 10 ms is not something."""
    import trio.testing

    async def sleeps() -> None:
        with trace.recording() as recording, trace.watchdog(0.04):
            for _ in range(3):
                await anyio.sleep(1000)
        lags.extend(recording.lags)

    lags: list[trace.Lag] = []
    clock = trio.testing.MockClock(autojump_threshold=threshold)
    in_time(lambda: trio.run(sleeps, clock=clock))
    assert reports.messages == []
    assert lags or not threshold


@pytest.mark.skipif("trio" not in chosen(("trio",)), reason="trio only")
def test_pings_do_not_keep_trio_from_being_idle() -> None:
    """wait_all_tasks_blocked() waits for a time without events."""
    import trio.testing

    async def waits() -> None:
        with trace.watchdog(0.04):
            await trio.testing.wait_all_tasks_blocked(cushion=0.1)

    in_time(lambda: trio.run(waits))


@pytest.mark.parametrize(
    "anyio_backend", chosen(("asyncio+virtual", "trio+virtual")), indirect=True
)
async def test_hours_of_virtual_time_are_no_blockage(reports: Reports) -> None:
    """Time that jumps is not time that passed."""
    with trace.recording() as recording, trace.watchdog(0.4):
        while len(recording.lags) < 3:  # noqa: ASYNC110  # they come from a thread
            await anyio.sleep(3600)
    assert reports.messages == []


# --- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), True, "0.5", None])
async def test_seconds_that_are_none(seconds: Any) -> None:
    """A sentence says what to write."""
    with pytest.raises(ValueError, match="watchdog") as caught, trace.watchdog(seconds):
        pass
    assert str(caught.value) == (
        "watchdog() takes the seconds for which the loop may be blocked, more than 0, not "
        f"{seconds!r}; write watchdog(0.5)"
    )


def test_no_loop() -> None:
    """It watches the loop that runs here."""
    with pytest.raises(RuntimeError) as caught, trace.watchdog(1):
        pass
    assert str(caught.value) == (
        "watchdog() where no event loop runs; enter it inside an async function, or set "
        "KINGDOM_ASYNC_WATCHDOG=0.5 for run()"
    )


async def test_a_watchdog_that_fails_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and called again."""
    monkeypatch.setattr(guard, "_reported", set())
    monkeypatch.setattr(sys.modules[type(monitor).__module__], "_REST", 0.0)
    calls = []

    def fails(at: float) -> float:
        calls.append(at)
        raise ZeroDivisionError

    end = monitor.add(fails, current_loop())
    await answered(lambda: len(calls))
    end()
    assert len([each for each in caplog.records if each.exc_info]) == 1
    assert threads() == []


# --- the environment -----------------------------------------------------------------------

PROGRAM = """
import time, threading
import kingdom_async as ka

async def work():
    time.sleep(0.3)

async def main():
    async with ka.TaskGroup() as group:
        group.start_soon(work, name="worker")
    await ka.sleep(0)
    print([each.name for each in threading.enumerate()])

async def under_uvicorn():
    with ka.environment():
        await main()

{start}
print([each.name for each in threading.enumerate()])
"""
RUN = "ka.run(main)"
BOTH = "ka.run(under_uvicorn)"
UNDER = """
import anyio
from kingdom_async._backend import anyio_backend
name, options = anyio_backend({backend!r})
anyio.run(under_uvicorn, backend=name, backend_options=options)
"""


@pytest.mark.parametrize("backend", chosen(REAL))
@pytest.mark.parametrize("start", [RUN, BOTH, UNDER], ids=["run", "both", "environment"])
@pytest.mark.parametrize("watchdog", ["0.05", "off"])
def test_the_variable(backend: str, start: str, watchdog: str) -> None:
    """KINGDOM_ASYNC_WATCHDOG watches run() and environment(), once, without a recording."""
    program = PROGRAM.format(start=start.format(backend=backend))
    environ = {
        **os.environ,
        "KINGDOM_ASYNC_WATCHDOG": watchdog,
        "KINGDOM_ASYNC_BACKEND": backend,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    inside, after = done.stdout.splitlines()
    assert after == "['MainThread']"
    if watchdog == "off":
        assert inside == after
        assert done.stderr == ""
        return
    assert inside == "['MainThread', 'kingdom_async.trace']"
    lines = [line for line in done.stderr.splitlines() if line.startswith("blocked-loop")]
    assert len(lines) == 2
    assert lines[0].startswith(
        "blocked-loop: task 'worker' (<string>:6 in work) has held the l"
    )
    assert " let go of the loop after 0." in lines[1]
