"""Who holds a loop, and where: told from outside, by the frames of its thread.

Rule: only looked at, from another thread; what has moved on meanwhile is not found.
"""

from __future__ import annotations

import sysconfig
from inspect import unwrap
from typing import TYPE_CHECKING, NamedTuple

from ..loops import tasks_of
from ..monitor import Monitor
from ..raw.rows import Life
from ..stacks import Line, is_library, lines, running

if TYPE_CHECKING:
    from types import FrameType

    from ..loops import Loop, NativeTask
    from ..raw.recorder import Recorder

#: Python's own library and what is installed: not where a reader looks first.
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
#: How the names of functions begin that run a loop: a callback's own frames are inside them.
_BELOW = ("_run", "run", "unrolled_run")
#: The functions in which loops wait for events.
_WAITING = frozenset({"select", "_poll", "get_events"})
#: That in which it lets the monitor in.
_PAUSE = unwrap(Monitor.pause).__code__


class Holder(NamedTuple):
    """Who holds a loop."""

    #: ``"task 'fetch' (service.py:12 in parse)"``.
    who: str
    name: str | None
    task: NativeTask | None
    place: str | None
    source: str
    stack: list[Line]
    #: True if the loop waits for events.
    is_nobody: bool


def holder_of(loop: Loop, recorders: list[Recorder]) -> Holder:
    """Who holds the loop, and where."""
    frames = running(loop.thread)
    task, own = _task_in(frames, loop)
    is_nobody = task is None and bool(frames) and _waits(frames[-1])
    stack = lines(own)
    line = next((line for line in reversed(stack) if _is_of_program(line)), None)
    line = line or (stack[-1] if stack else None)
    place = None if line is None else str(line)
    name = None if task is None else _name(task, recorders)
    who = "a callback" if name is None else f"task {name!r}"
    who = f"{who} ({place or 'unknown place'})"
    return Holder(who, name, task, place, "" if line is None else line.source, stack, is_nobody)


def _task_in(stack: list[FrameType], loop: Loop) -> tuple[NativeTask | None, list[FrameType]]:
    """The task that runs in these frames, and those of them that are its own."""
    depths = {id(frame): depth for depth, frame in enumerate(stack)}
    for task in tasks_of(loop):
        depth = depths.get(id(getattr(task.coro, "cr_frame", None)))
        if depth is not None and not task.internal:
            return task, stack[depth:]
    return None, _own_frames(stack)


def serial_in(recorder: Recorder, task: NativeTask | None) -> int | None:
    """The serial of that task while it is alive."""
    serial = -1 if task is None else recorder.store.serials.get(task.ident, -1)
    return serial if serial in recorder.store.live else None


def _name(task: NativeTask, recorders: list[Recorder]) -> str:
    for recorder in recorders:
        raw = recorder.store.live.get(recorder.store.serials.get(task.ident, -1))
        if raw is not None:
            return Life(*raw).name
    return task.name


def _own_frames(stack: list[FrameType]) -> list[FrameType]:
    """The frames of a callback: those inside the last one of a loop."""
    for index in range(len(stack) - 1, -1, -1):
        code = stack[index].f_code
        if code.co_name.startswith(_BELOW) and is_library(code.co_filename):
            return stack[index + 1 :]
    return stack


def _waits(frame: FrameType) -> bool:
    """True where a loop waits for events, in which uvloop has no frame; or for the monitor."""
    code = frame.f_code
    return code is _PAUSE or (code.co_name in _WAITING and is_library(code.co_filename))


def _is_of_program(line: Line) -> bool:
    return not line.path.startswith(_INSTALLED)
