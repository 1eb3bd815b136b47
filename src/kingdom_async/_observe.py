"""The one slot through which the core tells a tracer what happens.

Rule: while `observer` is None, the core pays one global test for it and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import anyio

T = TypeVar("T")


class Group(Protocol):
    """What an observer sees of a task group."""

    #: The observer's own: what it knows of the group, None while it knows nothing.
    _seen: Any

    @property
    def cancel_scope(self) -> anyio.CancelScope: ...


class Observer(Protocol):
    """What a tracer is told. An observer must not raise: it watches, it does not steer."""

    def opened(self, group: Group) -> None:
        """A group was entered."""

    def failed(self, group: Group, error: BaseException) -> None:
        """The body of a group raised *error*."""

    def closed(self, group: Group) -> None:
        """A group was left, and its tasks have ended."""

    def cancelled(self, group: Group, reason: str | None) -> None:
        """Somebody calls ``group.cancel(reason)``."""

    def wrapped(
        self, coro: Coroutine[Any, Any, T], name: str, group: Group, depth: int
    ) -> Coroutine[Any, Any, T]:
        """A task is about to be started; what is returned runs in place of its coroutine.

        Whoever starts it is *depth* frames above.
        """
        ...

    def unspawned(self, group: Group) -> None:
        """The task that was to be started last could not be."""

    def spawning(self, name: str, group: Group | None) -> Any:
        """As `wrapped`, in two parts; what is returned is the task's ticket for `child`."""

    def unstarted(self, ticket: Any, error: BaseException) -> None:
        """A task of which `spawning` was told ended with *error*, perhaps before `child`."""

    def child(self, coro: Coroutine[Any, Any, T], ticket: Any) -> Coroutine[Any, Any, T]:
        """What is returned runs in place of *coro*, in the task that was started."""
        ...

    def deadline_set(
        self, scope: anyio.CancelScope, seconds: float, reason: str | None
    ) -> None:
        """A block with a deadline was entered."""

    def deadline_left(self, scope: anyio.CancelScope, late: float) -> None:
        """It was left, *late* seconds after its deadline (negative: before it)."""

    def task(self) -> int:
        """``id`` of the task that calls; 0 outside any."""
        ...

    def called(self, name: str) -> Callable[[BaseException | None], None]:
        """A call runs elsewhere; what is returned is called when it has ended."""
        ...

    def adopted(self, coro: Coroutine[Any, Any, T], name: str) -> Coroutine[Any, Any, T]:
        """The task that calls is to run *coro*; what is returned runs in its place."""
        ...


observer: Observer | None = None


async def timed(
    call: Coroutine[Any, Any, T], ended: Callable[[BaseException | None], None]
) -> T:
    """Run *call*, and tell *ended* how it ended: what `Observer.called` gave."""
    try:
        value = await call
    except BaseException as error:
        ended(error)
        raise
    ended(None)
    return value
