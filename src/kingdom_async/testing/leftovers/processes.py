"""Child processes: which of them the program has begun, and which still run.

Rule: it asks the system by the number of a process, and reaps none: that is for whoever began
it. A process that a backend begins counts once the program has it in hand; where its start is
cancelled before, no program could end it.
"""

from __future__ import annotations

import asyncio.subprocess
import os
import subprocess
import sys
from pathlib import PurePath
from types import FrameType
from typing import Any, NamedTuple

from anyio import to_process

#: They keep the ``Popen`` that they make, and hand over an object of their own.
_BACKENDS = ("asyncio", "trio")


class Child(NamedTuple):
    """A process that the program has begun."""

    pid: int
    #: What it runs.
    name: str
    #: The line that began it.
    place: str


def process_classes() -> list[Any]:
    """Those whose objects a program has its processes by, of what is imported."""
    found: list[Any] = [subprocess.Popen, asyncio.subprocess.Process]
    if "trio" in sys.modules:
        import trio

        found.append(trio.Process)
    return found


def child_of(made: Any, given: tuple[Any, ...], place: str) -> Child:
    """The process behind *made*, of one of those classes, which was made with *given*."""
    popen = made
    if not isinstance(made, subprocess.Popen):
        popen = given[0]  # by trio; by asyncio it is the transport, which knows it
        if hasattr(popen, "get_extra_info"):
            popen = popen.get_extra_info("subprocess")
    return Child(made.pid, _program(getattr(popen, "args", None)), place)


def is_the_programs(made: object, frame: FrameType | None) -> bool:
    """False for what a backend keeps to itself, and for a process of anyio's own pool."""
    if isinstance(made, subprocess.Popen) and frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] in _BACKENDS:
            return False
    while frame is not None:
        if frame.f_globals.get("__name__") == to_process.__name__:
            return False
        frame = frame.f_back
    return True


def is_running(pid: int) -> bool:
    """True for a child that has not come to its end; False where the system does not tell."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # it was reaped
        return False


def _program(args: Any) -> str:
    """Its name alone: the rest may differ from run to run."""
    if not args:
        return "of a name that uvloop keeps"
    is_list = hasattr(args, "__getitem__") and not isinstance(args, (str, bytes))
    first: Any = args[0] if is_list else args
    return repr(PurePath(os.fsdecode(first).split(" ")[0]).name)
