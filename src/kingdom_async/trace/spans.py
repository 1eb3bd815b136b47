"""Named parts of a task.

Rule: while nothing is recorded, a span costs one look at the core's slot.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import partial, wraps
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from .. import _observe
from .._arguments import name_of

P = ParamSpec("P")
R = TypeVar("R")


class span(AbstractContextManager[None]):  # reads as a statement
    """Show a block as a span inside its task.

    Args:
        name: What the block does.

    Example:
        >>> with trace.span("parsing"):
        ...     parse(text)
    """

    def __init__(self, name: str) -> None:
        self._name = name
        #: By which task each was entered, and what ends it.
        self._ends: list[tuple[int, Callable[[BaseException | None], None]]] = []

    def __enter__(self) -> None:
        if (observer := _observe.observer) is not None:
            self._ends.append((observer.task(), observer.called(self._name)))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ends and (mine := self._mine()) is not None:
            self._ends.pop(mine)[1](exc)

    def _mine(self) -> int | None:
        """Which of the ends: several tasks may be in one and the same object.

        None for a task that entered it before it was recorded.
        """
        observer = _observe.observer
        if observer is None:  # nobody is left to be told
            return -1
        task = observer.task()
        indexes = range(len(self._ends) - 1, -1, -1)
        return next(
            (index for index in indexes if self._ends[index][0] == task), None if task else -1
        )


@overload
def instrument_task(
    func: Callable[P, Coroutine[Any, Any, R]], /
) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def instrument_task(
    name: str, /
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...


def instrument_task(func_or_name: Any, /) -> Any:
    """Make each call of an async function a span inside its task.

    Use it with a name or without: ``@instrument_task("load")``, ``@instrument_task``; then the
    span has the function's own name.

    Raises:
        TypeError: If it is given something else than a name or an async function.

    Example:
        >>> @trace.instrument_task
        ... async def load(url): ...
    """
    if isinstance(func_or_name, str):
        return partial(_instrumented, name=func_or_name)
    return _instrumented(func_or_name, name_of(func_or_name))


def _instrumented(
    func: Callable[P, Coroutine[Any, Any, R]], name: str
) -> Callable[P, Coroutine[Any, Any, R]]:
    if not iscoroutinefunction(func):
        raise TypeError(
            f"instrument_task() takes an async function, not {func!r}; "
            "for a block of code write: with trace.span(name):"
        )

    @wraps(func)
    async def instrumented(*args: P.args, **kwargs: P.kwargs) -> R:
        with span(name):
            return await func(*args, **kwargs)

    return instrumented
