"""trio's clock, through which a run that must end at once is ended.

Rule: it tells the time as trio's own does. It does not import trio before trio runs: to trio
its methods are what makes it a clock.
"""

from __future__ import annotations

import random
from time import perf_counter


class InterruptibleClock:
    """A clock for trio that raises `KeyboardInterrupt` into the loop itself.

    There no shield can hold it.
    Raised anywhere else, it would end a single task, and the run would go on to wait for the
    cleanup of all the others.
    """

    def __init__(self) -> None:
        self.final = False
        # Far from zero, as trio's is, so that nobody takes it for another clock.
        self._offset = random.uniform(10_000, 1_000_000)

    def end_run(self) -> None:
        """Called by the handler of a signal, on top of the frame that it interrupts."""
        from trio.lowlevel import currently_ki_protected

        self.final = True
        if not currently_ki_protected():
            raise KeyboardInterrupt  # a task may be in a loop that never waits

    def start_clock(self) -> None:
        """It runs already."""

    def current_time(self) -> float:
        if self.final:
            raise KeyboardInterrupt
        return self._offset + perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()
