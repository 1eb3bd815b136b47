"""Coroutines that a call was given, and that have not begun to run.

Rule: whoever was given a coroutine awaits it or closes it. What is cancelled before its own
first step runs no line of its code, so this is left to the one thing that happens even then:
its arguments are dropped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, Generic, TypeVar

from ._arguments import close_all

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])

#: The argument in which what a tracer runs in place of a coroutine has that coroutine.
TRACED = "traced_coroutine"


class Given(Generic[C]):
    """The coroutines that a call was given: taken at its first step, or closed when dropped."""

    __slots__ = ("_coros",)

    def __init__(self, coros: tuple[C, ...]) -> None:
        self._coros = coros

    def take(self) -> tuple[C, ...]:
        """The coroutines, from now on the caller's to await or close."""
        coros, self._coros = self._coros, ()
        return coros

    def __del__(self) -> None:
        if self._coros:
            close_all(self._coros)


def close_unstarted(coros: Iterable[object]) -> None:
    """Close those of *coros* whose task ended before its first step.

    With what a tracer runs in place of a coroutine, that coroutine is closed as well.
    """
    pending = list(coros)
    while pending:
        coro: Any = pending.pop()
        if isinstance(coro, CoroutineType) and getcoroutinestate(coro) == CORO_CREATED:  # pyright: ignore[reportUnknownArgumentType]
            frame: Any = coro.cr_frame
            pending.append(frame.f_locals.get(TRACED))
            coro.close()


def runs(call: str) -> Callable[[F], F]:
    """What the async function below does is the work of *call*, and its coroutine says so."""

    def rename(function: F) -> F:
        function.__name__ = function.__qualname__ = call
        return function

    return rename


def returns_coroutine(function: F) -> F:
    """*function* counts as an async function, where Python lets it be told (3.12 and on)."""
    mark: Callable[[F], F] | None = getattr(inspect, "markcoroutinefunction", None)
    return function if mark is None else mark(function)
