"""The demo's work: a folder walked, its files read in threads and parsed in processes.

Rule: three stages, joined by two bounded queues, inside one task group, under one deadline.
A slow stage slows the one before it, an error in any of them ends them all, and so does
Ctrl-C.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kingdom_async as ka

from .source_files import Module, list_folder, parse_all

READERS = 4  # threads; the files are small, and a disk serves a few at a time
PARSERS = os.cpu_count() or 2  # processes


@dataclass
class Survey:
    """What was found so far."""

    folder: Path
    #: Empty until the loop runs.
    backend: str = ""
    found: int = 0
    modules: list[Module] = field(default_factory=list[Module])
    unreadable: list[tuple[Path, Exception]] = field(
        default_factory=list[tuple[Path, Exception]]
    )
    #: Most files that waited at one time to be parsed, and the most that may.
    peak: int = 0
    room: int = 500
    seconds: float = 0.0
    timed_out: bool = False


async def take(survey: Survey, timeout: float, show: Callable[[], None] | None = None) -> None:
    """Fill *survey*, and call *show* now and then; stop after *timeout* seconds."""
    started = ka.current_time()
    survey.backend = ka.current_backend()
    paths = ka.Queue[Path](1000, name="paths")
    sources = ka.Queue[tuple[Path, bytes]](survey.room, name="sources")
    try:
        with ka.move_on_after(timeout) as deadline:
            async with ka.TaskGroup() as group:
                group.start_soon(walk, survey, paths)
                group.start_soon(read, survey, paths, sources)
                for _ in range(PARSERS):
                    group.start_soon(parse, survey, sources)
                if show is not None:
                    group.start_soon(repeat, show, daemon=True)  # ends when the others have
    finally:
        for queue in (paths, sources):
            queue.drain()  # what the deadline or Ctrl-C left behind is dropped on purpose
    survey.timed_out = deadline.cancelled_caught
    survey.peak = sources.statistics().peak
    survey.seconds = ka.current_time() - started


async def walk(survey: Survey, paths: ka.Queue[Path]) -> None:
    """Put the Python files of the folder, and of those in it."""
    with paths.producing():
        waiting = [survey.folder]
        while waiting:
            folder = waiting.pop()
            try:
                files, folders = await ka.offload(list_folder, folder)
            except OSError as error:
                survey.unreadable.append((folder, error))
                continue
            waiting += reversed(folders)
            for path in files:
                survey.found += 1
                await paths.put(path)


async def read(
    survey: Survey, paths: ka.Queue[Path], sources: ka.Queue[tuple[Path, bytes]]
) -> None:
    """Read the files in threads, many to a trip; one that cannot be read is noted."""
    with sources.producing():
        async for batch in paths.batches(64):
            contents = await ka.offload_map(
                Path.read_bytes, batch, limit=READERS, on_error=ka.ErrorResult
            )
            for path, content in zip(batch, contents, strict=True):
                if isinstance(content, ka.ErrorResult):
                    survey.unreadable.append((path, content.exception))
                else:
                    await sources.put((path, content))


async def parse(survey: Survey, sources: ka.Queue[tuple[Path, bytes]]) -> None:
    """Parse the files in processes, some to a trip."""
    async for batch in sources.batches(25):
        survey.modules += await ka.offload(
            parse_all, batch, to="process", abandon_on_cancel=True
        )


async def repeat(show: Callable[[], None]) -> None:
    """Call *show* ten times a second, until cancelled."""
    while True:
        show()
        await ka.sleep(0.1)
