"""One call in a thread: its token, the end of its function, and whom it may be waiting for.

Rule: the token goes back once, when the function has ended or can no longer start. Loop and
thread settle between them, under a lock, which of the two gives it back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import ContextVar
from enum import Enum, auto
from inspect import iscoroutine
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, get_current_task
from anyio.lowlevel import current_token

from . import _observe
from ._arguments import is_async, name_of
from ._errors import LimiterDeadlock, OffloadError
from ._failures import log_failure
from ._tokens import seen_wait

T = TypeVar("T")

_current: ContextVar[ThreadCall[Any] | None] = ContextVar("kingdom_async_thread", default=None)
"""The call whose thread this context comes from."""

_waiting: WeakKeyDictionary[object, list[ThreadCall[Any]]] = WeakKeyDictionary()
"""For each run, the calls that wait for a token while others may wait for them.

Those are calls from inside other calls' threads, and by tasks that hold a token already.
"""

_CALL_BACKS = ("anyio._backends._asyncio", "trio._threads")
"""Whose coroutine it is that runs what a thread gave to from_thread.run()."""


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    ORPHANED = auto()  # runs on, but the task that asked has left
    ENDED = auto()


class ThreadCall(Generic[T]):
    """A function to be run in a thread; given to anyio as the limiter of its own call.

    On trio anyio only borrows and returns through it, at the right moments. On asyncio anyio
    would return the token as soon as the task leaves; here it stays out until the end.
    """

    def __init__(
        self, func: Callable[..., T], args: tuple[Any, ...], limiter: CapacityLimiter, name: str
    ) -> None:
        self.limiter = limiter
        self._func = func
        self._args = args
        self.limiter_name = name
        self._lock = threading.Lock()
        self._state = _State.WAITING
        self._error: BaseException | None = None
        self._is_abandoned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._parent = _current.get()
        self._host: int | None = None
        self.waiter: int | None = None  # the task that waits for this call, by its id
        self._borrower: object = None  # this call itself, but on trio

    # --- in the thread ---------------------------------------------------------------

    def run(self) -> T:
        """Call the function, unless the task that asked for it has left by now."""
        with self._lock:
            if self._state is _State.ENDED:
                raise OffloadError("withdrawn before it started")  # seen by nobody
            self._state = _State.RUNNING
        _current.set(self)  # anyio runs this in a context of its own
        error: BaseException | None = None
        try:
            return refuse_awaitable(self._func(*self._args), self._func)
        except StopIteration as stop:
            error = stopped_iteration(self._func)
            raise error from stop
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(error)
            del error

    def _end(self, error: BaseException | None) -> None:
        self._args = ()  # what the function started may keep its context, and so this call
        with self._lock:
            orphaned, self._state = self._state is _State.ORPHANED, _State.ENDED
            is_abandoned = self._is_abandoned
            if not is_abandoned:
                self._error = error
        try:
            if is_abandoned:
                self._log(error)
        finally:
            if orphaned and self._loop is not None:
                with suppress(RuntimeError):  # the run has ended, and its limiters with it
                    self._loop.call_soon_threadsafe(self.limiter.release_on_behalf_of, self)

    # --- on the loop -----------------------------------------------------------------

    def abandon(self) -> None:
        """The task was cancelled and takes no outcome; a failure must not go unsaid."""
        with self._lock:
            self._is_abandoned = True
            error = self._error
        self._log(error)

    def forget(self) -> None:
        """The task has the outcome, and a context that keeps this call shall keep no more."""
        self._error = None
        if self._state is _State.ENDED and not self._is_abandoned:
            del self._func

    def _log(self, error: BaseException | None) -> None:
        if isinstance(error, (Exception, SystemExit, KeyboardInterrupt)):
            log_failure(error, "offload(%s) failed after it was abandoned", name_of(self._func))

    async def __aenter__(self) -> None:  # asyncio
        self._loop = asyncio.get_running_loop()
        self.waiter = id(asyncio.current_task())
        await self._acquire(self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._state is _State.RUNNING:
                self._state = _State.ORPHANED
                return
            self._state = _State.ENDED
        self.limiter.release_on_behalf_of(self)

    async def acquire_on_behalf_of(self, borrower: object) -> None:  # trio
        self._host = self.waiter = get_current_task().id
        self._borrower = borrower
        await self._acquire(borrower)

    def release_on_behalf_of(self, borrower: object) -> None:  # trio
        self.limiter.release_on_behalf_of(borrower)

    async def _acquire(self, borrower: object) -> None:
        if self._parent is not None and not self._is_call_back():
            self._parent = None  # whose thread does not wait for this call
        if self.limiter.available_tokens >= 1 or not (
            self._parent is not None or holds_token(self.limiter, self.waiter)
        ):
            await self._borrow(borrower)
            return
        waiting = _waiting.setdefault(current_token().native_token, [])
        waiting.append(self)
        try:
            self._refuse_deadlock(waiting)
            await self._borrow(borrower)
        finally:
            waiting.remove(self)

    def _borrow(self, borrower: object) -> Coroutine[Any, Any, None]:
        wait = self.limiter.acquire_on_behalf_of(borrower)
        if _observe.observer is None:
            return wait
        return seen_wait(wait, self.limiter, self.limiter_name)

    # --- deadlock --------------------------------------------------------------------

    def _is_call_back(self) -> bool:
        """True if this task is what the thread of the parent waits for in from_thread.run().

        That is the task which waits for the thread (trio), or one of the backend's own. Tasks
        that it starts inherit its context, but the thread may not wait for them.
        """
        task = get_current_task()
        if self._parent is not None and task.id == self._parent._host:
            return True
        frame = getattr(task.coro, "cr_frame", None)
        return frame is not None and frame.f_globals.get("__name__") in _CALL_BACKS

    def _refuse_deadlock(self, waiting: list[ThreadCall[Any]]) -> None:
        """Raise if the tokens waited for are held only by what waits for this call."""
        stuck = waiting
        while True:
            blocked = {borrower for call in stuck for borrower in call._blocked()}
            rest = [call for call in stuck if call._waits_only_for(blocked)]
            if len(rest) == len(stuck):
                break
            stuck = rest
        if self not in stuck:
            return
        tokens = f"every token of {self.limiter_name} ({self.limiter.total_tokens} in all)"
        if self._parent is None:
            raise LimiterDeadlock(
                f"offload({name_of(self._func)}), by a task that holds a token of the same "
                f"limiter, would wait for ever: {tokens} is held by a task that waits like "
                "this one; leave out either limiter= or the 'async with' around the call"
            )
        raise LimiterDeadlock(
            f"offload({name_of(self._func)}), called back from a thread, would wait for "
            f"ever: {tokens} is held by a thread that waits like "
            "this one; give the inner calls a limiter of their own"
        )

    def _waits_only_for(self, blocked: set[int]) -> bool:
        """True if no token can come back before one of the *blocked* goes on."""
        borrowers = self.limiter.statistics().borrowers
        return sum(id(one) in blocked for one in borrowers) >= self.limiter.total_tokens

    def _blocked(self) -> Iterator[int]:
        """The ids of what borrows and cannot go on before this call has its token."""
        if self.waiter is not None:
            yield self.waiter
        call = self._parent
        while call is not None:
            if call._state is not _State.ENDED:
                yield id(call if call._borrower is None else call._borrower)
            if call._state is _State.RUNNING and not call._is_abandoned:
                assert call.waiter is not None
                yield call.waiter
            call = call._parent


def holds_token(limiter: CapacityLimiter, task: int | None) -> bool:
    """True if the task of that id has borrowed a token by itself, as ``async with`` does."""
    return any(id(borrower) == task for borrower in limiter.statistics().borrowers)


def stopped_iteration(func: Callable[..., object]) -> OffloadError:
    """The error in place of a StopIteration, which would end the coroutine it came to."""
    return OffloadError(
        f"offload({name_of(func)}): it raised StopIteration, which cannot pass through an "
        "await; catch it in the function, or give next() a default"
    )


def refuse_awaitable(result: T, func: object) -> T:
    """*result*, unless *func* turns out to be async."""
    if iscoroutine(result):
        result.close()
        raise is_async("offload", func, f"await {name_of(func)}(…)")
    return result
