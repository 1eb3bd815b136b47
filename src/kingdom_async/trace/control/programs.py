"""A whole program traced, as its environment asks for it.

Rule: nothing here changes what the program returns or raises. What goes wrong is logged, once;
where a recording went is said on stderr. No recording is written over one of the same time.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Literal

from ..hub import hub
from ..recording import Level, Recording
from .files import STEPS, TASKS, problem, write
from .server import serve_control

#: What is recorded as the environment asks: process, thread, level, path.
_on: set[tuple[int, int, str, str | None]] = set()
_written = 0

#: Seconds by which the clock of files may be behind: they are stamped once in a tick.
_COARSE = 0.05

_logger = logging.getLogger("kingdom_async.trace")


@contextmanager
def traced(
    level: Literal["off", "life", "steps"], path: str | None, *, control: bool
) -> Generator[None]:
    """Record the running loop for as long as the block lasts, and serve its control socket.

    Args:
        level: "off" not to record.
        path: Where the recording is written at the end; None for nowhere.
        control: True to serve.
    """
    with ExitStack() as stack:
        if level != "off":
            stack.enter_context(_recorded(level, path))
        if control:
            _serve(stack)
        yield


def _serve(stack: ExitStack) -> None:
    try:
        stack.enter_context(serve_control())
    except Exception as error:
        _logger.error(  # noqa: TRY400  # its sentence says it all
            "KINGDOM_ASYNC_CONTROL=1 has no effect: %s", error
        )


@contextmanager
def _recorded(level: Level, path: str | None) -> Generator[None]:
    """Record the running loop for as long as the block lasts, and write it to *path*."""
    key = os.getpid(), get_ident(), level, path
    recording = None if key in _on else _begun(level, path)
    if recording is None:  # run() and environment() may both be there
        yield
        return
    _on.add(key)
    found = None if path is None else problem(_named(path))
    if found is not None:  # told before the run is over; the program may make the folder yet
        _logger.error("the recording cannot be written to %r: %s", path, found)
    try:
        yield
    finally:
        _on.discard(key)
        _end(recording, path, is_told=found is not None)


def _begun(level: Level, path: str | None) -> Recording | None:
    made = Recording(level) if path is None else Recording(level, tasks=TASKS, steps=STEPS)
    try:
        hub.begin(made)
    except Exception:
        _logger.exception("tracing could not begin; the program goes on without")
        with suppress(Exception):
            hub.end(made)  # what of it had begun
        return None
    return made


def _end(recording: Recording, path: str | None, *, is_told: bool) -> None:
    try:
        hub.end(recording)
        if path is not None and not (is_told and problem(_named(path))):
            snapshot = recording.snapshot()
            target = _target(path, snapshot.epoch + snapshot.began)
            write(snapshot, target)
            _say(f"kingdom_async: the recording is in {target}")
    except Exception as error:
        what = "ended" if path is None else f"written to {path!r}"
        _logger.error(  # noqa: TRY400  # the place where a disk is full tells nothing
            "the recording could not be %s: %s: %s", what, type(error).__name__, error
        )


def _say(text: str) -> None:
    with suppress(Exception):  # it is closed, or cannot write such names
        if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
            sys.stderr.write(f"{text}\n")  # at once: workers of a pool may end together


def _named(path: str) -> Path:
    return Path(path.replace("{pid}", str(os.getpid())))


def _target(path: str, began: float) -> Path:
    """*path*, or a neighbour where another recording goes there too.

    Args:
        path: As the environment has it.
        began: When the recording did, in seconds since 1970.
    """
    global _written
    _written += 1
    target = _named(path)
    number = "" if _written == 1 else f"-{_written}"
    target = target.with_name(f"{target.stem}{number}{target.suffix}")
    if "{pid}" in path or (not _is_worker() and _is_ours(target, began)):
        return target
    target = _named(path)
    return target.with_name(f"{target.stem}-{os.getpid()}{number}{target.suffix}")


def _is_ours(target: Path, began: float) -> bool:
    """False where another process has written there since we began: a forked worker, mostly.

    The file is made here, so that of two that end together one sees the other's.
    """
    with _one_by_one(target.parent):
        with suppress(FileNotFoundError):
            found = target.lstat()
            if not stat.S_ISREG(found.st_mode):
                return True  # a device, a link; or a folder, which writing tells of
            if found.st_mtime > began - _COARSE:
                return False
            with suppress(OSError):
                target.unlink()
        with suppress(OSError):  # it is old and cannot be removed; or writing tells of it
            target.open("xb").close()
        return True


@contextmanager
def _one_by_one(folder: Path) -> Generator[None]:
    """Only one process at a time is in here, where the system can see to that."""
    try:
        import fcntl

        opened = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _is_worker() -> bool:
    """True in a process that a pool of some kind has started, with our environment."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if "__mp_main__" in (getattr(main, "__name__", ""), getattr(spec, "name", "")):
        return True
    if getattr(spec, "name", "") == "anyio.to_process":
        return True
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
