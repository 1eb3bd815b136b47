"""Virtual time on asyncio: a loop whose selector, instead of waiting, moves the clock.

Rule: what is out is counted where the loop hears of it, never in the thread that does the work.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from ..._outside import executor_calls
from ...trace.loops import AsyncioLoop
from ..internals import clocks as internals
from .idle import Idle, Outside, Then
from .walk import process_calls

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Args = TypeVarTuple("Args")

T = TypeVar("T")
Events = list[tuple[selectors.SelectorKey, int]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while a task runs, and jumps when every task waits."""

    def __init__(self, idle: Idle | None = None) -> None:
        self.idle: Idle = idle or Idle()
        self._at = 0.0
        self._out: set[Future[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._joining = 0
        self._timers = 0
        super().__init__(_PatientSelector(self))
        internals.set_resolution(self, self._at)

    def time(self) -> float:
        return self._at

    def jump(self, to: float) -> None:
        """It is *to* now."""
        self._at = float(to)
        internals.set_resolution(self, self._at)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: Unpack[Args],
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._timers += 1
        moment = _Moment(when)
        moment.number = self._timers
        return super().call_at(moment, callback, *args, context=context)

    def set_default_executor(self, executor: Any) -> None:
        super().set_default_executor(executor)
        self._threads = executor

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Args]], T],
        *args: Unpack[Args],
    ) -> asyncio.Future[T]:
        if executor is None and self._threads is None:
            self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        counted = _Counted(executor or self._threads)
        future = super().run_in_executor(counted, func, *args)
        out = counted.future
        if out is not None:
            self._out.add(out)
            # After the callback that gives the result to the task: so it is heard of later.
            out.add_done_callback(self._came_back)
        return future

    def _came_back(self, future: Future[Any]) -> None:
        """In a thread."""
        with suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._out.discard, future)

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        # It waits for a thread of its own, and no longer than so many seconds.
        self._joining += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._joining -= 1

    def outside(self, selector: selectors.BaseSelector) -> Outside:
        """What may wake this loop besides time."""
        calls = internals.asyncio_threads_at_work(self)
        if calls:
            tasks = asyncio.all_tasks(self)
            calls -= internals.asyncio_threads_that_wait(tasks)
        calls += len(self._out) + self._joining
        if executor_calls:
            calls += executor_calls.count(self)
        heard = selector.get_map()
        files = len(heard) - 1  # the loop's own, through which threads wake it
        if files:
            files -= len(internals.quiet_files(self, heard))
        files = max(files, internals.children_in_threads(self))
        if files:
            calls += process_calls(AsyncioLoop("asyncio"))
        return Outside(max(calls, 0), files)


class _Moment(float):
    """When a timer is due: of those due at once, which happens on virtual time only, the one
    that was set first comes first."""

    __slots__ = ("number",)

    number: int

    def __lt__(self, other: object) -> bool:
        if isinstance(other, _Moment) and other == self:
            return self.number < other.number
        return super().__lt__(other)  # type: ignore[operator]


class _PatientSelector(selectors.DefaultSelector):
    """Waits in real time only for what comes in real time."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Events:
        events: Events = super().select(0)
        loop, idle = self._loop, self._loop.idle
        if events or (timeout is not None and timeout <= 0):
            if idle.turn() and idle.jumps(loop.time(), due := internals.next_timer(loop)):
                loop.jump(due)
            return events
        due = internals.next_timer(loop)
        outside = loop.outside(self)
        seconds, then = idle.rest(outside, has_timer=due < math.inf)
        if events := super().select(seconds):  # also with 0: a child may have just ended
            return events
        if then is Then.JUMP:
            loop.jump(due)
        elif then is Then.GIVE_UP:
            idle.found_deadlock(AsyncioLoop("asyncio"))
        else:
            idle.say_so(outside)
        return []


class _Counted(Executor):
    """Passes one call on, and keeps its future."""

    def __init__(self, executor: Any) -> None:
        self.future: Future[Any] | None = None
        self._executor = executor

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = self._executor.submit(fn, *args, **kwargs)
        self.future = future
        return future
