"""The buffer behind `Queue`: who may put, who may take, and when.

Rule: a task waits for *leave*, never for the item itself. A getter that is woken has leave to
take one item and a putter to fill one place; each then does it itself, in the same turn. So
whoever is cancelled while waiting has taken or put nothing, and hands its leave on.

The quick paths of `put` and `get` compare the length of the buffer with bounds that
`_retune` keeps: within them nobody waits, nothing is closed and no place is spoken for.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TypeVar

from anyio import Event

from ._arguments import shown
from ._errors import QueueEmpty, QueueFull
from ._failures import logger
from ._queue_state import Overflow, QueueState, items_were

T = TypeVar("T")

_TURN = 64  # an operation that need not wait yields once in so many
_NEVER = -1


class Waiter:
    """A task that waits, and whether it was given leave or only woken."""

    __slots__ = ("event", "has_leave", "wanted")

    def __init__(self, wanted: float = 1) -> None:
        self.event = Event()
        self.has_leave = False
        self.wanted = wanted

    def give_leave(self) -> None:
        self.has_leave = True
        self.event.set()


class Buffer(QueueState[T]):
    """A bounded first-in-first-out buffer between tasks of one run."""

    def __init__(self, maxsize: float, overflow: Overflow, name: str | None) -> None:
        super().__init__(maxsize, overflow, name)
        # Tasks that wait, and the leave of those that were woken and have not run yet.
        self._getters: deque[Waiter] = deque()
        self._putters: deque[Waiter] = deque()
        self._lingerers: list[Waiter] = []
        self._owned = 0  # items
        self._reserved = 0  # places
        # Counted down, since CPython keeps the small numbers ready and makes the others.
        self._puts_left = self._takes_left = _TURN - 1  # until one gives way to other tasks
        self._put_turn = self._take_turn = _TURN - 1  # what the count will be then
        self._dropped = 0
        self._abandoned = 0
        self._peak = 0
        self._easy_put: float = _NEVER  # put at once while the buffer is shorter than this
        self._easy_get: float = math.inf  # take at once while it is longer than this

    @property
    def _put_count(self) -> int:
        return self._put_turn - self._puts_left

    @property
    def _take_count(self) -> int:
        return self._take_turn - self._takes_left

    # --- putting ---------------------------------------------------------------------

    async def put(self, item: T) -> None:
        """Put *item* in, waiting for room if ``overflow="wait"``.

        Raises:
            QueueClosed: If the queue is closed, before or while this waits; not put.
            QueueFull: If it is full and ``overflow="error"``.
        """
        items = self._items
        left = self._puts_left
        try:
            if left > 0 and len(items) < self._easy_put and self._find_run() is self._run:
                self._puts_left = left - 1
                items.append(item)
                return
        except RuntimeError:
            pass  # no run at all here; said with care
        await self._put_with_care(item)

    def put_nowait(self, item: T) -> None:
        """Put *item* in without waiting; a loop of these lets no other task run.

        Raises:
            QueueFull: If there is no room and ``overflow`` is ``"wait"`` or ``"error"``.
            QueueClosed: If the queue is closed.
        """
        self._check_run("put_nowait")
        if not self._put_at_once(item, "put_nowait"):
            raise QueueFull(
                f"put_nowait() on {self!r}, which is full; await put() to wait for room, or "
                "choose overflow='drop_old'"
            )

    async def _put_with_care(self, item: T) -> None:
        self._check_run("put")
        if self._puts_left <= 0:
            self._begin_put_turn()
            await self._checkpoint()
        if self._put_at_once(item, "put"):
            return
        if self.overflow == "error":
            await self._checkpoint()  # or a caller that tries again would hold the loop
            raise QueueFull(
                f"put() on {self!r}, which is full; choose overflow='wait' for backpressure"
            )
        waiter = Waiter()
        self._putters.append(waiter)
        self._retune()
        try:
            await waiter.event.wait()
        except BaseException:
            self._give_up(waiter, self._putters)
            raise
        self._begin_put_turn()
        self._reserved -= waiter.has_leave
        self._check_open("put")
        self._append(item)

    def _put_at_once(self, item: T, call: str) -> bool:
        """Put *item* as the overflow policy says; False if that is to wait or to fail."""
        self._check_open(call)
        if len(self._items) + self._reserved >= self.maxsize:
            if self.overflow == "drop_new":
                self._dropped += 1
                self._put_turn -= 1  # it was a put as far as turns go
                self._puts_left -= 1
                return True
            if self.overflow != "drop_old":
                return False
            pushed_out = self._items.popleft()
            self._dropped += 1
            self._finish(1)
            self._append(item)
            del pushed_out  # its end may run code that puts: not before this one is in
            return True
        self._append(item)
        return True

    def _append(self, item: T) -> None:
        self._puts_left -= 1
        self._items.append(item)
        self._hand_out()

    def _begin_put_turn(self) -> None:
        self._put_turn += _TURN - self._puts_left
        self._puts_left = _TURN

    # --- taking ----------------------------------------------------------------------

    async def get(self) -> T:
        """Take the next item, waiting for one.

        Raises:
            QueueClosed: If the queue is closed and empty; the error given to ``close(error)``
                in its place, if there is one.
        """
        items = self._items
        left = self._takes_left
        try:
            if (
                left > 0
                and self._easy_get < len(items) <= self._peak
                and self._find_run() is self._run
            ):
                self._takes_left = left - 1
                return items.popleft()
        except RuntimeError:
            pass  # as in put
        await self._wait_to_take("get")
        return self._take(1)[0]

    def get_nowait(self) -> T:
        """Take the next item without waiting; a loop of these lets no other task run.

        Raises:
            QueueEmpty: If there is no item, or all belong to tasks that waited for them.
            QueueClosed: If the queue is closed and empty.
        """
        self._check_run("get_nowait")
        if not self._can_take():
            self._check_end("get_nowait")
            raise QueueEmpty(
                f"get_nowait() on {self!r}, which has no item to spare; await get() to wait"
            )
        return self._take(1)[0]

    async def _wait_to_take(self, call: str) -> None:
        """Return when the caller may take an item, which it must do in the same turn."""
        self._check_run(call)
        if self._takes_left <= 0:
            self._begin_take_turn()
            await self._checkpoint()
        if self._can_take():
            return
        self._check_end(call)
        waiter = Waiter()
        self._getters.append(waiter)
        self._retune()
        try:
            await waiter.event.wait()
        except BaseException:
            self._give_up(waiter, self._getters)
            raise
        self._begin_take_turn()
        self._owned -= waiter.has_leave
        self._check_end(call)

    def _can_take(self) -> bool:
        return len(self._items) > self._owned

    def _take(self, most: int) -> list[T]:
        """Take up to *most* of the items nobody else has leave to take."""
        items = self._items
        self._peak = max(self._peak, len(items))
        number = min(most, len(items) - self._owned)
        if number == len(items):
            taken = list(items)
            items.clear()
        else:
            taken = [items.popleft() for _ in range(number)]
        self._takes_left -= number
        self._hand_out()
        return taken

    def _begin_take_turn(self) -> None:
        self._take_turn += _TURN - self._takes_left
        self._takes_left = _TURN

    # --- leave -----------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give leave for the items and places to spare, in the order the tasks came."""
        size = len(self._items)
        while self._getters and size > self._owned:
            self._getters.popleft().give_leave()
            self._owned += 1
        while self._putters and size + self._reserved < self.maxsize:
            self._putters.popleft().give_leave()
            self._reserved += 1
        for waiter in self._lingerers:
            if self._is_enough(waiter.wanted):
                waiter.event.set()
        # Not before: an owner that is cancelled leaves its item to those who still wait.
        if self._closed and not size:
            while self._getters:
                self._getters.popleft().event.set()
        self._retune()

    def _is_enough(self, wanted: float) -> bool:
        return self._closed or len(self._items) - self._owned >= wanted

    def _give_up(self, waiter: Waiter, waiters: deque[Waiter]) -> None:
        """A waiter was cancelled: the leave it may have been given goes to the next one."""
        if not waiter.event.is_set():
            waiters.remove(waiter)
        elif waiters is self._getters:
            self._owned -= waiter.has_leave
        else:
            self._reserved -= waiter.has_leave
        self._hand_out()
        if self._discarded:
            self.discard()

    def _retune(self) -> None:
        if self._closed or self._getters or self._lingerers:
            self._easy_put = _NEVER
        else:
            self._easy_put = self.maxsize - self._reserved
        self._easy_get = math.inf if self._putters else self._owned

    # --- the end ---------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """Say that no more items will come.

        Consumers get what is in the queue. Then iteration ends and `get` raises
        `QueueClosed`; or each of them raises *error*, if it is given: the same object, whose
        traceback is that of the consumer that raised it last. A `put` that waits or comes
        later raises `QueueClosed`, and has not put. Closing again changes nothing.
        """
        if error is not None and not isinstance(error, BaseException):
            raise TypeError(
                f"close() on {self!r} takes the error for the consumers to raise, not "
                f"{shown(error)}; write close(ConnectionError('lost'))"
            )
        if self._closed:
            return
        self._check_wakes("close")
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            cause, error = error, RuntimeError(f"close({error!r}) on {self!r}")
            error.__cause__ = cause  # raised as it is, it would end 'async for' without a word
        self._closed = True
        self._error = error
        while self._putters:
            self._putters.popleft().event.set()
        self._hand_out()

    def discard(self) -> None:
        """Close for both sides. What nobody took is logged, and counted as abandoned."""
        self.close()
        self._discarded = True
        left = len(self._items) - self._owned
        if left:
            self._peak = max(self._peak, len(self._items))
            gone = [self._items.pop() for _ in range(left)]
            self._abandoned += left
            self._finish(left)
            self._hand_out()
            self._log_left(left)
            del gone  # the end of an item may run code that comes back here

    def _log_left(self, left: int) -> None:
        logger.warning("%s: %s put and never taken", self._title(), items_were(left))

    def _finish(self, number: int) -> None:
        """So many items will never be worked on: they were dropped or discarded."""

    def _check_wakes(self, call: str) -> None:
        """Where tasks wait, only their own run may wake them."""
        if self._getters or self._putters or self._lingerers:
            self._check_run(call)
