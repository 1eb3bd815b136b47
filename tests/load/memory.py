"""How much memory a block takes, as Python counts it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager


class Memory:
    """What a block took, in bytes above what was there before it."""

    def __init__(self) -> None:
        self._before = 0
        self.peak = 0
        self.left = 0

    @property
    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self._before

    def begin(self) -> None:
        gc.collect()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def end(self) -> None:
        self.peak = tracemalloc.get_traced_memory()[1] - self._before
        gc.collect()
        self.left = self.now


@contextmanager
def traced() -> Generator[Memory]:
    """Count the memory of the block; its peak and what is left are known afterwards."""
    memory = Memory()
    tracemalloc.start()
    try:
        memory.begin()
        yield memory
        memory.end()
    finally:
        tracemalloc.stop()
