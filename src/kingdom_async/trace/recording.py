"""A recording: what was stored so far, as records and as views.

Rule: a recording that has been stopped never changes again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from platform import python_version
from typing import TYPE_CHECKING, Literal

from .._arguments import check_seconds
from .flight import FlightRecorder
from .guard import guarded
from .lints.suspects import Thresholds
from .logs import LintLog, log_error
from .raw.recorder import Recorder
from .raw.store import Store
from .records import Dropped, Lag, Lint, Span, Step, TaskRecord, now
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .loops import Loop

Level = Literal["life", "steps"]

#: How many lints of a kind are told in a second.
_PER_SECOND = 20


class Recording:
    """What is being recorded, or was; `recording` and `start` make one.

    Reading takes time in proportion to what is kept, and may be done from any thread.
    """

    def __init__(
        self,
        level: Level = "life",
        *,
        tasks: int = 4096,
        steps: int = 16384,
        thresholds: Thresholds | None = None,
        log_errors: bool = False,
        dump_to: str | os.PathLike[str] | None = None,
    ) -> None:
        if level not in ("life", "steps"):
            raise ValueError(f"level must be 'life' or 'steps', not {level!r}")
        for name, number in (("tasks", tasks), ("steps", steps)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(f"{name} must be 1 or more records to keep, not {number!r}")
        self.level: Level = level
        self.thresholds: Thresholds = thresholds or Thresholds()
        self._store = Store(tasks, steps)
        self._backend = ""
        self._final: Snapshot | None = None
        #: By kind of lint: since when they are counted, and how many there were.
        self._lately: dict[str, tuple[float, int]] = {}
        self._ended: float | None = None
        self._epoch = 0.0
        #: What the log gets of the lints.
        self.lint_log: LintLog = LintLog()
        #: Called with each lint as it is found, and the name of its task.
        self.when_linted: list[Callable[[Lint, str | None], None]] = []
        #: Called with each task that fails, as it does.
        self.when_failed: list[Callable[[TaskRecord, BaseException], None]] = [
            log_error
        ] * log_errors
        self._flight = None if dump_to is None else FlightRecorder(self, dump_to)
        if self._flight is not None:
            self.when_linted.append(self._flight.linted)

    # --- what was recorded -------------------------------------------------------------

    @property
    def tasks(self) -> tuple[TaskRecord, ...]:
        """Live tasks and those that ended last, in the order of spawning."""
        return self._store.task_records() if self.is_on else self.snapshot().tasks

    @property
    def steps(self) -> tuple[Step, ...]:
        """Who held the loop lately; empty with level "life"."""
        return self._store.step_records() if self.is_on else self.snapshot().steps

    @property
    def spans(self) -> tuple[Span, ...]:
        """Named parts of tasks, in the order of their start."""
        return self._store.span_records() if self.is_on else self.snapshot().spans

    @property
    def lints(self) -> tuple[Lint, ...]:
        """What looked wrong, in the order in which it was noticed."""
        return tuple(self._store.lints) if self.is_on else self.snapshot().lints

    @property
    def lags(self) -> tuple[Lag, ...]:
        """How long the loop took to answer pings; empty where no watchdog or top asked."""
        return tuple(self._store.lags) if self.is_on else self.snapshot().lags

    @property
    def dropped(self) -> Dropped:
        """How many records there was no room for."""
        return self._store.dropped() if self.is_on else self.snapshot().dropped

    @property
    def is_on(self) -> bool:
        """False once it has been stopped."""
        return self._ended is None

    # --- views -------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """All of it as it stands, and as it stays."""
        if self._ended is None:
            return self._taken(now())
        if self._final is None:  # what nobody reads is not made
            self._final = self._taken(self._ended)
        return self._final

    def _taken(self, ended: float) -> Snapshot:
        return Snapshot(
            backend=self._backend,
            level=self.level,
            python=python_version(),
            pid=os.getpid(),
            program=program(),
            began=self._store.began,
            ended=ended,
            epoch=self._epoch if self._ended else time.time() - now(),
            tasks=self._store.task_records(),
            steps=self._store.step_records(),
            spans=self._store.span_records(),
            lints=tuple(self._store.lints),
            lags=tuple(self._store.lags),
            dropped=self._store.dropped(),
            long_step=self.thresholds.long_step,
        )

    def dump(
        self, path: str | os.PathLike[str] | None = None, *, last: float | None = None
    ) -> Snapshot:
        """A flight recorder: what happened in the last seconds.

        Args:
            path: Where to save it as well, for `load`.
            last: How many seconds; None for all that is kept.

        Raises:
            OSError: If the file cannot be written.
        """
        if last is not None:
            check_seconds("last", last, "write dump(last=5)")
        snapshot = self.snapshot()
        if last is not None:
            snapshot = snapshot.since(snapshot.ended - last)
        if path is not None:
            snapshot.save(path)
        return snapshot

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file, for `load`.

        Raises:
            OSError: If the file cannot be written.
        """
        self.snapshot().save(path)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline: one page that needs no network.

        Raises:
            OSError: If the file cannot be written.
        """
        self.snapshot().to_html(path)

    def to_perfetto(self, path: str | os.PathLike[str]) -> None:
        """Write the events that https://ui.perfetto.dev and chrome://tracing draw.

        Raises:
            OSError: If the file cannot be written.
        """
        self.snapshot().to_perfetto(path)

    # --- for those who record ----------------------------------------------------------

    def attach(self, loop: Loop) -> Recorder:
        """Begin to record *loop*, which runs in this thread."""
        self._backend = loop.backend
        return Recorder(
            self._store,
            loop,
            has_steps=self.level == "steps",
            thresholds=self.thresholds,
            suspect=self.suspect,
            failures=self.when_failed,
        )

    def suspect(
        self,
        kind: str,
        serial: int | None,
        what: str,
        place: str | None = None,
        amount: float = 0.0,
        where: str | None = None,
    ) -> Lint | None:
        """Note that something looks wrong; *what* goes on from the name of the task.

        Returns the lint, if it is kept.

        Args:
            kind: The rule that it breaks.
            serial: The task's.
            what: What is wrong.
            place: Where; default, where the task was spawned.
            amount: How much of what the rule measures.
            where: What the sentence says of *place*; default, the line as it is, or that the
                task was spawned there.
        """
        if not self.is_on:
            return None
        at = now()
        life = None if serial is None else self._store.life_of(serial)
        name = None if life is None else life.name
        # The line of a task takes long to tell, and there may be thousands.
        key = place if place or life is None else (id(life.code), life.instruction)
        is_logged = guarded(self.lint_log.is_first)(kind, key, at)
        if not is_logged:
            guarded(self.lint_log.count)(kind, key, name, what, amount)
        is_counted = self._is_flooded_by(kind, at)
        if is_counted and not is_logged:
            return None
        message = what
        if life is not None:
            if place is None and life.place is not None:
                place, where = life.place, f"spawned at {life.place}"
            where = where or place
            message = f"task {name!r} ({where}) {what}" if where else f"task {name!r} {what}"
        lint = Lint(kind, serial, place, message, at)
        if is_logged:
            guarded(self.lint_log.log)(lint, name, key, where)
        if is_counted:
            return None
        self._store.add_lint(lint)
        for tell in self.when_linted:
            guarded(tell)(lint, name)
        return lint

    def _is_flooded_by(self, kind: str, at: float) -> bool:
        """True if there was enough of a kind lately; what more there is, is only counted.

        Where the loop is late, it is late for ten thousand tasks at once.
        """
        since, count = self._lately.get(kind, (at, 0))
        if at - since >= 1:
            since, count = at, 0
        self._lately[kind] = since, count + 1
        if count < _PER_SECOND:
            return False
        self._store.all_lints += 1
        return True

    def crashed(self, error: BaseException) -> None:
        """An error leaves the program, or the block that is recorded."""
        if self._flight is not None and self.is_on:
            self._flight.failed(error)

    def stop(self) -> None:
        """The last word; a second call does nothing."""
        if self._ended is None:
            guarded(self.lint_log.end)()
            written, self._store = self._store, self._store.frozen()
            self._ended, self._epoch = now(), time.time() - now()
            written.clear()


def program() -> str:
    """What this process runs, as on its command line, cut short."""
    return " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200]
