"""`offload_map`: a blocking function over many items, in threads, processes or an executor.

Rule: whoever works, in whichever way, takes chunks of one supply until that has ended.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import length_hint
from time import perf_counter
from typing import Any, Generic, TypeVar, overload

from anyio import (
    CapacityLimiter,
    Event,
    Lock,
    TaskHandle,
    from_thread,
    get_cancelled_exc_class,
)
from anyio.lowlevel import checkpoint_if_cancelled

from ._arguments import (
    check_count,
    check_items,
    check_mapping,
    check_on_error,
    is_async,
    name_of,
    refuse_async_generator,
)
from ._chunks import Chunk, Supply, fitted, unpickled
from ._failures import add_note, task_cancelled
from ._groups import TaskGroup
from ._offload import Where, offload, waker
from ._scopes import cancelled_natively
from ._sources import say_unworked
from ._thread_calls import refuse_awaitable, stopped_iteration

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

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
    Cancelling stops before the next item in threads, those of a ``ThreadPoolExecutor`` too,
    and before the next chunk elsewhere.
    What an async source has given away by then and no worker has begun is named in the log.
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
    check_mapping("offload_map", func, items, "os.path.getsize, paths, limit=8")
    refuse_async_generator("offload_map", func, "an ordinary function")
    if inspect.iscoroutinefunction(func):
        raise is_async("offload_map", func, f"await amap({name_of(func)}, items)")
    check_items("offload_map", items)
    check_on_error("offload_map", on_error)
    check_count("offload_map(): limit", limit, "at most so many run at once")
    if chunksize is not None:
        check_count("offload_map(): chunksize", chunksize, "leave it out to fit the function")
    supply = Supply(items, _THREAD_CHUNK if chunksize is None else None)
    limiter = CapacityLimiter(limit) if isinstance(to, str) else None
    if to == "thread" and supply.feed is None:
        work = _Drain(func, supply, limiter, chunksize, on_error).work
    else:
        at_hand = _is_at_hand(items)
        work = _Dispatch(func, supply, to, limiter, chunksize, on_error, at_hand).work
    # The results are the caller's alone: an error that is kept has what works here in its
    # traceback.
    name = f"offload_map({name_of(func)})"
    try:
        await _run_workers(name, work, limit, length_hint(items), supply)
    except BaseException:
        supply.results = [None] * len(supply.results)  # a thread that runs on may have one more
        raise
    results, supply.results = supply.results, []
    return results


def _is_at_hand(items: object) -> bool:
    """True for what is built in; anything else may take its time over each item."""
    return type(items).__module__ == "builtins" and isinstance(items, Collection)


async def _run_workers(
    name: str, work: Callable[[], Awaitable[None]], limit: int, items: int, supply: Supply[Any]
) -> None:
    """Run *work* in up to *limit* tasks, until all have ended or one failed.

    Where it is not known how many *items* there are (0), each starts when items were taken.
    """

    async def guarded() -> None:
        try:
            await work()
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            supply.ended = True
            raise task_cancelled("offload_map", "a worker", error) from error
        finally:
            supply.tell_taken()

    try:
        await _run_group(name, guarded, min(limit, items or limit), items == 0, supply)
    finally:
        if supply.feed is not None:
            say_unworked(name, [*supply.unworked, *supply.feed.left()])


async def _run_group(
    name: str,
    work: Callable[[], Coroutine[Any, Any, None]],
    number: int,
    one_by_one: bool,
    supply: Supply[Any],
) -> None:
    tasks: list[TaskHandle[None]] = []
    try:
        async with TaskGroup(errors="first") as group:
            if supply.feed is not None:
                group.start_soon(supply.feed.pull, name=f"{name} source")
            try:
                while len(tasks) < number and not (supply.exhausted or supply.ended):
                    taken = Event() if one_by_one else None
                    supply.on_take = None if taken is None else waker(taken)
                    tasks.append(group.start_soon(work, name=f"{name}[{len(tasks)}]"))
                    if taken is not None:
                        await taken.wait()
                for started in range(len(tasks)):
                    await tasks[started].wait()
            finally:
                supply.ended = True  # a thread sees this before it takes its next item
    except BaseException:
        tasks.clear()  # an error whose frames hold it is a reference cycle
        raise
    cut_off = [task for task in tasks if task.status is not TaskHandle.Status.FINISHED]
    if cut_off:  # and yet no error: in the turn of the group's end, or before its first step
        for task in cut_off:
            task.coro.close()
        await checkpoint_if_cancelled()
        raise task_cancelled("offload_map", "a worker", None)


class _Drain(Generic[T]):
    """Threads that empty one iterator between them."""

    def __init__(
        self,
        func: Callable[[T], Any],
        supply: Supply[T],
        limiter: CapacityLimiter | None,
        chunksize: int | None,
        on_error: Callable[[T, Exception], Any] | None,
    ) -> None:
        self._func = func
        self._supply = supply
        self._limiter = limiter
        self._chunksize = chunksize
        self._on_error = None if on_error is None else _on_loop(on_error)

    async def work(self) -> None:
        await offload(self._empty, limiter=self._limiter)

    # --- in a thread -----------------------------------------------------------------

    def _empty(self) -> None:
        size = self._chunksize or 1
        while not self._supply.ended:
            first, chunk = self._supply.take(size)
            if not chunk:
                return
            began = perf_counter()
            self._work_off(chunk, first)
            if self._chunksize is None:
                size = fitted(size, perf_counter() - began, _THREAD_CHUNK)

    def _work_off(self, chunk: list[T], first: int) -> None:
        func, supply = self._func, self._supply
        try:
            for place, item in enumerate(chunk, first):
                if supply.ended:
                    return
                try:
                    value = refuse_awaitable(func(item), func)
                except StopIteration as stop:
                    stopped = stopped_iteration(func)
                    stopped.__cause__ = stop
                    value = supply.settle(place, item, stopped, self._on_error)
                except Exception as error:
                    value = supply.settle(place, item, error, self._on_error)
                supply.results[place] = value
        finally:
            del chunk  # an error that is kept keeps this frame


def _on_loop(on_error: Callable[[T, Exception], Any]) -> Callable[[T, Exception], Any]:
    """*on_error*, to be called in a thread."""
    return lambda item, error: from_thread.run_sync(on_error, item, error)


class _Dispatch(Generic[T]):
    """Tasks that send one chunk after the other elsewhere."""

    def __init__(
        self,
        func: Callable[[T], Any],
        supply: Supply[T],
        to: Where,
        limiter: CapacityLimiter | None,
        chunksize: int | None,
        on_error: Callable[[T, Exception], Any] | None,
        at_hand: bool,
    ) -> None:
        self._func = func
        self._supply = supply
        self._to: Where = to
        self._limiter = limiter
        self._chunksize = chunksize
        self._on_error = on_error
        self._at_hand = at_hand
        self._pulling = Lock()
        self._puller = CapacityLimiter(1)
        self._pickled = to != "thread" and not isinstance(to, ThreadPoolExecutor)

    async def work(self) -> None:
        size = self._chunksize or 1
        while True:
            async with self._pulling:
                first, chunk = await self._pull(size)
            if not chunk:
                return
            seconds = await self._work_off(chunk, first)
            if self._chunksize is None:
                size = fitted(size, seconds, _REMOTE_CHUNK)

    async def _pull(self, size: int) -> tuple[int, list[T]]:
        if self._supply.feed is not None:
            return await self._supply.take_from(self._supply.feed, self._chunksize or 1)
        if self._at_hand:
            return self._supply.take(size)
        return await offload(self._supply.take, size, limiter=self._puller)

    async def _work_off(self, items: list[T], first: int) -> float:
        supply = self._supply
        chunk = Chunk(self._func, items, self._on_error is not None, self._pickled)
        try:
            if self._pickled:
                seconds, outcomes = await offload(chunk, to=self._to, limiter=self._limiter)
            else:
                seconds, outcomes = await offload(
                    chunk, lambda: supply.ended, to=self._to, limiter=self._limiter
                )
            chunk.begun = len(outcomes)
        except get_cancelled_exc_class():
            supply.ended = True
            if self._to == "process" and not cancelled_natively():
                chunk.begun = 0  # what was sent is waited for: this was not
            raise
        except Exception as error:
            add_note(error, f"while mapping items {first} to {first + len(items) - 1}")
            raise
        finally:
            supply.unworked += items[chunk.begun :]
        outcomes.reverse()
        try:
            for place, item in enumerate(items[: len(outcomes)], first):
                supply.results[place] = self._value(place, item, *outcomes.pop())
        finally:
            outcomes.clear()  # an error among them leads to the executor's future, and it here
        return seconds

    def _value(self, place: int, item: T, is_error: bool, outcome: Any) -> Any:
        """What an item comes to that was worked off."""
        if not is_error:
            return outcome
        try:
            if self._pickled:
                outcome = unpickled(outcome, self._func)
            return self._supply.settle(place, item, outcome, self._on_error)
        finally:
            del outcome  # an error whose frames hold it is a reference cycle
