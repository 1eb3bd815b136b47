"""Ctrl-C: counted while a program runs, and made bare when it leaves.

Rule: the first interrupt cancels the program at a point where it waits, so that nothing which
a task holds is lost; the second one is final, and breaks off anything but what holds locks of
threads. The loop's own handler does the interrupting. Ours stands before it, counts, and holds
back what would tear through the loop's shutdown.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from ._failures import bare, contexts_of, is_group, without

if TYPE_CHECKING:
    from ._trio_clock import InterruptibleClock


#: Interrupted between two of their lines, these leave a lock held or a step forgotten.
_NOT_TO_BE_TORN = frozenset(
    ("anyio", "asyncio", "concurrent", "kingdom_async", "logging", "queue", "threading")
)


class Interrupts(AbstractContextManager[None]):
    """The interrupts of one program."""

    def __init__(self) -> None:
        self._count = 0
        self._loops_handler: Any = signal.default_int_handler
        self._clock: InterruptibleClock | None = None
        self._shuts_down = False
        self._late = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # Otherwise the handler is the user's, or signals go to another thread.
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def options(self, backend: str) -> dict[str, Any]:
        """What the backend needs from us to be ended at once."""
        if backend != "trio" or not self._ours:
            return {}
        from ._trio_clock import InterruptibleClock

        self._clock = InterruptibleClock()
        # trio would raise between any two lines of a task, and an item that was just taken
        # from a queue would be lost. asyncio cancels the main task, and so does this.
        return {"clock": self._clock, "restrict_keyboard_interrupt_to_checkpoints": True}

    def start_counting(self) -> None:
        """Inside the loop, whose handler is in place by now: stand before it."""
        if self._ours:
            if self._clock is None:
                self._loop = asyncio.get_running_loop()
            self._loops_handler = signal.signal(signal.SIGINT, self._handle)

    def shuts_down(self) -> None:
        """The program has ended, and the loop has its own cleaning up to do."""
        self._shuts_down = True

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            self._late = True  # in case that the loop does not run any more
            if self._clock is None:
                self._tear_loop(frame)
                return
            self._clock.end_run()
        elif self._shuts_down:
            self._late = True  # asyncio's handler would raise here, and tear the loop apart
            return
        self._loops_handler(signum, frame)

    def _tear_loop(self, frame: FrameType | None) -> None:
        """On asyncio: raise out of the loop; a third interrupt does so wherever it strikes."""
        module: str = frame.f_globals.get("__name__") or "" if frame is not None else ""
        loop = self._loop
        waits = module.partition(".")[0] in _NOT_TO_BE_TORN and self._count == 2
        if not waits or loop is None or loop.is_closed():
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(_raise_interrupt)

    def __enter__(self) -> None:
        """Around the loop: whatever an interrupt made it raise is one `KeyboardInterrupt`."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        if self._count or isinstance(error, (KeyboardInterrupt, SystemExit)):
            _stop_idle_threads()
        if error is None:
            if self._late:
                raise KeyboardInterrupt
            return
        if self._count > 1:
            _sweep(error)
        if type(error) is KeyboardInterrupt or not (self._count or _is_interrupt(error)):
            return
        if self._count > 1 and _is_interrupt(error.__cause__):  # trio's "internal error"
            raise KeyboardInterrupt from None
        cleanup = without(KeyboardInterrupt, error)
        cleanup = cleanup and without(asyncio.CancelledError, cleanup)
        raise KeyboardInterrupt from (cleanup and bare(cleanup))

    def _restore(self) -> None:
        """Leave Python's handler, as we found it, unless the program has set one meanwhile."""
        if self._ours and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._loops_handler = signal.default_int_handler  # the other one holds the loop
        self._loop = None


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


def _is_interrupt(error: BaseException | None) -> bool:
    if error is not None and is_group(error):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def _stop_idle_threads() -> None:
    """End anyio's worker threads whose loop was torn apart before it could tell them to.

    They are no daemons: the interpreter would wait for them for ever.
    """
    for thread in threading.enumerate():
        if type(thread).__name__ != "WorkerThread" or not hasattr(thread, "idle_workers"):
            continue
        worker: Any = thread
        if worker.loop.is_closed() and not worker.stopping:
            worker.stop()


def _unheard(_: object) -> None:
    pass


def _sweep(error: BaseException) -> None:
    """Free what is left of a loop that a second interrupt tore apart, and let nobody hear it.

    trio's tasks are then closed by the garbage collector, outside of any run, where each
    block they are in complains.
    """
    import gc
    import traceback
    import warnings

    hook, sys.unraisablehook = sys.unraisablehook, _unheard
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for link in (error, error.__cause__, *contexts_of(error)):
                if link is not None:
                    traceback.clear_frames(link.__traceback__)
            gc.collect()
    finally:
        sys.unraisablehook = hook
