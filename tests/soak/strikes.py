"""Who is cancelled, and how: by a scope, or on asyncio natively, which goes through shields.

Rule: only what a program has put up for it is struck, and it says so where it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager

import sniffio
from anyio import CancelScope


class Strikes:
    """All that may be cancelled now."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._targets: list[Callable[[], object]] = []
        self._is_asyncio = sniffio.current_async_library() == "asyncio"
        self.number = 0

    @contextmanager
    def scope(self) -> Generator[CancelScope]:
        """What the block does may be cancelled by this scope, and the task goes on after it."""
        with CancelScope() as scope:
            self._targets.append(scope.cancel)
            try:
                yield scope
            finally:
                self._targets.remove(scope.cancel)

    @contextmanager
    def native(self) -> Generator[None]:
        """In one block of three the task itself may get ``asyncio.Task.cancel()``."""
        task = None
        if self._dice.random() < 0.35 and self._is_asyncio:
            task = asyncio.current_task()
        if task is None:
            yield
            return
        cancel = task.cancel
        self._targets.append(cancel)
        try:
            yield
        finally:
            self._targets.remove(cancel)

    def one(self) -> None:
        """Strike one of them, right now."""
        if self._targets:
            self.number += 1
            self._dice.choice(self._targets)()

    def maybe(self, chance: float) -> None:
        if self._dice.random() < chance:
            self.one()
