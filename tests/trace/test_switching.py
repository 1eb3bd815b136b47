"""On and off: when, where, how often, and who else has a hand in it."""

from __future__ import annotations

import asyncio
import asyncio.events
import gc
import itertools
import logging
import subprocess
import sys
import threading
import tracemalloc
from asyncio.events import Handle
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace.hub import hub
from kingdom_async.trace.monitor import Job, monitor
from support.backends import REAL, chosen
from support.traces import ORIGINAL, left_by_tracing
from support.turns import settle

if TYPE_CHECKING:
    from kingdom_async.trace.loops import Loop

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])
backends = pytest.mark.parametrize("backend", chosen(REAL))
plain_asyncio = pytest.mark.parametrize("anyio_backend", chosen(("asyncio",)), indirect=True)
on_asyncio = pytest.mark.skipif(not chosen(("asyncio",)), reason="another backend is chosen")


async def take(steps: int) -> None:
    for _ in range(steps - 1):
        await anyio.lowlevel.checkpoint()


async def spawn(name: str = "child", steps: int = 3) -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(take, steps, name=name)


def names(recording: trace.Recording) -> list[str]:
    return [task.name.split(".")[-1] for task in recording.tasks if not task.foreign]


# --- several at a time -------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)], ids=str)
async def test_three_recordings_ended_in_any_order(order: tuple[int, ...]) -> None:
    """Each sees what happens while it is on, with its own level."""
    kinds: tuple[Level, ...] = ("life", "steps", "steps")
    stacks = [ExitStack() for _ in kinds]
    recordings = []
    for number, (level, stack) in enumerate(zip(kinds, stacks, strict=True)):
        recordings.append(stack.enter_context(trace.recording(level)))
        await spawn(f"after {number}")
    for number in order:
        stacks[number].close()
        await spawn(f"without {number}")
    for number, (level, recording) in enumerate(zip(kinds, recordings, strict=True)):
        ended = order.index(number)
        assert names(recording) == [
            *(f"after {each}" for each in range(number, 3)),
            *(f"without {each}" for each in order[:ended]),
        ]
        steps = {task.steps for task in recording.tasks if not task.foreign}
        assert steps == ({3} if level == "steps" else {0})
        assert not any(recording.dropped)


async def test_a_task_that_outlives_its_recording() -> None:
    """It goes on as before, and is not in the next recording as one of the core's."""
    async with ka.TaskGroup() as group:
        with trace.recording("steps") as first:
            handle = group.start_soon(take, 20, name="long")
            await settle(2)
        assert [task.outcome for task in first.tasks if task.name == "long"] == ["running"]
        before = first.tasks, first.steps
        with trace.recording("steps") as second:
            await settle(2)
            assert [task.foreign for task in second.tasks if task.name == "long"] == [True]
        await handle.wait()
    assert (first.tasks, first.steps) == before


@levels
async def test_a_group_that_was_open_before(level: Level) -> None:
    """Its new tasks are the core's; a group that is left cancels none of another's."""
    async with ka.TaskGroup() as one:
        ready, go = anyio.Event(), anyio.Event()

        async def other() -> None:
            async with ka.TaskGroup():
                ready.set()
                await go.wait()

        one.start_soon(other)
        await ready.wait()
        with trace.recording(level) as recording:
            go.set()
            await settle(1)
            handles = [one.start_soon(take, 2, name="new") for _ in range(5)]
            await settle()
        assert {handle.status.name for handle in handles} == {"FINISHED"}
    assert names(recording) == ["new"] * 5
    assert {task.outcome for task in recording.tasks if task.name == "new"} == {"ok"}
    assert {task.group for task in recording.tasks if task.name == "new"} == {"TaskGroup"}


# --- where it is begun ---------------------------------------------------------------------


async def test_a_group_that_was_open_before_and_has_no_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is left while a recording is on that knows nothing of it."""
    async with ka.TaskGroup():
        recording = trace.start()
    trace.stop()
    assert not caplog.records
    assert names(recording) == []


@levels
@backends
def test_begun_outside_a_loop(backend: str, level: Level) -> None:
    """It records the next run of `ka.run`."""
    with trace.recording(level) as recording:
        ka.run(spawn, backend=backend)
    assert names(recording) == ["spawn", "child"]


@levels
@backends
def test_begun_outside_a_loop_that_others_run(backend: str, level: Level) -> None:
    """It records a run that was not started by `ka.run` from the first group on."""

    async def main() -> None:
        await spawn("one")
        await spawn("two")

    name, options = _options(backend)
    with trace.recording(level) as recording:
        anyio.run(main, backend=name, backend_options=options)
    assert names(recording) == ["one", "two"]
    assert recording.tasks[-1].group is not None
    assert "TaskGroup at test_switching.py:" in recording.tasks[-1].group


def _options(backend: str) -> tuple[Literal["asyncio", "trio"], dict[str, Any]]:
    from kingdom_async._backend import anyio_backend

    name, options = anyio_backend(backend)
    return name, options  # type: ignore[return-value]


@levels
@pytest.mark.parametrize("by_us", [True, False], ids=["ka.run", "anyio.run"])
def test_several_runs_on_different_backends(level: Level, by_us: bool) -> None:
    """One recording follows the runs of a thread, whoever starts them, on whatever loop."""
    runs = [*chosen(REAL), *reversed(chosen(REAL))]
    with trace.recording(level) as recording:
        for number, backend in enumerate(runs):
            if by_us:
                ka.run(spawn, f"child {number}", backend=backend)
            else:
                name, options = _options(backend)
                anyio.run(spawn, f"child {number}", backend=name, backend_options=options)
    children = [task for task in recording.tasks if task.name.startswith("child")]
    assert [task.name for task in children] == [f"child {each}" for each in range(len(runs))]
    assert {task.outcome for task in children} == {"ok"}
    assert {task.steps for task in children} == ({3} if level == "steps" else {0})
    assert not [task for task in recording.tasks if task.outcome == "running"]


@levels
@backends
def test_begun_in_a_callback(backend: str, level: Level) -> None:
    """A callback of the loop may begin it, where no task runs."""
    stack, begun = ExitStack(), list[trace.Recording]()

    def begin() -> None:
        begun.append(stack.enter_context(trace.recording(level)))

    async def main() -> None:
        if backend == "trio":
            import trio

            trio.lowlevel.current_trio_token().run_sync_soon(begin)
        else:
            asyncio.get_running_loop().call_soon(begin)
        await settle()
        assert hub.recorders
        await spawn()
        stack.close()

    ka.run(main, backend=backend)
    assert "child" in names(begun[0])


@levels
def test_loops_in_several_threads(level: Level) -> None:
    """A recording is of one loop; loops in other threads are none of its business."""
    runs = chosen(REAL) * 2
    barrier = threading.Barrier(len(runs))
    found: dict[int, trace.Recording] = {}

    def run(number: int, backend: str) -> None:
        async def main() -> None:
            barrier.wait(20)
            for _ in range(5):
                with trace.recording(level) as recording:
                    for _ in range(5):
                        await spawn(f"child {number}")
            found[number] = recording

        ka.run(main, backend=backend)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == len(runs)
    for number, recording in found.items():
        assert names(recording) == [f"child {number}"] * 5
        assert {task.outcome for task in recording.tasks if not task.foreign} == {"ok"}


@levels
@backends
def test_ended_by_another_thread(
    backend: str, level: Level, caplog: pytest.LogCaptureFixture
) -> None:
    """A recording may end in any thread, at any moment, and the program goes on."""

    async def main() -> None:
        done = anyio.Event()

        async def busy() -> None:
            while not done.is_set():
                with ka.move_on_after(5), trace.span("span"):
                    await spawn()

        async with ka.TaskGroup() as group:
            group.start_soon(busy)
            for _ in range(20):
                stack = ExitStack()
                stack.enter_context(trace.recording(level))
                await settle(3)
                await anyio.to_thread.run_sync(stack.close)
            done.set()

    ka.run(main, backend=backend)
    assert not caplog.records


# --- start and stop ------------------------------------------------------------------------


def test_start_and_stop() -> None:
    """They are about one recording, the program's own, and say so when misused."""
    with pytest.raises(RuntimeError) as nothing:
        trace.stop()
    assert str(nothing.value) == (
        "trace.stop() while nothing was started; call trace.start() first"
    )
    recording = trace.start()
    try:
        with pytest.raises(RuntimeError) as twice:
            trace.start("steps")
        assert str(twice.value) == (
            "trace.start() while the program's recording is on; call trace.stop() first, or "
            "make one of your own: with trace.recording() as recording:"
        )
        with trace.recording():
            assert recording.is_on
    finally:
        assert trace.stop() is recording
    assert not recording.is_on


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"level": "step"}, "level must be 'life' or 'steps', not 'step'"),
        ({"tasks": 0}, "tasks must be 1 or more records to keep, not 0"),
        ({"steps": "many"}, "steps must be 1 or more records to keep, not 'many'"),
    ],
)
def test_arguments_that_are_wrong(arguments: dict[str, Any], sentence: str) -> None:
    """The error says which; nothing is on afterwards, and the next start works."""
    with pytest.raises(ValueError, match="must be") as from_start:
        trace.start(**arguments)
    with pytest.raises(ValueError, match="must be") as from_block, trace.recording(**arguments):
        pass
    assert str(from_start.value) == str(from_block.value) == sentence
    trace.start()
    trace.stop()


async def test_a_recording_that_is_stopped_while_it_begins_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread does that, between two of its hooks."""
    add, recording = monitor.add, trace.Recording("steps")
    stops: list[None] = []

    def stopping(job: Job, loop: Loop, after: float = 0.0) -> Callable[[], None]:
        if not stops:
            stops.append(hub.end(recording))
        return add(job, loop, after)

    monkeypatch.setattr(monitor, "add", stopping)
    hub.begin(recording)
    assert stops
    assert not monitor._jobs
    assert not left_by_tracing()


# --- many times ------------------------------------------------------------------------------


@pytest.mark.slow
@levels
async def test_on_and_off_hundreds_of_times(level: Level) -> None:
    """Nothing is left behind, in the process, in the loop or in memory."""

    async def rounds(number: int) -> None:
        for _ in range(number):
            with trace.recording(level):
                await spawn(steps=1)

    foreign = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(foreign.wait)
        await rounds(100)
        assert not left_by_tracing()
        tracemalloc.start()
        try:
            sizes: list[int] = []
            for _ in range(4):
                await rounds(50)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        foreign.set()
    # A table of the interpreter's own may grow in one of them; a leak grows in each.
    assert min(after - before for before, after in itertools.pairwise(sizes)) < 2000
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        import trio

        instruments: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner.instruments
        assert not instruments["_all"]


# --- other tools that replace Handle._run -----------------------------------------------


class Tool:
    """Replaces `Handle._run` as logfire does: it puts back what it had found."""

    def __init__(self) -> None:
        self.calls = 0
        self.found = found = Handle._run

        def patched(handle: Handle) -> Any:
            self.calls += 1
            return found(handle)

        Handle._run = patched  # type: ignore[method-assign]

    def remove(self) -> None:
        Handle._run = self.found  # type: ignore[method-assign]


@plain_asyncio
@pytest.mark.parametrize("tool_first", [True, False], ids=["tool first", "tool second"])
@pytest.mark.parametrize("in_turn", [True, False], ids=["in turn", "crosswise"])
async def test_a_tool_that_replaces_the_same_hook(tool_first: bool, in_turn: bool) -> None:
    """Both see each step, whoever comes and goes first; in the end none is left."""
    stack = ExitStack()

    def begin() -> Callable[[], None]:
        stack.enter_context(trace.recording("steps"))
        return stack.close

    both: list[Callable[[], Callable[[], None]]] = [lambda: Tool().remove, begin]
    ends = [each() for each in (both if tool_first else both[::-1])]
    (recorder,) = hub.recorders
    await spawn("both", 4)
    record = recorder.store.task_records()[-1]
    assert (record.name, record.steps) == ("both", 4)
    for end in ends[::-1] if in_turn else ends:
        end()
        await spawn("one", 4)
    await settle()  # what puts itself back does so in the next callback
    assert Handle._run is ORIGINAL
    with trace.recording("steps") as again:
        await spawn("again", 4)
    assert again.tasks[-1].steps == 4


@plain_asyncio
async def test_recordings_while_a_tool_comes_and_goes() -> None:
    """Steps are seen once however often recordings and a tool have taken turns."""
    for _ in range(20):
        with trace.recording("steps") as outer:
            tool = Tool()
            with trace.recording("steps") as inner:
                await spawn("child", 4)
            tool.remove()
            await spawn("child", 4)
        assert [task.steps for task in outer.tasks if task.name == "child"] == [4, 4]
        assert [task.steps for task in inner.tasks if task.name == "child"] == [4]
    await settle()
    assert Handle._run is ORIGINAL


@on_asyncio
@pytest.mark.parametrize("tool_first", [True, False])
def test_logfire(tool_first: bool) -> None:
    """The real one, beside a recording."""
    logfire = pytest.importorskip("logfire")

    async def main() -> trace.Recording:
        with ExitStack() as stack:
            if tool_first:
                stack.enter_context(logfire.log_slow_async_callbacks(slow_duration=1000))
            recording = stack.enter_context(trace.recording("steps"))
            if not tool_first:
                stack.enter_context(logfire.log_slow_async_callbacks(slow_duration=1000))
            await spawn("child", 4)
        await settle()
        return recording

    recording = ka.run(main, backend="asyncio")
    assert [task.steps for task in recording.tasks if task.name == "child"] == [4]


@on_asyncio
def test_sentry() -> None:
    """The real one, which wraps each task's coroutine by a task factory of its own."""
    sentry_sdk = pytest.importorskip("sentry_sdk")
    integrations = pytest.importorskip("sentry_sdk.integrations.asyncio")

    async def main() -> trace.Recording:
        integrations.patch_asyncio()
        with trace.recording("steps") as recording:
            await spawn("child", 4)
            await asyncio.create_task(take(3), name="foreign")
        return recording

    sentry_sdk.init(dsn=None)
    recording = ka.run(main, backend="asyncio")
    steps = {task.name: task.steps for task in recording.tasks}
    assert steps["child"] == 4
    assert steps["foreign"] == 3


@on_asyncio
def test_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's debug mode finds its slow callback, and the program behaves as ever."""

    async def slow() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0

    async def main() -> trace.Recording:
        asyncio.get_running_loop().set_debug(True)
        with trace.recording("steps") as recording:
            async with ka.TaskGroup() as group:
                group.start_soon(slow, name="slow")
        asyncio.get_running_loop().set_debug(False)
        return recording

    with caplog.at_level(logging.WARNING, "asyncio"):
        recording = ka.run(main, backend="asyncio")
    assert "child" not in names(recording)
    assert [task.steps for task in recording.tasks if task.name == "slow"] == [1]
    slow_ones = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert any("Executing <Task" in text and "took" in text for text in slow_ones)


_PROGRAM = """
import asyncio, anyio, kingdom_async as ka
from kingdom_async import trace

async def main():
    if {backend!r} != "trio":
        asyncio.get_running_loop().slow_callback_duration = 60  # as on a busy machine
    async with ka.TaskGroup() as group:
        group.start_soon(anyio.lowlevel.checkpoint)
        group.start_soon(anyio.sleep_forever)
        for _ in range(9):
            await anyio.lowlevel.checkpoint()
        group.cancel()

with trace.recording("steps") as recording:
    ka.run(main, backend={backend!r})
print(*[task.outcome for task in recording.tasks])
"""


@backends
def test_development_mode(backend: str) -> None:
    """With PYTHONASYNCIODEBUG and -X dev, where warnings are errors, nothing is said."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", _PROGRAM.format(backend=backend)],
        env={"PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ok ok cancelled\n", "")
