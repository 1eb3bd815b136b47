"""What a recorder writes, and how records are made of it.

Rule: the program writes raw rows, the reader pays for everything else. Live tasks are
exact; what has ended is in rings of fixed length, and what fell out of them is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock
from types import CodeType
from typing import Any, TypeVar

from ..records import Dropped, Lag, Lint, Outcome, Span, Step, TaskRecord, now
from .rows import BEGUN, ENDED, LONGEST_NAME, SERIAL, Account, Block, Life, Row, record_of

T = TypeVar("T")

#: Rings of which a program fills one only when it is ill.
_LINTS, _LAGS = 1024, 4096


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
        #: By serial: the row of every task that has not ended.
        self.live: dict[int, Row] = {}
        #: By ``id`` of the task, and of live tasks only: its serial, its account.
        self.serials: dict[int, int] = {}
        self.accounts: dict[int, Account] = {}
        self.ended: deque[Row] = deque(maxlen=tasks)
        self.steps: deque[tuple[float, float, int | None]] = deque(maxlen=steps)
        self.all_steps: int = 0
        self.open_spans: dict[int, Span] = {}
        self.spans: deque[Span] = deque(maxlen=steps)
        self.all_spans: int = 0
        self.lints: deque[Lint] = deque(maxlen=_LINTS)
        self.all_lints: int = 0
        #: Lints come from the loop and from the thread that looks at it.
        self._linting = Lock()
        self.lags: deque[Lag] = deque(maxlen=_LAGS)

    # --- writing -----------------------------------------------------------------------

    def row(
        self,
        name: str,
        block: Block | None,
        parent: int | None,
        code: CodeType | None,
        instruction: int,
        spawned: float | None,
    ) -> Row:
        """The row of one more task that lives."""
        serial = self.spawned
        self.spawned = serial + 1
        name = name[:LONGEST_NAME]
        row: Row = [serial, name, block, parent, code, instruction, spawned]
        row += [False, None, 0, None]
        self.live[serial] = row
        return row

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
        row = self.live.pop(serial, None)
        if row is not None:
            account = self.accounts.pop(task, None)
            row[ENDED] = ended = now()
            if not isinstance(row[BEGUN], float):
                row[BEGUN] = None  # nothing of the program is kept
            self.last_ended = task, account, ended
            if account is not None:
                self.all_steps += account.steps + is_in_step
            row += (outcome, error, cause, account)
            self.ended.append(row)

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
        with self._linting:
            self.all_lints += 1
            self.lints.append(lint)

    def amend_lint(self, lint: Lint, amended: Lint) -> None:
        """More is known of a lint now."""
        with self._linting:
            for number, each in enumerate(self.lints):
                if each is lint:
                    self.lints[number] = amended
                    return

    def frozen(self) -> Store:
        """A copy that nobody writes to."""
        copy = Store()
        copy.__dict__.update(self.__dict__)
        copy.live = {row[SERIAL]: [*row] for row in copied(self.live.values())}
        _let_go(copy.live)
        copy.serials = {}
        copy.open_spans = dict(copied(self.open_spans.items()))
        copy.ended, copy.steps = self.ended.copy(), self.steps.copy()
        copy.spans, copy.lints, copy.lags = (
            self.spans.copy(),
            self.lints.copy(),
            self.lags.copy(),
        )
        copy.accounts = {task: each.copy() for task, each in copied(self.accounts.items())}
        return copy

    def clear(self) -> None:
        """Forget the live tasks: what ends later is no longer written."""
        _let_go(self.live)
        for kept in (self.live, self.serials, self.accounts, self.open_spans):
            kept.clear()

    # --- reading -----------------------------------------------------------------------

    def task_records(self) -> tuple[TaskRecord, ...]:
        """Every task that is kept, in the order of spawning."""
        ended, live = copied(self.ended), copied(self.live.values())
        records = {row[SERIAL]: record_of(Life(*row)) for row in ended}
        for row in live:
            life = Life(*row[: ENDED + 1])  # it may end right now
            account = self.accounts.get(life.ident)
            if account is not None and account.serial != life.serial:
                account = None
            record = record_of(life._replace(outcome="running", ended=None, account=account))
            records.setdefault(life.serial, record)
        return tuple(records[serial] for serial in sorted(records))

    def last_record(self) -> TaskRecord:
        """The task that ended last."""
        return record_of(Life(*self.ended[-1]))

    def life_of(self, serial: int) -> Life | None:
        """The life of a task that is alive, or has ended right now."""
        row = self.live.get(serial)
        if row is None:
            lately = (self.ended[-back] for back in range(1, min(16, len(self.ended)) + 1))
            row = next((ended for ended in lately if ended[SERIAL] == serial), None)
        return None if row is None else Life(*row)

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


def _let_go(live: dict[int, Row]) -> None:
    """Keep nothing alive of tasks that have not begun."""
    for row in copied(live.values()):
        if not isinstance(row[BEGUN], float):
            row[BEGUN] = None


def _is_full(ring: deque[Any]) -> bool:
    return len(ring) == ring.maxlen


def copied(items: Iterable[T]) -> list[T]:
    """The *items* of a container that another thread may be changing."""
    while True:
        try:
            return list(items)
        except RuntimeError:  # it changed in the middle
            continue
