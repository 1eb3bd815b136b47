"""Functions that stay in their thread until let go, and what tells that all have ended.

No test sleeps until a thread has done something: it waits for the thread to say so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

_LATE = 30.0  # seconds; what takes longer is not going to happen


class Held:
    """A function for threads that does not return before it is let go, and counts its calls."""

    def __init__(self, result: Any = None) -> None:
        self.started = 0
        self.running = 0
        self.most = 0
        self._result = result
        self._free = False
        self._changed = threading.Condition()

    def __call__(self, *_: object) -> Any:
        with self._changed:
            self.started += 1
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
            let_go = self._changed.wait_for(lambda: self._free, _LATE)
            self.running -= 1
            self._changed.notify_all()
        assert let_go, "nobody let this thread go"
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def let_go(self) -> None:
        with self._changed:
            self._free = True
            self._changed.notify_all()

    async def until_started(self, calls: int = 1) -> None:
        await self._until(lambda: self.started >= calls)

    async def until_ended(self) -> None:
        """All calls that started have returned."""
        await self._until(lambda: not self.running)

    async def _until(self, holds: Callable[[], bool]) -> None:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(holds, _LATE)

        assert await in_a_thread(wait), "this did not come about"


async def in_a_thread(func: Callable[[], Any]) -> Any:
    """Run *func* in a thread without a token of any limiter that a test looks at."""
    return await anyio.to_thread.run_sync(func, limiter=anyio.CapacityLimiter(1))


async def seen(event: threading.Event) -> None:
    """Wait until a thread has set *event*."""
    assert await in_a_thread(lambda: event.wait(_LATE)), "the event was never set"


async def tokens_back(limiter: anyio.CapacityLimiter) -> None:
    """Wait until every token can be borrowed at once; none is out afterwards."""
    borrowers = [object() for _ in range(int(limiter.total_tokens))]
    with anyio.fail_after(_LATE):
        for borrower in borrowers:
            await limiter.acquire_on_behalf_of(borrower)
    for borrower in borrowers:
        limiter.release_on_behalf_of(borrower)
    assert limiter.borrowed_tokens == 0
