"""The living program: which tasks there are now, and what each waits for.

Rule: it may be asked from any thread, while the loop runs or is blocked. What changes
meanwhile may be missing; nothing is kept, and nothing is moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..._crew import Crew
from ..._failures import short_repr
from ..loops import tasks_of
from ..raw.rows import Life
from ..raw.store import copied
from ..raw.strangers import has_begun
from ..records import Span, now
from ..stacks import Line, frames, lines, running, variable

if TYPE_CHECKING:
    from types import FrameType

    from ..loops import Loop, NativeTask
    from ..raw.recorder import Recorder

#: What a task does now: it holds the loop, waits, or has not begun.
State = Literal["running", "waiting", "new"]


@dataclass(frozen=True)
class LiveTask:
    """A task that has not ended, as it is now."""

    #: Its ``id``, or a number below 0 where it has not begun.
    ident: int
    #: Its number in the recording, or None where nothing is recorded.
    serial: int | None
    name: str
    state: State
    #: Seconds since it was spawned, or since the recording met it; None where not known.
    age: float | None
    #: Seconds for which it held the loop, in how many steps; 0 without level "steps".
    busy: float
    steps: int
    #: The ``ident`` of the task that holds its group open, or 0.
    parent: int
    #: The block that it belongs to, as in `TaskRecord`, and a number for that block.
    group: str | None
    block: int
    #: The line that spawned it, or None.
    place: str | None
    #: True if the core did not start it, or did so before the recording began; False where
    #: nothing is recorded.
    foreign: bool
    #: Where it is: the lines of its await stack that are not a library's, outermost first.
    stack: tuple[Line, ...]
    #: The item that a worker of `amap` or `imap` has in hand, cut short, or None.
    item: str | None
    #: Its spans that are open: calls that run elsewhere, named blocks.
    spans: tuple[Span, ...]
    #: True if it was there when the recording began, whoever started it.
    early: bool = False
    #: Seconds since it last held the loop; None where its last step is not kept.
    idle: float | None = None

    @property
    def waits(self) -> Line | None:
        """The line that it waits at, or runs."""
        return self.stack[-1] if self.stack else None


def look(loop: Loop, recorder: Recorder | None = None) -> list[LiveTask]:
    """Every live task of *loop*, with what *recorder* knows of it."""
    natives = {task.ident: task for task in tasks_of(loop)}
    if recorder is None:
        return [
            _unrecorded(loop, task, foreign=False)
            for task in natives.values()
            if not task.internal
        ]
    known = dict(copied(recorder.store.serials.items()))
    return [
        *_recorded(loop, recorder, natives, known),
        *(
            _unrecorded(loop, task, foreign=True)
            for task in natives.values()
            if not task.internal
            and task.ident not in known
            and task.ident not in recorder.store.serials  # meanwhile
            and has_begun(task.coro)  # what has not is ours, and known as such
        ),
    ]


def _recorded(
    loop: Loop, recorder: Recorder, natives: dict[int, NativeTask], known: dict[int, int]
) -> Iterable[LiveTask]:
    store, at = recorder.store, now()
    idents = {serial: ident for ident, serial in known.items()}
    blocks: dict[int, int] = {}
    held = {serial: end for _, end, serial in copied(store.steps)}
    open_spans: dict[int | None, list[Span]] = {}
    for span in copied(store.open_spans.values()):
        open_spans.setdefault(span.task, []).append(span)
    for serial, raw in copied(store.live.items()):
        life = Life(*raw)
        ident = idents.get(serial, -1 - serial)
        native = natives.get(ident)
        if native is None and (life.foreign or life.started is not None):
            continue  # it has just ended
        account = store.accounts.get(ident)
        stack = [] if native is None else _stack(loop, native)
        since = next(at for at in (life.spawned, life.started, store.began) if at is not None)
        parent = None if life.parent is None else idents.get(life.parent)
        if parent is None and life.block is not None and life.block.host in natives:
            parent = life.block.host
        if parent is None and native is not None:
            parent = native.parent
        yield LiveTask(
            ident=ident,
            serial=serial,
            name=life.name,
            state=_state(native),
            age=at - since,
            busy=0.0 if account is None else account.busy,
            steps=0 if account is None else account.steps,
            parent=parent or 0,
            group=None if life.block is None else life.block.label,
            block=0
            if life.block is None
            else blocks.setdefault(id(life.block), len(blocks) + 1),
            place=life.place,
            foreign=life.foreign,
            stack=tuple(lines(stack)),
            item=_item(stack),
            spans=tuple(open_spans.get(serial, ())),
            early=life.foreign and life.spawned is None and life.started is None,
            idle=max(0.0, at - held[serial]) if serial in held else None,
        )


def _unrecorded(loop: Loop, task: NativeTask, *, foreign: bool) -> LiveTask:
    stack = _stack(loop, task)
    return LiveTask(
        ident=task.ident,
        serial=None,
        name=task.name,
        state=_state(task),
        age=None,
        busy=0.0,
        steps=0,
        parent=task.parent,
        group=None,
        block=0,
        place=None,
        foreign=foreign,
        stack=tuple(lines(stack)),
        item=_item(stack),
        spans=(),
    )


def _state(task: NativeTask | None) -> State:
    if task is None or not has_begun(task.coro):
        return "new"
    return "running" if getattr(task.coro, "cr_running", False) else "waiting"


def _stack(loop: Loop, task: NativeTask) -> list[FrameType]:
    if _state(task) != "running":
        return frames(task.coro)
    # A coroutine that runs does not say what it awaits; the thread does.
    return running(loop.thread, below=getattr(task.coro, "cr_code", None))


def _item(stack: list[FrameType]) -> str | None:
    for frame in stack:
        if frame.f_code is _WORKING and (item := variable(frame, "item")) is not None:
            return short_repr(item)
    return None


#: Where a worker has the item that it serves, in a variable of that name.
_WORKING = vars(Crew)["_work_until_touched"].__code__
