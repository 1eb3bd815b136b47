"""asyncio's own cancellation, at every turn of the loop.

It is how FastAPI, Starlette and plain asyncio callers cancel, and it goes through shields.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

Canceller = Callable[[Coroutine[Any, Any, T], int], Awaitable[T]]


async def by_task_cancel(coro: Coroutine[Any, Any, T], turns: int) -> T:
    """Run *coro* in a task that is cancelled after so many turns of the loop."""
    task = asyncio.ensure_future(coro)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    return await task


async def turns_until_done(
    make: Callable[[], Coroutine[Any, Any, Any]],
    *,
    most: int = 60,
) -> AsyncIterator[int]:
    """Cancel ``make()`` natively after 0, 1, 2 … turns, until it is done before that.

    Gives the number of turns after each run that was cancelled, for the caller to check.
    """
    for turns in range(most):
        try:
            await by_task_cancel(make(), turns)
        except asyncio.CancelledError:
            yield turns
        else:
            return
    raise AssertionError(f"not done after {most} turns")
