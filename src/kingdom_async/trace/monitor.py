"""One thread that looks at loops from outside: for watchdogs, and for lints that are sampled.

Rule: it lives while there is a job for it, and no job is at work once its end has been
called. A job that fails is told of once, and called again; nothing it does reaches the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Condition, Thread, current_thread
from time import monotonic
from typing import TypeAlias

from .guard import report
from .records import now

#: Called with the time; returns when to call it next.
Job: TypeAlias = Callable[[float], float]

#: Seconds: how long the end of a job waits for it, and how long one that failed rests.
_PATIENCE, _REST = 1.0, 1.0


class Monitor:
    """Calls each job when it is due."""

    def __init__(self) -> None:
        self._changed = Condition()
        #: By job: when it is due.
        self._jobs: dict[Job, float] = {}
        self._thread: Thread | None = None
        self._at_work: Job | None = None

    def add(self, job: Job, after: float = 0.0) -> Callable[[], None]:
        """Call *job* from *after* seconds on; returns what ends that, from any thread."""
        with self._changed:
            self._jobs[job] = now() + after
            if self._thread is None:
                self._thread = Thread(target=self._run, name="kingdom_async.trace", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return lambda: self._remove(job)

    def _remove(self, job: Job) -> None:
        until = monotonic() + _PATIENCE
        with self._changed:
            self._jobs.pop(job, None)
            thread = self._thread
            if thread is None or thread is current_thread():
                return
            self._changed.notify_all()

            def is_over() -> bool:
                is_left = self._thread is thread and not self._jobs
                return self._at_work is not job and not is_left

            # Not for ever: it may be in a handler of the program's log that waits for us.
            self._changed.wait_for(is_over, until - monotonic())
            has_ended = self._thread is not thread
        if has_ended:
            thread.join(max(0.0, until - monotonic()))

    def _run(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                if job is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._at_work = job
            due = self._call(job)
            with self._changed:
                self._at_work = None
                if job in self._jobs:
                    self._jobs[job] = due
                self._changed.notify_all()
            del job  # nothing is kept alive while it waits

    def _next(self) -> Job | None:
        """The job that is due, once it is; None when there are no more."""
        while self._jobs:
            due, job = min(((at, job) for job, at in self._jobs.items()), key=_first)
            wait = due - now()
            if wait <= 0:
                return job
            del job
            self._changed.wait(wait)
        return None

    def _call(self, job: Job) -> float:
        try:
            return job(now())
        except Exception as error:
            report(type(job).__qualname__, error)
            return now() + _REST


def _first(pair: tuple[float, Job]) -> float:
    return pair[0]


#: The one of the process; a forked child has none of its threads.
monitor: Monitor = Monitor()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=monitor.__init__)  # type: ignore[misc]
