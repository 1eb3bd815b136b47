"""What a traced program does is what it does untraced, whatever goes wrong in the tracer."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import re
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any, Literal
from weakref import ref

import anyio
import anyio.abc
import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import guard, hub, loops
from kingdom_async.trace.raw import blocks, causes, children, places, recorder, store, strangers
from support.backends import REAL, chosen
from support.turns import settle

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])
backends = pytest.mark.parametrize("backend", chosen(REAL))

Log = Callable[[object], None]
Program = Callable[[Log], Awaitable[object]]


@pytest.fixture(autouse=True)
def _nothing_reported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_reported", set())
    run = importlib.import_module("trio._core._run")
    monkeypatch.setattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)


# --- programs, each of which says what it does ------------------------------------------


async def say(log: Log, name: object, turns: int = 3) -> object:
    try:
        for turn in range(turns):
            log((name, turn))
            await anyio.lowlevel.checkpoint()
    except BaseException as error:
        log((name, type(error).__name__))
        raise
    log((name, "done"))
    return name


async def hold(log: Log, name: object) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        log((name, "ends"))


async def fail(log: Log, name: object, turns: int = 1) -> None:
    await say(log, name, turns)
    raise ValueError(name)


async def serve(log: Log, *, task_status: anyio.abc.TaskStatus[int]) -> None:
    log("serve")
    task_status.started(7)
    await hold(log, "serve")


async def succeeds(log: Log) -> object:
    async with ka.TaskGroup() as group:
        handles = [group.create_task(say(log, n), name=f"n{n}") for n in range(1)]
        handles.append(group.start_soon(say, log, "b"))
        group.start_soon(hold, log, "daemon", daemon=True)
    return [(handle.name, handle.return_value) for handle in handles]


async def fails_in_a_group(log: Log) -> object:
    async with ka.TaskGroup() as group:
        group.start_soon(hold, log, "other")
        await settle()
        group.start_soon(fail, log, "bad")
    return None


async def fails_with_first(log: Log) -> object:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(hold, log, "other")
        await settle()
        await fail(log, "body")
    return None


async def never_begins(log: Log) -> object:
    async with ka.TaskGroup() as group:
        group.start_soon(say, log, "never")
        group.create_task(say(log, "never either"))
        group.cancel("at once")
    return "done"


async def natively_cancelled_before_it_begins(log: Log) -> object:
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return None
    async with ka.TaskGroup() as group:
        before = asyncio.all_tasks()
        handle = group.start_soon(say, log, "never")
        (task,) = asyncio.all_tasks() - before
        task.cancel("too early")
        await settle()
    return handle.status.name


async def natively_cancelled(log: Log) -> object:
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return None
    async with ka.TaskGroup() as group:
        before = asyncio.all_tasks()
        handle = group.start_soon(hold, log, "held")
        (task,) = asyncio.all_tasks() - before
        await settle()
        task.cancel("so there")
        await settle()
    return handle.status.name


async def times_out(log: Log) -> object:
    with ka.fail_after(9, reason="loading") as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(hold, log, "slow")
            await settle()
            scope.deadline = anyio.current_time()
    return None


async def moves_on(log: Log) -> object:
    with ka.move_on_after(9) as scope:
        scope.deadline = anyio.current_time()
        await hold(log, "slow")
    return scope.cancelled_caught


async def starts(log: Log) -> object:
    async with ka.TaskGroup() as group:
        value = await group.start(serve, log)
        group.cancel()
    return value


async def starts_badly(log: Log) -> object:
    async def takes_nothing() -> None: ...

    async with ka.TaskGroup(errors="first") as group:
        await group.start(takes_nothing)
    return None


async def starts_in_a_closed_group(log: Log) -> object:
    async with ka.TaskGroup() as group:
        pass
    with suppress(RuntimeError):
        group.start_soon(say, log, "late")
    await group.start(serve, log)
    return None


async def cancels_a_start(log: Log) -> object:
    async def slow(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        scope.cancel()
        await hold(log, "slow")

    with ka.move_on_after(9) as scope:
        async with ka.TaskGroup() as group:
            await group.start(slow)
    return scope.cancelled_caught


async def maps(log: Log) -> object:
    async def double(number: int) -> int:
        log(number)
        await anyio.lowlevel.checkpoint()
        return number * 2

    return await ka.amap(double, range(6), limit=1)


async def maps_with_a_failure(log: Log) -> object:
    return await ka.amap(lambda number: fail(log, number), range(3), limit=1)


async def gathers(log: Log) -> object:
    return await ka.gather(say(log, "a", 1), say(log, "b", 0))


async def offloads(log: Log) -> object:
    return await ka.offload(sorted, [3, 1, 2])


async def offload_fails(log: Log) -> object:
    return await ka.offload(int, "x")


async def queues(log: Log) -> object:
    queue: ka.Queue[int] = ka.Queue(2)
    found: list[int] = []

    async def consume() -> None:
        async for item in queue:
            found.append(item)

    async with ka.TaskGroup() as group:
        group.start_soon(consume)
        with queue.producing():
            for number in range(9):
                await queue.put(number)
    return found


async def spans(log: Log) -> object:
    @trace.instrument_task
    async def part(name: str) -> str:
        with trace.span(name):
            await say(log, name)
        raise KeyError(name)

    async with ka.TaskGroup() as group:
        group.start_soon(part, "one")
    return None


async def swallows(log: Log) -> object:
    async def stubborn() -> str:
        with suppress(BaseException):
            await anyio.sleep_forever()
        return "stubborn"

    async with ka.TaskGroup() as group:
        handle = group.start_soon(stubborn)
        await settle()
        group.cancel()
    return handle.return_value


async def interrupted(log: Log) -> object:
    async def exits() -> None:
        raise SystemExit(3)

    async with ka.TaskGroup() as group:
        group.start_soon(hold, log, "other")
        await settle()
        group.start_soon(exits)
    return None


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def unprintable(log: Log) -> object:
    async def look(item: object) -> str:
        await anyio.lowlevel.checkpoint()
        trace.tree()
        return type(item).__name__

    return await ka.amap(look, [Unprintable(), Unprintable()], limit=1)


class Text(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("no slices")

    def __len__(self) -> int:
        raise RuntimeError("no length")


async def odd_names(log: Log) -> object:
    async with ka.TaskGroup() as group:
        group.start_soon(say, log, 1, 1, name=Text("text"))
        group.start_soon(anyio.lowlevel.checkpoint, name="x" * 1_000_000)
        group.start_soon(anyio.lowlevel.checkpoint, name="\udcff\n\0")
        with trace.span(Text("odd")), trace.span("y" * 1_000_000):
            pass
    return None


async def odd_callbacks(log: Log) -> object:
    class Odd:
        def __getattr__(self, name: str) -> object:
            raise ArithmeticError(name)

        def __call__(self) -> None:
            log("called")

    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        asyncio.get_running_loop().call_soon(Odd())
    await settle()
    return None


PROGRAMS: list[Program] = [
    succeeds,
    fails_in_a_group,
    fails_with_first,
    never_begins,
    natively_cancelled_before_it_begins,
    natively_cancelled,
    times_out,
    moves_on,
    starts,
    starts_badly,
    starts_in_a_closed_group,
    cancels_a_start,
    maps,
    maps_with_a_failure,
    gathers,
    offloads,
    offload_fails,
    queues,
    spans,
    swallows,
    interrupted,
    unprintable,
    odd_names,
    odd_callbacks,
]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)


def told(error: BaseException | None, depth: int = 0) -> object:
    """All that a reader could see of an error."""
    if error is None or depth > 8:
        return None
    inner: object = None
    if isinstance(error, BaseExceptionGroup):
        inner = [told(each, depth + 1) for each in error.exceptions]
    text = "" if isinstance(error, ka.DeadlineExceeded) else str(error)
    text = re.sub(r" by <Task .*>", "", text)  # what it runs is the tracer's wrapper
    text = re.sub(r"\b(0x)?[0-9a-f]{8,}\b", "…", text)
    return (
        type(error).__name__,
        text,
        getattr(error, "__notes__", None),
        inner,
        told(error.__cause__, depth + 1),
        told(error.__context__, depth + 1),
        error.__suppress_context__,
    )


def _in_one_order() -> None:
    """trio steps the tasks that are ready in random order; here in the same one each time."""
    importlib.import_module("trio._core._run")._r.seed(0)  # type: ignore[attr-defined]


def observed(program: Program, backend: str) -> tuple[object, list[object], list[str]]:
    """What the program gives or raises, all that it said, and all that was warned of."""
    events: list[object] = []
    warned: list[str] = []
    _in_one_order()
    before = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: warned.append(str(unraisable.exc_value))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result: object = ka.run(program, events.append, backend=backend)
            except BaseException as error:
                result = told(error)
            gc.collect()
        warned.extend(str(warning.message) for warning in caught)
    finally:
        sys.unraisablehook = before
    return result, events, warned


#: The same without tracing, for which one run will do.
observed_untraced = cache(observed)


@levels
@backends
@programs
def test_the_same_as_untraced(
    program: Program, backend: str, level: Level, caplog: pytest.LogCaptureFixture
) -> None:
    """Result, errors, order of events and warnings do not depend on tracing."""
    untraced = observed_untraced(program, backend)
    caplog.clear()
    with trace.recording(level):
        traced = observed(program, backend)
    assert traced == untraced
    assert not [record for record in caplog.records if "tracing failed" in record.message]


@backends
@programs
def test_the_same_under_three_recordings(program: Program, backend: str) -> None:
    """Nor on how often it is traced."""
    untraced = observed_untraced(program, backend)
    with trace.recording("steps"), trace.recording("life"), trace.recording("steps"):
        traced = observed(program, backend)
    assert traced == untraced


@backends
@programs
def test_the_same_when_tracing_ends_and_begins_within(program: Program, backend: str) -> None:
    """Nor on when it is switched on and off: at each turn of the loop, here."""

    async def switching(log: Log) -> object:
        ends = anyio.Event()

        async def switch() -> None:
            stack = ExitStack()
            level: Level = "life"
            while not ends.is_set():
                stack.enter_context(trace.recording(level))
                await anyio.lowlevel.checkpoint()
                stack.close()
                await anyio.lowlevel.checkpoint()
                level = "steps" if level == "life" else "life"

        async with anyio.create_task_group() as group:
            group.start_soon(switch)
            await settle(2)
            try:
                value = await program(log)
            except BaseException as error:
                log(told(error))
                value = None
            ends.set()
        return value

    async def as_it_is(log: Log) -> object:
        try:
            return await program(log)
        except BaseException as error:
            log(told(error))
            return None

    if program is interrupted:
        return
    untraced = observed(as_it_is, backend)
    traced = observed(switching, backend)
    if backend == "trio":  # one task more, and the order of all is another
        for events in (traced[1], untraced[1]):
            events.sort(key=str)
    assert traced == untraced


# --- faults ------------------------------------------------------------------------------

#: What hooks call, as (owner, name).
INNER: list[tuple[Any, str]] = [
    *((store.Store, name) for name in ("end", "add_span", "end_span", "add_lint", "dropped")),
    *(
        (recorder.Recorder, name)
        for name in (
            "spawning",
            "unspawned",
            "unstarted",
            "adopting",
            "began_late",
            "swallowed",
            "succeeded",
            "failed",
            "closed",
            "step",
            "stepped_long",
            "callback_step",
            "span",
            "overran",
            "is_here",
            "_look_for_waits",
        )
    ),
    *(
        (strangers.Strangers, name)
        for name in ("meet", "sweep", "unfollow", "_done", "_find_parent")
    ),
    *(
        (hub.Hub, name)
        for name in (
            "loop_runs",
            "_attach",
            "unspawned",
            "unstarted",
            "spawning",
            "opened",
            "failed",
            "closed",
            "cancelled",
            "deadline_set",
            "deadline_left",
            "_spans",
            "_task",
            "_adopting",
            "_here",
            "_newly_here",
            "_name_of",
            "_leave_what_is_over",
        )
    ),
    (trace.Recording, "suspect"),
    (trace.Recording, "attach"),
    (store, "now"),
    (recorder, "now"),
    (children, "now"),
    (children, "outside"),
    (children, "Account"),
    (recorder, "outside"),
    (strangers, "spawner"),
    (strangers, "Account"),
    (recorder, "cause_of"),
    (blocks, "caller"),
    (blocks, "Block"),
    (blocks, "Deadline"),
    (blocks, "by_task"),
    (hub, "current_loop"),
    (causes, "by_task"),
    (places, "is_library"),
    (loops, "described"),
    (loops.AsyncioLoop, "identify"),
    (loops.AsyncioLoop, "tasks"),
    (loops.AsyncioLoop, "is_current"),
    (loops.AsyncioLoop, "when_done"),
]


def _break(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise ArithmeticError(f"{name} is broken")

    broken.__qualname__ = name
    is_guarded = hasattr(getattr(owner, name), "__wrapped__")
    monkeypatch.setattr(owner, name, guard.guarded(broken) if is_guarded else broken)


@levels
@backends
@pytest.mark.parametrize(
    ("owner", "name"), INNER, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_tracer_that_is_broken(
    owner: Any,
    name: str,
    backend: str,
    level: Level,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever raises in it, the program does what it does, and each place is logged once."""
    some = [
        fails_in_a_group,
        natively_cancelled_before_it_begins,
        times_out,
        starts,
        starts_badly,
        starts_in_a_closed_group,
        maps,
        spans,
    ]
    untraced = [observed_untraced(program, backend) for program in some]
    limits = trace.Thresholds(
        long_step=0, never_yielded=0, late_first_run=0, deadline_overrun=-1
    )
    caplog.clear()
    with monkeypatch.context() as patched, ExitStack() as recording:
        recording.enter_context(trace.recording(level, thresholds=limits))
        _break(patched, owner, name)
        traced = [observed(program, backend) for program in some]
        if name not in ("dropped",):
            recording.close()
    assert traced == untraced
    failures = [
        record.getMessage() for record in caplog.records if "tracing failed" in record.message
    ]
    assert len(failures) == len(set(failures))


@backends
def test_a_listener_that_raises(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """One who listens for lints, and fails, is told of in the log, once; the lints are kept."""
    untraced = observed_untraced(maps, backend)

    class Listener:
        def __call__(self, lint: object, name: object) -> None:
            raise ArithmeticError("not listening")

    with trace.recording("steps", thresholds=trace.Thresholds(long_step=0)) as recording:
        recording.when_linted.append(Listener())
        traced = observed(maps, backend)
    assert traced == untraced
    assert recording.lints
    failures = [record for record in caplog.records if "tracing failed" in record.message]
    assert [record.getMessage() for record in failures] == [
        "tracing failed in test_a_listener_that_raises.<locals>.Listener, and went on without"
    ]


@levels
@backends
def test_a_log_that_raises(level: Level, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler of the log that fails harms nobody."""

    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Full()
    logger = logging.getLogger("kingdom_async.trace")
    logger.addHandler(handler)
    try:
        untraced = observed_untraced(fails_in_a_group, backend)
        limits = trace.Thresholds(long_step=0, never_yielded=0, late_first_run=0)
        with trace.recording(level, thresholds=limits, log_errors=True):
            _break(monkeypatch, recorder, "cause_of")
            traced = observed(fails_in_a_group, backend)
    finally:
        logger.removeHandler(handler)
    assert traced == untraced


@levels
async def test_a_huge_name(level: Level) -> None:
    """What is kept of a name, wherever it is told of, is its beginning."""
    name = "x" * 1_000_000

    async def fails() -> None:
        raise ValueError

    limits = trace.Thresholds(long_step=0, late_first_run=0)
    with trace.recording(level, thresholds=limits) as recording:
        with pytest.raises(ValueError, match=r"^$"):
            async with ka.TaskGroup(errors="first") as group:
                group.start_soon(anyio.sleep_forever, name=name)
                await settle()
                assert len(trace.tree()) < 10_000
                group.start_soon(fails, name=name)
        with trace.span(name):
            pass
    assert recording.lints
    assert len(recording.snapshot().to_json()) < 50_000


@pytest.mark.slow
@levels
async def test_ten_thousand_tasks_that_end_at_once(level: Level) -> None:
    """All are counted; those that there is no room for are counted as dropped."""
    event = anyio.Event()
    with trace.recording(level, tasks=1000, steps=1000) as recording:
        async with ka.TaskGroup() as group:
            for _ in range(10_000):
                group.start_soon(event.wait)
            await settle(3)
            assert not recording.dropped.tasks
            event.set()
        assert recording.dropped.tasks == 9000
    assert [task.outcome for task in recording.tasks].count("ok") == 1000


# --- what is kept --------------------------------------------------------------------------


class Weakly:
    """Notes what should be gone in the end."""

    def __init__(self) -> None:
        self.refs: list[tuple[str, ref[Any]]] = []

    def note(self, name: str, thing: Any) -> None:
        self.refs.append((name, ref(thing)))

    def alive(self) -> list[str]:
        gc.collect()
        return [name for name, each in self.refs if each() is not None]


class Fault(Exception):
    pass


@levels
@backends
@pytest.mark.parametrize("is_stopped", [False, True], ids=["on", "stopped"])
def test_nothing_is_kept_alive(level: Level, backend: str, is_stopped: bool) -> None:
    """No task, coroutine, error, group or scope lives on because there is a record of it."""
    weakly = Weakly()

    async def fails() -> None:
        error = Fault()
        weakly.note("error", error)
        raise error

    async def host() -> None:
        with suppress(Fault), ka.fail_after(5, reason="far") as scope:
            weakly.note("scope", scope)
            async with ka.TaskGroup(errors="first") as group:
                weakly.note("group", group)
                group.start_soon(native, "held")
                await settle()
                coro = fails()
                weakly.note("coroutine", coro)
                group.create_task(coro)
                del coro
        del scope

    async def native(name: str) -> None:
        weakly.note(f"task {name}", _native_task())
        if name == "host":
            await host()
        else:
            await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as foreign:
            handle = foreign.start_soon(native, "foreign")
            async with ka.TaskGroup() as group:
                group.start_soon(native, "host")
            await settle()
            handle.cancel()
        del handle, foreign, group
        await settle()
        if not is_stopped:
            alive.extend(weakly.alive())

    alive: list[str] = []
    with trace.recording(level) as recording:
        ka.run(main, backend=backend)
    if is_stopped:
        alive.extend(weakly.alive())
    assert len(weakly.refs) == 7
    assert alive == []
    assert recording.tasks


def _native_task() -> object:
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.current_task()
    import trio

    return trio.lowlevel.current_task()


@pytest.mark.parametrize("anyio_backend", chosen(("trio",)), indirect=True)
@pytest.mark.slow
async def test_a_task_inside_hundreds_of_groups_has_an_end() -> None:
    """The end is written whatever the look at the cancel scopes around it comes to."""

    async def inside(left: int) -> None:
        if not left:
            await anyio.sleep(0.001)
            return
        async with ka.TaskGroup() as group:
            group.start_soon(inside, left - 1, name="inside")

    async def cancelled() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep_forever)
            await settle()
            group.cancel()

    with trace.recording("steps") as recording:
        await cancelled()
        await inside(600)
    assert {task.outcome for task in recording.tasks if task.name == "inside"} == {"ok"}
