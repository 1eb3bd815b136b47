"""Ctrl-C: counted while a program runs, and made bare when it leaves.

Rule: the loop's own handler does the interrupting. Ours stands before it, counts, and makes
the second interrupt final.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from ._failures import bare, is_group, without

if TYPE_CHECKING:
    from ._trio_clock import InterruptibleClock


class Interrupts(AbstractContextManager[None]):
    """The interrupts of one program."""

    def __init__(self) -> None:
        self._count = 0
        self._loops_handler: Any = signal.default_int_handler
        self._clock: InterruptibleClock | None = None
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
        return {"clock": self._clock}

    def start_counting(self) -> None:
        """Inside the loop, whose handler is in place by now: stand before it."""
        if self._ours:
            self._loops_handler = signal.signal(signal.SIGINT, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            if self._clock is None:
                raise KeyboardInterrupt
            self._clock.final = True  # trio is not to be interrupted just anywhere
        self._loops_handler(signum, frame)

    def __enter__(self) -> None:
        """Around the loop: whatever an interrupt made it raise is one `KeyboardInterrupt`."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        if error is None:
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


def _is_interrupt(error: BaseException | None) -> bool:
    if error is not None and is_group(error):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


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
            traceback.clear_frames(error.__traceback__)
            gc.collect()
    finally:
        sys.unraisablehook = hook
