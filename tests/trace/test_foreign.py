"""Tasks that the core did not start, or did before the recording began."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import Any, Literal
from weakref import ref

import anyio
import pytest
import trio

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import here
from kingdom_async.trace.hub import hub
from kingdom_async.trace.views.live import look
from kingdom_async.trace.views.table import rows
from support.backends import REAL, asyncio_only, chosen
from support.turns import settle

Level = Literal["life", "steps"]
#: The loops that this run of the tests is about.
BOTH = chosen(REAL)
levels = pytest.mark.parametrize("level", ["life", "steps"])
trio_only = pytest.mark.parametrize("anyio_backend", chosen(("trio",)), indirect=True)
plain_asyncio = pytest.mark.parametrize("anyio_backend", chosen(("asyncio",)), indirect=True)


def named(recording: trace.Recording, name: str) -> trace.TaskRecord:
    (record,) = [task for task in recording.tasks if task.name.endswith(name)]
    return record


def is_trio() -> bool:
    return anyio.get_cancelled_exc_class() is trio.Cancelled


async def wait() -> None:
    await anyio.sleep_forever()


def hold(seconds: float = 0.01) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def take(steps: int) -> None:
    for _ in range(steps - 1):
        await anyio.lowlevel.checkpoint()


@levels
async def test_a_task_that_was_alive_before(level: Level) -> None:
    """It is there, foreign, with its name and its parent, and has its end."""
    async with anyio.create_task_group() as group:
        handle = group.start_soon(wait, name="early")
        await settle()
        with trace.recording(level) as recording:
            early = named(recording, "early")
            assert (early.foreign, early.outcome, early.spawned) == (True, "running", None)
            host = next(task for task in recording.tasks if task.serial == early.parent)
            assert host.foreign
            handle.cancel()
            await settle()
        early = named(recording, "early")
    assert early.outcome == "unknown"
    assert early.ended is not None
    assert early.ended <= trace.records.now()


@levels
async def test_a_task_that_had_not_begun_before(level: Level) -> None:
    """A task that was spawned, and had not run, when the recording began is there too."""
    async with anyio.create_task_group() as group:
        group.start_soon(wait, name="new")
        with trace.recording(level) as recording:
            assert named(recording, "new").foreign
            await settle()
            assert named(recording, "new").outcome == "running"
        group.cancel_scope.cancel()


@levels
async def test_a_core_task_that_was_alive_before(level: Level) -> None:
    """A task of the core's that ran before is foreign too, and is met once only."""
    async with ka.TaskGroup() as group:
        group.start_soon(wait, name="ours")
        await settle()
        with trace.recording(level) as recording:
            await settle()
        assert named(recording, "ours").foreign
        group.cancel()


@levels
@trio_only
async def test_a_trio_nursery(level: Level) -> None:
    """trio tells the lifetime, the parent and the line of each task of a nursery."""
    with trace.recording(level) as recording:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, 3, name="child")
    child = named(recording, "child")
    assert child.foreign
    assert child.outcome == "unknown"
    assert child.spawned is not None
    assert child.ended is not None
    assert child.spawned <= child.ended
    assert child.place is not None
    assert child.place.endswith(" in test_a_trio_nursery")
    assert child.parent == recording.tasks[0].serial
    assert child.steps == (3 if level == "steps" else 0)


@levels
@asyncio_only
async def test_a_task_of_asyncio_that_nobody_named(level: Level) -> None:
    """It is called after what it runs as well; a name that somebody gave is left alone."""
    given = ("early", "Task-", "Task-7b", "my Task-7")
    tasks = [asyncio.create_task(wait()), *(asyncio.create_task(wait(), name=n) for n in given)]
    await settle()
    with trace.recording(level) as recording:
        tree = trace.tree()
        found = {task.name for task in recording.tasks}
        first = tasks[0].get_name()
        assert {f"{first} (wait)", *given} <= found
        assert first not in found
        assert f"{first} (wait) (from before the recording)" in tree
        loop = here.current_loop()
        (shown,) = rows(look(loop, hub.recorder_here()), None, "(WAIT)")
        assert shown.task.name == f"{first} (wait)"
    assert f"{first} (wait) · waiting" in trace.tree()
    for task in tasks:
        task.cancel()


@asyncio_only
async def test_a_task_that_runs_something_odd() -> None:
    """What has no name of a function has none to add."""

    class Odd:
        def __await__(self) -> Generator[Any, Any, None]:
            yield from asyncio.sleep(0).__await__()

        def send(self, value: object) -> None:
            raise StopIteration

        def throw(self, *error: object) -> None: ...

        def close(self) -> None: ...

    Coroutine.register(Odd)
    odd: Any = Odd()
    task = asyncio.create_task(odd)
    with trace.recording() as recording:
        assert any(record.name == task.get_name() for record in recording.tasks)
    await task


async def part() -> None:
    await anyio.lowlevel.checkpoint()


async def request() -> None:
    await ka.gather(part(), part(), part())


async def late_request() -> None:
    await anyio.lowlevel.checkpoint()
    await request()


async def by_a_server(func: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it in a task of its own, as uvicorn does with a request."""
    if is_trio():
        async with anyio.create_task_group() as group:
            group.start_soon(func, name="request")
    else:
        await asyncio.create_task(func(), name="request")


@levels
@pytest.mark.parametrize("func", [request, late_request])
async def test_children_of_a_request_are_the_requests(
    func: Callable[[], Coroutine[Any, Any, None]], level: Level
) -> None:
    """A foreign task that opens a group of the core's is known as the parent of its tasks."""
    with trace.recording(level) as recording, trace.recording() as another:
        await by_a_server(func)
    for each in (recording, another):
        task = named(each, "request")
        parts = [part for part in each.tasks if part.name.endswith("part")]
        assert [part.parent for part in parts] == [task.serial] * 3
        assert task.foreign


@levels
async def test_children_of_a_group_from_before(level: Level) -> None:
    """The tree knows who holds a group that was open before anything was recorded."""

    async def host() -> None:
        async with ka.TaskGroup() as group:
            opened.append(group)
            await anyio.sleep_forever()

    opened: list[ka.TaskGroup] = []
    async with ka.TaskGroup() as outer:
        outer.start_soon(host, name="host")
        await settle()
        with trace.recording(level):
            opened[0].start_soon(wait, name="child")
            await settle()
            rows = trace.tree().split("\n")
        outer.cancel()
    (at,) = [number for number, row in enumerate(rows) if "host" in row.split(" · ")[0]]
    assert any("─ child" in row for row in rows[at + 1 :])


@plain_asyncio
async def test_when_a_task_of_others_began() -> None:
    """With steps it is known when a task first ran that others started meanwhile."""
    for func in (request, late_request):
        with trace.recording("steps") as recording:
            hold()
            await by_a_server(func)
        task = named(recording, "request")
        steps = [step for step in recording.steps if step.task == task.serial]
        assert task.started == steps[0].start


@asyncio_only
@levels
async def test_the_age_of_a_task_of_others(level: Level) -> None:
    """A foreign task is no older than the moment in which the recording met it."""

    async def look() -> None:
        async with ka.TaskGroup():
            shown.append(trace.tree())

    shown: list[str] = []
    with trace.recording(level):
        hold(0.3)
        await by_a_server(look)
    (line,) = [line for line in shown[0].split("\n") if line.startswith("request")]
    assert " 0.3 s" not in line


@plain_asyncio
async def test_each_task_that_steps_on_asyncio() -> None:
    """With steps each of asyncio's own tasks is there: steps, end, and whether cancelled."""
    with trace.recording("steps") as recording:
        tasks = [asyncio.create_task(take(steps), name=f"takes {steps}") for steps in (1, 2, 5)]
        tasks.append(asyncio.create_task(wait(), name="cancelled"))
        await settle()
        tasks[-1].cancel()
        await asyncio.wait(tasks)
    for steps in (1, 2, 5):
        record = named(recording, f"takes {steps}")
        assert (record.steps, record.outcome, record.foreign) == (steps, "unknown", True)
        assert record.ended is not None
    assert named(recording, "cancelled").outcome == "cancelled"
    assert not any(recording.dropped)


@asyncio_only
@levels
async def test_what_is_swept_at_the_end(level: Level) -> None:
    """A task that others spawned meanwhile and that still lives is there at the end."""
    with trace.recording(level) as recording:
        async with anyio.create_task_group() as group:
            group.start_soon(wait, name="child")
            await settle()
            assert "child (foreign)" in trace.tree()
            group.cancel_scope.cancel()
        late = asyncio.create_task(wait(), name="late")
        await settle()
    late.cancel()
    assert named(recording, "late").foreign


@asyncio_only
@levels
async def test_an_error_that_nobody_asks_for(level: Level) -> None:
    """asyncio reports a foreign task's error as it does untraced."""

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("nobody asks")

    async def reported() -> list[str]:
        found: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: found.append(context["message"]))
        task = asyncio.ensure_future(fail())
        await settle(3)
        del task
        gc.collect()
        loop.set_exception_handler(None)
        return found

    untraced = await reported()
    with trace.recording(level):
        traced = await reported()
    assert untraced == traced == ["Task exception was never retrieved"]


@plain_asyncio
async def test_ids_that_are_used_again_with_steps() -> None:
    """Tasks that come and go at one address keep their own names and numbers of steps."""
    with trace.recording("steps", tasks=4000) as recording:
        for number in range(400):
            steps = number % 7 + 1
            await asyncio.create_task(take(steps), name=f"foreign {number}: {steps}")
            async with ka.TaskGroup() as group:
                group.start_soon(take, steps, name=f"ours {number}: {steps}")
    wrong = [
        task
        for task in recording.tasks
        if ": " in task.name
        and (
            task.steps != int(task.name.split(": ")[1])
            or task.foreign != task.name.startswith("foreign")
        )
    ]
    assert not wrong
    assert sum(": " in task.name for task in recording.tasks) == 800


@asyncio_only
@levels
async def test_ids_that_are_used_again_after_a_sweep(level: Level) -> None:
    """A task that was swept up has ended when its address is used again."""
    names = [f"early {number}" for number in range(50)]
    early = [asyncio.create_task(wait(), name=name) for name in names]
    await settle()
    with trace.recording(level) as recording:
        for task in early:
            task.cancel()
        await settle()
        del early, task
        async with ka.TaskGroup() as group:
            for number in range(200):
                group.start_soon(take, 2, name=f"ours {number}")
    outcomes = Counter((task.name.split()[0], task.outcome) for task in recording.tasks)
    assert outcomes["early", "cancelled"] == 50
    assert outcomes["ours", "ok"] == 200
    if level == "steps":
        assert {task.steps for task in recording.tasks if "ours" in task.name} == {2}


@asyncio_only
@levels
async def test_nothing_is_left_with_a_foreign_task(level: Level) -> None:
    """A recording that is over is not kept by the tasks it met, however long they live."""
    task = asyncio.create_task(wait())
    await settle()
    gone: list[Callable[[], Any]] = []
    for _ in range(3):
        with trace.recording(level) as recording:
            await settle(2)
        gone.append(ref(recording))
        del recording
    gc.collect()
    assert [each() for each in gone] == [None, None, None]
    task.cancel()


@levels
async def test_a_tool_with_tasks_of_its_own_making(level: Level) -> None:
    """A task that says nothing of itself harms neither the recording nor the tree."""
    if is_trio():
        return

    class Nameless(asyncio.tasks._PyTask):  # type: ignore[name-defined, misc]
        def get_name(self) -> str:
            raise RuntimeError("no name")

    task = Nameless(wait(), loop=asyncio.get_running_loop())
    await settle()
    with trace.recording(level) as recording:
        assert "Nameless (foreign)" in trace.tree()
    assert named(recording, "Nameless").foreign
    task.cancel()


@pytest.mark.skipif("trio" not in BOTH or "asyncio" not in BOTH, reason="needs both loops")
@pytest.mark.parametrize("recorded", ["guest", "host", "both"])
@levels
def test_trio_as_a_guest_of_asyncio(level: Level, recorded: str) -> None:
    """Of two loops in one thread each recording sees the one that it was begun in."""

    async def grouped(name: str) -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(take, 3, name=name)
            with ka.move_on_after(30), trace.span(name):
                await anyio.sleep(0.001)

    async def guest() -> None:
        with ExitStack() as stack:
            if recorded != "host":
                recordings["guest"] = stack.enter_context(trace.recording(level))
            begun.set()
            await grouped("of the guest")
            while not over.is_set():  # noqa: ASYNC110  # it is of no loop
                await trio.sleep(0.001)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, 2, name="native")

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: done.set_result(outcome.unwrap()),
            host_uses_signal_set_wakeup_fd=True,
        )
        with ExitStack() as stack:
            if recorded != "guest":
                recordings["host"] = stack.enter_context(trace.recording(level))
            while not begun.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await grouped("of the host")
            over.set()
            await done

    begun, over = threading.Event(), threading.Event()
    recordings: dict[str, trace.Recording] = {}
    asyncio.run(host())
    for whose, recording in recordings.items():
        ours = [task for task in recording.tasks if task.name.startswith("of the")]
        assert [(task.name, task.outcome) for task in ours] == [(f"of the {whose}", "ok")]
        assert [span.name for span in recording.spans] == [f"of the {whose}"]
        natives = [task.name for task in recording.tasks if task.name == "native"]
        assert natives == ["native"] * (whose == "guest")
