"""`imap`: a function over many items, the results as they come, in flat memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager
from itertools import count
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast, overload

from anyio import Event, get_cancelled_exc_class
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._arguments import check_count
from ._crew import Crew, Delivery
from ._failures import log_failure, task_cancelled
from ._groups import TaskGroup
from ._limits import RateLimit  # noqa: TC001  # for who asks for our type hints
from ._scopes import cancelled_natively
from ._sources import Window

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

_TURN = 64
_NOTHING: Any = object()


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

    At most *limit* items are in work, and at most twice *limit* pulled and not yet consumed, so
    memory stays flat and a slow consumer slows the source.

    An item that fails does not disturb the consumer: it gets the results before the gap, and
    then the error, with a note that names the item. The error of a source that fails comes
    after all that was pulled before. Leaving the block early cancels the rest; errors that
    nobody consumed are logged, and so is what an async source, such as a queue, has given away
    and nobody began. Cancelling the caller cancels all. A result that is there
    already is given without waiting; only each 64th gives way to other tasks.

    Args:
        func: An async function of one argument.
        items: An iterable or async iterable, pulled as far as the consumer has got.
        limit: How many items are in work at once.
        rate: How many items may start a second; or a `RateLimit` to share.
        ordered: True for the order of the items; False for the order in which they end.
        on_error: As in `amap`.

    Returns:
        An async context manager, which gives an async iterator for one task.

    Raises:
        TypeError: If *func* is no function, *items* cannot be iterated over, or such.
        ValueError: If *limit* is less than 1, or *rate* is no rate.
        RuntimeError: If it is entered twice, or iterated over outside of its block or by two
            tasks at once.
        TaskCancelled: If a task of it was cancelled natively (``asyncio.Task.cancel``).

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
        self._running = self._crew.run()
        self._group.create_task(self._running, name=f"{self._crew.name} crew")
        return self._crew

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._group is not None
        is_done = exc is None and self._crew.is_done()
        self._crew.leave()
        if not is_done:
            self._group.cancel()
        try:
            swallowed = await self._group.__aexit__(exc_type, exc, traceback)
        finally:
            self._running.close()  # for one that never began
            self._crew.log_unconsumed()
        if not self._crew.has_run:  # cancelled before it began, and the body with it
            raise task_cancelled(self._crew.call, "the crew", exc)
        return swallowed

    def __aiter__(self) -> AsyncIterator[R]:
        raise TypeError(
            f"{self._crew.name} must be entered first; use: async with imap(...) as results"
        )


class _Failure:
    """Stands in the place of a result."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error

    def take(self) -> Exception:
        """The error, once: who raises it has this in its frames."""
        error, self._error = self._error, None
        assert error is not None
        return error


class _Streamer(Crew[T, R], AsyncIterator[R]):
    """Keeps results until they are consumed, and holds the workers back meanwhile."""

    def __init__(self, results: _Results, *args: Any) -> None:
        super().__init__(*args)
        self.has_run: bool = False
        self._has_ended = False
        self._results = results
        self.delivery: Delivery = results
        self._window = Window[T](2 * int(self._limit))
        self._breakages: deque[Exception] = deque()
        self._left_of_turn = _TURN
        self._over = False
        self._is_left = False
        self._is_hurt = False
        self._is_cut = False

    # --- the workers' side -----------------------------------------------------------

    async def run(self) -> None:
        """Have the workers in a group of their own: none of them ends the body."""
        self.has_run = True
        try:
            await super().run()
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                self._is_cut = True
                raise
            self.broke(task_cancelled(self.call, "the crew", error))
        except Exception as error:
            self.broke(error)
        finally:
            self._has_ended = True
            self._window.end()

    def source(self, items: Iterator[T]) -> Iterator[T]:
        self._window.items = items
        return self._window

    def places(self) -> Iterator[int]:
        return count()

    def failed(self, place: int, error: BaseException) -> Any:
        if not isinstance(error, Exception):
            raise error
        self._is_hurt = True
        self._window.end()
        return _Failure(error)

    def broke(self, error: Exception) -> None:
        self._is_hurt = True
        self._breakages.append(error)
        self._window.end()

    # --- the consumer's side ---------------------------------------------------------

    async def __anext__(self) -> R:
        window, results = self._window, self._results
        self._left_of_turn -= 1
        if not self._left_of_turn:
            self._left_of_turn = _TURN
            await checkpoint()
        while self._over or (value := results.take()) is _NOTHING:
            if self._is_cut:  # and who consumes is to be; the crew has only heard of it first
                await checkpoint_if_cancelled()
            self._stop_if_over()
            if results.awaited is not None:
                raise RuntimeError(f"{self.name}: one task at a time may iterate over it")
            window.wake_one()
            results.awaited = window.ending = Event()
            try:
                await results.awaited.wait()
            finally:
                results.awaited = None
        window.consume()
        if type(value) is _Failure:
            self._raise(value.take())
        return cast("R", value)

    def is_done(self) -> bool:
        """True if each item has come to a result that was consumed: the crew ends by itself."""
        return self._window.is_consumed() and not self._is_hurt

    def _stop_if_over(self) -> None:
        """Raise what comes after the last result, if that was consumed."""
        if self._is_left:
            raise RuntimeError(f"{self.name} was left: iterate over it inside its block")
        if self._over:
            raise StopAsyncIteration
        is_consumed = self._window.is_consumed()
        if self._breakages and (is_consumed or self._has_ended):
            self._raise(self._breakages.popleft())
        if is_consumed:
            raise StopAsyncIteration

    def _raise(self, error: Exception) -> NoReturn:
        self._over = True
        try:
            if isinstance(error, StopAsyncIteration):  # it would end the loop without a word
                raise RuntimeError(f"{self.name}: StopAsyncIteration was raised") from error  # noqa: TRY004
            raise error
        finally:
            del error  # an error whose frames hold it is a reference cycle

    def leave(self) -> None:
        """The block is left: nobody else is to wait for results."""
        self._over = self._is_left = True
        self._window.end()

    def log_unconsumed(self) -> None:
        """Say what nobody will raise any more."""
        left = (value.take() for value in self._results.left() if type(value) is _Failure)
        for error in (*left, *self._breakages):
            log_failure(error, "%s: an error that nobody consumed", self.name)


class _Results(ABC):
    """Results that are done and not yet consumed."""

    #: To be set when there is a next one, if the consumer waits for it.
    awaited: Event | None = None

    @abstractmethod
    def __setitem__(self, place: int, value: Any, /) -> None: ...
    @abstractmethod
    def take(self) -> Any:
        """The next one, or _NOTHING."""

    @abstractmethod
    def left(self) -> Iterable[Any]: ...


class _InOrder(_Results):
    """The next one is that of the next item."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._next = 0

    def __setitem__(self, place: int, value: Any, /) -> None:
        self._done[place] = value
        if place == self._next and self.awaited is not None:
            self.awaited.set()

    def take(self) -> Any:
        value = self._done.pop(self._next, _NOTHING)
        if value is not _NOTHING:
            self._next += 1
        return value

    def left(self) -> Iterable[Any]:
        return self._done.values()


class _AsDone(_Results):
    """The next one is that of the item that was done first."""

    def __init__(self) -> None:
        self._done: deque[Any] = deque()

    def __setitem__(self, place: int, value: Any, /) -> None:
        self._done.append(value)
        if self.awaited is not None:
            self.awaited.set()

    def take(self) -> Any:
        return self._done.popleft() if self._done else _NOTHING

    def left(self) -> Iterable[Any]:
        return self._done
