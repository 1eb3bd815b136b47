"""The flight recorder: the last seconds, saved when something goes wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import flight, guard
from support.backends import REAL, chosen

PID = os.getpid()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def linted(recording: trace.Recording, kind: str = "blocked-loop") -> None:
    recording.suspect(kind, None, "something")


async def fails() -> None:
    raise KeyError(1)


async def failing_group() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(fails, name="fails")


async def test_a_blocked_loop_is_saved(tmp_path: Path) -> None:
    """A hit of the watchdog writes a file that `load` reads, with what blocked the loop."""
    folder = tmp_path / "not" / "there"
    saved = threading.Event()

    def block() -> None:
        assert saved.wait(30)

    with trace.recording(dump_to=folder) as recording:
        recording.when_linted.append(lambda lint, name: saved.set())  # called after the dump
        with trace.watchdog(0.05):
            async with ka.TaskGroup() as group:
                group.start_soon(anyio.to_thread.run_sync, int, name="other")

                async def blocks() -> None:
                    block()

                group.start_soon(blocks, name="blocks")
        assert names(folder) == [f"{PID}-1-blocked-loop.trace"]
    loaded = trace.load(folder / names(folder)[0])
    assert [lint.kind for lint in loaded.lints] == ["blocked-loop"]
    (task,) = [task for task in loaded.tasks if task.name == "blocks"]
    assert (task.outcome, task.serial) == ("running", loaded.lints[0].task)
    assert loaded.pid == PID


async def test_an_error_that_leaves_the_block_is_saved_once(tmp_path: Path) -> None:
    """Of a task group that nobody is above, or of anybody else."""
    with (
        pytest.raises(KeyError),
        trace.recording(dump_to=tmp_path / "outer"),
        trace.recording(dump_to=str(tmp_path / "inner")),
    ):
        await failing_group()
    for name in ("outer", "inner"):
        assert names(tmp_path / name) == [f"{PID}-1-error.trace"]
        loaded = trace.load(tmp_path / name / f"{PID}-1-error.trace")
        (task,) = [task for task in loaded.tasks if task.name == "fails"]
        assert (task.outcome, task.error) == ("error", "KeyError")


async def test_what_is_no_error_is_not_saved(tmp_path: Path) -> None:
    """A cancellation, an error that was caught, other lints, and nothing at all."""
    with anyio.CancelScope() as scope, trace.recording(dump_to=tmp_path) as recording:
        with pytest.raises(KeyError):
            await failing_group()
        for kind in ("stuck", "long-step"):
            linted(recording, kind)
        scope.cancel()
        await anyio.sleep_forever()
    with pytest.raises(SystemExit), trace.recording(dump_to=tmp_path):
        raise SystemExit(3)
    with trace.recording(dump_to=tmp_path):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("backend", chosen(REAL))
def test_an_error_that_leaves_the_program_is_saved(backend: str, tmp_path: Path) -> None:
    """The program of run(), with a recording that was begun by start(), inside or outside."""

    async def main() -> None:
        trace.start(dump_to=tmp_path / "started")
        await failing_group()

    try:
        with (
            pytest.raises(KeyError),
            trace.recording(dump_to=tmp_path / "around"),
        ):
            ka.run(main, backend=backend)
    finally:
        trace.stop()
    for name in ("started", "around"):
        assert names(tmp_path / name) == [f"{PID}-1-error.trace"]


async def test_an_error_that_leaves_the_environment_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a loop that somebody else started, its block is the program."""
    monkeypatch.delenv("KINGDOM_ASYNC_BACKEND", raising=False)
    trace.start(dump_to=tmp_path)
    try:
        with pytest.raises(KeyError), ka.environment():
            await failing_group()
    finally:
        trace.stop()
    assert names(tmp_path) == [f"{PID}-1-error.trace"]


async def test_the_last_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was over long before is not saved."""
    with trace.recording(dump_to=tmp_path) as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep, 0, name="early")
        ended = next(task.ended for task in recording.tasks if task.name == "early")
        assert ended is not None
        linted(recording)
        monkeypatch.setattr(flight, "LAST", (trace.records.now() - ended) / 2)
        linted(recording)
    first, second = (trace.load(tmp_path / name) for name in names(tmp_path))
    assert "early" in [task.name for task in first.tasks]
    assert "early" not in [task.name for task in second.tasks]


async def test_not_more_than_ten_files(tmp_path: Path) -> None:
    """A program that is ill all the time does not fill the disk."""
    with trace.recording(dump_to=tmp_path) as recording:
        for _ in range(30):
            linted(recording)
    assert len(names(tmp_path)) == 10


def is_a_file(folder: Path) -> None:
    folder.write_text("")


def cannot_be_made(folder: Path) -> None:
    folder.parent.joinpath("file").write_text("")
    folder.symlink_to(folder.parent / "file" / "below")


@pytest.mark.parametrize("spoil", [is_a_file, cannot_be_made])
async def test_a_folder_that_cannot_be_written(
    tmp_path: Path,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told once; the program and the recording go on."""
    monkeypatch.setattr(guard, "_reported", set())
    spoil(tmp_path / "folder")
    with trace.recording(dump_to=tmp_path / "folder") as recording:
        for _ in range(3):
            linted(recording)
        await failing_group_caught()
    assert len(recording.lints) == 3
    told = [each for each in caplog.records if each.levelname == "ERROR"]
    assert [each.getMessage() for each in told] == [
        "tracing failed in a dump of the flight recorder, and went on without"
    ]


async def failing_group_caught() -> None:
    with pytest.raises(KeyError):
        await failing_group()


async def test_a_full_disk_leaves_no_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file is there in full or not at all."""
    monkeypatch.setattr(guard, "_reported", set())

    def half(snapshot: trace.Snapshot, path: Path) -> None:
        path.write_text("{")
        raise OSError(28, "No space left on device")

    with trace.recording(dump_to=tmp_path) as recording:
        monkeypatch.setattr(trace.Snapshot, "save", half)
        linted(recording)
        assert names(tmp_path) == []
        monkeypatch.undo()
        linted(recording)
    assert names(tmp_path) == [f"{PID}-2-blocked-loop.trace"]
    assert "No space left" in caplog.text


def test_a_dump_by_hand(tmp_path: Path) -> None:
    """`recording.dump` gives the last seconds, and writes them where it is told."""

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep, 0, name="child")

    with trace.recording() as recording:
        ka.run(main)
    linted(recording)  # too late: it is over
    path = tmp_path / "dump.json"
    snapshot = recording.dump(path, last=60)
    assert trace.load(path) == snapshot
    assert "child" in [task.name for task in snapshot.tasks]
    assert recording.lints == ()
    assert [task.name for task in recording.dump(last=0).tasks] == []
    with pytest.raises(ValueError, match="last must be 0 or more seconds, not -1"):
        recording.dump(last=-1)
