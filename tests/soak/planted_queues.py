"""Queues with a bug in each, which the checks must find.

Rule: each breaks one promise of `ka.Queue`, as a queue written in a hurry would.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import kingdom_async as ka

if TYPE_CHECKING:
    from kingdom_async._buffer import Waiter

T = TypeVar("T")


class Planted(ka.Queue[T]):
    """Says nothing when it is dropped with items in it, as a failing program leaves it."""

    def __del__(self) -> None:
        return None


class LosesOnCancellation(Planted[T]):
    """An item is handed to a getter that waits, and is gone with it."""

    def _give_up(self, waiter: Waiter, waiters: deque[Waiter]) -> None:
        if waiters is self._getters and waiter.has_leave and self._items:
            self._items.popleft()
        super()._give_up(waiter, waiters)


class KeepsLeave(Planted[T]):
    """A getter that was woken and is cancelled wakes nobody else: the lost wake-up."""

    def _give_up(self, waiter: Waiter, waiters: deque[Waiter]) -> None:
        if not waiter.has_leave:
            super()._give_up(waiter, waiters)


class HasPutWhenCancelled(Planted[T]):
    """A put that waits has put already, whatever becomes of it."""

    async def put(self, item: T) -> None:
        try:
            await super().put(item)
        except ka.get_cancelled_exc_class():
            if not self._closed:
                self._append(item)
            raise


class Swaps(Planted[T]):
    """While somebody waits, the last comes first."""

    def _append(self, item: T) -> None:
        super()._append(item)
        if self._getters or self._owned:
            self._items.rotate(1)


class Doubles(Planted[T]):
    """A batch of several leaves its last item in the queue."""

    def _take(self, most: int) -> list[T]:
        taken = super()._take(most)
        if len(taken) > 1:
            self._items.appendleft(taken[-1])
            self._hand_out()
        return taken


class DropsUnsaid(Planted[T]):
    """What is pushed out is not counted."""

    def _put_at_once(self, item: T, call: str) -> bool:
        before = self._dropped
        answer = super()._put_at_once(item, call)
        if self.overflow == "drop_old":
            self._dropped = before
        return answer


class Overfull(Planted[T]):
    """The place that a woken putter was promised is given to another one as well."""

    def _put_at_once(self, item: T, call: str) -> bool:
        reserved, self._reserved = self._reserved, 0
        try:
            return super()._put_at_once(item, call)
        finally:
            self._reserved += reserved


class ForgetsPutters(Planted[T]):
    """`close` leaves those alone who wait for room."""

    def close(self, error: BaseException | None = None) -> None:
        waiting, self._putters = self._putters, deque()
        super().close(error)
        self._putters = waiting


class ClosesTooEarly(Planted[T]):
    """After `close` consumers do not get what is there."""

    def _check_end(self, call: str) -> None:
        if self._closed and self._items:
            raise ka.QueueClosed("too early")
        super()._check_end(call)

    def _can_take(self) -> bool:
        return not self._closed and super()._can_take()


class JoinsTooEarly(Planted[T]):
    """`join` returns when the queue is empty, though the work is not done."""

    async def join(self) -> None:
        await ka.checkpoint()
        while self._items:
            await ka.checkpoint()


class FullTooSoon(Planted[T]):
    """There is one place less than was said; only a model of the queue can see that."""

    def _put_at_once(self, item: T, call: str) -> bool:
        if self.maxsize - len(self._items) == 1 and self._items and call == "put_nowait":
            return False
        return super()._put_at_once(item, call)


class Unfair(Planted[T]):
    """Whoever comes takes what was promised to one who waited, and then finds nothing."""

    def _can_take(self) -> bool:
        return bool(self._items)


class ShowsTooMuch(Planted[T]):
    """`qsize` counts what was put ever, as far as there is room."""

    def qsize(self) -> int:
        return int(min(self._put_count, self.maxsize))


#: What only the plain model can know.
IN_HISTORIES: tuple[type[ka.Queue[Any]], ...] = (FullTooSoon, Unfair, ShowsTooMuch)

#: What the books of a queue must show.
IN_THE_BOOKS: tuple[type[ka.Queue[Any]], ...] = (
    LosesOnCancellation,
    KeepsLeave,
    HasPutWhenCancelled,
    Swaps,
    Doubles,
    DropsUnsaid,
    Overfull,
    ForgetsPutters,
    ClosesTooEarly,
    JoinsTooEarly,
)
