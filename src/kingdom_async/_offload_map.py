"""`offload_map`: a blocking function over many items, in threads, processes or an executor.

Rule: a place in the results is fixed when its item is pulled, whoever works on it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from operator import length_hint
from time import perf_counter
from types import CoroutineType
from typing import Any, Generic, TypeVar, cast, overload

from anyio import CapacityLimiter, Lock, from_thread, get_cancelled_exc_class

from ._buffer import check_count
from ._failures import add_note, short_repr, task_cancelled
from ._groups import TaskGroup, refuse_coroutine
from ._offload import Where, offload
from ._pickled import pickle_error, unpickle_outcome
from ._scopes import cancelled_natively
from ._sources import Feed, check_items
from ._thread_calls import is_async, name_of, stopped_iteration

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
    check_count("offload_map(): limit", limit, "at most so many run at once")
    if chunksize is not None:
        check_count("offload_map(): chunksize", chunksize, "leave it out to fit the function")
    if to == "thread" and isinstance(items, Iterable):
        drain = _Drain(func, items, limit, chunksize, on_error)
        await drain.run()
        return drain.results
    dispatch = _Dispatch(func, items, to, limit, chunksize, on_error)
    await dispatch.run()
    return dispatch.results


class _Drain(Generic[T]):
    """Threads that empty one iterator between them."""

    def __init__(
        self,
        func: Callable[[T], Any],
        items: Iterable[T],
        limit: int,
        chunksize: int | None,
        on_error: Callable[[T, Exception], Any] | None,
    ) -> None:
        self.results: list[Any] = []
        self._func = func
        self._items = iter(items)
        self._threads = min(limit, length_hint(items) or limit)
        self._chunksize = chunksize
        self._on_error = on_error
        self._limiter = CapacityLimiter(limit)
        self._lock = threading.Lock()
        self._stop = False

    async def run(self) -> None:
        name = f"offload_map({name_of(self._func)})"
        async with TaskGroup(errors="first") as group:
            tasks = [
                group.start_soon(self._thread, name, name=f"{name}[{number}]")
                for number in range(self._threads)
            ]
            try:
                for task in tasks:
                    await task.wait()
            finally:
                self._stop = True  # a thread sees this before it takes its next item

    async def _thread(self, name: str) -> None:
        try:
            await offload(self._empty, limiter=self._limiter)
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            raise task_cancelled(name, "a worker", error) from error

    # --- in a thread -----------------------------------------------------------------

    def _empty(self) -> None:
        size = self._chunksize or 1
        while True:
            with self._lock:
                if self._stop:
                    return
                chunk = list(islice(self._items, size))
                first = len(self.results)
                self.results.extend(chunk)
            if not chunk:
                return
            began = perf_counter()
            self._work_off(chunk, first)
            if self._chunksize is None:
                size = _fitted(size, perf_counter() - began, _THREAD_CHUNK)

    def _work_off(self, chunk: list[T], first: int) -> None:
        func, results = self._func, self.results
        for place, item in enumerate(chunk, first):
            if self._stop:
                return
            try:
                value = func(item)
                if type(value) is CoroutineType:
                    value.close()
                    raise is_async("offload_map", func, "amap() for an async function")
            except Exception as error:
                value = self._failed(place, item, error)
            results[place] = value

    def _failed(self, place: int, item: T, error: Exception) -> Any:
        if isinstance(error, StopIteration):
            cause, error = error, stopped_iteration(self._func)
            error.__cause__ = cause
        if self._on_error is not None:
            return from_thread.run_sync(self._on_error, item, error)
        self._stop = True
        add_note(error, f"while mapping item {place}: {short_repr(item)}")
        raise error


class _Dispatch(Generic[T]):
    """Tasks that send one chunk after the other elsewhere."""

    def __init__(
        self,
        func: Callable[[T], Any],
        items: Iterable[T] | AsyncIterable[T],
        to: Where,
        limit: int,
        chunksize: int | None,
        on_error: Callable[[T, Exception], Any] | None,
    ) -> None:
        self.results: list[Any] = []
        self._func = func
        self._items = items
        self._to = to
        self._limit = limit
        self._chunksize = chunksize
        self._on_error = on_error
        self._limiter = CapacityLimiter(limit) if isinstance(to, str) else None
        self._pulling = Lock()
        self._pickled = to != "thread" and not isinstance(to, ThreadPoolExecutor)

    async def run(self) -> None:
        name = f"offload_map({name_of(self._func)})"
        async with TaskGroup(errors="first") as group:
            if isinstance(self._items, AsyncIterable):
                self._source: Any = Feed(self._items)
                group.start_soon(self._source.pull, name=f"{name} source")
            else:
                self._source = iter(self._items)
            for number in range(self._limit):
                group.start_soon(self._send_chunks, name, name=f"{name}[{number}]")

    async def _send_chunks(self, name: str) -> None:
        try:
            size = self._chunksize or 1
            while True:
                async with self._pulling:
                    chunk = await self._pull(size)
                    first = len(self.results)
                    self.results.extend(chunk)
                if not chunk:
                    return
                seconds = await self._work_off(chunk, first)
                if self._chunksize is None:
                    size = _fitted(size, seconds, _REMOTE_CHUNK)
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            raise task_cancelled(name, "a worker", error) from error

    async def _pull(self, size: int) -> list[T]:
        if isinstance(self._items, Collection):
            return list(islice(self._source, size))
        if not isinstance(self._items, AsyncIterable):
            return await offload(_take, self._source, size, limiter=CapacityLimiter(1))
        chunk: list[T] = []
        while len(chunk) < (self._chunksize or 1):
            for item in self._source:
                chunk.append(item)
                break
            else:
                if not await self._source.more():
                    break
        return chunk

    async def _work_off(self, chunk: list[T], first: int) -> float:
        keep_going = self._on_error is not None
        try:
            seconds, outcomes = await offload(
                _run_chunk,
                self._func,
                chunk,
                keep_going,
                self._pickled,
                to=self._to,
                limiter=self._limiter,
            )
        except Exception as error:
            last = first + len(chunk) - 1
            add_note(error, f"while mapping items {first} to {last}")
            raise
        for place, item, (is_error, value) in zip(
            range(first, first + len(chunk)), chunk, outcomes, strict=False
        ):
            self.results[place] = self._failed(place, item, value) if is_error else value
        return seconds

    def _failed(self, place: int, item: T, error: Exception | bytes) -> Any:
        if isinstance(error, bytes):
            try:
                unpickle_outcome(error, name_of(self._func))
            except Exception as unpickled:
                error = unpickled
        error = cast(Exception, error)
        if self._on_error is not None:
            return self._on_error(item, error)
        add_note(error, f"while mapping item {place}: {short_repr(item)}")
        raise error


def _run_chunk(
    func: Callable[[T], Any], chunk: list[T], keep_going: bool, pickled: bool
) -> tuple[float, list[tuple[bool, Any]]]:
    """Elsewhere: how long it took, and for each item whether it failed and with what."""
    began = perf_counter()
    outcomes: list[tuple[bool, Any]] = []
    for item in chunk:
        try:
            outcomes.append((False, func(item)))
        except Exception as error:
            if isinstance(error, StopIteration):
                error = stopped_iteration(func)
            outcomes.append((True, pickle_error(error) if pickled else error))
            if not keep_going:
                break
    return perf_counter() - began, outcomes


def _take(items: Any, size: int) -> list[Any]:
    return list(islice(items, size))


def _fitted(size: int, seconds: float, wanted: float) -> int:
    """The size of the next chunk, when one of *size* took *seconds*."""
    if seconds < wanted:
        return min(2 * size, _MOST)
    if seconds > 4 * wanted:
        return max(size // 4, 1)
    return size
