"""`offload_map`: a blocking function over many items, in threads, processes or an executor.

Rule: a place in the results is fixed when its item is pulled, whoever works on it.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import AsyncIterable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from operator import length_hint
from time import perf_counter
from typing import Any, Generic, TypeVar, cast, overload

from anyio import CapacityLimiter, Lock, from_thread, get_cancelled_exc_class

from ._arguments import (
    check_count,
    check_items,
    check_on_error,
    is_async,
    name_of,
    refuse_coroutine,
)
from ._failures import add_note, short_repr, task_cancelled
from ._groups import TaskGroup
from ._offload import Where, offload
from ._pickled import pickle_error, unpickle_outcome
from ._scopes import cancelled_natively
from ._sources import Feed
from ._thread_calls import refuse_awaitable, stopped_iteration

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

_MOST = 1024  # items in a chunk
_THREAD_CHUNK = 0.001  # seconds
_REMOTE_CHUNK = 0.05


@overload
async def offload_map(
    func: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    to: Where = "thread",
    limit: int,
    chunksize: int | None = None,
) -> list[R]: ...
@overload
async def offload_map(
    func: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    *,
    to: Where = "thread",
    limit: int,
    chunksize: int | None = None,
    on_error: Callable[[T, Exception], D],
) -> list[R | D]: ...


async def offload_map(
    func: Callable[[T], Any],
    items: Iterable[T] | AsyncIterable[T],
    *,
    to: Where = "thread",
    limit: int,
    chunksize: int | None = None,
    on_error: Callable[[T, Exception], Any] | None = None,
) -> list[Any]:
    """``[func(item) for item in items]``, elsewhere, in the same order.

    A worker takes many items per trip, so that a tiny function costs microseconds and not a
    trip each. It uses *limit* threads or processes of its own and starves no other call.

    The first failure stops the others and is raised itself, with a note that names the item.
    Cancelling stops before the next item in threads, and before the next chunk elsewhere.
    In threads, all items that one worker serves share a copy of the caller's context
    variables; elsewhere there are none.

    Args:
        func: An ordinary function of one argument.
        items: An iterable, which is advanced in a worker thread, by one at a time; or an
            async iterable, which is advanced on the loop.
        to: Where to, as in `offload`.
        limit: How many workers at once. An executor may have fewer.
        chunksize: Items per trip; None to fit it to the time the function takes.
        on_error: Called on the loop with an item and its ``Exception``; what it returns takes
            the place of the result. ``on_error=ErrorResult`` keeps both.

    Returns:
        One result per item, in the order of the items.

    Raises:
        Exception: What the function raises.
        OffloadError: As `offload`.

    Example:
        >>> sizes = await ka.offload_map(os.path.getsize, paths, limit=8)
    """
    refuse_coroutine("offload_map", func, "items")
    if inspect.iscoroutinefunction(func):
        raise is_async("offload_map", func, f"await amap({name_of(func)}, items)")
    check_items("offload_map", items)
    check_on_error("offload_map", on_error)
    check_count("offload_map(): limit", limit, "at most so many run at once")
    if chunksize is not None:
        check_count("offload_map(): chunksize", chunksize, "leave it out to fit the function")
    in_threads = to == "thread" and isinstance(items, Iterable)
    bulk = (_Drain if in_threads else _Dispatch)(func, items, to, limit, chunksize, on_error)
    await bulk.run()
    return bulk.results


class _Bulk(Generic[T]):
    """What both ways of working share: the source, the results, and the end."""

    def __init__(
        self,
        func: Callable[[T], Any],
        items: Iterable[T] | AsyncIterable[T],
        to: Where,
        limit: int,
        chunksize: int | None,
        on_error: Callable[[T, Exception], Any] | None,
    ) -> None:
        self.results: list[Any] = []  # in the place of an item stands the item at first
        self._func = func
        self._to: Where = to
        self._limit = limit
        self._chunksize = chunksize
        self._on_error = on_error
        self._limiter = CapacityLimiter(limit) if isinstance(to, str) else None
        self._name = f"offload_map({name_of(func)})"
        self._ended = False
        self._advancing = threading.Lock()
        self._feed = Feed(items, "offload_map") if isinstance(items, AsyncIterable) else None
        self._items = iter(()) if isinstance(items, AsyncIterable) else iter(items)
        self._workers = min(limit, length_hint(items) or limit)

    async def run(self) -> None:
        async with TaskGroup(errors="first") as group:
            if self._feed is not None:
                group.start_soon(self._feed.pull, name=f"{self._name} source")
            tasks = [
                group.start_soon(self._guarded, name=f"{self._name}[{number}]")
                for number in range(self._workers)
            ]
            try:
                for task in tasks:
                    await task.wait()
            finally:
                self._ended = True  # a thread sees this before it takes its next item
        if group.cancel_scope.cancel_called:  # and yet no error: before its first step
            for task in tasks:
                task.coro.close()
            raise task_cancelled(self._name, "a worker", None)

    async def _guarded(self) -> None:
        try:
            await self._work()
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            self._ended = True
            raise task_cancelled(self._name, "a worker", error) from error

    async def _work(self) -> None:
        raise NotImplementedError

    def _has_ended(self) -> bool:
        return self._ended

    def _take(self, size: int) -> tuple[int, list[T]]:
        """The place of the next item and up to *size* items; fewer of a slow source."""
        chunk: list[T] = []
        with self._advancing:
            until = perf_counter() + (math.inf if self._chunksize else _THREAD_CHUNK)
            try:
                for item in islice(self._items, 0 if self._ended else size):
                    chunk.append(item)
                    if self._ended or perf_counter() > until:
                        break
            except BaseException:
                self._ended = True  # nobody advances a source that failed
                raise
            return self._place(chunk), chunk

    def _place(self, chunk: list[T]) -> int:
        first = len(self.results)
        self.results.extend(chunk)
        return first

    def _explain(self, place: int, item: T, error: Exception) -> None:
        add_note(error, f"while mapping item {place}: {short_repr(item)}")


class _Drain(_Bulk[T]):
    """Threads that empty one iterator between them."""

    async def _work(self) -> None:
        await offload(self._empty, limiter=self._limiter)

    # --- in a thread -----------------------------------------------------------------

    def _empty(self) -> None:
        size = self._chunksize or 1
        while not self._ended:
            first, chunk = self._take(size)
            if not chunk:
                return
            began = perf_counter()
            self._work_off(chunk, first)
            if self._chunksize is None:
                size = _fitted(size, perf_counter() - began, _THREAD_CHUNK)

    def _work_off(self, chunk: list[T], first: int) -> None:
        func, results = self._func, self.results
        for place, item in enumerate(chunk, first):
            if self._ended:
                return
            try:
                value = refuse_awaitable(func(item), func)
            except Exception as error:
                value = self._failed(place, item, error)
            results[place] = value

    def _failed(self, place: int, item: T, error: Exception) -> Any:
        if isinstance(error, StopIteration):
            cause, error = error, stopped_iteration(self._func)
            error.__cause__ = cause
        if self._on_error is not None:
            return from_thread.run_sync(self._on_error, item, error)
        self._ended = True
        self._explain(place, item, error)
        raise error


class _Dispatch(_Bulk[T]):
    """Tasks that send one chunk after the other elsewhere."""

    def __init__(self, func: Callable[[T], Any], items: Any, *args: Any) -> None:
        super().__init__(func, items, *args)
        self._pulling = Lock()
        self._puller = CapacityLimiter(1)
        # What is built in has its items at hand; anything else may take its time.
        self._at_hand = type(items).__module__ == "builtins" and isinstance(items, Collection)
        self._pickled = self._to != "thread" and not isinstance(self._to, ThreadPoolExecutor)

    async def _work(self) -> None:
        size = self._chunksize or 1
        while True:
            async with self._pulling:
                first, chunk = await self._pull(size)
            if not chunk:
                return
            seconds = await self._work_off(chunk, first)
            if self._chunksize is None:
                size = _fitted(size, seconds, _REMOTE_CHUNK)

    async def _pull(self, size: int) -> tuple[int, list[T]]:
        if self._feed is not None:
            return await self._pull_from(self._feed)
        if self._at_hand:
            return self._take(size)
        return await offload(self._take, size, limiter=self._puller)

    async def _pull_from(self, feed: Feed[T]) -> tuple[int, list[T]]:
        chunk: list[T] = []
        size = self._chunksize or 1
        while len(chunk) < size:
            chunk.extend(islice(feed, size - len(chunk)))
            if len(chunk) < size and not await feed.more():
                break
        return self._place(chunk), chunk

    async def _work_off(self, items: list[T], first: int) -> float:
        chunk = _Chunk(self._func, items, self._on_error is not None, self._pickled)
        try:
            if self._to == "thread":
                seconds, outcomes = await offload(chunk, self._has_ended, limiter=self._limiter)
            else:
                seconds, outcomes = await offload(chunk, to=self._to, limiter=self._limiter)
        except Exception as error:
            add_note(error, f"while mapping items {first} to {first + len(items) - 1}")
            raise
        for place, item, (is_error, value) in zip(
            range(first, first + len(items)), items, outcomes, strict=False
        ):
            self.results[place] = self._failed(place, item, value) if is_error else value
        return seconds

    def _failed(self, place: int, item: T, error: Exception | bytes) -> Any:
        if isinstance(error, bytes):
            try:
                unpickle_outcome(error, name_of(self._func))
            except Exception as unpickled:
                error = unpickled
        error = cast("Exception", error)
        if self._on_error is not None:
            return self._on_error(item, error)
        self._explain(place, item, error)
        raise error


class _Chunk(Generic[T]):
    """Some items on their way; called elsewhere, it says what became of each."""

    def __init__(
        self, func: Callable[[T], Any], items: list[T], keep_going: bool, pickled: bool
    ) -> None:
        self.__qualname__ = name_of(func)  # for what is said of the call as a whole
        self._func = func
        self._items = items
        self._keep_going = keep_going
        self._pickled = pickled

    def __call__(
        self, has_ended: Callable[[], bool] | None = None
    ) -> tuple[float, list[tuple[bool, Any]]]:
        """How long it took, and for each item whether it failed and with what."""
        began = perf_counter()
        outcomes: list[tuple[bool, Any]] = []
        for item in self._items:
            if has_ended is not None and has_ended():
                break
            try:
                outcomes.append((False, refuse_awaitable(self._func(item), self._func)))
            except Exception as error:
                if isinstance(error, StopIteration):
                    error = stopped_iteration(self._func)
                outcomes.append((True, pickle_error(error) if self._pickled else error))
                if not self._keep_going:
                    break
        return perf_counter() - began, outcomes


def _fitted(size: int, seconds: float, wanted: float) -> int:
    """The size of the next chunk, when one of *size* took *seconds*."""
    if seconds < wanted:
        return min(2 * size, _MOST)
    if seconds > 4 * wanted:
        return max(size // 4, 1)
    return size
