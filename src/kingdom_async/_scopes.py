"""Timeouts, and the time that is left.

Rule: every block here is one cancel scope of anyio's, made when the block is entered, so
that the clock starts there. What the scopes add is a sentence when time runs out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CancelScope, current_effective_deadline, current_time

from . import _observe
from ._arguments import PlainWith, shown
from ._backend import backend_class
from ._errors import DeadlineExceeded
from ._given import Given, returns_coroutine, runs

if TYPE_CHECKING:
    from anyio.abc import AsyncBackend

T = TypeVar("T")
D = TypeVar("D")


def _seconds(call: str, value: float | None, example: str) -> float:
    """*value* as a number of seconds; None is no limit."""
    if value is None:
        return math.inf
    try:
        seconds = value + 0.0
    except TypeError:
        seconds = math.nan
    if seconds != seconds or isinstance(value, bool):
        kind = ValueError if isinstance(value, float) else TypeError
        raise kind(
            f"{call}() takes seconds as a number, or None for no limit, "
            f"not {shown(value)}; write {call}({example})"
        )
    return seconds


#: A point in time, as it is written.
_LATER = "current_time() + 5"


def _refuse_text_as_shield(call: str, shield: object) -> None:
    if isinstance(shield, str):
        raise TypeError(
            f"{call}(): the second argument is shield, not {shield!r}; "
            f"write {call}(…, reason={shield!r})"
            if call.startswith("fail")
            else f"{call}(): the second argument is shield, not {shield!r}; pass True or False"
        )


class _FailScope(PlainWith, AbstractContextManager[CancelScope]):
    """The block of `fail_after` and `fail_at`: one scope, and the error at its end."""

    __slots__ = ("_backend", "_delay", "_entered", "_limit", "_reason", "_scope", "_shield")

    _backend: type[AsyncBackend]
    _entered: float

    def __init__(self, limit: float, *, delay: bool, shield: bool, reason: str | None) -> None:
        self._scope: CancelScope | None = None
        self._limit = limit
        self._delay = delay
        self._shield = shield
        self._reason = reason

    def __enter__(self) -> CancelScope:
        if self._scope is not None:
            raise RuntimeError(
                "a block of fail_after() or fail_at() can be entered once; "
                "call it anew for each block"
            )
        self._backend = backend = backend_class()
        self._entered = now = backend.current_time()
        self._scope = backend.create_cancel_scope(
            deadline=now + self._limit if self._delay else self._limit, shield=self._shield
        )
        if (observer := _observe.observer) is not None:
            seconds = self._limit if self._delay else self._limit - now
            observer.deadline_set(self._scope, seconds, self._reason)
        return self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        scope = self._scope
        assert scope is not None  # it was entered
        if (observer := _observe.observer) is not None:
            tell_left(observer, scope)
        caught = scope.__exit__(exc_type, exc, traceback)
        if scope.cancelled_caught and scope.deadline != math.inf:
            now = self._backend.current_time()
            if now >= scope.deadline:
                is_as_given = self._delay and scope.deadline == self._entered + self._limit
                seconds = self._limit if is_as_given else scope.deadline - self._entered
                raise DeadlineExceeded(self._reason, seconds, now - self._entered) from exc
        return caught


def tell_left(observer: _observe.Observer, scope: CancelScope) -> None:
    """Tell who watches that a block with a deadline is left, and how late."""
    late = current_time() - scope.deadline if scope.cancel_called else -math.inf
    observer.deadline_left(scope, late)


def fail_after(
    delay: float | None, shield: bool = False, reason: str | None = None
) -> AbstractContextManager[CancelScope]:
    """Raise `DeadlineExceeded` unless the block is done within *delay* seconds.

    The block is cancelled at the deadline and the error raised once it has cleaned up. A
    scope that is cancelled by hand is no timeout, unless its cleanup outlasts the deadline.
    Differs from anyio's function of this name in two things: the clock starts when the block
    is entered, and the error can be told from a ``TimeoutError`` raised inside the block.

    Args:
        delay: Seconds; None for no limit.
        shield: True to keep cancellation from outside out of the block.
        reason: What took too long, for the error's message.

    Returns:
        A context manager that gives the block's `CancelScope`; its ``deadline`` may be moved.

    Raises:
        DeadlineExceeded: From the end of the block; the cancellation is its cause, and shows
            the line at which time ran out.
        TypeError: If *delay* is no number; ``ValueError`` if it is NaN.

    Example:
        >>> with ka.fail_after(5, reason="loading the profile"):
        ...     await load()
    """
    _refuse_text_as_shield("fail_after", shield)
    return _FailScope(
        _seconds("fail_after", delay, "5"), delay=True, shield=shield, reason=reason
    )


def fail_at(
    deadline: float | None, shield: bool = False, reason: str | None = None
) -> AbstractContextManager[CancelScope]:
    """Raise `DeadlineExceeded` unless the block is done by *deadline*.

    As `fail_after`, with a point in time on the loop's clock (see ``current_time()``) in
    place of a delay.

    Args:
        deadline: A value of ``current_time()``; None for no limit.
        shield: True to keep cancellation from outside out of the block.
        reason: What took too long, for the error's message.

    Raises:
        DeadlineExceeded: From the end of the block.
    """
    _refuse_text_as_shield("fail_at", shield)
    limit = _seconds("fail_at", deadline, _LATER)
    return _FailScope(limit, delay=False, shield=shield, reason=reason)


@cache
def _delayed(backend: type[AsyncBackend]) -> Any:
    """The cancel scope of *backend*, but its clock starts on entry."""
    kind: Any = type(backend.create_cancel_scope())
    enter, leave = kind.__enter__, kind.__exit__
    get_deadline = kind.deadline.__get__
    set_deadline = kind.deadline.__set__

    class DelayedScope(PlainWith, kind):  # type: ignore[misc]
        __slots__ = ("_delay", "_now")

        _delay: float
        _now: Callable[[], float]

        def __enter__(self) -> Any:
            seconds = self._delay
            if seconds != math.inf:
                set_deadline(self, self._now() + seconds)
                self._delay = math.inf
            if (observer := _observe.observer) is not None:
                left = get_deadline(self) - self._now() if seconds == math.inf else seconds
                observer.deadline_set(self, left, None)
            return enter(self)

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
        ) -> Any:
            if (observer := _observe.observer) is not None:
                tell_left(observer, self)
            return leave(self, exc_type, exc, traceback)

        @property
        def deadline(self) -> float:
            """When time runs out; before entry, when it would if the scope were entered now."""
            if self._delay != math.inf:
                return self._now() + self._delay
            deadline: float = get_deadline(self)
            return deadline

        @deadline.setter
        def deadline(self, value: float) -> None:
            self._delay = math.inf  # it is set now, before entry or after
            set_deadline(self, value)

    return DelayedScope


def move_on_after(delay: float | None, shield: bool = False) -> CancelScope:
    """Leave the block after *delay* seconds and go on behind it.

    As anyio's function of this name, but the clock starts when the block is entered (anyio's
    starts when the scope is made).

    Args:
        delay: Seconds; None for no limit.
        shield: True to keep cancellation from outside out of the block.

    Returns:
        The scope to enter; ``scope.cancelled_caught`` tells afterwards whether time ran out.

    Raises:
        TypeError: If *delay* is no number; ``ValueError`` if it is NaN.
        NoEventLoopError: If no event loop runs; `fail_after` raises it on entry only.

    Example:
        >>> with ka.move_on_after(1) as scope:
        ...     await warm_the_cache()
    """
    _refuse_text_as_shield("move_on_after", shield)
    return _move_on(math.inf, _seconds("move_on_after", delay, "5"), shield)


def move_on_at(deadline: float | None, shield: bool = False) -> CancelScope:
    """Leave the block at *deadline* and go on behind it.

    As `move_on_after`, with a point in time on the loop's clock in place of a delay.

    Args:
        deadline: A value of ``current_time()``, in seconds; None for no limit.
        shield: True to keep cancellation from outside out of the block.

    Returns:
        The scope to enter; ``scope.cancelled_caught`` tells afterwards whether time ran out.
    """
    _refuse_text_as_shield("move_on_at", shield)
    return _move_on(_seconds("move_on_at", deadline, _LATER), math.inf, shield)


def _move_on(deadline: float, delay: float, shield: bool) -> CancelScope:
    backend = backend_class()
    scope: Any = _delayed(backend)(deadline=deadline, shield=shield)
    scope._delay = delay
    scope._now = backend.current_time
    made: CancelScope = scope
    return made


@returns_coroutine
def with_timeout(
    seconds: float | None, coro: Coroutine[Any, Any, T], *, default: D
) -> Coroutine[Any, Any, T | D]:
    """The value of *coro*, or *default* if it is not done within *seconds*.

    On timeout the coroutine is cancelled and has cleaned up before this returns. It is closed
    in every case, started or not. An error it raises is raised. This is a checkpoint only where
    the coroutine has one: one that never waits gives its value, however late.

    Args:
        seconds: How long it may take; None for no limit.
        coro: A coroutine, such as ``fetch(url)``.
        default: What to return when time runs out.

    Example:
        >>> page = await ka.with_timeout(2, fetch(url), default=None)
    """
    return _with_timeout(seconds, Given((coro,)), default)


@runs("with_timeout")
async def _with_timeout(
    seconds: float | None, given: Given[Coroutine[Any, Any, T]], default: D
) -> T | D:
    (coro,) = given.take()
    if not isinstance(coro, Coroutine):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"with_timeout() takes a coroutine, not {shown(coro)}; "
            "write with_timeout(2, fetch(url), default=None)"
        )
    try:
        with move_on_after(_seconds("with_timeout", seconds, "2, fetch(url), default=None")):
            return await coro
        return default
    finally:
        coro.close()


def remaining() -> float:
    """Seconds left of the deadline in force for the calling task.

    ``inf`` where there is no deadline, 0 where it has passed or the scope is cancelled.
    Deadlines outside a shield are not in force inside it.

    Example:
        >>> await client.get(url, timeout=min(ka.remaining(), 30))
    """
    return max(0.0, current_effective_deadline() - current_time())


def cancelled_natively() -> bool:
    """True if the cancellation being handled came from no cancel scope (asyncio only)."""
    return current_effective_deadline() != -math.inf
