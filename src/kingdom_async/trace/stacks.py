"""Where a task is: its await stack, and the one line that a reader wants to see.

Rule: only looked at, never run or kept. A coroutine that is moved on meanwhile, in another
thread, gives a shorter stack and no error.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections import deque
from collections.abc import Iterator
from gc import get_referents
from importlib.util import find_spec
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, NamedTuple

from .views.texts import printable

#: How far a stack is followed, and how many of its innermost ones are told.
_DEEPEST, _TOLD = 10_000, 200


class Line(NamedTuple):
    """A line of source that a frame is at."""

    path: str
    number: int
    function: str

    @property
    def source(self) -> str:
        """The text of the line; empty where it cannot be read."""
        return printable(linecache.getline(self.path, self.number).strip())

    def __str__(self) -> str:
        return printable(f"{os.path.basename(self.path)}:{self.number} in {self.function}")


def line_of(code: CodeType, instruction: int) -> Line:
    """The line of the instruction at that offset (a frame's ``f_lasti``)."""
    number = code.co_firstlineno
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            number = line
            break
    return Line(code.co_filename, number, code.co_name)


def frames(awaitable: object) -> list[FrameType]:
    """The frames of a waiting coroutine, from the outermost to the one that waits.

    Of a stack that is deeper than most, the innermost ones.
    """
    found = (_frame(holder) for holder, _ in links(awaitable))
    return [frame for frame in found if frame is not None]


def links(awaitable: object) -> deque[tuple[object, CodeType]]:
    """The same coroutines and generators with their code.

    Cheaper than frames; and whoever holds a frame keeps its variables alive.
    """
    return deque(_followed(awaitable), maxlen=_TOLD)


def _followed(awaitable: Any) -> Iterator[tuple[object, CodeType]]:
    for _ in range(_DEEPEST):
        holder = awaitable
        if isinstance(holder, CoroutineType):
            yield holder, holder.cr_code
            awaitable = holder.cr_await
        elif isinstance(holder, GeneratorType):
            yield holder, holder.gi_code
            driven = variable(_frame(holder), DRIVEN)
            awaitable = _delegated(holder) if driven is None else driven
        elif isinstance(holder, AsyncGeneratorType):
            yield holder, holder.ag_code
            awaitable = holder.ag_await
        else:
            awaitable = _held(holder)
        if awaitable is None:
            return


def _delegated(generator: Any) -> Any:
    return generator.gi_yieldfrom


def _frame(holder: Any) -> FrameType | None:
    if isinstance(holder, CoroutineType):
        return holder.cr_frame
    return holder.gi_frame if isinstance(holder, GeneratorType) else holder.ag_frame


def variable(frame: FrameType | None, name: str) -> Any:
    """The value of a function's variable; None where there is none of that name."""
    if frame is None or name not in frame.f_code.co_varnames:
        return None
    found = frame.f_locals
    value = found.get(name)
    if sys.version_info < (3, 13):
        # It is a copy, which stays with the frame and keeps what the function lets go of.
        found.clear()
    return value


def lines(stack: list[FrameType]) -> list[Line]:
    """What a reader sees of a stack: without the libraries that do the waiting."""
    own = [frame for frame in stack if not is_library(frame.f_code.co_filename)]
    # A task that has none runs a function of the core's: that is what it does.
    core = [frame for frame in stack if frame.f_code.co_filename.startswith(_CORE)]
    return [_line(frame) for frame in own or core[:1] or stack[-1:]]


def innermost(awaitable: object) -> tuple[CodeType, int] | None:
    """The deepest line that is not a library's, as code and instruction; None without one."""
    for holder, code in reversed(links(awaitable)):
        frame = None if is_library(code.co_filename) else _frame(holder)
        if frame is not None:
            return code, frame.f_lasti
    return None


def running(thread: int, below: CodeType | None = None) -> list[FrameType]:
    """The frames that a thread is in, outermost first; from *below* on if that is there."""
    frame = sys._current_frames().get(thread)
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        if frame.f_code is below:
            break
        frame = frame.f_back
    return stack[::-1]


def is_library(path: str) -> bool:
    """True for a file of the libraries whose frames tell a reader nothing."""
    return path.startswith(_LIBRARIES)


def _line(frame: FrameType) -> Line:
    return Line(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name)


def _held(awaitable: Any) -> Any:
    """What is behind something that is written in C."""
    if type(awaitable).__name__ in _HOLDERS:
        for held in get_referents(awaitable):
            if isinstance(held, _FRAMED) or type(held).__name__ in _HOLDERS:
                return held  # pyright: ignore[reportUnknownVariableType]
    return None


_FRAMED = (CoroutineType, GeneratorType, AsyncGeneratorType)

#: The local variable in which a generator that drives a coroutine by hand has it.
DRIVEN = "driven_coroutine"

#: What stands between an ``await`` and the coroutine or generator behind it, in C.
_HOLDERS = frozenset(
    {
        "async_generator_asend",
        "async_generator_athrow",
        "anext_awaitable",
        "coroutine_wrapper",
    }
)


def _folder(name: str) -> str | None:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return os.path.dirname(spec.origin) + os.sep


#: The package's own files; a user of the public names is not one of them.
HERE = str(Path(__file__).parents[1]) + os.sep
_CORE = f"{HERE}_"
_STANDARD = os.path.dirname(os.__file__) + os.sep
_WAITING = ("asyncio", "anyio", "trio", "outcome", "uvloop")
_PLUMBING = ("contextlib.py", "threading.py", "selectors.py", "types.py", "queue.py")
_LIBRARIES = (
    *filter(None, (_folder(name) for name in _WAITING)),
    _CORE,
    f"{HERE}trace{os.sep}",
    *(f"{_STANDARD}{name}" for name in (*_PLUMBING, f"concurrent{os.sep}")),
)
