"""Real time for a test: when it is up, the task tree is shown and the test fails.

Rule: gentle first. The block of the test is cancelled, then behind its shields too; where the
loop does not answer, the main thread is interrupted; only where nothing helps does the process
end.
"""

from __future__ import annotations

import faulthandler
import gc
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

from ..._failures import without
from ..clocks.idle import tree_text
from ..internals.faults import open_all_shields

if TYPE_CHECKING:
    from types import FrameType

    from ...trace.loops import Loop

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: Real seconds from one means to the next.
_STEP = 1.0
#: How often the error is raised before the process ends.
_TRIES = 8
#: Of these, while the error would be swallowed: most of what swallows it is over soon.
_PASSED_OVER = 3
#: How a process ends that nothing else ends.
_STUCK = 70


class TookTooLong(Exception):
    """A test did not end in real time."""


class Interrupted(KeyboardInterrupt):
    """The main thread was interrupted; no test is to take it for an error of its own.

    It is such an interrupt because event loops pass on no other error that comes up between
    two steps: uvloop and asyncio would log it, and go on.
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
        self.is_over: bool = False
        #: The main thread was interrupted. trio and `run` say so in words of their own.
        self.has_interrupted: bool = False
        #: A tool runs in it that makes many runs, and asks between two of them.
        self.asks: bool = False
        #: Which of them it is in, the first being 1.
        self.runs: int = 0
        self._passed_over = 0

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

    def interrupt(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, wherever that is."""
        if self.is_over or self.said is None:
            return
        if self._passed_over < _PASSED_OVER and _is_swallowed(frame):
            self._passed_over += 1
            return  # it is called again soon
        self.has_interrupted = True
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and _is_in_trio() and handler is not signal.default_int_handler:
            handler(signal.SIGINT, frame)  # an error raised right there would break the run
        else:
            raise Interrupted(self.said)

    def was_interrupted(self, error: BaseException) -> bool:
        return self.has_interrupted and without(KeyboardInterrupt, error) is not error

    def describe(self, thread: int) -> str:
        if self.loop is not None:
            where = tree_text(self.loop)
        else:
            where = _stack(sys._current_frames().get(thread))
        run = f", in run {self.runs}" if self.runs > 1 else ""
        return (
            f"{self.what} has not ended after {self.seconds:g} s of real time "
            f"(kingdom_timeout); it is here{run}:\n{where}"
        )


def _stack(frame: FrameType | None) -> str:
    """The lines of a thread, from the test's own on."""
    stack = traceback.extract_stack(frame)
    pytests = [number for number, one in enumerate(stack) if _PYTEST in one.filename]
    own = stack[pytests[-1] + 1 :] if pytests else []
    return "".join(traceback.format_list((own or stack)[-12:]))


_PYTEST = f"{os.sep}_pytest{os.sep}"


#: What is under way, by the thread.
_phases: dict[int, Phase] = {}


def between_runs() -> None:
    """Called by a tool that makes many runs, while no loop is open that could be left behind.

    Raises:
        TookTooLong: If the time of the test is up.
    """
    __tracebackhide__ = True
    phase = _phases.get(threading.get_ident())
    if phase is None:
        return
    phase.asks = True
    phase.runs += 1
    if phase.said is not None:
        raise TookTooLong(phase.said)


def _is_swallowed(frame: FrameType | None) -> bool:
    """Whether Python would print what is raised in *frame*, and go on."""
    callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False


def _is_in_trio() -> bool:
    """Whether trio's own code is interrupted, which trusts that nothing is raised in it."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    if lowlevel is None:
        return False
    try:
        lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return bool(lowlevel.currently_ki_protected())


class Guard:
    """Watches over one phase after another, with one thread of its own.

    Args:
        before_the_end: Called before the last words of the process.
    """

    def __init__(self, before_the_end: Callable[[], object] = bool) -> None:
        self._before_the_end = before_the_end
        self._changed = threading.Condition()
        self._phase: Phase | None = None
        self._thread: threading.Thread | None = None
        self._watched = threading.get_ident()

    @contextmanager
    def phase(self, what: str, seconds: float) -> Generator[Phase]:
        """The block is to end in so many real seconds.

        Raises:
            TookTooLong: If it does not.
        """
        phase = Phase(what, seconds)
        self._watched = threading.get_ident()
        before = self._take_signal(phase)
        _phases[self._watched] = phase
        self._tell(phase)
        try:
            yield phase
            if phase.has_interrupted:
                raise TookTooLong(phase.said)  # somebody has swallowed the interrupt
        except (KeyboardInterrupt, BaseExceptionGroup) as error:
            if not phase.was_interrupted(error):
                raise
            raise TookTooLong(phase.said) from error
        finally:
            phase.is_over = True
            del _phases[self._watched]
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
        return signal.signal(signal.SIGALRM, phase.interrupt)

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
        loop, cancel = phase.loop, phase.cancel
        if loop is not None and cancel is not None:
            for means in (cancel, open_all_shields):
                with suppress(Exception):
                    loop.call(partial(phase.try_to_end, means))
                if self._is_over_soon(phase):
                    return
        if phase.asks and self._is_over_soon(phase):
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
        with suppress(Exception):
            self._before_the_end()
        stderr = sys.__stderr__ or sys.stderr
        print(
            f"\n{phase.said}\nNothing ends it, so this process ends.", file=stderr, flush=True
        )
        faulthandler.dump_traceback(file=stderr)
        os._exit(_STUCK)

    def _is_over_soon(self, phase: Phase) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._phase is not phase, _STEP)
