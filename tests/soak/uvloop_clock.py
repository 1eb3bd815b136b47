"""Virtual time on uvloop, for programs without sockets: a loop whose timers are its own.

Rule: the clock jumps to the next timer in a turn of the loop in which nothing was scheduled.

The library offers no such thing: libuv waits inside, so it cannot be had where a program waits
for files. The programs here wait for one another, for time, and for threads that `held` counts.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from functools import cache
from typing import Any


@contextmanager
def held() -> Generator[None]:
    """Time stands still during the block, for what it waits for is in a thread."""
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if not hasattr(loop, "held"):
        yield
        return
    loop.held += 1
    try:
        yield
    finally:
        loop.held -= 1


def virtual_uvloop() -> asyncio.AbstractEventLoop:
    """A new one; the clock begins at 0."""
    loop: asyncio.AbstractEventLoop = _virtual_class()()
    return loop


@cache
def _virtual_class() -> Any:
    import uvloop

    base: Any = uvloop.Loop

    class VirtualUvloop(base):  # type: ignore[misc]
        held = 0

        def __init__(self) -> None:
            super().__init__()
            self._at = 0.0
            self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
            self._made = 0
            self._is_quiet = True
            self._ticks = False

        def time(self) -> float:
            return self._at

        def call_later(
            self, delay: float, callback: Any, *args: Any, context: Context | None = None
        ) -> Any:
            return self.call_at(self._at + delay, callback, *args, context=context)

        def call_at(
            self, when: float, callback: Any, *args: Any, context: Context | None = None
        ) -> Any:
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            self._made += 1
            heapq.heappush(self._timers, (when, self._made, timer))
            if not self._ticks:
                self._ticks = True
                super().call_soon(self._tick, context=Context())
            return timer

        def call_soon(
            self, callback: Any, *args: Any, context: Context | None = None
        ) -> asyncio.Handle:
            self._is_quiet = False
            handle: asyncio.Handle = super().call_soon(callback, *args, context=context)
            return handle

        def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
            """It stays among the timers, and is passed over."""

        def _tick(self) -> None:
            """Once in each turn of the loop, for as long as there are timers."""
            while self._timers and self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
            self._ticks = bool(self._timers)
            if not self._ticks:
                return
            if self.held:
                time.sleep(0.0001)
            elif self._is_quiet:
                self._at, _, timer = heapq.heappop(self._timers)
                self._soon(_run, timer)
            self._is_quiet = True
            self._soon(self._tick)

        def _soon(self, callback: Callable[..., object], *args: Any) -> None:
            super().call_soon(callback, *args, context=Context())

    return VirtualUvloop


def _run(timer: Any) -> None:
    if not timer.cancelled():
        timer._run()
