"""One call in a thread: its token, the end of its function, and whom it may be waiting for.

Rule: the token goes back once, when the function has ended or can no longer start. Loop and
thread settle between them, under a lock, which of the two gives it back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from enum import Enum, auto
from inspect import iscoroutine
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, get_current_task
from anyio.lowlevel import current_token

from ._errors import LimiterDeadlock, OffloadError
from ._failures import log_failure

T = TypeVar("T")

_current: ContextVar[ThreadCall[Any] | None] = ContextVar("kingdom_async_thread", default=None)
"""The call whose thread this context comes from."""

_waiting: WeakKeyDictionary[CapacityLimiter, list[ThreadCall[Any]]] = WeakKeyDictionary()
"""The calls made from inside other calls that wait for a token of a limiter."""


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
        self.parent = _current.get()
        self._func = func
        self._args = args
        self._limiter_name = name
        self._lock = threading.Lock()
        self._state = _State.WAITING
        self._error: BaseException | None = None
        self._is_abandoned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.host: int | None = None

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
            result = self._func(*self._args)
            if iscoroutine(result):
                result.close()
                raise is_async("offload", self._func, f"await {name_of(self._func)}(…)")
            return result
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
        with self._lock:
            orphaned, self._state = self._state is _State.ORPHANED, _State.ENDED
            self._error = error
            is_abandoned = self._is_abandoned
        if orphaned and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self.limiter.release_on_behalf_of, self)
            except RuntimeError:
                pass  # the run has ended, and its limiters with it
        if is_abandoned:
            self._log_failure()

    # --- on the loop -----------------------------------------------------------------

    def abandon(self) -> None:
        """The task was cancelled and takes no outcome; a failure must not go unsaid."""
        with self._lock:
            self._is_abandoned = True
            has_ended = self._state is _State.ENDED
        if has_ended:
            self._log_failure()

    def _log_failure(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, (Exception, SystemExit, KeyboardInterrupt)):
            log_failure(error, "offload(%s) failed after it was abandoned", name_of(self._func))

    async def __aenter__(self) -> None:  # asyncio
        self._loop = asyncio.get_running_loop()
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
        self.host = get_current_task().id
        await self._acquire(borrower)

    def release_on_behalf_of(self, borrower: object) -> None:  # trio
        self.limiter.release_on_behalf_of(borrower)

    async def _acquire(self, borrower: object) -> None:
        if self.parent is None or self.limiter.available_tokens >= 1 or not self._is_call_back():
            await self.limiter.acquire_on_behalf_of(borrower)
            return
        waiting = _waiting.setdefault(self.limiter, [])
        waiting.append(self)
        try:
            self._refuse_deadlock(waiting)
            await self.limiter.acquire_on_behalf_of(borrower)
        finally:
            waiting.remove(self)

    # --- deadlock --------------------------------------------------------------------

    def _is_call_back(self) -> bool:
        """True if this task is what the thread of `parent` waits for in from_thread.run().

        trio runs it in the task that waits for the thread, asyncio in a task of the backend's
        own. Tasks that it starts inherit its context, but the thread may not wait for them.
        """
        task = get_current_task()
        if self.parent is not None and task.id == self.parent.host:
            return True
        frame = getattr(task.coro, "cr_frame", None)
        own = current_token().backend_class.__module__
        return frame is not None and frame.f_globals.get("__name__") == own

    def _refuse_deadlock(self, waiting: list[ThreadCall[Any]]) -> None:
        """Raise if each token is held by a call that cannot end before one of *waiting*."""
        holders = {
            id(holder)
            for call in waiting
            for holder in call._ancestors()
            if holder.limiter is self.limiter
        }
        if len(holders) >= self.limiter.total_tokens:
            raise LimiterDeadlock(
                f"offload({name_of(self._func)}) called back from a thread of "
                f"{self._limiter_name} would wait for ever: all "
                f"{self.limiter.total_tokens} tokens are held by threads that wait like this "
                "one; give the inner calls a limiter of their own"
            )

    def _ancestors(self) -> Iterator[ThreadCall[Any]]:
        call = self.parent
        while call is not None:
            yield call
            call = call.parent


def stopped_iteration(func: Callable[..., object]) -> OffloadError:
    """The error in place of a StopIteration, which would end the coroutine it came to."""
    return OffloadError(
        f"offload({name_of(func)}): it raised StopIteration, which cannot pass through an "
        "await; catch it in the function, or give next() a default"
    )


def is_async(call: str, func: object, instead: str) -> TypeError:
    """The error for an async function given where an ordinary one is wanted."""
    return TypeError(
        f"{call}() runs ordinary functions, and {name_of(func)} is async; write {instead}"
    )


def name_of(func: object) -> str:
    """What to call *func* in an error."""
    return getattr(func, "__qualname__", None) or repr(func)
