"""What a recorder writes, and how records are made of it.

Rule: the program writes raw tuples, the reader pays for everything else. Live tasks are
exact; what has ended is in rings of fixed length, and what fell out of them is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any, NamedTuple, TypeVar

from .records import Dropped, Lag, Lint, Outcome, Span, Step, TaskRecord, now
from .stacks import is_library, line_of

T = TypeVar("T")

#: Rings of which a program fills one only when it is ill.
_LINTS, _LAGS = 1024, 4096
LONGEST_NAME = 200


class Block:
    """A task group that is open: who holds it, since which line, and what became of it."""

    __slots__ = ("cause", "code", "deadlines", "group", "host", "instruction", "kind")

    def __init__(
        self,
        kind: str,
        code: CodeType | None,
        instruction: int,
        host: int,
        deadlines: tuple[Any, ...],
    ) -> None:
        self.kind: str = kind
        self.code: CodeType | None = code
        self.instruction: int = instruction
        #: ``id`` of the task that holds it open; 0 if that is not known.
        self.host: int = host
        #: Those of the host that were in force when the group was opened.
        self.deadlines: tuple[Any, ...] = deadlines
        #: Why its tasks are cancelled, once they are.
        self.cause: str | None = None
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
    """A task from the moment of its spawning."""

    name: str
    block: Block | None
    parent: int | None
    code: CodeType | None
    instruction: int
    spawned: float | None
    foreign: bool

    @property
    def place(self) -> str | None:
        """The line that spawned it; for one that a task of the core spawned, its group's."""
        if self.code is not None and not is_library(self.code.co_filename):
            return str(line_of(self.code, self.instruction))
        block = self.block
        if block is None or block.code is None:
            return None
        return str(line_of(block.code, block.instruction))


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


class Store:
    """All that one recording holds.

    Args:
        tasks: How many finished tasks to keep.
        steps: How many steps, and how many finished spans.
    """

    def __init__(self, tasks: int = 4096, steps: int = 16384) -> None:
        self.began: float = now()
        #: How many tasks there were so far; the next one's serial.
        self.spawned: int = 0
        #: How many of these could not be spawned after all.
        self.never: int = 0
        #: The ``id`` and the account of the task that ended last, and when it did: its last
        #: step is under way.
        self.last_ended: tuple[int, Account | None, float] = (0, None, 0.0)
        #: By serial: every task that has not ended (the fields of a `Life`), and when those
        #: that have begun did.
        self.live: dict[int, tuple[Any, ...]] = {}
        self.started: dict[int, float] = {}
        #: By ``id`` of the task, and of live tasks only: its serial, its account.
        self.serials: dict[int, int] = {}
        self.accounts: dict[int, Account] = {}
        self.ended: deque[tuple[Any, ...]] = deque(maxlen=tasks)
        self.steps: deque[tuple[float, float, int | None]] = deque(maxlen=steps)
        self.all_steps: int = 0
        self.open_spans: dict[int, Span] = {}
        self.spans: deque[Span] = deque(maxlen=steps)
        self.all_spans: int = 0
        self.lints: deque[Lint] = deque(maxlen=_LINTS)
        self.all_lints: int = 0
        self.lags: deque[Lag] = deque(maxlen=_LAGS)

    # --- writing -----------------------------------------------------------------------

    def end(
        self,
        serial: int,
        task: int,
        outcome: Outcome,
        error: str | None = None,
        cause: str | None = None,
        *,
        is_in_step: bool = True,
    ) -> None:
        """Task *serial*, whose native task has the ``id`` *task*, has ended.

        Its last step may be under way, and be written after this.
        """
        if self.serials.get(task) == serial:
            del self.serials[task]
        life = self.live.pop(serial, None)
        if life is not None:
            started = self.started.pop(serial, None)
            account = self.accounts.pop(task, None)
            ended = now()
            self.last_ended = task, account, ended
            if account is not None:
                self.all_steps += account.steps + is_in_step
            self.ended.append((serial, life, started, ended, outcome, error, cause, account))

    def add_span(self, name: str, task: int | None) -> int:
        """Begin a span; returns its number."""
        number = self.all_spans
        self.all_spans += 1
        self.open_spans[number] = Span(name, task, now(), None, "running", None)
        return number

    def end_span(self, number: int, outcome: Outcome, error: str | None) -> None:
        """End a span; nothing if the store was cleared meanwhile."""
        span = self.open_spans.pop(number, None)
        if span is not None:
            self.spans.append(Span(span.name, span.task, span.start, now(), outcome, error))

    def add_lint(self, lint: Lint) -> None:
        """Keep a lint."""
        self.all_lints += 1
        self.lints.append(lint)

    def frozen(self) -> Store:
        """A copy that nobody writes to."""
        copy = Store()
        copy.__dict__.update(self.__dict__)
        copy.live, copy.started = dict(self.live), dict(self.started)
        copy.open_spans, copy.serials = dict(self.open_spans), {}
        copy.ended, copy.steps = self.ended.copy(), self.steps.copy()
        copy.spans, copy.lints, copy.lags = (
            self.spans.copy(),
            self.lints.copy(),
            self.lags.copy(),
        )
        copy.accounts = {task: account.copy() for task, account in self.accounts.items()}
        return copy

    def clear(self) -> None:
        """Forget the live tasks: what ends later is no longer written."""
        for kept in (self.live, self.started, self.serials, self.accounts, self.open_spans):
            kept.clear()

    # --- reading -----------------------------------------------------------------------

    def task_records(self) -> tuple[TaskRecord, ...]:
        """Every task that is kept, in the order of spawning."""
        ended, live = copied(self.ended), copied(self.live.items())
        started = dict(copied(self.started.items()))
        accounts = {a.serial: a for a in copied(self.accounts.values())}
        records = {raw[0]: _record(*raw) for raw in ended}
        for serial, life in live:
            at = started.get(serial)
            account = accounts.get(serial)
            record = _record(serial, life, at, None, "running", None, None, account)
            records.setdefault(serial, record)
        return tuple(records[serial] for serial in sorted(records))

    def last_record(self) -> TaskRecord:
        """The task that ended last."""
        return _record(*self.ended[-1])

    def life_of(self, serial: int) -> Life | None:
        """The life of a task that is alive, or has ended right now."""
        raw = self.live.get(serial)
        if raw is None:
            lately = (self.ended[-back] for back in range(1, min(16, len(self.ended)) + 1))
            raw = next((ended[1] for ended in lately if ended[0] == serial), None)
        return None if raw is None else Life(*raw)

    def step_records(self) -> tuple[Step, ...]:
        """The steps that are kept, in the order of time."""
        return tuple(Step(*raw) for raw in copied(self.steps))

    def span_records(self) -> tuple[Span, ...]:
        """The spans that are kept, finished and open, in the order of their start."""
        both = [*copied(self.spans), *copied(self.open_spans.values())]
        return tuple(sorted(both, key=lambda span: span.start))

    def dropped(self) -> Dropped:
        """How much there was no room for."""
        all_steps = self.all_steps + sum(a.steps for a in copied(self.accounts.values()))
        return Dropped(
            tasks=max(0, self.spawned - self.never - len(self.live) - len(self.ended)),
            # A step that is under way is counted before it is written.
            steps=max(0, all_steps - len(self.steps)) if _is_full(self.steps) else 0,
            spans=max(0, self.all_spans - len(self.open_spans) - len(self.spans)),
            lints=max(0, self.all_lints - len(self.lints)),
        )


def _is_full(ring: deque[Any]) -> bool:
    return len(ring) == ring.maxlen


def _record(
    serial: int,
    raw: tuple[Any, ...],
    started: float | None,
    ended: float | None,
    outcome: Outcome,
    error: str | None,
    cause: str | None,
    account: Account | None,
) -> TaskRecord:
    life = Life(*raw)
    return TaskRecord(
        serial=serial,
        parent=life.parent,
        name=life.name[:LONGEST_NAME],
        place=life.place,
        group=None if life.block is None else life.block.label,
        spawned=life.spawned,
        started=started,
        ended=ended,
        outcome=outcome,
        error=error,
        cancelled_by=cause,
        busy=0.0 if account is None else account.busy,
        steps=0 if account is None else account.steps,
        foreign=life.foreign,
    )


def copied(items: Iterable[T]) -> list[T]:
    """The *items* of a container that another thread may be changing."""
    while True:
        try:
            return list(items)
        except RuntimeError:  # it changed in the middle
            continue
