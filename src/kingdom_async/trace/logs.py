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
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import Lint, TaskRecord

_logger = logging.getLogger("kingdom_async.trace")
#: The errors of handlers that have been told of.
_told: set[str] = set()
#: So many lints of a kind are logged in so many seconds.
_A_PERIOD, _PERIOD = 10, 10.0


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
    """Logs the lints of one recording, and no more of a kind than anybody reads."""

    def __init__(self) -> None:
        #: By kind: since when, how many were logged since then, and how many were not.
        self._lately: dict[str, tuple[float, int, int]] = {}

    def __call__(self, lint: Lint, task_name: str | None) -> None:
        """Log *lint*, or count it."""
        if lint.kind == "blocked-loop":  # the watchdog logs it, with the stack
            return
        since, logged, left_out = self._lately.get(lint.kind, (lint.at, 0, 0))
        if lint.at - since >= _PERIOD:
            since, logged = lint.at, 0
        if logged >= _A_PERIOD:
            self._lately[lint.kind] = since, logged, left_out + 1
            return
        self._lately[lint.kind] = since, logged + 1, 0
        if left_out:
            more = f"{lint.message} (and {left_out} more of this kind since the last one)"
            lint = replace(lint, message=more)
        log_lint(lint, task_name)


def log_error(task: TaskRecord) -> None:
    """Log that *task* failed, as an error."""
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
    _log(logging.ERROR, "task %r%s failed: %s", (task.name, where, task.error), fields)


def _log(
    level: int, message: str, args: tuple[object, ...], fields: Mapping[str, object]
) -> None:
    try:
        _logger.log(level, message, *args, extra=fields)
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
