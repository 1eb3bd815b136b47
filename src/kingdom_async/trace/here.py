"""The loop that runs here, and a way into one that runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING

from .._backend import current_backend
from .loops import AsyncioLoop

if TYPE_CHECKING:
    from .loops import Loop


def current_loop() -> Loop:
    """The loop that runs in this thread.

    Raises:
        RuntimeError: If none does.
    """
    backend = current_backend()
    if backend == "trio":
        from .instrument import TrioLoop

        return TrioLoop()
    return AsyncioLoop(backend)


def call_in(loop: Loop, func: Callable[[], None]) -> None:
    """Call *func* in the thread of *loop*: now, or soon."""
    if get_ident() == loop.thread:
        func()
        return
    with suppress(RuntimeError):  # the loop has ended, and its hooks with it
        loop.call(func)
