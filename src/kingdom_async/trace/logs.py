"""Lints and errors of tasks as records of the logger ``kingdom_async.trace``.

Rule: a program never fails for what is logged about it. What goes wrong in a handler, a filter
or a formatter is told on stderr, once, and ends here.

Each record has the fields below (``extra``), the same for every kind of record:

- ``kind``: the kind of the lint, or ``"task-error"``;
- ``task`` and ``task_name``: the task's serial and name, or None;
- ``place``: the line, as ``"service.py:12 in main"``, or None;
- ``at``: when, in seconds on the recording's clock, or None;
- ``parent``, ``group``, ``error``: of a task that failed; None for a lint.
"""

from __future__ import annotations

import logging
import sys
from threading import Lock
from typing import TYPE_CHECKING

from .records import Lint, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import TaskRecord

_logger = logging.getLogger("kingdom_async.trace")
#: The errors of handlers that have been told of.
_told: set[str] = set()
#: Seconds for which a rule and a place have one line, and between two looks for what is due.
_PERIOD, _TICK = 10.0, 1.0
#: So many rules and places are told apart at a time; beyond, each rule has one line.
_PLACES, _ELSEWHERE = 200, "elsewhere"
#: The watchdog logs it, with the stack.
_WATCHED = "blocked-loop"
#: What is said of several tasks, with the largest of their amounts.
_MANY = {
    "long-step": "held the loop for up to {} s",
    "never-yielded": "held the loop for up to {} s, and never let go of it",
    "spinning": "take up to {} steps a second and wait for nothing",
    "swallowed-cancellation": "were cancelled, and ended as if not",
    "cancelled-but-alive": "are alive up to {} s after their cancellation",
    "deadline-overrun": "left a block up to {} s after its deadline",
    "stuck": "have waited up to {} s",
    "late-first-run": "first ran up to {} s after their spawn",
}


def log_lint(lint: Lint, task_name: str | None) -> None:
    """Log *lint* as a warning."""
    fields = {
        "kind": lint.kind,
        "task": lint.task,
        "task_name": task_name,
        "place": lint.place,
        "at": lint.at,
        "parent": None,
        "group": None,
        "error": None,
    }
    _log(logging.WARNING, "%s: %s", (lint.kind, lint.message), fields)


class LintLog:
    """Logs the lints of one recording: of a rule and a place, one line in so many seconds.

    The first is logged at once. Those that come within the period are counted, and told of in
    one line at its end: by the next lint, by `tick`, or when the recording ends.
    """

    def __init__(self) -> None:
        #: By kind and place: what came since the line that was logged last.
        self._lately: dict[tuple[str, object], _Lately] = {}
        self._due = 0.0
        #: Lints come from the loop and from the thread that looks at it.
        self._changing = Lock()

    def is_first(self, kind: str, place: object, at: float) -> bool:
        """True if a lint is to be logged at once; what is not is to be given to `count`."""
        if kind == _WATCHED:
            return False
        if at >= self._due:
            self.tick(at)
        with self._changing:
            if (kind, place) in self._lately or len(self._lately) >= _PLACES:
                return False
            self._lately[kind, place] = _Lately(at)
            return True

    def log(
        self, lint: Lint, task_name: str | None, key: object, where: str | None = None
    ) -> None:
        """Log the first one."""
        with self._changing:
            first = self._lately[lint.kind, key]
            first.place, first.where = lint.place, where
        log_lint(lint, task_name)

    def count(
        self, kind: str, place: object, task_name: str | None, what: str, amount: float
    ) -> None:
        """Count one that is not logged by itself."""
        if kind == _WATCHED:
            return
        with self._changing:
            found = self._lately.get((kind, place))
            if found is None:  # there are too many places
                found = self._lately.setdefault((kind, _ELSEWHERE), _Lately(now()))
            found.add(task_name, what, amount)

    def tick(self, at: float) -> float:
        """Log what was counted in a period that is over; returns when to look again."""
        self._tell(at, [key for key in [*self._lately] if self._is_over(key, at)])
        self._due = at + _TICK
        return self._due

    def end(self) -> None:
        """Log what was counted until now."""
        self._tell(now(), [*self._lately])

    def _is_over(self, key: tuple[str, object], at: float) -> bool:
        found = self._lately.get(key)
        return found is not None and at - found.since >= _PERIOD

    def _tell(self, at: float, keys: list[tuple[str, object]]) -> None:
        for key in keys:
            with self._changing:
                found = self._lately.pop(key, None)
                if found is None or not found.count:
                    continue
                self._lately[key] = _Lately(at, found.place, found.where)
            name = found.name if found.has_one_name else None
            log_lint(Lint(key[0], None, found.place, found.sentence(key[0]), at), name)


class _Lately:
    """The lints of a rule and a place since one of them was logged."""

    def __init__(
        self, since: float, place: str | None = None, where: str | None = None
    ) -> None:
        self.since = since
        self.place = place
        #: What the sentence says of the place.
        self.where = where
        self.count = 0
        self.most = 0.0
        self.what = ""
        self.name: str | None = None
        self.has_one_name = True

    def add(self, name: str | None, what: str, amount: float) -> None:
        self.has_one_name = self.has_one_name and (not self.count or name == self.name)
        self.count += 1
        self.most = max(self.most, amount)
        self.name, self.what = name, what

    def sentence(self, kind: str) -> str:
        """One sentence for all of them."""
        where = self.where or self.place or "at various places"
        if self.name is None:
            more = "" if self.count == 1 else f" (and {self.count - 1} more like it)"
            return f"{self.what}{more}"
        if self.count == 1:
            return f"task {self.name!r} ({where}) {self.what}"
        named = f"{self.name!r}" if self.has_one_name else f"such as {self.name!r}"
        said = _MANY.get(kind, "do so, too").format(f"{self.most:.3g}")
        return f"{self.count} more tasks {named} ({where}) {said}"


def log_error(task: TaskRecord, error: BaseException) -> None:
    """Log that *task* failed, as an error with its traceback."""
    fields = {
        "kind": "task-error",
        "task": task.serial,
        "task_name": task.name,
        "place": task.place,
        "at": task.ended,
        "parent": task.parent,
        "group": task.group,
        "error": task.error,
    }
    where = "" if task.place is None else f" ({task.place})"
    said = (task.name, where, task.error)
    _log(logging.ERROR, "task %r%s failed: %s", said, fields, error)


def _log(
    level: int,
    message: str,
    args: tuple[object, ...],
    fields: Mapping[str, object],
    raised: BaseException | None = None,
) -> None:
    try:
        _logger.log(level, message, *args, extra=fields, exc_info=raised)
    except Exception as error:  # somebody's handler; the task that is logged has no part in it
        _tell(error)


def _tell(error: Exception) -> None:
    kind = type(error).__qualname__
    if kind in _told:
        return
    _told.add(kind)
    try:
        print(
            f"kingdom_async.trace: a logging handler failed with {kind}; "
            "its record is lost, and this is not told again",
            file=sys.stderr,
        )
    except Exception:  # stderr is closed: there is nobody left to tell
        return
