"""Which line of the program it was: the first one outside the core, or outside all libraries.

Rule: frames are looked at while they run, and only their code and instruction are kept.
"""

from __future__ import annotations

from pathlib import Path
from types import CodeType, FrameType

from ..stacks import HERE, is_library

#: The core's own files; the command is a user of the public names.
CORE_FILES = frozenset(
    str(path) for path in Path(HERE).rglob("*.py") if path.parent.name != "cli"
)

#: The functions of event loops that step a task; what called them is not the task's doing.
_LOOPS = frozenset({"unrolled_run", "_run_once"})


def outside(frame: FrameType) -> FrameType:
    """The first frame outside the core, from *frame* outwards."""
    while frame.f_code.co_filename in CORE_FILES and frame.f_back is not None:
        frame = frame.f_back
    return frame


def caller(frame: FrameType) -> tuple[CodeType | None, int]:
    """The line that called into the core; None where that was a loop."""
    frame = outside(frame)
    if is_library(frame.f_code.co_filename):
        return None, 0
    return frame.f_code, frame.f_lasti


def spawner(frame: FrameType) -> tuple[CodeType | None, int]:
    """The first line outside all libraries, within the task that runs; None without one."""
    inner: FrameType | None = frame
    while inner is not None and is_library(inner.f_code.co_filename):
        if inner.f_code.co_name in _LOOPS:
            return None, 0
        inner = inner.f_back
    return (None, 0) if inner is None else (inner.f_code, inner.f_lasti)
