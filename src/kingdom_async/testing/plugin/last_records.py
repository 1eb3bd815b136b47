"""The end of a recording as text, for the report of a test that failed.

Rule: newest last, as in a traceback, and no more than a reader takes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._failures import bare
from ...trace.logs import LintLog
from ...trace.views.tree import cut
from ..clocks.idle import tree_text
from ..reports import place_of

if TYPE_CHECKING:
    from ...trace.loops import Loop
    from ...trace.records import TaskRecord
    from ...trace.snapshot import Snapshot

_MOST = 20


class NotLogged(LintLog):
    """Of a recording that shows its lints itself; one of the test's own logs them, too."""

    def is_first(self, kind: str, place: object, at: float) -> bool:
        return False

    def count(
        self, kind: str, place: object, task_name: str | None, what: str, amount: float
    ) -> None:
        """They are not told later, either."""


def tree_at(error: BaseException, loop: Loop) -> str:
    """The tasks of *loop*, in one of which *error* has just come out of the test."""
    ours = f" in {tree_text.__name__}: "  # where that task is by now
    place = place_of(bare(error))  # none, where a tool has looked at what the test has left
    failed = f" · failed at {place}" if place else ""
    return "\n".join(
        f"{line.rpartition(' · ')[0]}{failed}" if ours in line else line
        for line in tree_text(loop).splitlines()
    )


def last_records(snapshot: Snapshot) -> str:
    """The tasks that ended last, then those that are still alive, then what looks wrong."""
    known = (task for task in snapshot.tasks if not task.foreign)  # not the test runner's own
    tasks = sorted(known, key=lambda task: (task.ended is None, task.ended or 0.0))
    lines = [_line(task, snapshot.began) for task in tasks[-_MOST:]]
    left_out = len(tasks) - len(lines)
    if left_out > 0:
        lines.insert(0, f"… {left_out} tasks before")
    lines += [f"lint {lint.kind}: {cut(lint.message)}" for lint in snapshot.lints[-_MOST:]]
    return "\n".join([f"{snapshot.backend}, level {snapshot.level}", *lines])


def _line(task: TaskRecord, began: float) -> str:
    parts = [cut(task.name), task.outcome if task.error is None else f"error {task.error}"]
    if task.cancelled_by is not None:
        parts.append(f"cancelled by {cut(task.cancelled_by)}")
    if task.spawned is not None:
        life = "" if task.ended is None else f" to {(task.ended - began) * 1e3:.1f}"
        parts.append(f"{(task.spawned - began) * 1e3:.1f}{life} ms")
    if task.place is not None:
        parts.append(f"spawned at {task.place}")
    if task.group is not None:
        parts.append(f"in {task.group}")
    return " · ".join(parts)
