"""The steps in which a recording begins and ends: cut at its edges, and not left out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import kingdom_async as ka
from kingdom_async import trace
from support.backends import REAL, chosen

backends = pytest.mark.parametrize("backend", chosen(REAL))
#: On uvloop the steps of a task that the core did not start cannot be seen.
seen = pytest.mark.parametrize("anyio_backend", chosen(("asyncio", "trio")), indirect=True)

SOME = 0.02  # seconds


def hold(seconds: float = SOME) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def mine(recording: Any, name: str) -> tuple[trace.TaskRecord, list[trace.Step]]:
    (task,) = [each for each in recording.tasks if each.name.endswith(name)]
    return task, [step for step in recording.steps if step.task == task.serial]


async def turn() -> None:
    await anyio.lowlevel.checkpoint()


def recorded(main: Callable[[], Awaitable[None]], backend: str, folder: Path) -> trace.Snapshot:
    ka.run(main, backend=backend, trace=f"steps:{folder / 'run.trace'}")
    (path,) = folder.iterdir()  # each run of a process has a name of its own
    return trace.load(path)


@backends
def test_the_main_task_of_a_run_that_is_recorded(backend: str, tmp_path: Path) -> None:
    """It is there with its first and its last step, which the recording does not outlast."""

    async def main() -> None:
        hold()
        async with ka.TaskGroup() as group:
            group.start_soon(turn)
        hold()

    snapshot = recorded(main, backend, tmp_path)
    task, steps = mine(snapshot, "main")
    assert task.steps == len(steps) >= 2
    assert steps[0].end - steps[0].start >= SOME
    assert steps[-1].end - steps[-1].start >= SOME
    assert task.busy == pytest.approx(sum(end - start for start, end, _ in steps))
    assert snapshot.began <= steps[0].start
    assert steps[-1].end <= snapshot.ended
    assert not any(snapshot.dropped)


@seen
async def test_a_block_inside_a_task() -> None:
    """Its task has what it held of the loop within the block."""
    recordings: list[trace.Recording] = []

    async def work() -> None:
        hold()
        with trace.recording("steps") as recording:
            hold()
            await turn()
            await turn()
            hold()
        recordings.append(recording)
        hold(5 * SOME)

    async with ka.TaskGroup() as group:
        group.start_soon(work, name="work")
    (recording,) = recordings
    task, steps = mine(recording, "work")
    began, ended = recording.snapshot().began, recording.snapshot().ended
    assert task.steps == len(steps) == 3
    assert all(began <= start < end <= ended for start, end, _ in steps)
    assert all(before.end <= after.start for before, after in pairwise(steps))
    assert steps[0].end - steps[0].start >= SOME
    assert steps[2].end - steps[2].start >= SOME


async def test_a_block_that_is_within_one_step() -> None:
    """Whoever looks on already is told of that step once, in whole."""
    with trace.recording("steps") as outer:
        async with ka.TaskGroup() as group:
            group.start_soon(_record_within_a_step, name="work")
    task, steps = mine(outer, "work")
    assert task.steps == len(steps) == 2


async def _record_within_a_step() -> None:
    await turn()
    with trace.recording("steps") as inner:
        hold()
    assert all(step.end - step.start >= SOME for step in inner.steps)


@seen
async def test_a_recording_that_was_stopped_in_a_step_stays_as_it_is() -> None:
    """What the task goes on to do in that step is no part of it."""
    recordings: list[tuple[trace.Recording, float]] = []

    async def work() -> None:
        recording = trace.start("steps")
        async with ka.TaskGroup() as group:
            group.start_soon(turn, name="child")
        trace.stop()
        recordings.append((recording, time.perf_counter()))
        hold()

    async with ka.TaskGroup() as group:
        group.start_soon(work, name="work")
    recording, stopped = recordings[0]
    assert max(step.end for step in recording.steps) <= stopped
    task, steps = mine(recording, "work")
    assert task.busy == pytest.approx(sum(end - start for start, end, _ in steps))


@backends
def test_a_first_step_that_is_long(backend: str, tmp_path: Path) -> None:
    """It is told of as any other."""

    async def main() -> None:
        hold(0.11)
        await turn()

    (lint,) = recorded(main, backend, tmp_path).lints
    assert (lint.kind, lint.task) == ("long-step", 0)
    assert "task 'test_a_first_step_that_is_long.<locals>.main'" in lint.message
