"""`imap`: a function over many items, the results as they come, in flat memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import count
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from anyio import Event, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from ._buffer import check_count
from ._crew import Crew
from ._failures import log_failure, task_cancelled
from ._groups import TaskGroup
from ._limits import RateLimit
from ._scopes import cancelled_natively
from ._sources import Feed

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

_TURN = 64


@overload
def imap(
    func: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int,
    rate: float | RateLimit | None = None,
    ordered: bool = True,
) -> Imap[R]: ...
@overload
def imap(
    func: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int,
    rate: float | RateLimit | None = None,
    ordered: bool = True,
    on_error: Callable[[T, Exception], D],
) -> Imap[R | D]: ...


def imap(
    func: Callable[[T], Awaitable[Any]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int,
    rate: float | RateLimit | None = None,
    ordered: bool = True,
    on_error: Callable[[T, Exception], Any] | None = None,
) -> Imap[Any]:
    """As `amap`, but gives the results as they come, to be iterated over.

    At most *limit* items are in work, and at most 2 × *limit* pulled and not yet consumed, so
    memory stays flat and a slow consumer slows the source.

    An item that fails does not disturb the consumer: it gets the results before the gap, and
    then the error, with a note that names the item. Leaving the block early cancels the rest;
    errors that nobody consumed are logged. Cancelling the caller cancels all.

    Args:
        func: An async function of one argument.
        items: An iterable or async iterable, pulled as far as the consumer has got.
        limit: How many items are in work at once.
        rate: How many items may start a second; or a `RateLimit` to share.
        ordered: True for the order of the items; False for the order in which they end.
        on_error: As in `amap`.

    Returns:
        An async context manager, which gives an async iterator for one task.

    Example:
        >>> async with ka.imap(fetch, urls, limit=10) as pages:
        ...     async for page in pages:
        ...         print(page)
    """
    check_count("imap(): limit", limit, "at most so many items are in work at once")
    results = _InOrder() if ordered else _AsDone()
    return Imap(_Streamer(results, "imap", func, items, limit, rate, on_error))


class Imap(AbstractAsyncContextManager[AsyncIterator[R]]):
    """What `imap` returns: enter it, and iterate over what that gives."""

    def __init__(self, crew: _Streamer[Any, R]) -> None:
        self._crew = crew
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> AsyncIterator[R]:
        if self._group is not None:
            raise RuntimeError(f"{self._crew.name} can be entered once; call imap() again")
        self._group = TaskGroup(errors="first")
        await self._group.__aenter__()
        self._group.start_soon(self._crew.run, self._group, name=f"{self._crew.name} crew")
        return self._crew

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._group is not None
        self._group.cancel()
        try:
            return await self._group.__aexit__(exc_type, exc, traceback)
        finally:
            self._crew.log_unconsumed()

    def __aiter__(self) -> AsyncIterator[R]:
        raise TypeError(
            f"{self._crew.name} must be entered first; use: async with imap(...) as results"
        )


class _Failure:
    """Stands in the place of a result."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Streamer(Crew[T, R], AsyncIterator[R]):
    """Keeps results until they are consumed, and holds the workers back meanwhile."""

    def __init__(self, results: _Results, *args: Any) -> None:
        super().__init__(*args)
        self._results = results
        self._window = _Window[T](2 * int(self._limit), self.broke)
        self._wake: Event | None = None
        self._over = False
        self.deliver = self._deliver

    # --- the workers' side -----------------------------------------------------------

    async def run(self, group: TaskGroup) -> None:
        """The task that starts the workers."""
        try:
            await self.serve(group)
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            self.broke(task_cancelled(self.name, "the crew", error))
        except Exception as error:
            self.broke(error)

    def source(self, items: Iterator[T]) -> Iterator[T]:
        self._window.items = items
        return self._window

    def places(self) -> Iterator[int]:
        return count()

    def failed(self, place: int, error: BaseException) -> Any:
        if not isinstance(error, Exception):
            raise error
        self._window.end()
        return _Failure(error)

    def broke(self, error: Exception) -> None:
        self._window.pulled += 1
        self._deliver(self._window.pulled - 1, self.failed(-1, error))

    def _deliver(self, place: int, value: Any) -> None:
        self._results.put(place, value)
        if self._wake is not None and self._results.has_next():
            self._wake.set()

    # --- the consumer's side ---------------------------------------------------------

    async def __anext__(self) -> R:
        window, results = self._window, self._results
        if not (window.consumed + 1) % _TURN:
            await checkpoint()
        while not results.has_next():
            if self._over or (window.ended and window.consumed == window.pulled):
                raise StopAsyncIteration
            if self._wake is not None:
                raise RuntimeError(f"{self.name}: one task at a time may iterate over it")
            self._wake = window.ending = Event()
            try:
                await self._wake.wait()
            finally:
                self._wake = None
        if self._over:
            raise StopAsyncIteration
        value = results.take()
        window.consume()
        if type(value) is _Failure:
            self._over = True
            raise value.error
        return cast(R, value)

    def log_unconsumed(self) -> None:
        """Say what nobody will raise any more."""
        for value in self._results.left():
            if type(value) is _Failure:
                log_failure(value.error, "%s: an error that nobody consumed", self.name)


class _Window(Iterator[T]):
    """A source that waits while too much of it is pulled and not yet consumed."""

    items: Iterator[T]

    def __init__(self, size: int, fail: Callable[[Exception], None]) -> None:
        self._size = size
        self._fail = fail
        self._coming = 0
        self._sleepers: deque[Event] = deque()
        self.pulled = 0
        self.consumed = 0
        self.ended = False
        self.ending: Event | None = None

    def _room(self) -> int:
        return self._size + self.consumed - self.pulled - self._coming

    def __next__(self) -> T:
        if self.ended or self._room() <= 0:
            raise StopIteration
        try:
            item = next(self.items)
        except StopIteration:
            if not isinstance(self.items, Feed):
                self.end()
            raise
        except Exception as error:
            self._fail(error)
            raise StopIteration from None
        self.pulled += 1
        return item

    async def more(self) -> bool:
        """Wait for what is missing: room, or an item of an async source."""
        if self._room() > 0 and isinstance(self.items, Feed):
            self._coming += 1
            try:
                if not await self.items.more():
                    self.end()
            finally:
                self._coming -= 1
        elif not self.ended:
            sleeper = Event()
            self._sleepers.append(sleeper)
            await sleeper.wait()
            if self._sleepers and (self.ended or self._room() > 0):
                self._sleepers.popleft().set()  # one wakes the next, while there is room
        return not self.ended

    def consume(self) -> None:
        """One result was consumed. Who sleeps is woken when half the window is free."""
        self.consumed += 1
        if self._sleepers and self._room() >= self._size // 2:
            self._sleepers.popleft().set()

    def end(self) -> None:
        """No more items will be pulled."""
        self.ended = True
        if self._sleepers:
            self._sleepers.popleft().set()
        if self.ending is not None:
            self.ending.set()


class _Results(ABC):
    """Results that are done and not yet consumed."""

    @abstractmethod
    def put(self, place: int, value: Any) -> None: ...
    @abstractmethod
    def has_next(self) -> bool: ...
    @abstractmethod
    def take(self) -> Any: ...
    @abstractmethod
    def left(self) -> Iterable[Any]: ...


class _InOrder(_Results):
    """The next one is that of the next item."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._next = 0

    def put(self, place: int, value: Any) -> None:
        self._done[place] = value

    def has_next(self) -> bool:
        return self._next in self._done

    def take(self) -> Any:
        self._next += 1
        return self._done.pop(self._next - 1)

    def left(self) -> Iterable[Any]:
        return self._done.values()


class _AsDone(_Results):
    """The next one is that of the item that was done first."""

    def __init__(self) -> None:
        self._done: deque[Any] = deque()

    def put(self, place: int, value: Any) -> None:
        self._done.append(value)

    def has_next(self) -> bool:
        return bool(self._done)

    def take(self) -> Any:
        return self._done.popleft()

    def left(self) -> Iterable[Any]:
        return self._done
