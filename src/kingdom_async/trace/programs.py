"""A whole program traced, as its environment asks for it.

Rule: nothing here changes what the program returns or raises. What goes wrong is logged, once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Literal

from .control import serve_control
from .files import STEPS, TASKS, write
from .hub import hub
from .recording import Level, Recording

#: What is recorded as the environment asks: process, thread, level, path.
_on: set[tuple[int, int, str, str | None]] = set()
_written = 0

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
    try:
        yield
    finally:
        _on.discard(key)
        _end(recording, path)


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


def _end(recording: Recording, path: str | None) -> None:
    try:
        hub.end(recording)
        if path is not None:
            write(recording.snapshot(), _target(path))
    except Exception as error:
        what = "ended" if path is None else f"written to {path!r}"
        _logger.error(  # noqa: TRY400  # the place where a disk is full tells nothing
            "the recording could not be %s: %s: %s", what, type(error).__name__, error
        )


def _target(path: str) -> Path:
    """*path*, or a neighbour where another recording goes there too."""
    global _written
    _written += 1
    target = Path(path.replace("{pid}", str(os.getpid())))
    mark = f"-{os.getpid()}" if _is_worker() and "{pid}" not in path else ""
    mark += "" if _written == 1 else f"-{_written}"
    return target.with_name(f"{target.stem}{mark}{target.suffix}")


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
