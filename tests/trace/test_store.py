"""What is kept, and how much of the rest is said to be dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import anyio
import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import Dropped
from kingdom_async.trace.raw import store
from kingdom_async.trace.raw.rows import Account
from support.turns import settle

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])


async def take(steps: int) -> None:
    for _ in range(steps - 1):
        await anyio.lowlevel.checkpoint()


async def spawn(tasks: int, steps: int) -> None:
    async with ka.TaskGroup() as group:
        for number in range(tasks):
            group.start_soon(take, steps, name=f"task {number}")


@levels
@pytest.mark.parametrize("kept", [1, 3, 7, 100])
async def test_finished_tasks(level: Level, kept: int) -> None:
    """The last ones are kept, and all others counted; live ones are all kept."""
    with trace.recording(level, tasks=kept) as recording:
        alive = len(recording.tasks)
        await spawn(20, 2)
        ours = [task.name for task in recording.tasks if not task.foreign]
        assert len(ours) == min(kept, 20)
        assert len(recording.tasks) == alive + len(ours)
        assert recording.dropped.tasks == max(0, 20 - kept)
    assert recording.dropped.tasks == max(0, 20 - kept)


@pytest.mark.parametrize("kept", [1, 3, 10, 1000])
@pytest.mark.parametrize("steps", [1, 2, 5])
async def test_steps(kept: int, steps: int) -> None:
    """Kept and dropped are together as many as there were, also of tasks that were dropped."""
    with trace.recording("steps", tasks=2000, steps=kept) as recording:
        await spawn(10, steps)
    known = sum(task.steps for task in recording.tasks)
    callbacks = sum(step.task is None for step in recording.steps)
    assert [task.steps for task in recording.tasks if not task.foreign] == [steps] * 10
    assert len(recording.steps) + recording.dropped.steps == known + callbacks
    assert len(recording.steps) == min(kept, known + callbacks)


async def test_steps_of_tasks_that_are_dropped() -> None:
    """A step is counted even where its task is not kept."""
    with trace.recording("steps", tasks=2000, steps=2000) as exact:
        await spawn(10, 3)
    with trace.recording("steps", tasks=1, steps=2) as small:
        await spawn(10, 3)
    ours = 10 * 3
    others = sum(task.steps for task in exact.tasks if task.foreign)
    assert len(exact.steps) - others == ours
    assert len(small.steps) == 2
    total = len(small.steps) + small.dropped.steps
    assert abs(total - others - ours) <= 2  # the test's own task may step once more or less


@levels
@pytest.mark.parametrize("kept", [1, 4, 50])
async def test_spans(level: Level, kept: int) -> None:
    """The last finished spans are kept, with those that are open; the others are counted."""
    with trace.recording(level, steps=kept) as recording, trace.span("open"):
        for number in range(20):
            with trace.span(str(number)):
                pass
        assert [span.name for span in recording.spans if span.end is None] == ["open"]
        assert len(recording.spans) == 1 + min(kept, 20)
        assert recording.dropped.spans == max(0, 20 - kept)
    assert recording.dropped.spans == max(0, 21 - kept)


async def test_lints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lints are kept, and the others counted."""
    monkeypatch.setattr(store, "_LINTS", 5)
    with trace.recording("steps", thresholds=trace.Thresholds(long_step=-1)) as recording:
        recording.when_linted.clear()
        for number in range(12):
            recording.suspect("long-step", None, f"number {number}")
            while recording._store.all_lints > number + 1:  # those of the loop's own
                recording._store.all_lints -= 1
                recording._store.lints.pop()
        assert [lint.message for lint in recording.lints] == [
            f"number {n}" for n in range(7, 12)
        ]
        assert recording.dropped.lints == 7


@levels
async def test_nothing_is_dropped_where_there_is_room(level: Level) -> None:
    """Whenever one looks: in the middle of a step, of a task, and after the end."""
    with trace.recording(level, tasks=1000, steps=10_000) as recording:

        async def look() -> None:
            for _ in range(3):
                assert not any(recording.dropped)
                await anyio.lowlevel.checkpoint()

        async with ka.TaskGroup() as group:
            for _ in range(20):
                group.start_soon(look)
        with pytest.raises(RuntimeError, match="not active"):
            group.start_soon(take, 1)
        with pytest.raises(RuntimeError, match="not active"):
            await group.start(take, 1)
        async with ka.TaskGroup() as group:
            group.start_soon(take, 2)
            group.cancel()
        assert not any(recording.dropped)
    assert recording.dropped == Dropped()
    assert str(recording.dropped) == "nothing"


@levels
async def test_what_could_not_be_spawned(level: Level) -> None:
    """A task that there never was is not recorded, nor counted as dropped."""
    with trace.recording(level, tasks=5) as recording:
        before = len(recording.tasks)
        async with ka.TaskGroup() as group:
            pass
        for _ in range(10):
            with pytest.raises(RuntimeError, match="not active"):
                group.start_soon(take, 1)
        assert len(recording.tasks) == before
        assert not any(recording.dropped)


@levels
async def test_what_never_began(level: Level) -> None:
    """A task that was cancelled before its first step has an end, and no beginning."""
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return
    with trace.recording(level) as recording:
        async with ka.TaskGroup() as group:
            before = asyncio.all_tasks()
            group.start_soon(take, 2, name="never")
            (task,) = asyncio.all_tasks() - before
            task.cancel("early")
    (record,) = [each for each in recording.tasks if each.name == "never"]
    assert (record.outcome, record.started, record.steps) == ("cancelled", None, 0)
    assert record.spawned is not None
    assert record.ended is not None
    assert not [
        each for each in recording.tasks if each.foreign and each.outcome == "cancelled"
    ]


async def test_a_recording_that_was_stopped_stays_as_it_is() -> None:
    """What happens later, to the tasks that it knows as well, is not in it."""
    async with ka.TaskGroup() as group:
        with trace.recording("steps") as recording:
            group.start_soon(take, 30, name="long")
            await settle(3)
            span = trace.span("open")
            span.__enter__()
        before = recording.snapshot()
        await settle(3)
        span.__exit__(None, None, None)
    assert recording.snapshot() == before
    assert [task.outcome for task in before.tasks if task.name == "long"] == ["running"]
    assert [each.end for each in before.spans] == [None]


def test_how_drops_are_told() -> None:
    """Only what was dropped is named."""
    assert str(Dropped(tasks=3, spans=1)) == "3 tasks, 1 spans"


class Changing(dict[Any, Any]):
    """A dict that another thread changes while somebody walks it for the first time."""

    def items(self) -> Any:
        return View([*super().items()])

    def values(self) -> Any:
        return View([*super().values()])


class View(list[Any]):
    walked = False

    def __iter__(self) -> Iterator[Any]:
        if not self.walked:
            self.walked = True
            raise RuntimeError("dictionary changed size during iteration")
        return super().__iter__()


def test_another_thread_may_stop_a_recording() -> None:
    """What the loop writes meanwhile does not stand in its way."""
    kept = store.Store()
    row = kept.row("task", None, None, None, 0, 0.0)
    kept.accounts = {7: Account(0)}
    for name in ("live", "accounts", "open_spans"):
        setattr(kept, name, Changing(getattr(kept, name)))
    frozen = kept.frozen()
    assert frozen.live == {0: row}
    assert frozen.accounts.keys() == {7}
    kept.live = Changing(kept.live)
    kept.clear()
    assert not kept.live
