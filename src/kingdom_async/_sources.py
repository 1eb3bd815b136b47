"""Where the items of a bulk call come from.

Rule: a source is an iterator that never waits. Where it stops it is over, or it has nothing
yet, which ``await source.more()`` tells; a plain iterator is over.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from typing import Generic, TypeVar, cast

from anyio import (
    CancelScope,
    Event,
    current_effective_deadline,
    current_time,
    get_cancelled_exc_class,
)

from ._failures import logger, short_repr, task_cancelled, without
from ._scopes import cancelled_natively

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

T = TypeVar("T")

_CLOSE_GRACE = 10.0
_NAMED = 10


class Feed(Iterator[T]):
    """An async iterable as a source: one task of its own pulls it, item by item, on demand."""

    def __init__(self, items: AsyncIterable[T], call: str) -> None:
        self._call = call
        self._items = items
        self._here: deque[T] = deque()
        self._wanted = 0
        self._demand = Event()
        self._arrivals: deque[Event] = deque()
        self._ended = False
        self._error: Exception | None = None

    def __next__(self) -> T:
        if self._here:
            return self._here.popleft()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # an error whose frames hold it is a reference cycle
        raise StopIteration

    async def more(self) -> bool:
        """Ask for one more item and wait for it; False if the source is over."""
        if not self._ended:
            arrival = Event()
            self._arrivals.append(arrival)
            self._wanted += 1
            self._demand.set()
            await arrival.wait()
        return not self._ended or bool(self._here) or self._error is not None

    def left(self) -> list[T]:
        """Take what was pulled and asked for by a worker that was cancelled meanwhile."""
        left = [*self._here]
        self._here.clear()
        return left

    async def pull(self) -> None:
        """The task; it ends with the source, which it closes in every case."""
        # The guard is there before the source is: a scope opened around aclose() only would
        # break the nesting of the scopes that the source has open.
        with CancelScope() as guard:
            try:
                puller = _Puller(self._items, guard)
                try:
                    await self._pull_from(puller)
                except get_cancelled_exc_class() as error:
                    if not cancelled_natively():
                        raise
                    self._error = task_cancelled(self._call, "the source", error)
                finally:
                    await puller.close()
            except StopAsyncIteration:
                pass
            except Exception as error:
                if not cancelled_natively():
                    raise  # nobody will ask for it any more
                self._error = error
        # Not in a finally: to who is cancelled with it, this must not look like the end.
        self._ended = True
        for arrival in self._arrivals:
            arrival.set()

    async def _pull_from(self, puller: _Puller[T]) -> None:
        while True:
            while self._wanted:
                self._here.append(await puller.next())
                self._wanted -= 1
                self._arrivals.popleft().set()
            self._demand = Event()
            await puller.idle(self._demand)


def say_unworked(name: str, items: list[T]) -> None:
    """Name what an async source has given away and nobody began: it may be a queue."""
    if items:
        names = ", ".join(map(short_repr, items[:_NAMED]))
        more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
        logger.warning(
            "%s ended early; pulled from the source and not begun: %s%s", name, names, more
        )


class _Puller(Generic[T]):
    """An async iterator, and what may happen to it between two items."""

    def __init__(self, items: AsyncIterable[T], guard: CancelScope) -> None:
        iterator = aiter(items)
        self._iterator: AsyncIterator[T] = iterator
        self._generator = cast(
            "AsyncGenerator[T, None] | None",
            iterator if isinstance(iterator, AsyncGenerator) else None,
        )
        self._guard = guard
        self._ahead: deque[T] = deque()

    async def next(self) -> T:
        return self._ahead.popleft() if self._ahead else await anext(self._iterator)

    async def idle(self, demand: Event) -> None:
        """Wait for *demand*, as if inside the source's own ``yield``.

        So a scope or group that the source holds open there works as it does elsewhere: the
        cancellation is thrown in, for the scope to catch and the group to raise its failure.
        """
        try:
            await demand.wait()
        except get_cancelled_exc_class() as error:
            self._guard.shield = True
            ours = current_effective_deadline() != -math.inf
            if ours or self._generator is None:
                self._guard.shield = False
                raise
            self._ahead.append(await self._generator.athrow(error))
            self._guard.shield = False

    async def close(self) -> None:
        """Close an async generator, which may wait for what it cleans up."""
        if self._generator is None:
            return
        self._guard.shield = True
        self._guard.deadline = current_time() + _CLOSE_GRACE
        try:
            await self._generator.aclose()
        except BaseExceptionGroup as error:
            # A group that the source holds open reports that it was closed.
            if (failure := without(GeneratorExit, error)) is not None:
                raise failure from None
        finally:
            if self._guard.cancel_called:  # which it has to catch, so the shield stays
                what = short_repr(self._generator)
                logger.error("%s was not closed within %g s", what, _CLOSE_GRACE)
            else:
                self._guard.deadline = math.inf
                self._guard.shield = False


class Window(Iterator[T]):
    """A source that waits while too much of it is pulled and not yet consumed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._room = size
        self._coming = 0  # items of an async source that are on their way
        self._sleepers: deque[Event] = deque()
        self.items: Iterator[T] = iter(())
        self.ended = False
        #: To be set when no more items will be pulled.
        self.ending: Event | None = None

    def __next__(self) -> T:
        if self.ended or self._room <= self._coming:
            raise StopIteration
        try:
            item = next(self.items)
        except StopIteration:
            if not isinstance(self.items, Feed):
                self.end()
            raise
        self._room -= 1
        return item

    async def more(self) -> bool:
        """Wait for what is missing: room, or an item of an async source."""
        if self.ended:
            return False
        if self._room > self._coming and isinstance(self.items, Feed):
            self._coming += 1
            try:
                if not await self.items.more():
                    self.end()
            finally:
                self._coming -= 1
        else:
            sleeper = Event()
            self._sleepers.append(sleeper)
            await sleeper.wait()
            self.wake_one()  # one wakes the next, while there is room
        return not self.ended

    def consume(self) -> None:
        """One result was consumed. Who sleeps is woken when half the window is free."""
        self._room += 1
        if self._sleepers and self._room - self._coming >= self._size // 2:
            self._sleepers.popleft().set()

    def wake_one(self) -> None:
        """Wake who sleeps although there is room."""
        if self._sleepers and self._room > self._coming:
            self._sleepers.popleft().set()

    def is_consumed(self) -> bool:
        """True if no more items will come, and all results were consumed."""
        return self.ended and self._room == self._size

    def end(self) -> None:
        """No more items will be pulled."""
        self.ended = True
        while self._sleepers:
            self._sleepers.popleft().set()
        if self.ending is not None:
            self.ending.set()
