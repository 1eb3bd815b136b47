"""LifecycleInstrument in a program that is trio's alone."""

from __future__ import annotations

import ast
import logging
import sys
from pathlib import Path
from typing import Literal

import pytest
import trio

import kingdom_async
from kingdom_async import trace
from kingdom_async.trace import TaskRecord, guard
from kingdom_async.trace.instrument import LifecycleInstrument
from support.backends import chosen

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])
pytestmark = pytest.mark.skipif(not chosen(("trio",)), reason="another backend is chosen")


def named(instrument: LifecycleInstrument, name: str) -> TaskRecord:
    (record,) = [task for task in instrument.recording.tasks if task.name.endswith(name)]
    return record


async def take(steps: int) -> None:
    for _ in range(steps - 1):
        await trio.lowlevel.checkpoint()


async def nested() -> None:
    async with trio.open_nursery() as outer:
        outer.start_soon(take, 2, name="first")
        async with trio.open_nursery() as inner:
            inner.start_soon(branch, name="branch")


async def branch() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 3, name="leaf")


@levels
def test_nested_nurseries(level: Level) -> None:
    """Every task of the run has its parent, lifetime, spawning line and steps."""
    instrument = LifecycleInstrument(level)
    trio.run(nested, instruments=[instrument])
    assert not instrument.recording.is_on
    main, first, branch_, leaf = (
        named(instrument, name) for name in ("nested", "first", "branch", "leaf")
    )
    assert (main.parent, first.parent, branch_.parent) == (None, main.serial, main.serial)
    assert leaf.parent == branch_.serial
    assert {task.outcome for task in instrument.recording.tasks} == {"unknown"}
    for task in instrument.recording.tasks:
        assert task.spawned is not None
        assert task.ended is not None
        assert task.spawned <= task.ended
        assert task.foreign
    assert leaf.place is not None
    assert leaf.place.endswith(" in branch")
    assert leaf.steps == (3 if level == "steps" else 0)
    assert bool(instrument.recording.steps) == (level == "steps")
    assert not any(instrument.recording.dropped)


@levels
def test_system_tasks(level: Level) -> None:
    """System tasks of the program's are seen, those of trio's own are not."""

    async def serve() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        trio.lowlevel.spawn_system_task(serve, name="server")
        await trio.lowlevel.checkpoint()

    instrument = LifecycleInstrument(level)
    trio.run(main, instruments=[instrument])
    assert sorted(task.name.split(".")[-1] for task in instrument.recording.tasks) == [
        "main",
        "server",
    ]


@levels
def test_cancelled_and_failed_tasks(level: Level) -> None:
    """A run that ends with an error, or cancelled tasks, is recorded to its end."""

    async def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="cancelled")
            nursery.start_soon(fail, name="failed")

    instrument = LifecycleInstrument(level)
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, instruments=[instrument])
    assert isinstance(caught.value.exceptions[0], ValueError)
    for name in ("main", "cancelled", "failed"):
        assert named(instrument, name).ended is not None


@levels
def test_two_instruments(level: Level) -> None:
    """Two instruments, of different levels, see the same."""
    one, other = LifecycleInstrument(level), LifecycleInstrument("life")
    trio.run(nested, instruments=[one, other])
    assert [task.name for task in one.recording.tasks] == [
        task.name for task in other.recording.tasks
    ]


@levels
def test_added_in_the_middle_of_a_run(level: Level) -> None:
    """It notes who is alive when the next task is spawned, and goes on from there."""
    instrument = LifecycleInstrument(level)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="early")
            await trio.lowlevel.checkpoint()
            trio.lowlevel.add_instrument(instrument)
            nursery.start_soon(take, 2, name="late")
            await take(9)
            nursery.cancel_scope.cancel()

    trio.run(main)
    main_, early, late = (named(instrument, name) for name in ("main", "early", "late"))
    assert (early.parent, late.parent) == (main_.serial, main_.serial)
    assert (early.spawned, early.outcome) == (None, "unknown")
    assert early.ended is not None
    assert late.spawned is not None
    assert len(instrument.recording.tasks) == 3
    if level == "steps":
        assert late.steps == 2
        assert main_.steps
    assert not instrument.recording.is_on


@levels
def test_taken_away_in_the_middle_of_a_run(level: Level) -> None:
    """It stays on until its recording is stopped, and knows who was alive."""
    instrument = LifecycleInstrument(level)

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(instrument)

    trio.run(main, instruments=[instrument])
    assert instrument.recording.is_on
    assert named(instrument, "main").outcome == "running"
    instrument.recording.stop()
    assert not instrument.recording.is_on


@levels
def test_stopped_in_the_middle_of_a_run(level: Level) -> None:
    """What happens after its recording was stopped changes nothing."""
    instrument = LifecycleInstrument(level)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, 3, name="early")
            instrument.recording.stop()
            nursery.start_soon(take, 3, name="late")

    trio.run(main, instruments=[instrument])
    assert [task.name.split(".")[-1] for task in instrument.recording.tasks] == [
        "main",
        "early",
    ]


def test_a_second_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for one run, and says so in the log; the second run is as it would be without."""
    monkeypatch.setattr(guard, "_reported", set())
    instrument = LifecycleInstrument()
    trio.run(nested, instruments=[instrument])
    before = instrument.recording.tasks
    with caplog.at_level(logging.ERROR):
        trio.run(nested, instruments=[instrument])
    assert instrument.recording.tasks == before
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == (
        "a LifecycleInstrument is for one run; "
        "write trio.run(main, instruments=[LifecycleInstrument()]) for each"
    )


@levels
def test_beside_a_recording(level: Level) -> None:
    """An instrument and a recording do not disturb each other."""
    instrument = LifecycleInstrument(level)
    found: list[trace.Recording] = []

    async def main() -> None:
        with trace.recording(level) as recording:
            async with kingdom_async.TaskGroup() as group:
                group.start_soon(take, 2, name="ours")
        found.append(recording)

    trio.run(main, instruments=[instrument])
    (ours,) = [task for task in found[0].tasks if task.name == "ours"]
    assert (ours.foreign, ours.outcome) == (False, "ok")
    assert (named(instrument, "ours").foreign, named(instrument, "ours").outcome) == (
        True,
        "unknown",
    )


def test_the_only_file_that_imports_trio() -> None:
    """No other file of the package imports trio as it is imported itself."""
    folder = Path(kingdom_async.__file__).parent
    found = []
    for path in folder.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            if any(name.split(".")[0] == "trio" for name in names):
                found.append(path.relative_to(folder).as_posix())
    assert set(found) == {"trace/instrument.py"}
