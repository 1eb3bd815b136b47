"""Task groups and deadlines: which are open around which task, and what became of them.

Rule: what concerns them is the same for all recordings, and is kept here once.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from math import inf
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING
from weakref import ref

from anyio import CancelScope, get_cancelled_exc_class

from ..._failures import without
from ..guard import guarded
from ..stacks import line_of
from .causes import Deadline, by_task, called
from .places import caller
from .rows import Block, Life

if TYPE_CHECKING:
    from ..._observe import Group
    from .recorder import Recorder


class Blocks(ABC):
    """What the core says of groups and deadlines."""

    recorders: tuple[Recorder, ...]

    def __init__(self) -> None:
        #: By ``id`` of the task: the deadlines around what it does now.
        self._deadlines: dict[int, list[Deadline]] = {}

    @abstractmethod
    def _here(self) -> Recorder | None:
        """A recorder of the loop that runs in this thread."""

    @abstractmethod
    def _newly_here(self) -> Recorder | None:
        """A recorder of the loop that runs here, and was not known to."""

    @guarded
    def opened(self, group: Group) -> None:
        here = self._here() or self._newly_here()
        if here is None:
            return
        host = here.loop.identify()
        for each in self.recorders:
            if host not in each.store.serials and each.is_here():
                each.strangers.meet_current()
        kind, code, instruction = _opener(sys._getframe(1))
        if code is None:  # opened by a task of the core's own, for the group that it is in
            raw = here.store.live.get(here.store.serials.get(host, -1))
            life = None if raw is None else Life(*raw)
            if life is not None:
                code, instruction = life.code, life.instruction
        deadlines = tuple(self._deadlines.get(host, ()))
        group._seen = block = Block(kind, code, instruction, host, deadlines, here.loop.run)
        block.group = ref(group)

    @guarded
    def failed(self, group: Group, error: BaseException) -> None:
        block: Block | None = group._seen
        if block is None or block.cause is not None:
            return
        if without(get_cancelled_exc_class(), error) is not None:
            name = self._name_of(block.host) or "?"
            block.cause = f"task {name!r} failed: {type(error).__name__}"
        elif not group.cancel_scope.cancel_called:
            deadline = called(block.deadlines)
            if deadline is not None:
                block.exit = id(group.cancel_scope), deadline.cause

    @guarded
    def closed(self, group: Group) -> None:
        block: Block | None = group._seen
        if block is not None:
            for recorder in self.recorders:
                recorder.closed(block)

    @guarded
    def cancelled(self, group: Group, reason: str | None) -> None:
        block: Block | None = group._seen
        here = self._here()
        if block is None or block.cause is not None or here is None:
            return
        code, instruction = caller(sys._getframe(1))
        place = None if code is None else str(line_of(code, instruction))
        name = self._name_of(here.loop.identify())
        if name is None:
            where = "" if place is None else f" at {place}"
            block.cause = f"a callback{where}" + ("" if reason is None else f": {reason}")
        else:
            block.cause = by_task(name, reason, place)

    @guarded
    def deadline_set(self, scope: CancelScope, seconds: float, reason: str | None) -> None:
        here = self._here() or self._newly_here()
        if here is not None:
            deadline = Deadline(scope, seconds, reason, *caller(sys._getframe(1)))
            self._deadlines.setdefault(here.loop.identify(), []).append(deadline)

    @guarded
    def deadline_left(self, scope: CancelScope, late: float) -> None:
        here = self._here()
        task = 0 if here is None else here.loop.identify()
        if task not in self._deadlines:  # its recording is over, and another one is on
            found = (each for each, all_ in [*self._deadlines.items()] if _has(all_, scope))
            task = next(found, 0)
        around = self._deadlines.get(task, [])
        left = [deadline for deadline in around if deadline.scope is scope]
        for deadline in left:
            around.remove(deadline)
            deadline.left()
        if not around:
            self._deadlines.pop(task, None)
        for recorder in self.recorders:
            for deadline in left:
                # One that had passed when the block was entered counts from there.
                over = late + min(0.0, deadline.seconds)
                if recorder.thresholds.deadline_overrun < over < inf and recorder.is_here():
                    recorder.overran(task, deadline, over)

    def _name_of(self, task: int) -> str | None:
        here = self._here()
        if here is None:
            return None
        raw = here.store.live.get(here.store.serials.get(task, -1))
        return None if raw is None else Life(*raw).name


def _has(deadlines: list[Deadline], scope: CancelScope) -> bool:
    return any(deadline.scope is scope for deadline in deadlines)


def _opener(frame: FrameType) -> tuple[str, CodeType | None, int]:
    """Which call opened a group, and the line that made it."""
    kind = "TaskGroup"
    code, instruction = caller(frame)
    inner: FrameType | None = frame
    while inner is not None and inner.f_code is not code and inner.f_code.co_name not in _EDGE:
        for name in (inner.f_code.co_name, Path(inner.f_code.co_filename).stem):
            kind = name.strip("_") if name.strip("_") in _CALLS else kind
        inner = inner.f_back
    return kind, code, instruction


#: What a task is run by; the frames above are not its own.
_EDGE = frozenset({"_run_coro", "child"})

#: The calls of the core that open a group of their own.
_CALLS = ("gather", "first_success", "first_finished", "amap", "imap", "offload_map")
