"""The loop that runs here, and a way into one that runs elsewhere."""

from __future__ import annotations

import asyncio
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
    try:
        backend = current_backend()
    except RuntimeError:  # in a callback of asyncio's, where no task runs
        loop = type(asyncio.get_running_loop()).__module__
        backend = "asyncio+uvloop" if loop.startswith("uvloop") else "asyncio"
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
