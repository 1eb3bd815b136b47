"""Virtual time on trio: its `MockClock`, told when to jump.

Rule: as in `asyncio_clock`: what is out is counted in the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..._outside import executor_calls
from ...trace.instrument import TrioLoop
from ..internals import clocks as internals
from ..internals.faults import trio_in_order
from ..internals.features import need
from .idle import Idle, Outside, Rest, Then
from .walk import process_calls, stacks

if TYPE_CHECKING:
    import trio

_steered: WeakKeyDictionary[trio.abc.Clock, TrioClock] = WeakKeyDictionary()


class TrioClock:
    """Steers a `MockClock`, and counts the threads of the run that it is the clock of.

    For that it is an Instrument of trio's, which looks for the hooks by their names.
    """

    def __init__(self, idle: Idle | None = None) -> None:
        from trio.testing import MockClock

        need(internals.TRIO_CLOCK)
        self.idle: Idle = idle or Idle()
        self.idle.last_resort = _cancel_all
        self.clock: trio.testing.MockClock = MockClock()
        _steered[self.clock] = self
        self._threads = 0
        self._due = math.inf
        self._rest = Rest(0.0, Then.JUMP)
        self._outside = Outside(0, 0)
        self._stop_counting: Callable[[], None] | None = None
        #: Timers that are due at once come in one order, or else tests fail now and then.
        self._order = ExitStack()
        internals.steer(self.clock, before_wait=self._before_wait, when_idle=self._when_idle)

    @property
    def options(self) -> dict[str, Any]:
        """For `anyio.run`, and for its test runner."""
        return {"clock": self.clock, "instruments": [self]}

    def before_run(self) -> None:
        self._threads = 0
        self._stop_counting = internals.count_trio_threads(self._more, self._less)
        self._order.enter_context(trio_in_order(0))

    def after_run(self) -> None:
        self._order.close()
        if self._stop_counting is not None:
            self._stop_counting()
            self._stop_counting = None

    def before_io_wait(self, timeout: float) -> None:
        if timeout <= 0 and self.idle.turn():
            due = internals.next_trio_deadline()
            if self.idle.jumps(self.clock.current_time(), due):
                internals.set_time(self.clock, due)

    def _more(self) -> None:
        self._threads += 1

    def _less(self) -> None:
        self._threads -= 1

    def _before_wait(self, deadline: float) -> float:
        self._due = deadline
        self._outside = self._look_outside()
        rest = self.idle.rest(self._outside, has_timer=deadline < math.inf)
        self._rest = rest
        return rest.seconds

    def _when_idle(self) -> None:
        if self._rest.then is Then.JUMP:
            internals.set_time(self.clock, self._due)
        elif self._rest.then is Then.GIVE_UP:
            self.idle.found_deadlock(TrioLoop())
        else:
            self.idle.say_so(self._outside)

    def _look_outside(self) -> Outside:
        import trio

        calls = self._threads
        if calls:
            calls -= sum(
                internals.trio_threads_that_wait(native.coro, native.native.context, codes)
                for native, codes in stacks(TrioLoop())
            )
        if executor_calls:
            calls += executor_calls.count(trio.lowlevel.current_trio_token())
        files = _files()
        if files:
            calls += process_calls(TrioLoop())
        return Outside(max(calls, 0), files)


def idle_here() -> Idle | None:
    """Who decides in the run that the caller is in; None on another clock."""
    import trio

    steered = _steered.get(trio.lowlevel.current_clock())
    return None if steered is None else steered.idle


def _files() -> int:
    """Tasks that wait for a file, besides trio's own that waits for other threads."""
    import trio

    waits: Any = trio.lowlevel.current_statistics().io_statistics
    if waits.backend == "epoll":
        return int(waits.tasks_waiting_read + waits.tasks_waiting_write) - 1
    return int(getattr(waits, "tasks_waiting", 1)) - 1


def _cancel_all() -> None:
    """trio must not see an error here; so the program's main task is cancelled."""
    import trio

    root = trio.lowlevel.current_root_task()
    for nursery in root.child_nurseries if root is not None else ():
        nursery.cancel_scope.cancel()
