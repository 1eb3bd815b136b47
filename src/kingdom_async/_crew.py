"""The tasks of a bulk call: few workers serve many items, and no item notices.

Rule: what an item can do to its surroundings ends with the item. A worker whose context
variables an item changed makes room for a fresh one; a native cancellation is that item's
failure; a function that never waits gives way to other tasks once in 64 items.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import Context, copy_context
from gc import get_referents
from itertools import chain
from operator import is_
from typing import Any, Generic, Protocol, TypeVar

from anyio import Event, get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from ._arguments import (
    check_items,
    check_mapping,
    check_on_error,
    name_of,
    refuse_async_generator,
    returned_no_awaitable,
)
from ._backend import backend_class
from ._failures import add_note, short_repr, task_cancelled
from ._groups import TaskGroup
from ._limits import RateLimit
from ._scopes import cancelled_natively
from ._sources import Feed, say_unworked

T = TypeVar("T")
R = TypeVar("R")

_LAST_OF_TURN = 64 - 1
_NOTHING: Any = object()


class Delivery(Protocol):
    """Takes the value for a place."""

    def __setitem__(self, place: int, value: Any, /) -> None: ...


class Crew(ABC, Generic[T, R]):
    """The workers of one call of `amap` or `imap`."""

    #: A list, if it can be: nothing takes a value more quickly.
    delivery: Delivery

    def __init__(
        self,
        call: str,
        func: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        limit: float,
        rate: float | RateLimit | None,
        on_error: Callable[[T, Exception], Any] | None,
    ) -> None:
        check_mapping(call, func, items, "fetch, urls")
        refuse_async_generator(call, func)
        check_items(call, items)
        check_on_error(call, on_error)
        self.call = call
        self.name: str = f"{call}({name_of(func)})"
        self._func = func
        self._items = items
        self._limit = limit
        self._rate = _as_rate_limit(call, rate)
        self._on_error = on_error
        self._first: deque[tuple[T, int]] = deque()
        self._feed: Feed[T] | None = None
        self._unworked: list[T] = []
        self._started = 0
        self._workers: dict[int, Coroutine[Any, Any, None]] = {}
        self._pulling: Coroutine[Any, Any, None] | None = None
        self._is_served = False
        self._giving_way = 0
        self._idle = 0
        self._none_idle = Event()

    # --- what the two calls do in their own way --------------------------------------

    @abstractmethod
    def source(self, items: Iterator[T]) -> Iterator[T]:
        """The items, as the workers are to pull them."""

    @abstractmethod
    def places(self) -> Iterator[int]:
        """The places of the items, in the order in which they are pulled."""

    @abstractmethod
    def failed(self, place: int, error: BaseException) -> Any:
        """Raise the error of an item, or return what is to be delivered in its place."""

    @abstractmethod
    def broke(self, error: Exception) -> None:
        """What failed is not an item: raise the error, or say it after all items."""

    # --- the work --------------------------------------------------------------------

    async def run(self) -> None:
        """Serve all items; return when every task of the call has ended."""
        self._context = copy_context()
        self._checkpoint = backend_class().checkpoint  # no look-up at each call
        try:
            async with TaskGroup(errors="first") as self._group:
                try:
                    await self._serve()
                except Exception as error:
                    self.broke(error)
                self._is_served = True
        finally:
            unfinished = [*self._workers.values()]
            self._workers.clear()
            for coro in (*unfinished, self._pulling):
                if coro is not None:
                    coro.close()  # for one that never began
            self._say_unworked()
        if unfinished or not self._is_served:
            # anyio's group says nothing where its tasks were cancelled and its host was not: by
            # a scope, in the turn in which they ended, or natively, before their first step.
            await checkpoint_if_cancelled()
            self.broke(task_cancelled(self.call, "a worker", None))

    async def _serve(self) -> None:
        """Start workers as long as all of them wait, up to the limit or the last item."""
        source = self.source(self._open_source())
        self._more: Callable[[], Awaitable[bool]] = getattr(source, "more", _over)
        # zip() pulls from left to right: only an item that is there is given a place
        self._pulled: Iterator[tuple[T, int]] = zip(source, self.places(), strict=False)
        batch = 1
        while len(self._workers) < self._limit:
            if self._idle:  # the next item is for a worker that waits for one
                self._none_idle = Event()
                await self._none_idle.wait()
            elif self._giving_way:  # and so it is for one that never waits
                await self._checkpoint()
            else:
                for _ in range(batch):
                    while (first := next(self._pulled, None)) is None:
                        if not await self._more():
                            return
                    self._first.append(first)
                    self._start_worker()
                    if len(self._workers) >= self._limit:
                        return
                batch *= 2
                await self._checkpoint()

    def _open_source(self) -> Iterator[T]:
        if not isinstance(self._items, AsyncIterable):
            items, self._items = self._items, ()  # whoever keeps an error keeps this crew
            return iter(items)
        self._feed = feed = Feed(self._items, self.call)
        self._pulling = feed.pull()
        self._group.create_task(self._pulling, name=f"{self.name} source")
        return feed

    def _start_worker(self) -> None:
        number = self._started
        self._started += 1
        self._workers[number] = coro = self._work(number)
        self._group.create_task(coro, name=f"{self.name}[{number}]", context=self._context)

    async def _work(self, number: int) -> None:
        is_touched = False
        try:
            is_touched = await self._work_until_touched()
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            self.broke(task_cancelled(self.call, "a worker", error))
        except Exception as error:  # the source's
            self.broke(error)
        del self._workers[number]
        if is_touched:
            self._start_worker()

    async def _work_until_touched(self) -> bool:
        """Serve items until there are no more (False), or one changed a context variable."""
        func, delivery, rate = self._func, self.delivery, self._rate
        # The mapping inside the context: it is another one as soon as a variable was set.
        variables = get_referents(copy_context())[0]
        # Not an item of its own, but the next: trio starts tasks in any order.
        first = iter([self._first.popleft()] if self._first else ())
        pulled: Iterable[tuple[Any, int]] = chain(first, self._pulled)
        try:
            while True:
                for item, place in pulled:
                    answer: Any = _NOTHING
                    try:
                        if rate is not None:
                            await rate.__aenter__()
                        answer = func(item)
                        value: Any = await answer
                    except BaseException as error:
                        value = self._settle(place, item, answer, error)
                    delivery[place] = value
                    if get_referents(copy_context())[0] is not variables:
                        if not same_values(copy_context(), self._context):
                            return True
                        variables = get_referents(copy_context())[0]
                    if place & _LAST_OF_TURN == _LAST_OF_TURN:
                        answer = item = value = None  # who waits keeps nothing alive
                        self._giving_way += 1
                        try:
                            await self._checkpoint()
                        finally:
                            self._giving_way -= 1
                answer = item = value = None
                if not await self._more_while_idle():
                    return False
                pulled = self._pulled
        finally:
            del delivery  # whoever keeps an error keeps this frame, and not all results by it

    def _settle(self, place: int, item: T, answer: object, error: BaseException) -> Any:
        """What to deliver for an item that raised *error*, unless that ends the call."""
        try:
            if isinstance(error, get_cancelled_exc_class()):
                if not cancelled_natively():
                    if answer is _NOTHING:
                        self._unworked.append(item)  # it waited for its rate
                    raise error
                error = task_cancelled(self.call, f"item {place}", error)
            elif answer is not _NOTHING and not inspect.isawaitable(answer):
                error = returned_no_awaitable(self.name, answer)
            elif self._on_error is not None and isinstance(error, Exception):
                try:
                    return self._on_error(item, error)
                except Exception as worse:
                    error = worse
            add_note(error, f"while mapping item {place}: {short_repr(item)}")
            return self.failed(place, error)
        finally:
            del error  # an error whose frames hold it is a reference cycle

    def _say_unworked(self) -> None:
        if self._feed is not None:
            first = (item for item, _ in self._first)
            say_unworked(self.name, [*self._unworked, *first, *self._feed.left()])

    async def _more_while_idle(self) -> bool:
        self._idle += 1
        try:
            return await self._more()
        finally:
            self._idle -= 1
            if not self._idle:
                self._none_idle.set()


def _as_rate_limit(call: str, rate: object) -> RateLimit | None:
    if rate is None or isinstance(rate, RateLimit):
        return rate
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(
            f"{call}(): rate must be a number of starts a second or a RateLimit, not {rate!r}; "
            "leave it out for no limit"
        )
    return RateLimit(rate)


async def _over() -> bool:
    return False


def same_values(context: Context, other: Context) -> bool:
    """True if both hold the very same objects; ``==`` would ask the objects themselves."""
    return len(context) == len(other) and all(map(is_, context.values(), other.values()))
