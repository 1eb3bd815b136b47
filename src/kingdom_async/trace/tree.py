"""The task tree: who is inside whose group, and where each of them is.

Rule: one line per task, the deepest line of the program's own code on it; a task without a
known parent stands at the left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .hub import current_loop, hub
from .live import LiveTask, look
from .records import Span, now

if TYPE_CHECKING:
    from .loops import Loop
    from .recorder import Recorder

_WIDEST = 100


def tree() -> str:
    """The living program as a task tree: state, age, busy time, and where each task waits.

    While a recording is on, groups, ages and calls that run elsewhere are known; without one
    there are the tasks and their lines. To be called where a loop runs, or while one is
    recorded.

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
    return "\n".join([_headline(loop, tasks, recorder), *_rows(tasks)])


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
    known = {task.ident for task in tasks}
    children: dict[int, list[LiveTask]] = {}
    for task in sorted(tasks, key=lambda task: (task.serial is None, task.serial or 0)):
        parent = task.parent if task.parent in known and task.parent != task.ident else 0
        children.setdefault(parent, []).append(task)
    for task in children.get(0, ()):
        yield from _branch(task, children, "", "", frozenset())


def _branch(
    task: LiveTask,
    children: dict[int, list[LiveTask]],
    first: str,
    indent: str,
    above: frozenset[int],
) -> Iterator[str]:
    yield first + describe(task)
    above |= {task.ident}
    groups: dict[int, list[LiveTask]] = {}
    for child in children.get(task.ident, ()):
        if child.ident not in above:
            groups.setdefault(child.block, []).append(child)
    parts: list[Span | list[LiveTask]] = [*task.spans, *groups.values()]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        fork, trunk = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        if not isinstance(part, list):
            yield f"{indent}{fork}{cut(part.name)} · since {now() - part.start:.1f} s"
            continue
        if part[0].group is None:
            for child in part:
                last = is_last and child is part[-1]
                fork, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
                yield from _branch(child, children, indent + fork, indent + trunk, above)
            continue
        yield f"{indent}{fork}{part[0].group}"
        for child in part:
            inner, beside = ("└─ ", "   ") if child is part[-1] else ("├─ ", "│  ")
            under = indent + trunk
            yield from _branch(child, children, under + inner, under + beside, above)


def describe(task: LiveTask) -> str:
    """One line: name, item in hand, state, age, busy time, and where it is."""
    parts = [cut(task.name) + (" (foreign)" if task.foreign else "")]
    if task.item is not None:
        parts.append(f"item {cut(task.item)}")
    parts.append(task.state if task.age is None else f"{task.state} {task.age:.1f} s")
    if task.steps:
        many = "step" if task.steps == 1 else "steps"
        parts.append(f"busy {task.busy * 1e3:.3g} ms in {task.steps} {many}")
    if task.state == "new" and task.place is not None:
        parts.append(f"spawned at {task.place}")
    elif task.waits is not None:
        parts.append(f"{task.waits}: {cut(task.waits.source)}".rstrip(": "))
    return " · ".join(parts)


def cut(text: str) -> str:
    """*text* on one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
