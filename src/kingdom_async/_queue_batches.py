"""Batches: what is in the buffer, and what comes within a moment.

Rule: nothing is taken before the batch is returned. While one lingers the items stay where
they are, for others to take; so there is nothing to lose and nothing to give back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from anyio import current_time, move_on_at

from ._arguments import check_count, check_seconds
from ._buffer import Buffer, Waiter
from ._errors import QueueClosed

T = TypeVar("T")


class BatchBuffer(Buffer[T]):
    """A buffer that gives many items at once."""

    async def get_batch(self, max_items: int, linger: float = 0) -> list[T]:
        """Take what is there, up to *max_items*, waiting for the first one.

        Nothing is taken until this returns, so a cancelled call has taken nothing.

        Args:
            max_items: The most to take; at least 1.
            linger: Seconds to wait for more, counted from when this call finds the first item
                there. A full buffer ends the wait, and so does the close of the queue.

        Returns:
            At least one item.

        Raises:
            QueueClosed: As `get`.
        """
        _check_batch(max_items, linger)
        await self._wait_to_take("get_batch")
        if linger > 0:
            while not await self._linger(max_items, current_time() + linger):
                await self._wait_to_take("get_batch")  # another task took them all
        return self._take(max_items)

    def batches(self, max_items: int, linger: float = 0) -> AsyncIterator[list[T]]:
        """Iterate over the items in lists, as `get_batch` returns them, until the close.

        Example:
            >>> async for rows in queue.batches(500, linger=0.2):
            ...     await insert(rows)
        """
        _check_batch(max_items, linger)
        return _Batches(self, max_items, linger)

    async def _linger(self, max_items: int, deadline: float) -> bool:
        """Wait until a batch is full or it is time; False if there is nothing to take then.

        The first item, which we have leave to take, is free for others meanwhile: to hold it
        would be to lose it when we are cancelled.
        """
        waiter = Waiter(min(max_items, self.maxsize))
        if self._is_enough(waiter.wanted):
            return True
        self._lingerers.append(waiter)
        self._hand_out()
        try:
            with move_on_at(deadline):
                await waiter.event.wait()
        finally:
            self._lingerers.remove(waiter)
            self._retune()
        return self._can_take()


class _Batches(Generic[T]):
    """An iterator and no generator: one left half-way needs no closing."""

    def __init__(self, buffer: BatchBuffer[T], max_items: int, linger: float) -> None:
        self._buffer = buffer
        self._max_items = max_items
        self._linger = linger

    def __aiter__(self) -> AsyncIterator[list[T]]:
        return self

    async def __anext__(self) -> list[T]:
        try:
            return await self._buffer.get_batch(self._max_items, self._linger)
        except QueueClosed as error:
            if error is self._buffer.error:
                raise
            raise StopAsyncIteration from None


def _check_batch(max_items: int, linger: float) -> None:
    check_count("max_items", max_items, "a batch is as large as what is there, up to that")
    check_seconds("linger", linger, "0 takes what is there")
