"""Ctrl-C: counted while a program runs, and made bare when it leaves.

Rule: the loop's own handler does the interrupting. Ours stands before it, counts, and makes
the second interrupt final.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ._failures import bare, without

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


class Interrupts:
    """The interrupts of one program."""

    def __init__(self) -> None:
        self._count = 0
        # Otherwise the handler is the user's, or signals go to another thread.
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Inside the loop, whose handler is in place by now: stand before it."""
        if self._ours:
            loops_handler = signal.getsignal(signal.SIGINT)

            def count(signum: int, frame: FrameType | None) -> None:
                self._count += 1
                if self._count > 1 or not callable(loops_handler):
                    raise KeyboardInterrupt
                loops_handler(signum, frame)

            signal.signal(signal.SIGINT, count)
        yield

    @contextmanager
    def made_bare(self) -> Iterator[None]:
        """Around the loop: whatever an interrupt made it raise is one `KeyboardInterrupt`."""
        try:
            yield
        except BaseException as error:
            interrupted = self._count > 0 or _holds_interrupt(error)
            if not interrupted or (type(error) is KeyboardInterrupt and not error.__cause__):
                raise
            cleanup = without(KeyboardInterrupt, error)
            cleanup = cleanup and without(asyncio.CancelledError, cleanup)
        else:
            return
        finally:
            if self._ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        if cleanup is None:
            raise KeyboardInterrupt
        raise KeyboardInterrupt from bare(cleanup)


def _holds_interrupt(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup) and bool(error.subgroup(KeyboardInterrupt))
