"""`amap`: a function over many items, the results in a list."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Generic, TypeVar, overload

from anyio.lowlevel import checkpoint_if_cancelled

from ._arguments import check_count
from ._crew import Crew
from ._limits import RateLimit  # noqa: TC001  # for who asks for our type hints

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

_GROWTH = 64  # places made at a time


@dataclass(frozen=True)
class ErrorResult(Generic[T]):
    """What stands in the place of a result: give it as ``on_error=ErrorResult``."""

    #: The item whose function failed.
    item: T
    #: What it raised.
    exception: Exception


@overload
async def amap(
    func: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int | None = None,
    rate: float | RateLimit | None = None,
) -> list[R]: ...
@overload
async def amap(
    func: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int | None = None,
    rate: float | RateLimit | None = None,
    on_error: Callable[[T, Exception], D],
) -> list[R | D]: ...


async def amap(
    func: Callable[[T], Awaitable[Any]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int | None = None,
    rate: float | RateLimit | None = None,
    on_error: Callable[[T, Exception], Any] | None = None,
) -> list[Any]:
    """``[await func(item) for item in items]``, many at the same time, in the same order.

    The first failure cancels the other items and is raised itself, with a note that names the
    item, once they have ended; see ``TaskGroup(errors="first")``. Cancelling the caller
    cancels them all. Items are pulled in order, and only as far as *limit* allows.

    With few workers for many items, an item costs little more than awaiting it. Items are
    isolated all the same: one item's context variables and cancel scopes are not seen by the
    next. What the items of one worker share is the native task's identity, and so locks that
    a task owns. An item that changes a context variable makes its worker start afresh, which
    costs a spawn; so does one that does so unawares (the first ``Decimal`` operation does).

    Args:
        func: An async function of one argument.
        items: An iterable, or an async iterable, which needs a limit. It is pulled by one
            task; an async generator that is not exhausted is closed there: where it stands at
            a ``yield``, it may wait in its ``finally``, for 10 seconds.
        limit: How many items are in work at once; None for all of them.
        rate: How many items may start a second; or a `RateLimit` to share.
        on_error: Called with an item and its ``Exception``; what it returns takes the place
            of the result. ``on_error=ErrorResult`` keeps what failed beside what succeeded.

    Returns:
        One result per item, in the order of the items.

    Raises:
        Exception: What the function raises, or what *items* does.
        TypeError: If *func* is no async function, or *items* cannot be iterated over.
        ValueError: If *limit* is less than 1, or left out for an async iterable.
        TaskCancelled: If an item was cancelled natively (``asyncio.Task.cancel``).

    Example:
        >>> pages = await ka.amap(fetch, urls, limit=10)
    """
    if limit is not None:
        check_count("amap(): limit", limit, "leave it out for no limit")
    elif isinstance(items, AsyncIterable):
        raise ValueError(
            "amap() over an async iterable needs a limit, or all of it would be pulled at "
            "once; write amap(func, items, limit=10)"
        )
    crew: _Collector[T, Any] = _Collector(
        "amap", func, items, limit or math.inf, rate, on_error
    )
    await checkpoint_if_cancelled()
    try:
        await crew.run()
        return crew.trimmed()
    finally:
        crew.let_go()


class _Collector(Crew[T, R]):
    """Keeps the results in a list, and lets the first failure end the call."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.delivery = self.results = list[Any]()

    def source(self, items: Iterator[T]) -> Iterator[T]:
        return items

    def places(self) -> Iterator[int]:
        self._places: Iterator[int] = chain.from_iterable(map(self._grow, count(0, _GROWTH)))
        return self._places

    def _grow(self, start: int) -> range:
        self.results.extend([None] * _GROWTH)
        return range(start, start + _GROWTH)

    def trimmed(self) -> list[Any]:
        """The results, without the places that no item took."""
        del self.results[next(self._places) :]
        return self.results

    def let_go(self) -> None:
        """The results are the caller's alone, whoever keeps an error and so its frames."""
        self.results = self.delivery = []
        self._places, self._pulled = iter(()), iter(())

    def failed(self, place: int, error: BaseException) -> Any:
        try:
            raise error
        finally:
            del error  # an error whose frames hold it is a reference cycle

    def broke(self, error: Exception) -> None:
        try:
            raise error
        finally:
            del error
