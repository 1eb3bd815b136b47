"""What a recording tells: tasks, steps, spans, lints and the lag of the loop.

Rule: these are plain values. None of them holds a task, a coroutine or an exception, so a
recording keeps nothing of the program alive. All times are seconds on the clock of `now`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Outcome: TypeAlias = Literal["running", "ok", "cancelled", "error", "unknown"]

#: The one clock of every record: monotonic, and the same for all processes of a machine.
now: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class TaskRecord:
    """The life of one task."""

    #: Its number in the recording; tasks are counted in the order of spawning.
    serial: int
    #: The serial of the task that holds its group open, or None where that is not known.
    parent: int | None
    name: str
    #: The line that spawned it, as ``"service.py:12 in main"``, or None.
    place: str | None
    #: The block that it belongs to, as ``"TaskGroup at service.py:10 in main"``, or None.
    group: str | None
    #: When it was spawned, first ran and ended; None where not known, or not yet.
    spawned: float | None
    started: float | None
    ended: float | None
    outcome: Outcome
    #: The type's name of the exception that ended it, or None.
    error: str | None
    #: What cancelled it: a deadline with its reason, or a task with its reason and line.
    cancelled_by: str | None
    #: Seconds for which it held the loop, and in how many steps; 0 without level "steps".
    busy: float
    steps: int
    #: True if the core did not start it, or did so before the recording began.
    foreign: bool


class Step(NamedTuple):
    """Somebody held the loop from *start* to *end*: a task, or None for a callback."""

    start: float
    end: float
    task: int | None


@dataclass(frozen=True)
class Span:
    """A named part of a task: a block of `span`, a call of `instrument_task`, an offload."""

    name: str
    #: The serial of its task, or None outside any.
    task: int | None
    start: float
    #: None while it is under way.
    end: float | None
    outcome: Outcome
    error: str | None


@dataclass(frozen=True)
class Lint:
    """Something that looks wrong."""

    kind: str
    #: The serial of the task that it is about, or None.
    task: int | None
    #: The line, as ``"service.py:12 in main"``, or None.
    place: str | None
    #: A sentence, with the task's name and the line.
    message: str
    at: float


class Lag(NamedTuple):
    """At *at* the loop took *seconds* to answer a ping."""

    at: float
    seconds: float


class Dropped(NamedTuple):
    """How many records of each kind there was no room for."""

    tasks: int = 0
    steps: int = 0
    spans: int = 0
    lints: int = 0

    def __str__(self) -> str:
        named = [f"{count} {name}" for name, count in self._asdict().items() if count]
        return ", ".join(named) or "nothing"
