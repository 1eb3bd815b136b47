"""Items on their way elsewhere: taken in chunks, worked off, each outcome in its place.

Rule: a place in the results is fixed when its item is pulled, whoever works on it; an item
that fails gets there through `Supply.settle`, and is named.
"""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from itertools import islice
from time import perf_counter
from typing import Any, Generic, TypeVar

from ._arguments import name_of
from ._failures import add_note, set_context, short_repr
from ._pickled import pickle_error, unpickle_outcome
from ._sources import Feed
from ._thread_calls import refuse_awaitable, stopped_iteration

T = TypeVar("T")

_MOST = 1024  # items in a chunk


class Supply(Generic[T]):
    """The items of one call, and its results."""

    def __init__(self, items: Iterable[T] | AsyncIterable[T], patience: float | None) -> None:
        """*patience*: seconds after which a slow source gives a chunk that is not full."""
        self.results: list[Any] = []  # in the place of an item stands the item at first
        #: True when no more items are to be taken; threads look at it.
        self.ended = False
        #: True when there was no item left to take.
        self.exhausted = False
        #: Called once, in any thread, when somebody has taken items or found none.
        self.on_take: Callable[[object], object] | None = None
        #: The items, where they come from an async source.
        self.feed = Feed(items, "offload_map") if isinstance(items, AsyncIterable) else None
        self._items = iter(()) if isinstance(items, AsyncIterable) else iter(items)
        #: What was pulled from there, and has not begun.
        self.unworked: list[T] = []
        self._patience = math.inf if patience is None else patience
        self._advancing = threading.Lock()

    def take(self, size: int) -> tuple[int, list[T]]:
        """The place of the next item and up to *size* items; fewer of a slow source."""
        chunk: list[T] = []
        with self._advancing:
            until = perf_counter() + self._patience
            try:
                for item in islice(self._items, 0 if self.ended else size):
                    chunk.append(item)
                    if self.ended or perf_counter() > until:
                        break
            except BaseException:
                self.ended = True  # nobody advances a source that failed
                raise
            return self._place(chunk), chunk

    async def take_from(self, feed: Feed[T], size: int) -> tuple[int, list[T]]:
        """The same of an async source, on the loop; fewer only at its end."""
        chunk: list[T] = []
        try:
            while len(chunk) < size:
                chunk.extend(islice(feed, size - len(chunk)))
                if len(chunk) < size and not await feed.more():
                    break
        except BaseException:
            self.unworked += chunk
            raise
        return self._place(chunk), chunk

    def _place(self, chunk: list[T]) -> int:
        first = len(self.results)
        self.results.extend(chunk)
        self.exhausted = not chunk
        self.tell_taken()
        return first

    def tell_taken(self) -> None:
        """Wake who waits for the first items to be taken, before another worker starts."""
        on_take, self.on_take = self.on_take, None
        if on_take is not None:
            on_take(None)

    def settle(
        self,
        place: int,
        item: T,
        error: Exception,
        on_error: Callable[[T, Exception], Any] | None,
    ) -> Any:
        """What stands for an item that failed: *on_error* says it, or the call ends."""
        if on_error is not None:
            try:
                return on_error(item, error)
            except Exception as worse:
                if worse is not error and worse.__context__ is None:
                    set_context(worse, error)
                error = worse
        self.ended = True
        add_note(error, f"while mapping item {place}: {short_repr(item)}")
        try:
            raise error
        finally:
            del error  # an error whose frames hold it is a reference cycle


class Chunk(Generic[T]):
    """Some items on their way; called elsewhere, it says what became of each."""

    def __init__(
        self, func: Callable[[T], Any], items: list[T], keep_going: bool, pickled: bool
    ) -> None:
        self.__qualname__ = name_of(func)  # for what is said of the call as a whole
        self._func = func
        self._items = items
        self._keep_going = keep_going
        self._pickled = pickled
        #: How many of the items; elsewhere all, as soon as they are sent.
        self.begun: int = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_": _Sent(self)}

    def __call__(
        self, has_ended: Callable[[], bool] | None = None
    ) -> tuple[float, list[tuple[bool, Any]]]:
        """How long it took, and for each item whether it failed and with what."""
        began = perf_counter()
        outcomes: list[tuple[bool, Any]] = []
        items, self._items = self._items, []
        try:
            for item in items:
                if has_ended is not None and has_ended():
                    break
                self.begun += 1
                try:
                    outcomes.append((False, refuse_awaitable(self._func(item), self._func)))
                except Exception as error:
                    if isinstance(error, StopIteration):
                        error = stopped_iteration(self._func)
                    outcomes.append((True, pickle_error(error) if self._pickled else error))
                    if not self._keep_going:
                        break
            return perf_counter() - began, outcomes
        finally:
            del items, outcomes  # an error that is kept keeps this frame


class _Sent:
    """Pickled last: all of the chunk could be, and whoever gets it works it off."""

    def __init__(self, chunk: Chunk[Any]) -> None:
        self._chunk = chunk

    def __reduce__(self) -> tuple[type[bool], tuple[()]]:
        self._chunk.begun = len(self._chunk)
        return bool, ()


def unpickled(outcome: bytes, func: Callable[..., object]) -> Exception:
    """The error that a chunk brought back from another process."""
    try:
        unpickle_outcome(outcome, name_of(func))
    except Exception as error:
        return error
    raise AssertionError("the outcome of an item that failed is an error")


def fitted(size: int, seconds: float, wanted: float) -> int:
    """The size of the next chunk, when one of *size* took *seconds*."""
    if seconds < wanted:
        return min(2 * size, _MOST)
    if seconds > 4 * wanted:
        return max(size // 4, 1)
    return size
