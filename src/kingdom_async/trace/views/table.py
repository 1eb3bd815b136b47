"""Live tasks as the rows of a table, those first that look wrong; and one of them in full.

Rule: what leaves here is plain data, every text of it cut short.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..raw.store import copied
from ..records import now
from .tree import cut

if TYPE_CHECKING:
    from ..raw.recorder import Recorder
    from ..stacks import Line
    from .live import LiveTask

#: Upper ends of the classes of a histogram of steps, in seconds; one more is open.
BOUNDS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Noted(NamedTuple):
    """A live task, and what there is to note of it."""

    task: LiveTask
    #: The kind of its last lint; or that it waits for long.
    warning: str | None
    #: Seconds since it last held the loop, where steps are recorded.
    idle: float | None


class Rows(list[Noted]):
    """The rows that a filter has left."""

    def ordered(self, column: str, *, descending: bool) -> list[Noted]:
        """Sorted by a column.

        Raises:
            KeyError: If there is no such column.
        """
        key = _KEYS[column]
        return sorted(self, key=key, reverse=descending)


def rows(
    tasks: list[LiveTask],
    recorder: Recorder | None,
    wanted: str = "",
    *,
    is_blocked: bool = False,
) -> Rows:
    """The tasks that have *wanted* somewhere in their texts.

    Args:
        tasks: All there are.
        recorder: What is known of them.
        wanted: "" for every task.
        is_blocked: True if the loop does not answer; the task that runs is to blame.
    """
    lints = {} if recorder is None else {x.task: x.kind for x in copied(recorder.store.lints)}
    idle = _idle(recorder)
    stuck = None if recorder is None else recorder.thresholds.stuck
    found = Rows()
    wanted = wanted.casefold()
    for task in tasks:
        if wanted and wanted not in _texts(task).casefold():
            continue
        rests = idle(task)
        warning = None if task.serial is None else lints.get(task.serial)
        if is_blocked and task.state == "running":
            warning = "blocked-loop"
        if warning is None and rests is not None and stuck is not None and rests > stuck:
            warning = LONG_WAIT
        found.append(Noted(task, warning, rests))
    return found


#: Said of a task that waits for longer than `Thresholds.stuck`; many do so rightly.
LONG_WAIT = "long wait"


def row(task: LiveTask, warning: str | None, idle: float | None) -> dict[str, Any]:
    """One row, as it is sent."""
    return {
        "ident": task.ident,
        "name": cut(task.name),
        "state": task.state,
        "age": task.age,
        "busy": task.busy,
        "steps": task.steps,
        "idle": idle,
        "waits": None if task.waits is None else str(task.waits),
        "source": "" if task.waits is None else cut(task.waits.source),
        "item": None if task.item is None else cut(task.item),
        "spans": [cut(span.name) for span in task.spans[-3:]],
        "foreign": task.foreign,
        "early": task.early,
        "warning": warning,
    }


def details(task: LiveTask, recorder: Recorder | None) -> dict[str, Any]:
    """All there is to say of a task."""
    noted = rows([task], recorder)[0]
    lints = [] if recorder is None else copied(recorder.store.lints)
    return {
        **row(*noted),
        "serial": task.serial,
        "group": task.group,
        "place": task.place,
        "stack": [told(line) for line in task.stack],
        "spans": [
            {"name": cut(span.name), "seconds": now() - span.start} for span in task.spans
        ],
        "lints": list(
            {
                lint.kind: lint.message[:500]  # the last of each kind
                for lint in lints
                if task.serial is not None and lint.task == task.serial
            }.values()
        ),
        "histogram": _histogram(task, recorder),
    }


def told(line: Line) -> dict[str, Any]:
    """A line of a stack, with its source."""
    return {**line._asdict(), "source": cut(line.source)}


def _histogram(task: LiveTask, recorder: Recorder | None) -> list[int] | None:
    """How many of its steps that are kept took how long; None where none are recorded."""
    if recorder is None or not recorder.has_steps:
        return None
    counts = [0] * (len(BOUNDS) + 1)
    for start, end, serial in copied(recorder.store.steps):
        if serial == task.serial:
            counts[bisect_right(BOUNDS, end - start)] += 1
    return counts


def _idle(recorder: Recorder | None) -> Callable[[LiveTask], float | None]:
    if recorder is None or not recorder.has_steps:
        return lambda task: None
    at, steps = now(), copied(recorder.store.steps)
    last = {serial: end for _, end, serial in steps}
    # Whose last step is no longer kept has rested at least since the first that is.
    first = steps[0][0] if steps else recorder.store.began

    def idle(task: LiveTask) -> float | None:
        if task.state != "waiting" or task.serial is None:
            return None
        rests = at - last.get(task.serial, first)
        return rests if task.age is None else min(rests, task.age)

    return idle


def _texts(task: LiveTask) -> str:
    parts = (task.name, task.state, task.place, task.group, task.waits, task.item)
    return "\n".join(str(part) for part in parts if part is not None)


def _number(value: float | None) -> float:
    return -1.0 if value is None else value


_KEYS: dict[str, Callable[[Noted], Any]] = {
    "warning": lambda noted: (
        2 if noted.warning not in (None, LONG_WAIT) else int(noted.warning is not None),
        _number(noted.task.age),
    ),
    "name": lambda noted: noted.task.name.casefold(),
    "state": lambda noted: (noted.task.state, _number(noted.task.age)),
    "age": lambda noted: _number(noted.task.age),
    "busy": lambda noted: noted.task.busy,
    "steps": lambda noted: noted.task.steps,
    "idle": lambda noted: _number(noted.idle),
    "waits": lambda noted: "" if noted.task.waits is None else str(noted.task.waits),
}
