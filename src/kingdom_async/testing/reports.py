"""What many runs of one body came to.

Rule: plain data. Whoever makes the runs fills it in; it is printed, asked and raised here.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

from .._arguments import name_of
from ..trace.stacks import Line, is_library

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: How many failures a report prints that are unlike each other, and how many numbers of those
#: that are alike; `Report.failures` has them all.
_PRINTED = 10
#: What differs from run to run in one and the same bug: addresses, and the numbers that tasks
#: and threads without a name have.
_CHANGING = re.compile(r"\b0x[0-9a-fA-F]{6,}|\b(?:Task|Thread)-\d+")
#: The lines of these tools say nothing of the program.
_HERE = os.path.join(os.path.dirname(__file__), "")
_TOOLS = (_HERE, os.path.join(os.path.dirname(os.path.dirname(__file__)), "pytest_plugin.py"))


def called(func: object) -> str:
    """What *func* is called where it is defined, so that a replay can be pasted there."""
    return name_of(func).rpartition("<locals>.")[2]


def place_of(error: BaseException) -> str:
    """The last line of the program's own that *error* went through."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not is_library(code.co_filename) and not code.co_filename.startswith(_TOOLS):
            place = str(Line(code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return place


@dataclass(frozen=True)
class Failure:
    """One run that broke its promise."""

    #: What to call to see it again: one line.
    replay: str
    #: What was wrong.
    error: BaseException
    #: After which step it was cancelled, the first being 1; None for the run without.
    step: int | None = None
    #: The seed of its schedule, where it had one.
    seed: int | None = None
    #: Where the task was that had taken the step: ``"pool.py:17 in take"``. Where no line of
    #: the program's own was running, as in a worker of `amap`: ``"task 'amap(load)'"``.
    place: str = ""
    #: True for a run in which nothing was done to the body, such as the one that counts.
    is_undisturbed: bool = False

    def __str__(self) -> str:
        where = [] if self.step is None else [f"step {self.step}"]
        where += [] if self.seed is None else [f"seed {self.seed}"]
        where += [self.place] if self.place else []
        says = _said(self.error).replace("\n", "\n  ")
        return f"{', '.join(where) or 'undisturbed'}: {says}\n  replay: {self.replay}"

    def _kind(self) -> tuple[str, str]:
        """The same for failures that are likely to be one and the same bug."""
        return self.place, _CHANGING.sub("…", _said(self.error).partition("\n")[0])


def _alike(first: Failure, others: list[Failure]) -> str:
    """What is said of *others*, which are like *first*."""
    name = "seed" if first.step is None else "step"
    numbers = [str(getattr(one, name)) for one in others if getattr(one, name) is not None]
    if len(numbers) < len(others):  # schedules are tuples
        return f"  … and {len(others)} like it, in report.failures"
    shown = ", ".join(numbers[:_PRINTED]) + (", …" if len(numbers) > _PRINTED else "")
    return f"  … and {len(others)} like it: {name}{'s' * (len(others) > 1)} {shown}"


def _said(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, Broken):
        return text
    name = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        parts = cast("tuple[BaseException, ...]", error.exceptions)  # pyright: ignore[reportUnknownMemberType]
        return f"{name} of {', '.join(map(_said, parts))}"
    return f"{name}: {text}" if text else name


class Broken(AssertionError):
    """A run has left something behind, or swallowed what it was not to."""


@dataclass
class Report:
    """How many runs there were, what they came to, and which of them failed."""

    #: What was called, as ``"cancel_everywhere(transfer)"``.
    call: str
    backend: str
    #: How many steps, or seeds, there are.
    points: int = 0
    #: How many of them there was a run for, in which it happened.
    injected: int = 0
    failures: list[Failure] = field(default_factory=list["Failure"])
    #: What the runs ended with, and how many did.
    outcomes: Counter[str] = field(default_factory=Counter[str])
    #: Why `injected` is less than `points`, where it is, and such.
    remarks: list[str] = field(default_factory=list[str])

    def raise_if_failed(self) -> None:
        """Raise what failed, if anything did.

        Raises:
            AssertionError: It says all of it; its cause is the error of the first failure.
        """
        __tracebackhide__ = True  # in pytest, where the test's own line is what matters
        if not self.failures:
            return
        first = self.failures[0].error
        try:
            raise AssertionError(str(self)) from first
        finally:
            del first

    def __str__(self) -> str:
        head = f"{self.call} on {self.backend}: {self.injected} of {self.points} points"
        ended = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        lines = [f"{head}, {self._failed()}" + (f" ({ended})" if ended else "")]
        lines += self.remarks
        kinds: dict[tuple[str, str], list[Failure]] = {}
        for failure in self.failures:
            kinds.setdefault(failure._kind(), []).append(failure)
        for first, *others in [*kinds.values()][:_PRINTED]:
            lines.append(str(first))
            if others:
                lines.append(_alike(first, others))
        if (more := sum(map(len, [*kinds.values()][_PRINTED:]))) > 0:
            lines.append(f"… and {more} more, in report.failures")
        return "\n".join(lines)

    def _failed(self) -> str:
        """How many runs failed; several failures of one run are one."""
        undisturbed = {failure.replay for failure in self.failures if failure.is_undisturbed}
        count = len({failure.replay for failure in self.failures} - undisturbed)
        if not undisturbed:
            return f"{count or 'none'} failed"
        both = f"{count} failed, and the undisturbed run"
        return both if count else "the undisturbed run failed"
