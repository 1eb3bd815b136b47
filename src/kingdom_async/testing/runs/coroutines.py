"""What goes into the coroutines of a run and what comes out of them.

Rule: a coroutine cannot tell that it is looked at: everything passes through unchanged, except
an error that is to take a cancellation's place, and the end of what would never end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast


class Abandoned(BaseException):
    """In place of a coroutine that goes on for ever, however often it is cancelled."""


class Observed(Coroutine[Any, Any, Any]):
    """Stands for a coroutine, and knows what was thrown into it and how it ended."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        marker: str,
        is_excused: Callable[[object, BaseException], bool],
    ) -> None:
        self.inner: Any = coro
        self._marker = marker
        #: Asked where it is cancelled, by what: may it return all the same?
        self._is_excused = is_excused
        #: It belongs to the body that is looked at.
        self.counts = False
        #: A cancellation whose text has the marker was thrown in, where that should end it.
        self.was_cancelled: bool = False
        #: It has ended, and not with an error.
        self.has_returned: bool = False
        self.has_ended: bool = False
        #: Thrown in at the next step, whatever else was to be.
        self.instead: BaseException | None = None
        #: Called then.
        self.on_instead: Callable[[], object] | None = None
        #: It is left where it is.
        self.is_abandoned = False

    if not TYPE_CHECKING:

        @property
        def __class__(self):  # so that whoever looks for frames finds them
            return CoroutineType

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return cast("Generator[Any, Any, Any]", self)

    def __iter__(self) -> Observed:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        error = getattr(value, "error", None)  # trio sends outcomes, and never throws
        return self._step(error, self.inner.send, value)

    def throw(self, error: Any, *more: Any) -> Any:
        return self._step(error, self.inner.throw, error, *more)

    def close(self) -> None:
        self.has_ended = True
        self.inner.close()

    def _step(self, error: Any, func: Callable[..., Any], *args: Any) -> Any:
        if self.is_abandoned:
            self.has_ended = True
            raise Abandoned
        if self.instead is not None:
            func, args, self.instead = self.inner.throw, (self.instead,), None
            if self.on_instead is not None:
                self.on_instead()
        elif is_marked(error, self._marker):
            self.was_cancelled = self.was_cancelled or not self._is_excused(self.inner, error)
        try:
            return func(*args)
        except StopIteration:
            self.has_ended = self.has_returned = True
            raise
        except BaseException:
            self.has_ended = True
            raise


def is_marked(error: Any, marker: str) -> bool:
    """True for a cancellation whose text has the marker, and for one that led to it.

    Before Python 3.11 a task of asyncio's, or a ``gather``, that was cancelled raises a new
    error in whoever waits for it, with the one that it had as its context. Elsewhere a context
    says nothing: it is what the task that cancels was about.
    """
    if type(error).__name__ in _CANCELLATIONS and marker in str(error):
        return True
    if sys.version_info >= (3, 11) or not isinstance(error, asyncio.CancelledError):
        return False
    return is_marked(error.__context__, marker)


#: Of asyncio and of trio.
_CANCELLATIONS = ("CancelledError", "Cancelled")
