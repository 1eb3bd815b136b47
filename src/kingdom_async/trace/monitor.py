"""One thread that looks at loops from outside: for watchdogs, and for lints that are sampled.

Rule: it lives while there is a job for it, and no job is at work once its end has been
called. A job that fails is told of once, and called again; nothing it does reaches the program.

A busy loop hardly lets the thread in: at each turn it lets go of the interpreter for as long as
its selector takes to say that there is nothing new, which wakes the thread and is over before
it is awake. With turns of 10 µs to 5 ms it stands in line for a tenth of a second and more, and
the loop pays for waking it at each turn, 10 % to 20 % in all. So a loop that kept it waiting is
asked to pause for a moment when it is due, for as long as that is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from threading import Condition, Thread, current_thread, get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeAlias

from .guard import guarded, report
from .records import now

if TYPE_CHECKING:
    from .loops import Loop

#: Called with the time; returns when to call it next.
Job: TypeAlias = Callable[[float], float]

#: Seconds: how long the end of a job waits for it, and how long one that failed rests.
_PATIENCE, _REST = 1.0, 1.0
#: Seconds: a thread that comes later than that stood in line for the interpreter, which Python
#: code gives away after 0.005; the pauses for it, until it is in; how long after it is due.
_LATE, _PAUSES, _AFTER = 0.01, (5e-5, 1e-4, 2e-4, 4e-4, 8e-4), 0.002
#: Seconds until the next pauses for it, if it was not done after these; and how often they
#: may turn out not to be needed before the loop is left alone.
_AT_WORK, _NEEDLESS = 0.1, 8


#: The pause of a loop that makes none.
_NEVER: tuple[float, Callable[[], object]] = (0.0, int)


class Monitor:
    """Calls each job when it is due."""

    def __init__(self) -> None:
        self._changed = Condition()
        #: By job: when it is due, and the loop that it looks at.
        self._jobs: dict[Job, tuple[float, Loop]] = {}
        #: When the thread wants the interpreter: 0.0 while it is at work.
        self._wants_in: float = inf
        #: By the run of a loop that pauses for it: when it does so next, what takes that back.
        self._pauses: dict[int, tuple[float, Callable[[], object]]] = {}
        self._thread: Thread | None = None
        self._at_work: Job | None = None

    def add(self, job: Job, loop: Loop, after: float = 0.0) -> Callable[[], None]:
        """Call *job*, which looks at *loop*, from *after* seconds on.

        Returns what ends that, from any thread.
        """
        with self._changed:
            if self._thread is None:
                thread = Thread(target=self._run, name="kingdom_async.trace", daemon=True)
                thread.start()  # where the system has no more, the next job tries again
                self._thread = thread
            self._jobs[job] = now() + after, loop
            self._wants_in = 0.0  # to see that there is one job more
            self._changed.notify_all()
        try:
            self.pause()
            if loop.thread == get_ident():
                # On trio, where what comes later looks at each turn, twice in vain at most.
                self._let_in_from_now_on(loop, _NEEDLESS - 2 if loop.backend == "trio" else 0)
        except BaseException:  # Ctrl-C
            self._remove(job)
            raise
        return lambda: self._remove(job)

    def _remove(self, job: Job) -> None:
        until = monotonic() + _PATIENCE
        with self._changed:
            _, loop = self._jobs.pop(job, (0.0, None))
            runs = {each.run for _, each in self._jobs.values()}
            self._changed.notify_all()
        if loop is not None and loop.run not in runs:
            self._leave_alone(loop)
        with self._changed:
            thread = self._thread
            if thread is None or thread is current_thread():
                return

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
                due, loop = self._jobs[job]
            if now() - due > _LATE:
                self._ask(loop)
            due = self._call(job)
            with self._changed:
                self._at_work = None
                if job in self._jobs:
                    self._jobs[job] = due, loop
                self._changed.notify_all()
            del job, loop  # nothing is kept alive while it waits

    def _next(self) -> Job | None:
        """The job that is due, once it is; None when there are no more."""
        while self._jobs:
            due, job = min(((at, job) for job, (at, _) in self._jobs.items()), key=_first)
            wait = due - now()
            if wait <= 0:
                self._wants_in = 0.0
                return job
            del job
            self._wants_in = due
            self._changed.wait(wait)
        self._wants_in = inf
        return None

    def _call(self, job: Job) -> float:
        try:
            return job(now())
        except Exception as error:
            report(type(job).__qualname__, error)
            return now() + _REST

    # --- a way in ----------------------------------------------------------------------

    def _ask(self, loop: Loop) -> None:
        """The loop kept this thread waiting: it is to pause now, and when the thread is due."""
        if not loop.is_idle():  # else it kept nobody waiting, and is not to be woken
            with suppress(RuntimeError):  # it has ended
                loop.call(partial(self._let_in_from_now_on, loop))

    @guarded
    def _let_in_from_now_on(self, loop: Loop, needless: int = 0) -> None:
        """In the loop's own thread; nothing if it does so already, and soon enough."""
        at, back = self._pauses.get(loop.run, _NEVER)
        due = max(now(), self._wants_in)
        if at < now() - _AT_WORK or at > due + _AT_WORK:  # it was another loop's; or too late
            guarded(back)()
            self._let_in(loop, needless)

    @guarded
    def _let_in(self, loop: Loop, needless: int) -> None:
        """Pause if that is needed, and again when the thread is due."""
        needless = 0 if self.pause() else needless + 1
        wait = self._wants_in - now()
        if needless > _NEEDLESS or wait == inf:
            self._pauses.pop(loop.run, None)
            return
        wait = wait + _AFTER if wait > 0 else _AT_WORK
        with suppress(RuntimeError):  # the loop ends
            back = loop.later(wait, partial(self._let_in, loop, needless))
            self._pauses[loop.run] = now() + wait, back

    def _leave_alone(self, loop: Loop) -> None:
        _, back = self._pauses.pop(loop.run, _NEVER)
        if loop.thread == get_ident():
            guarded(back)()
        elif back is not int and not loop.is_idle():
            with suppress(RuntimeError):  # it has ended
                loop.call(guarded(back))

    @guarded
    def pause(self) -> bool:
        """Let go of the interpreter until the thread waits; False if that was not needed."""
        for number, pause in enumerate(_PAUSES):
            if self._wants_in > now():
                return number > 0
            sleep(pause)
        return True


def _first(pair: tuple[float, Job]) -> float:
    return pair[0]


#: The one of the process; a forked child has none of its threads.
monitor: Monitor = Monitor()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=monitor.__init__)  # type: ignore[misc]
