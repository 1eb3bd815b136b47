"""Cleanup that may finish: a shield with a bound.

Rule: a cancellation under way is never replaced by an error of ours.
"""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import AbstractContextManager
from types import TracebackType

from anyio import CancelScope, current_effective_deadline, current_time

from . import _observe
from ._arguments import PlainWith, shown
from ._backend import backend_class
from ._errors import DeadlineExceeded
from ._failures import contexts_of, logger, without
from ._scopes import tell_left


class _Shielded(PlainWith, AbstractContextManager[CancelScope]):
    """The block of `shielded`: a shield that gives way when the grace has passed."""

    __slots__ = ("_cancelling", "_entered", "_grace", "_scope")

    _cancelling: bool
    _entered: float

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._scope: CancelScope | None = None

    def __enter__(self) -> CancelScope:
        if self._scope is not None:
            raise RuntimeError(
                "a block of shielded() can be entered once; call it anew for each block"
            )
        backend = backend_class()
        self._cancelling = _handles_cancellation(backend.cancelled_exception_class())
        self._entered = now = backend.current_time()
        self._scope = backend.create_cancel_scope(deadline=now + self._grace, shield=True)
        if (observer := _observe.observer) is not None:
            observer.deadline_set(self._scope, self._grace, None)
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
        if not scope.cancelled_caught or (now := current_time()) < scope.deadline:
            return caught
        is_as_given = scope.deadline == self._entered + self._grace
        seconds = self._grace if is_as_given else scope.deadline - self._entered
        error = DeadlineExceeded("cleanup under shielded()", seconds, now - self._entered)
        try:
            if not self._cancelling:
                raise error from exc
            logger.error("%s; the cancellation goes on", error, exc_info=exc)
        finally:
            del error  # an error whose frames hold it is a reference cycle
        return caught


def shielded(grace: float) -> AbstractContextManager[CancelScope]:
    """Let cleanup finish: cancellation from outside does not reach in, for *grace* seconds.

    Without a bound, a cleanup that hangs outlives every deadline around it; so the grace is
    required, and ``math.inf`` must be written out. What the grace cuts off raises
    `DeadlineExceeded`, chained to an error under way. Only while a cancellation is being
    handled (in a ``finally`` or ``except`` that it passes through, or in one for an error of
    the cleanup there) is it logged instead, so that the cancellation goes on.

    A native ``asyncio.Task.cancel()``, and so ``asyncio.wait_for`` and ``asyncio.timeout``,
    goes through any shield: asyncio has no way to hold it back.

    Args:
        grace: Seconds the block may take; 0 or more.

    Raises:
        DeadlineExceeded: From the end of the block, if it took longer.

    Example:
        >>> try:
        ...     await serve()
        ... finally:
        ...     with ka.shielded(5):
        ...         await save()
    """
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"shielded({shown(grace)}): cleanup needs a bound; write shielded(5)")
    if not grace >= 0:
        raise ValueError(f"grace must be 0 or more seconds, not {grace!r}; write shielded(5)")
    return _Shielded(grace)


def _handles_cancellation(cancelled: type[BaseException]) -> bool:
    """True in a ``finally`` or ``except`` that a cancellation passes through."""
    handled = sys.exc_info()[1]
    if handled is None:
        return False
    if without(cancelled, handled) is None:
        return True
    # An error in the cleanup is handled now, and the cancellation further up. The error may
    # as well come from a scope that is left by now, so the task must still be cancelled.
    origins = [link for link in contexts_of(handled) if isinstance(link, cancelled)]
    if not origins or current_effective_deadline() == -math.inf:
        return bool(origins)
    if cancelled is not asyncio.CancelledError:
        return False
    # asyncio counts the scopes that a shield keeps out as well; anyio's message tells them.
    count = getattr(asyncio.current_task(), "cancelling", int)  # Python 3.10 does not tell
    return any("cancel scope" not in str(link) for link in origins) and bool(count() > 0)
