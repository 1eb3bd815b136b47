"""A queue seen as anyio's streams, for code that takes streams.

Rule: the queue does it all; a view only says it in anyio's words.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.lowlevel import checkpoint

from ._errors import QueueClosed

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class _Sink(Protocol[T_contra]):
    async def put(self, item: T_contra, /) -> None: ...
    def close(self) -> None: ...
    @property
    def discarded(self) -> bool: ...


class _Source(Protocol[T_co]):
    async def get(self) -> T_co: ...
    def discard(self) -> None: ...
    @property
    def error(self) -> BaseException | None: ...


class SendStream(ObjectSendStream[T_contra]):
    """Puts what is sent."""

    def __init__(self, queue: _Sink[T_contra]) -> None:
        self._queue = queue
        self._closed = False

    async def send(self, item: T_contra) -> None:
        if self._closed:
            raise ClosedResourceError("send() on a send stream that is closed")
        try:
            await self._queue.put(item)
        except QueueClosed as error:
            if self._queue.discarded:
                raise BrokenResourceError("the receiving end of the queue is closed") from error
            raise

    async def aclose(self) -> None:
        self._closed = True
        self._queue.close()
        await checkpoint()


class ReceiveStream(ObjectReceiveStream[T_co]):
    """Gets what is received."""

    def __init__(self, queue: _Source[T_co]) -> None:
        self._queue = queue
        self._closed = False

    async def receive(self) -> T_co:
        self._check_open()
        try:
            return await self._queue.get()
        except QueueClosed as error:
            if error is self._queue.error:
                raise
            self._check_open()  # or it was closed while this waited
            raise EndOfStream from None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError("receive() on a receive stream that is closed")

    async def aclose(self) -> None:
        self._closed = True
        self._queue.discard()
        await checkpoint()
