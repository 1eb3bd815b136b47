"""Where the items of a bulk call come from.

Rule: a source is an iterator that never waits. Where it stops it is over, or it has nothing
yet, which ``await source.more()`` tells; a plain iterator is over.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import TypeVar

from anyio import CancelScope, Event, current_time, get_cancelled_exc_class

from ._failures import logger, short_repr, task_cancelled
from ._scopes import cancelled_natively

T = TypeVar("T")

_CLOSE_GRACE = 10.0


class Feed(Iterator[T]):
    """An async iterable as a source: one task of its own pulls it, item by item, on demand."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._items = items
        self._here: deque[T] = deque()
        self._wanted = 0
        self._demand = Event()
        self._arrivals: deque[Event] = deque()
        self._ended = False
        self._error: BaseException | None = None

    def __next__(self) -> T:
        if self._here:
            return self._here.popleft()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
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

    async def pull(self) -> None:
        """The task; it ends with the source, which it closes in every case."""
        # The guard is there before the source is: a scope opened around aclose() only would
        # break the nesting of the scopes that the source has open.
        with CancelScope() as guard:
            source = aiter(self._items)
            try:
                while True:
                    while self._wanted:
                        item = await anext(source)
                        self._wanted -= 1
                        self._here.append(item)
                        self._arrivals.popleft().set()
                    self._demand = Event()
                    await self._demand.wait()
            except StopAsyncIteration:
                pass
            except get_cancelled_exc_class() as error:
                if not cancelled_natively():
                    raise
                self._error = task_cancelled("a bulk call", "its source", error)
            except Exception as error:
                self._error = error
            finally:
                self._ended = True
                for arrival in self._arrivals:
                    arrival.set()
                if hasattr(source, "aclose"):
                    guard.shield = True
                    guard.deadline = current_time() + _CLOSE_GRACE
                    await source.aclose()
                    guard.shield = False
        if guard.cancelled_caught:
            logger.error("%s was not closed within %g s", short_repr(source), _CLOSE_GRACE)


def check_items(call: str, items: object) -> None:
    """Refuse what cannot be iterated over, with the sentence that helps."""
    if isinstance(items, (AsyncIterable, Iterable)):
        return
    if inspect.iscoroutine(items):
        items.close()
        instead = "await it first: the items are what it returns"
    elif callable(items):
        instead = "call it"
    else:
        instead = "give a list, a generator, or an async generator"
    raise TypeError(f"{call}(): items must be iterable, not {short_repr(items)}; {instead}")
