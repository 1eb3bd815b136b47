"""The task tree: who is inside whose group, and where each of them is.

Rule: one line per task, the deepest line of the program's own code on it; a task without a
known parent stands at the left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..here import current_loop
from ..hub import hub
from ..records import Span, now
from .live import LiveTask, look
from .texts import printable

if TYPE_CHECKING:
    from ..loops import Loop
    from ..raw.recorder import Recorder

_WIDEST = 100
#: The last line of a tree without a recording.
HINT = "(for ages and groups, record from the start: KINGDOM_ASYNC_TRACE=life)"


def tree() -> str:
    """The living program as a task tree: state, age, busy time, and where each task waits.

    While a recording is on, groups, ages and calls that run elsewhere are known; without one
    there are the tasks, who is inside whose group, and their lines. To be called where a loop
    runs, or while one is recorded.

    Raises:
        RuntimeError: If no loop runs in this thread, and none is recorded.

    Example:
        >>> print(trace.tree())
    """
    recorder = hub.recorder_here()
    if recorder is not None:
        return tree_of(recorder.loop, recorder)
    try:
        return tree_of(current_loop())
    except RuntimeError:
        raise RuntimeError(
            "tree() where no event loop runs; call it inside an async function, or while "
            "trace.recording() or trace.start() is on"
        ) from None


def tree_of(loop: Loop, recorder: Recorder | None = None) -> str:
    """The tree of one loop; from any thread."""
    tasks = look(loop, recorder)
    lines = [_headline(loop, tasks, recorder), *_rows(tasks)]
    if recorder is None:
        lines.append(HINT)
    return "\n".join(printable(line) for line in lines)


def _headline(loop: Loop, tasks: list[LiveTask], recorder: Recorder | None) -> str:
    alive = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
    if recorder is None:
        return f"{loop.backend} · {alive} · nothing is recorded"
    store = recorder.store
    level = "steps" if recorder.has_steps else "life"
    dropped = store.dropped()
    lost = f" · dropped: {dropped}" if any(dropped) else ""
    return f"{loop.backend} · {alive} · {level} recorded for {now() - store.began:.1f} s{lost}"


def _rows(tasks: list[LiveTask]) -> Iterator[str]:
    ordered = sorted(tasks, key=lambda task: (task.serial is None, task.serial or 0))
    children: dict[int, list[LiveTask]] = {}
    known = {task.ident for task in tasks}
    for task in ordered:
        children.setdefault(task.parent if task.parent in known else 0, []).append(task)
    left = set(known)
    # Who stands in a circle of parents is reached from none at the left.
    for start in (*children.get(0, ()), *ordered):
        # No recursion: tasks may be inside each other a thousand times.
        pending = [_Row("", "", start)] if start.ident in left else []
        while pending:
            row = pending.pop()
            if row.task is None:
                yield row.text
            elif row.task.ident in left:
                left.discard(row.task.ident)
                yield row.text + describe(row.task)
                pending.extend(reversed([*_below(row.task, children, row.indent)]))


class _Row(NamedTuple):
    """A line, what stands before the lines below it, and the task that it shows."""

    text: str
    indent: str
    task: LiveTask | None


def _below(task: LiveTask, children: dict[int, list[LiveTask]], indent: str) -> Iterator[_Row]:
    """What is inside a task: its open spans, and its groups with their tasks."""
    groups: dict[int, list[LiveTask]] = {}
    for child in children.get(task.ident, ()):
        groups.setdefault(child.block, []).append(child)
    loose = [child for group in groups.values() if group[0].group is None for child in group]
    labelled = [group for group in groups.values() if group[0].group is not None]
    parts: list[Span | LiveTask | list[LiveTask]] = [*task.spans, *loose, *labelled]
    for number, part in enumerate(parts):
        fork, trunk = _LAST if number == len(parts) - 1 else _NOT_LAST
        if isinstance(part, LiveTask):
            yield _Row(indent + fork, indent + trunk, part)
        elif isinstance(part, list):
            yield _Row(f"{indent}{fork}{part[0].group}", "", None)
            for child in part:
                inner, beside = _LAST if child is part[-1] else _NOT_LAST
                yield _Row(indent + trunk + inner, indent + trunk + beside, child)
        else:
            since = f"{cut(part.name)} · since {now() - part.start:.1f} s"
            yield _Row(indent + fork + since, "", None)


_LAST, _NOT_LAST = ("└─ ", "   "), ("├─ ", "│  ")


def describe(task: LiveTask) -> str:
    """One line: name, item in hand, state, age, busy time, and where it is."""
    parts = [cut(task.name) + _origin(task)]
    if task.item is not None:
        parts.append(f"item {cut(task.item)}")
    parts.extend(_times(task))
    if task.steps:
        many = "step" if task.steps == 1 else "steps"
        parts.append(f"busy {task.busy * 1e3:.3g} ms in {task.steps} {many}")
    if task.state == "new" and task.place is not None:
        parts.append(f"spawned at {task.place}")
    elif task.waits is not None:
        parts.append(f"{task.waits}: {cut(task.waits.source)}".rstrip(": "))
    return " · ".join(parts)


def _origin(task: LiveTask) -> str:
    if not task.foreign:
        return ""
    return " (from before the recording)" if task.early else " (foreign)"


def _times(task: LiveTask) -> Iterator[str]:
    """What it does and for how long, and how old it is."""
    waits = task.state == "waiting" and task.idle is not None
    yield f"{task.state} for {task.idle:.1f} s" if waits else task.state
    if task.age is not None:
        yield f"{'at least ' * task.early}{task.age:.1f} s old"


def cut(text: str) -> str:
    """*text* on one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
