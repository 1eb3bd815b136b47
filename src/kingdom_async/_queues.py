"""The queue: a buffer with producers, an account of its items, and views as streams.

Rule: an item leaves by being taken, or it is counted and named. Nothing here waits for
leave itself; that is the buffer's business.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import Event
from anyio.lowlevel import checkpoint

from ._errors import QueueClosed
from ._queue_batches import BatchBuffer
from ._queue_state import items, items_were
from ._queue_streams import ReceiveStream, SendStream

if TYPE_CHECKING:
    from anyio.abc import ObjectReceiveStream, ObjectSendStream

    from ._queue_state import Overflow

T = TypeVar("T")


@dataclass(frozen=True)
class QueueStatistics:
    """A snapshot of a `Queue`; its counts are since the queue was made."""

    #: Items in it now.
    size: int
    #: Items it can hold.
    maxsize: float
    #: Most items it held at one time.
    peak: int
    #: Items accepted.
    put: int
    #: Items handed to consumers, ``drain()`` included.
    taken: int
    #: Items refused or pushed out by the overflow policy.
    dropped: int
    #: Items discarded when the queue was left with them in it.
    abandoned: int
    #: Items for which ``task_done()`` was not called yet.
    unfinished: int
    #: Tasks that wait for room.
    putters: int
    #: Tasks that wait for items.
    getters: int
    #: True once it takes no more items.
    closed: bool


class Queue(BatchBuffer[T]):
    """A bounded first-in-first-out queue between tasks of one run.

    Any number of tasks may put and get. Order is kept per producer, and those who wait are
    served in the order they came. An operation that need not wait does not go through the
    event loop, except every 64th put and every 64th get of the queue, so that a fast pair
    starves nobody and sees cancellation. One that waits is a checkpoint. A cancelled `put`
    has not put and a cancelled `get` has taken nothing, whoever cancelled and however.

    `producing` ends the stream of items. ``async with queue:`` closes it for both sides when
    the block is left, without a checkpoint; what nobody took is logged, and counted in
    ``statistics().abandoned``. `drain` takes it on purpose.

    A queue belongs to the run that first uses it. Between threads use the standard library's
    ``queue``; in a thread of `offload`, ``from_thread.run(queue.put, item)``.

    Args:
        maxsize: How many items it holds; at least 1. ``math.inf`` for no bound, where memory
            may grow without one.
        overflow: What `put` does when it is full: ``"wait"`` for room, ``"drop_new"`` or
            ``"drop_old"`` (counted in ``statistics().dropped``), ``"error"`` (`QueueFull`).
        name: What errors, logs and traces call it.

    Raises:
        TypeError: If *maxsize* is no whole number.
        ValueError: If *maxsize* is less than 1, or there is no such *overflow*.

    Example:
        >>> queue = ka.Queue[str](100)
        >>> async def produce():
        ...     with queue.producing():
        ...         async for line in lines():
        ...             await queue.put(line)
        >>> async def consume():
        ...     async for line in queue:
        ...         await handle(line)
    """

    def __init__(
        self, maxsize: float, *, overflow: Overflow = "wait", name: str | None = None
    ) -> None:
        super().__init__(maxsize, overflow, name)
        self._producers = 0
        self._producer_error: Exception | None = None
        self._finished = 0
        self._joiners: list[Event] = []

    # --- consuming -------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.get()
        except QueueClosed as error:
            if error is self._error:
                raise
            raise StopAsyncIteration from None

    def drain(self) -> list[T]:
        """Take, on purpose, all that no waiting task has leave to take; it counts as done."""
        self._check_wakes("drain")
        taken = self._take(len(self._items))
        self._finish(len(taken))
        return taken

    # --- the end ---------------------------------------------------------------------

    def producing(self) -> AbstractContextManager[None]:
        """The block of one producer; the last such block to be left closes the queue.

        The first ``Exception`` that one of the blocks raised goes to the consumers, after what
        was put: it is what `close` is called with. A cancelled block closes without one.
        Where producers start one after the other, open one block around all of them, so that
        the first to end is not the last.

        Raises:
            QueueClosed: On entry, if the queue is closed.
        """
        return _Producing(self)

    def _enter_producer(self) -> None:
        self._check_open("producing")
        self._producers += 1

    def _leave_producer(self, error: BaseException | None) -> None:
        self._producers -= 1
        if self._producer_error is None and isinstance(error, Exception):
            self._producer_error = error
        if not self._producers:
            self.close(self._producer_error)
            self._producer_error = None

    async def __aenter__(self) -> Queue[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    def __del__(self) -> None:
        left = len(getattr(self, "_items", ()))  # __init__ may have raised
        if left:
            self._log_left(left)
            warnings.warn(
                f"{self._title()} was dropped with {items(left)} in it; drain() takes them, "
                "'async with' discards them",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    # --- accounts --------------------------------------------------------------------

    def task_done(self) -> None:
        """Say that the work on one item taken is done; `join` waits for that.

        Raises:
            ValueError: If it is called more often than items were put.
        """
        if self._joiners:
            self._check_run("task_done")
        if self._finished >= self._put_count:
            raise ValueError(
                f"task_done() on {self!r}, called more often than items were put; "
                "call it once for each item taken"
            )
        self._finish(1)

    async def join(self) -> None:
        """Wait until `task_done` was called for every item put.

        Raises:
            QueueClosed: If some were discarded, so that this can never be.
        """
        self._check_run("join")
        await checkpoint()
        while self._finished < self._put_count and not self._abandoned:
            event = Event()
            self._joiners.append(event)
            try:
                await event.wait()
            finally:
                self._joiners.remove(event)
        if self._abandoned:
            raise QueueClosed(
                f"join() on {self!r}, of which {items_were(self._abandoned)} discarded; "
                "leave 'async with queue' after join() has returned"
            )

    def _finish(self, number: int) -> None:
        self._finished += number
        if self._finished == self._put_count or self._abandoned:
            for event in self._joiners:
                event.set()

    def qsize(self) -> int:
        """How many items are in it now."""
        return len(self._items)

    def statistics(self) -> QueueStatistics:
        """A snapshot of its size, its counts and who waits."""
        return QueueStatistics(
            size=len(self._items),
            maxsize=self.maxsize,
            peak=max(self._peak, len(self._items)),
            put=self._put_count,
            taken=self._take_count,
            dropped=self._dropped,
            abandoned=self._abandoned,
            unfinished=self._put_count - self._finished,
            putters=len(self._putters),
            getters=len(self._getters) + len(self._lingerers),
            closed=self._closed,
        )

    # --- views -----------------------------------------------------------------------

    @property
    def send_stream(self) -> ObjectSendStream[T]:
        """A view for code that sends into an anyio stream; closing it closes the queue."""
        return SendStream(self)

    @property
    def receive_stream(self) -> ObjectReceiveStream[T]:
        """A view for code that receives from an anyio stream; closing it discards the queue."""
        return ReceiveStream(self)


class _Producing(AbstractContextManager[None]):
    """The block of one producer."""

    def __init__(self, queue: Queue[Any]) -> None:
        self._queue = queue

    def __enter__(self) -> None:
        self._queue._enter_producer()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._queue._leave_producer(exc)
