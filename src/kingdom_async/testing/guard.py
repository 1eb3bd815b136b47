"""Real time for a test: when it is up, the task tree is shown and the test fails.

Rule: gentle first. The block of the test is cancelled, then behind its shields too; where the
loop does not answer, the main thread is interrupted; only where nothing helps does the process
end.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ._internals_faults import open_all_shields
from .idle import tree_text

if TYPE_CHECKING:
    from ..trace.loops import Loop

#: Real seconds from one means to the next.
_STEP = 1.0
#: How often the error is raised before the process ends.
_TRIES = 8
#: How a process ends that nothing else ends.
_STUCK = 70


class TookTooLong(Exception):
    """A test did not end in real time."""


class Interrupted(BaseException):
    """The main thread was interrupted; no test is to take it for an error of its own.

    From inside of a loop it makes anyio's test runner give up the task that runs tests.
    """


class Phase:
    """The setup, the call or the teardown of one test."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        #: The loop that it runs in, and what cancels it there; None where not known.
        self.loop: Loop | None = None
        self.cancel: Callable[[], None] | None = None
        #: What was said when the time was up.
        self.said: str | None = None
        self.is_over = False

    def enters(self, loop: Loop, cancel: Callable[[], None] | None) -> None:
        """It runs in *loop* from here on."""
        self.loop, self.cancel = loop, cancel

    def leaves(self) -> None:
        self.loop = self.cancel = None

    def try_to_end(self, means: Callable[[], None]) -> None:
        """In the loop, which may have been blocked until another test runs in it."""
        if self.cancel is not None:
            with suppress(Exception):  # which would end a run of trio's
                means()

    def describe(self, thread: int) -> str:
        if self.loop is not None:
            where = tree_text(self.loop)
        else:
            where = "".join(traceback.format_stack(sys._current_frames().get(thread))[-12:])
        return (
            f"{self.what} has not ended after {self.seconds:g} s of real time "
            f"(kingdom_timeout); it is here:\n{where}"
        )


class Guard:
    """Watches over one phase after another, with one thread of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._phase: Phase | None = None
        self._thread: threading.Thread | None = None
        self._watched = threading.get_ident()
        self._may_raise = False

    @contextmanager
    def phase(self, what: str, seconds: float) -> Generator[Phase]:
        """The block is to end in so many real seconds.

        Raises:
            TookTooLong: If it does not.
        """
        phase = Phase(what, seconds)
        self._watched = threading.get_ident()
        before = self._take_signal(phase)
        self._tell(phase)
        try:
            yield phase
        except Interrupted as error:
            raise TookTooLong(phase.said) from error
        finally:
            phase.is_over = True
            self._tell(None)
            if before is not None:
                signal.signal(signal.SIGALRM, before)

    def _tell(self, phase: Phase | None) -> None:
        with self._changed:
            self._phase = phase
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="kingdom_async guard", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _take_signal(self, phase: Phase) -> Any:
        """Use SIGALRM where nobody else does; it interrupts even a ``time.sleep()``."""
        if threading.current_thread() is not threading.main_thread() or os.name != "posix":
            return None
        if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
            return None  # another plugin's, such as pytest-timeout

        def interrupt(signum: int, frame: object) -> None:
            if not phase.is_over and phase.said is not None:
                raise Interrupted(phase.said)

        return signal.signal(signal.SIGALRM, interrupt)

    def _watch(self) -> None:
        while True:
            with self._changed:
                while (phase := self._phase) is None:
                    self._changed.wait()
                deadline = time.monotonic() + phase.seconds
                while self._phase is phase and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
            if self._phase is phase:
                self._end(phase)
                with self._changed:
                    while self._phase is phase:
                        self._changed.wait()

    def _end(self, phase: Phase) -> None:
        """The time of *phase* is up."""
        try:
            phase.said = phase.describe(self._watched)
        except Exception as error:  # it is about the test, not about us
            phase.said = f"{phase.what} has not ended after {phase.seconds:g} s ({error!r})"
        print(phase.said, file=sys.stderr, flush=True)
        loop, cancel = phase.loop, phase.cancel
        if loop is not None and cancel is not None:
            for means in (cancel, open_all_shields):
                with suppress(Exception):
                    loop.call(partial(phase.try_to_end, means))
                if self._is_over_soon(phase):
                    return
        if os.name == "posix" and signal.getsignal(signal.SIGALRM) not in (
            signal.SIG_DFL,
            None,
        ):
            for _ in range(_TRIES):
                with suppress(Exception):
                    signal.pthread_kill(self._watched, signal.SIGALRM)
                if self._is_over_soon(phase):
                    return
        if self._is_over_soon(phase):
            return
        stderr = sys.__stderr__ or sys.stderr
        print(
            f"\n{phase.said}\nNothing ends it, so this process ends.", file=stderr, flush=True
        )
        faulthandler.dump_traceback(file=stderr)
        os._exit(_STUCK)

    def _is_over_soon(self, phase: Phase) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._phase is not phase, _STEP)
