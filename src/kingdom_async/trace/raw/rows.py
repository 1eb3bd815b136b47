"""What is known of one task, as it is kept: a row, and what rows share.

Rule: a row is a list, so that a task costs one object from its spawn to its end. Whoever only
reads makes a `Life` of it, and a `TaskRecord` of that for people.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple, TypeAlias

from ..records import Outcome, TaskRecord
from ..stacks import is_library, line_of

#: The columns are those of `Life`, the last four only where there is something to say.
Row: TypeAlias = "list[Any]"

LONGEST_NAME = 200


class Block:
    """A task group that is open: who holds it, since which line, and what became of it."""

    __slots__ = (
        "cause",
        "code",
        "deadlines",
        "exit",
        "group",
        "host",
        "instruction",
        "kind",
        "run",
        "unbegun",
    )

    def __init__(
        self,
        kind: str,
        code: CodeType | None,
        instruction: int,
        host: int,
        deadlines: tuple[Any, ...],
        run: int,
    ) -> None:
        #: The loop that it is open in; see `Loop.run`.
        self.run: int = run
        self.kind: str = kind
        self.code: CodeType | None = code
        self.instruction: int = instruction
        #: ``id`` of the task that holds it open; 0 if that is not known.
        self.host: int = host
        #: Those of the host that were in force when the group was opened.
        self.deadlines: tuple[Any, ...] = deadlines
        #: Why its tasks are cancelled, once they are.
        self.cause: str | None = None
        #: Where its host left it because of a deadline: the ``id`` of its scope, and which one.
        self.exit: tuple[int, str] | None = None
        #: How many of its tasks have not begun.
        self.unbegun: int = 0
        #: The group itself, weakly.
        self.group: Callable[[], Any] = _gone

    @property
    def label(self) -> str:
        if self.code is None:
            return self.kind
        return f"{self.kind} at {line_of(self.code, self.instruction)}"


def _gone() -> None:
    return None


class Life(NamedTuple):
    """A row of the table of tasks, by the names of its columns."""

    serial: int
    name: str
    block: Block | None
    parent: int | None
    code: CodeType | None
    instruction: int
    spawned: float | None
    foreign: bool
    #: When it first ran. Until then None, or what will run for it: it may be cancelled before.
    begun: Any
    #: ``id`` of the native task, 0 until that is known.
    ident: int
    ended: float | None
    #: What is added at the end; a row without is of a task that lives, or has ended well.
    outcome: Outcome = "ok"
    error: str | None = None
    cause: str | None = None
    account: Account | None = None

    @property
    def started(self) -> float | None:
        """When it first ran."""
        return self.begun if isinstance(self.begun, float) else None

    @property
    def place(self) -> str | None:
        """The line that spawned it; for one that a task of the core spawned, its group's."""
        if self.code is not None and not is_library(self.code.co_filename):
            return str(line_of(self.code, self.instruction))
        block = self.block
        if block is None or block.code is None:
            return None
        return str(line_of(block.code, block.instruction))


#: Columns that are written later, or read where a `Life` would cost too much.
SERIAL, NAME, BLOCK, PARENT, CODE, INSTRUCTION, SPAWNED, FOREIGN, BEGUN, IDENT, ENDED = range(
    11
)


class Account:
    """How long a task has held the loop, and in how many steps."""

    __slots__ = ("busy", "serial", "steps")

    def __init__(self, serial: int | None) -> None:
        self.serial: int | None = serial
        self.busy: float = 0.0
        self.steps: int = 0

    def copy(self) -> Account:
        """The same numbers, which stay as they are."""
        copy = Account(self.serial)
        copy.busy, copy.steps = self.busy, self.steps
        return copy


def record_of(life: Life) -> TaskRecord:
    """What a reader gets to see."""
    account = life.account
    return TaskRecord(
        serial=life.serial,
        parent=life.parent,
        name=life.name[:LONGEST_NAME],
        place=life.place,
        group=None if life.block is None else life.block.label,
        spawned=life.spawned,
        started=life.started,
        ended=life.ended,
        outcome=life.outcome,
        error=life.error,
        cancelled_by=life.cause,
        busy=0.0 if account is None else account.busy,
        steps=0 if account is None else account.steps,
        foreign=life.foreign,
    )
