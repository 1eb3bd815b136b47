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

from .guard import guarded
from .recorder import Recorder, Thresholds
from .records import Dropped, Lag, Lint, Span, Step, TaskRecord, now
from .snapshot import Snapshot
from .store import Life, Store

if TYPE_CHECKING:
    from .loops import Loop

Level = Literal["life", "steps"]


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
    ) -> None:
        if level not in ("life", "steps"):
            raise ValueError(f"level must be 'life' or 'steps', not {level!r}")
        for name, number in (("tasks", tasks), ("steps", steps)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} must be 1 or more records to keep, not {number!r}")
        self.level: Level = level
        self.thresholds = thresholds or Thresholds()
        self._store = Store(tasks, steps)
        self._backend = ""
        self._final: Snapshot | None = None
        #: Called with each lint as it is found.
        self.when_linted: list[Callable[[Lint, str | None], None]] = []

    # --- what was recorded -------------------------------------------------------------

    @property
    def tasks(self) -> tuple[TaskRecord, ...]:
        """Live tasks and those that ended last, in the order of spawning."""
        return self._final.tasks if self._final else self._store.task_records()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Who held the loop lately; empty with level "life"."""
        return self._final.steps if self._final else self._store.step_records()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Named parts of tasks, in the order of their start."""
        return self._final.spans if self._final else self._store.span_records()

    @property
    def lints(self) -> tuple[Lint, ...]:
        """What looked wrong, in the order in which it was noticed."""
        return self._final.lints if self._final else tuple(self._store.lints)

    @property
    def lags(self) -> tuple[Lag, ...]:
        """How long the loop took to answer pings; empty where no watchdog or top asked."""
        return self._final.lags if self._final else tuple(self._store.lags)

    @property
    def dropped(self) -> Dropped:
        """How many records there was no room for."""
        return self._final.dropped if self._final else self._store.dropped()

    @property
    def is_on(self) -> bool:
        """False once it has been stopped."""
        return self._final is None

    # --- views -------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """All of it as it stands, and as it stays."""
        if self._final is not None:
            return self._final
        return Snapshot(
            backend=self._backend,
            level=self.level,
            python=python_version(),
            pid=os.getpid(),
            program=program(),
            began=self._store.began,
            ended=now(),
            epoch=time.time() - now(),
            tasks=self.tasks,
            steps=self.steps,
            spans=self.spans,
            lints=self.lints,
            lags=self.lags,
            dropped=self.dropped,
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
        )

    def suspect(
        self, kind: str, serial: int | None, what: str, place: str | None = None
    ) -> None:
        """Note that something looks wrong; *what* goes on from the name of the task."""
        raw = None if serial is None else self._store.live.get(serial)
        life = None if raw is None else Life(*raw)
        if life is None:
            name, message = None, what
        else:
            name, place = life.name, place or life.place
            message = f"task {name!r} ({place or 'unknown place'}) {what}"
        lint = Lint(kind, serial, place, message, now())
        self._store.add_lint(lint)
        for tell in self.when_linted:
            guarded(tell)(lint, name)

    def stop(self) -> None:
        """The last word; a second call does nothing."""
        if self._final is None:
            self._final = self.snapshot()
            self._store.clear()


def program() -> str:
    """What this process runs, as on its command line, cut short."""
    return " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200]
