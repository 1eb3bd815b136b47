"""The first good one, or the first one: `first_success` and `first_finished`.

Rule: every coroutine given is awaited or closed, and every value and error ends up with the
caller, with `discard`, or in the log.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar, overload

from anyio import (
    Event,
    TaskCancelled,
    get_cancelled_exc_class,
    get_current_task,
    move_on_after,
)

from ._arguments import check_coroutines, close_all, name_of_coroutine, shown
from ._failures import log_failure, logger, short_repr, task_cancelled
from ._given import Given, returns_coroutine, runs
from ._groups import TaskGroup
from ._members import cancel_again, native_cancels, settle
from ._scopes import cancelled_natively
from ._shielded import shielded

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")

Coro = Coroutine[Any, Any, T]
Discard = Callable[[T], Awaitable[object] | object]

_DISCARD_GRACE = 5.0  # seconds


@returns_coroutine
def first_success(
    *coros: Coro[T], stagger: float | None = None, discard: Discard[T] | None = None
) -> Coro[T]:
    """The value of the first of *coros* that succeeds; the others are cancelled.

    When it returns, the others have ended. A value that comes too late (a loser that
    succeeded in the same moment, or a winner whose caller was cancelled) goes to *discard*. A
    loser that fails while being cancelled is logged, and so is a late value without *discard*.
    That all failed wins over a cancellation of the caller. If only some did, they are logged:
    with a winner for whoever debugs (level DEBUG), under a cancellation as errors.

    Args:
        coros: Coroutines, at least one; those that never start are closed.
        stagger: Seconds until the next one starts, unless one that runs fails before; None
            starts all at once. (Happy eyeballs, RFC 8305, and hedged requests are this.)
        discard: Called with each late value, for instance to close a second connection; may
            be async, and then has 5 seconds, shielded.

    Raises:
        ExceptionGroup: If all fail: their errors in argument order, also when it is one.
        TaskCancelled: If a task was cancelled natively before one had succeeded.
        ValueError: If nothing is given.

    Example:
        >>> page = await ka.first_success(
        ...     fetch("https://a.example"), fetch("https://b.example"), stagger=0.2
        ... )
    """
    return _first_success(Given(coros), stagger, discard)


@runs("first_success")
async def _first_success(
    given: Given[Coro[T]], stagger: float | None, discard: Discard[T] | None
) -> T:
    coros = given.take()
    check_coroutines("first_success", coros, at_least_one=True)
    if stagger is not None and (
        isinstance(stagger, bool) or not (isinstance(stagger, (int, float)) and stagger >= 0)
    ):
        close_all(coros)
        raise ValueError(
            f"stagger must be 0 or more seconds, not {shown(stagger)}; "
            "leave it out to start all at once"
        )
    race = _Race("first_success", coros, discard, failure_decides=False)
    await race.run(stagger)
    return race.result()


@overload
async def first_finished(c1: Coro[T1], /, *, discard: Discard[T1] | None = None) -> T1: ...
@overload
async def first_finished(
    c1: Coro[T1], c2: Coro[T2], /, *, discard: Discard[T1 | T2] | None = None
) -> T1 | T2: ...
@overload
async def first_finished(
    c1: Coro[T1], c2: Coro[T2], c3: Coro[T3], /, *, discard: Discard[T1 | T2 | T3] | None = None
) -> T1 | T2 | T3: ...
@overload
async def first_finished(*coros: Coro[T], discard: Discard[T] | None = None) -> T: ...


@returns_coroutine
def first_finished(*coros: Coro[Any], discard: Discard[Any] | None = None) -> Coro[Any]:
    """The outcome of the first of *coros* to end, value or error; the others are cancelled.

    When it returns or raises, the others have ended. Late values and the failures of losers
    are treated as in `first_success`. A failure that decides wins over a cancellation of the
    caller.

    Args:
        coros: Coroutines, at least one.
        discard: Called with each value that comes too late.

    Raises:
        Exception: What the first to end raised.
        TaskCancelled: If it was cancelled natively.
        ValueError: If nothing is given.

    Example:
        >>> await ka.first_finished(work(), stop.wait())
    """
    return _first_finished(Given(coros), discard)


@runs("first_finished")
async def _first_finished(given: Given[Coro[T]], discard: Discard[T] | None) -> T:
    coros = given.take()
    check_coroutines("first_finished", coros, at_least_one=True)
    race = _Race("first_finished", coros, discard, failure_decides=True)
    await race.run(None)
    return race.result()


class _Race(Generic[T]):
    """Coroutines of which one decides the outcome, and what becomes of the rest."""

    def __init__(
        self,
        call: str,
        coros: Sequence[Coro[T]],
        discard: Discard[T] | None,
        *,
        failure_decides: bool,
    ) -> None:
        self._call = call
        self._coros = coros
        self._discard = discard
        self._failure_decides = failure_decides
        self._winners: list[T] = []  # at most one
        self._decisive: Exception | None = None
        self._cancelled: TaskCancelled | None = None  # natively, and not by us
        self._late: list[T] = []
        self._failed: dict[int, Exception] = {}
        self._one_failed = Event()
        self._cancels = native_cancels()

    async def run(self, stagger: float | None) -> None:
        """Let them run until the race is decided and all have ended."""
        try:
            try:
                async with TaskGroup(errors="first") as group:
                    for index, coro in enumerate(self._coros):
                        if index and stagger is not None:
                            with move_on_after(stagger):
                                await self._one_failed.wait()
                            self._one_failed = Event()
                        name = name_of_coroutine(coro)
                        group.create_task(self._attempt(index, coro, group), name=name)
            finally:
                close_all(self._coros)
                await self._discard_late()
        except BaseException as error:
            if isinstance(error, get_cancelled_exc_class()) and self._has_failed():
                await settle()
                cancel_again(self._cancels)
                return  # a failure wins over a cancellation from outside
            self._caller_is_gone()
            await self._discard_late()
            raise

    def result(self) -> T:
        # Each error is let go of: one whose frames hold it is a reference cycle.
        failed = [self._failed.pop(index) for index in sorted(self._failed)]
        if self._winners:
            for error in failed:
                logger.debug("%s(): failed before another won", self._call, exc_info=error)
            return self._winners.pop()  # frames of losers may keep this race
        if self._decisive is not None:
            try:
                raise self._decisive
            finally:
                self._decisive = None
        if len(failed) < len(self._coros):
            cancelled, self._cancelled = self._cancelled, None
            try:
                raise cancelled or task_cancelled(self._call, "a coroutine", None)
            finally:
                del cancelled
        raise ExceptionGroup(f"{self._call}(): all {len(failed)} failed", failed)

    async def _attempt(self, index: int, coro: Coro[T], group: TaskGroup) -> None:
        try:
            value = await coro
        except get_cancelled_exc_class() as error:
            if not cancelled_natively():
                raise
            if not self._is_decided():
                name = get_current_task().name or "a coroutine"
                self._cancelled = task_cancelled(self._call, name, error)
                group.cancel()
        except Exception as error:
            if self._is_decided():
                log_failure(error, "%s(): a loser failed while being cancelled", self._call)
            elif self._failure_decides:
                self._decisive = error
                group.cancel()
            else:
                self._failed[index] = error
                self._one_failed.set()
        else:
            if self._is_decided():
                self._late.append(value)
            else:
                self._winners.append(value)
                group.cancel()

    def _is_decided(self) -> bool:
        decisions = (self._decisive, self._cancelled)
        return bool(self._winners) or any(error is not None for error in decisions)

    def _has_failed(self) -> bool:
        return self._decisive is not None or len(self._failed) == len(self._coros)

    def _caller_is_gone(self) -> None:
        """Nobody is left to take the outcome: a value is late, an error is logged."""
        self._late += self._winners
        self._winners = []
        decisive = [] if self._decisive is None else [self._decisive]
        for error in (*self._failed.values(), *decisive):
            log_failure(error, "%s(): failed while its caller was cancelled", self._call)
        self._failed = {}
        self._decisive = self._cancelled = None

    async def _discard_late(self) -> None:
        try:
            while self._late:
                await self._discard_one(self._late.pop(0))
        finally:
            if self._late:  # a native cancellation came through the shield
                await self._discard_late()

    async def _discard_one(self, value: T) -> None:
        if self._discard is None:
            logger.warning(
                "%s(): %s came too late and was dropped; pass discard= to close it",
                self._call,
                short_repr(value),
            )
            return
        try:
            with shielded(_DISCARD_GRACE):
                result = self._discard(value)
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            log_failure(error, "%s(): discard(%s) failed", self._call, short_repr(value))
