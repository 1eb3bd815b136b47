"""Who cancelled a task: which deadline, or which task, why and at which line.

Rule: looked for from the inside out, among the groups and deadlines around the task, as both
backends know them; what the cancellation itself says comes second, since they say less.
"""

from __future__ import annotations

import asyncio
import re
from ast import literal_eval
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..loops import CORE
from ..stacks import line_of
from .rows import LONGEST_NAME, Life

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio import CancelScope

    from .rows import Block
    from .store import Store

#: What asyncio's cancellation says where it came through a scope of anyio's.
_THROUGH_SCOPE = "Cancelled via cancel scope "
_SCOPE = re.compile(_THROUGH_SCOPE + "([0-9a-f]+)")
_TEXT = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_BY_TASK = re.compile(f" by <[^>]*?name={_TEXT}", re.DOTALL)
_REASON = re.compile(r"; reason: (.*)\Z", re.DOTALL)
#: How that ends where time ran out.
_BY_TIME = "; reason: deadline exceeded"
_TRIO_TASK = re.compile(f"<Task {_TEXT} at 0x[0-9a-f]+>", re.DOTALL)


#: Characters of the reason of a cancellation.
_LONGEST_REASON = 2000


class _Left(NamedTuple):
    """What remains of the scope of a block that was left; a scope would keep its task alive."""

    cancel_called: bool
    by_hand: str | None


class Deadline:
    """A block of `fail_after` or its like that is open."""

    __slots__ = ("code", "instruction", "reason", "scope", "seconds")

    def __init__(
        self,
        scope: CancelScope | _Left,
        seconds: float,
        reason: str | None,
        code: CodeType | None,
        instruction: int,
    ) -> None:
        self.scope: CancelScope | _Left = scope
        self.seconds: float = seconds
        self.reason: str | None = _cut(reason)
        self.code: CodeType | None = code
        self.instruction: int = instruction

    def left(self) -> None:
        """The block is left: only whether it was cancelled, and by what, is still asked for."""
        is_cancelled = is_called(self.scope)
        self.scope = _Left(is_cancelled, _by_hand(self.scope) if is_cancelled else None)

    @property
    def cause(self) -> str:
        """What has cancelled the block: its time, or whoever did by hand."""
        return _by_hand(self.scope) or str(self)

    @property
    def place(self) -> str | None:
        return None if self.code is None else str(line_of(self.code, self.instruction))

    def __str__(self) -> str:
        named = "deadline" if self.reason is None else f"deadline {self.reason!r}"
        return f"{named} of {self.seconds:.3g} s"


def cause_of(error: BaseException, life: Life, store: Store) -> str:
    """A sentence for the cancellation that ended a task."""
    said = _Said(error)
    found = _around(life, store, said)
    if found is None and said.may_be_timer:
        said.may_be_group = True
        found = _around(life, store, said)
    if found is None and said.scope is not None:
        found = _exit(life, store, said.scope)
    return found or said.sentence


def around(life: Life, store: Store) -> str | None:
    """What of the groups and deadlines around a task is cancelled, if that is known."""
    return _around(life, store, _Unsaid())


def _around(life: Life, store: Store, said: _Said | _Unsaid) -> str | None:
    """The first cause among the groups and deadlines around the task."""
    for block in _blocks(life, store):
        if block.cause is not None and said.may_be_group:
            return block.cause
        found = called(block.deadlines) if said.may_be_deadline else None
        if found is not None:
            return found.cause
    return None


def called(deadlines: tuple[Deadline, ...]) -> Deadline | None:
    """The innermost of these whose block is cancelled."""
    return next((each for each in reversed(deadlines) if each.scope.cancel_called), None)


def _exit(life: Life, store: Store, scope: int) -> str | None:
    """What ended the host of the group that ended the task: its scope has that ``id``."""
    for block in _blocks(life, store):
        if block.exit is not None and block.exit[0] == scope:
            return block.exit[1]
    return None


def _blocks(life: Life, store: Store) -> Iterator[Block]:
    """The groups around a task, from the inside out."""
    for _ in range(100):
        if life.block is None:
            return
        yield life.block
        above = store.live.get(life.parent) if life.parent is not None else None
        if above is None:
            return
        life = Life(*above)


class _Unsaid:
    """Of a cancellation that nobody has at hand."""

    may_be_group = may_be_deadline = True


class _Said:
    """What a cancellation says of itself, or on trio the reason that its scope was given."""

    def __init__(self, error: Any) -> None:
        self.may_be_group = self.may_be_deadline = True
        #: True where "deadline" may be that of a block inside, or a sleep, which came first.
        self.may_be_timer = False
        #: The ``id`` of the scope that a task cancelled without a word: perhaps that of its
        #: group, which it left because it was cancelled itself.
        self.scope: int | None = None
        if isinstance(error, asyncio.CancelledError):
            self.sentence = self._of_asyncio(error)
        else:
            self.sentence = self._of_trio(error)

    def _of_asyncio(self, error: BaseException) -> str:
        text = str(error.args[0]) if error.args else ""
        if not text.startswith(_THROUGH_SCOPE):
            self.may_be_group = self.may_be_deadline = False
            return f"Task.cancel({text[:LONGEST_NAME]!r})" if text else "Task.cancel()"
        by, reason = _BY_TASK.search(text), _REASON.search(text)
        if reason is not None and reason[1] == "deadline exceeded":
            self.may_be_group, self.may_be_timer = False, True
            return "deadline"
        if by is None:
            return "a cancel scope" if reason is None else f"a cancel scope: {_cut(reason[1])}"
        self.may_be_deadline = False
        if reason is None and (scope := _SCOPE.match(text)) is not None:
            self.scope = int(scope[1], 16)
        return by_task(literal_eval(by[1]), None if reason is None else reason[1])

    def _of_trio(self, error: Any) -> str:
        source: str = getattr(error, "source", "unknown")
        reason: str | None = _cut(getattr(error, "reason", None))
        self.may_be_deadline = source in ("deadline", "unknown")
        self.may_be_timer = source == "deadline"
        self.may_be_group = source in ("explicit", "nursery", "unknown")
        if source != "explicit":
            return source if reason is None else f"{source}: {reason}"
        named = _TRIO_TASK.fullmatch(getattr(error, "source_task", None) or "")
        if named is None:
            return "a cancel scope" if reason is None else f"a cancel scope: {reason}"
        return by_task(literal_eval(named[1]), reason)


def _by_hand(scope: Any) -> str | None:
    """Who cancelled *scope*, before its time ran out; None if that did, or nothing is known."""
    if isinstance(scope, _Left):
        return scope.by_hand
    # trio's own scope, inside of anyio's
    said: Any = getattr(getattr(scope, "_CancelScope__original", scope), "_cancel_reason", None)
    if isinstance(said, str):
        return None if said.endswith(_BY_TIME) else _Said(asyncio.CancelledError(said)).sentence
    return _Said(said).sentence if getattr(said, "source", None) == "explicit" else None


def is_called(scope: Any) -> bool:
    """True if *scope* was cancelled; from any thread."""
    try:
        return bool(scope.cancel_called)
    except RuntimeError:  # trio looks at its clock, in its own thread only, if it was not
        return False


def by_task(name: str, reason: str | None, place: str | None = None) -> str:
    """The sentence for a task that cancelled others on purpose."""
    if name.startswith(CORE):  # a group ends its daemons
        return "the end of its group"
    where = "" if place is None else f" at {place}"
    why = "" if reason is None else f": {_cut(reason)}"
    return f"task {name[:LONGEST_NAME]!r}{where}{why}"


def _cut(reason: str | None) -> str | None:
    """A reason that is not longer than a recording has room for, in each of its tasks."""
    if reason is None or len(reason) <= _LONGEST_REASON:
        return reason
    return reason[: _LONGEST_REASON - 1] + "…"
