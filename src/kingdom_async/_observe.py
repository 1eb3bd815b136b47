"""The one slot through which the core tells a tracer what happens.

Rule: while `observer` is None, the core pays one global test for it and nothing else.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

T = TypeVar("T")


class Observer(Protocol):
    """What a tracer is told. An observer must not raise: it watches, it does not steer."""

    def spawned(
        self, coro: Coroutine[Any, Any, T], name: str, group: TaskGroup
    ) -> Coroutine[Any, Any, T]:
        """A task is about to be started; what is returned runs in its place."""
        ...


observer: Observer | None = None
