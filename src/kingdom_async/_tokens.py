"""Waiting for a limiter's token, as a part of the task that is told apart from what follows.

Rule: while nobody looks on, nothing here is called; and a token that is free is not waited for.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _observe

if TYPE_CHECKING:
    from anyio import CapacityLimiter


def seen_wait(
    wait: Coroutine[Any, Any, None], limiter: CapacityLimiter, name: str
) -> Coroutine[Any, Any, None]:
    """*wait* for a token of *limiter*, shown where it has to be waited for."""
    observer = _observe.observer
    if observer is None or limiter.available_tokens >= 1:
        return wait
    if name == repr(limiter):  # which differs from run to run, and views group by names
        name = f"a {type(limiter).__name__}"
    return _observe.timed(wait, observer.called(f"waits for {name}"))


class SeenLimiter:
    """Given to anyio in the place of *limiter*, which it borrows from."""

    def __init__(self, limiter: CapacityLimiter, name: str) -> None:
        self._limiter = limiter
        self._name = name

    async def __aenter__(self) -> None:
        await seen_wait(self._limiter.acquire(), self._limiter, self._name)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limiter.release()
