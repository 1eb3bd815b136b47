"""Virtual time for asyncio; trio has its own.

For tests without threads, processes or sockets: the clock jumps whenever the loop is idle.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when every task waits for one."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        self._now = timers[0].when() if timers else self._now + seconds


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0 if timeout else timeout)
        if timeout and not ready:
            self._loop.jump(timeout)
        return ready
