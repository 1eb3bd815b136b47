"""The private names that `explore` needs: trio's queue of tasks that can run.

Rule: as in `features`: used nowhere else, and checked when first used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .features import Gone, checks, need, wanted

if TYPE_CHECKING:
    import trio
    from trio.lowlevel import Task

ON_TRIO = "explore on trio"


class _Step(NamedTuple):
    task: Task


class _Queue(deque[Any]):
    """trio's queue, of which it takes one task at each turn: the one that *pick* says."""

    def __init__(self, pick: Callable[[list[_Step]], int | None], tasks: deque[Task]) -> None:
        super().__init__(tasks)
        self._pick = pick
        self._steps = [_Step(task) for task in tasks]
        self._place: int | None = None

    def append(self, task: Task) -> None:
        super().append(task)
        self._steps.append(_Step(task))

    def __iter__(self) -> Iterator[Task]:
        """What trio is to run in this turn; then it calls `clear`."""
        self._place = self._pick(self._steps) if self._steps else None
        if self._place is not None:
            yield self[self._place]

    def clear(self) -> None:
        """Take out what was to be run."""
        if self._place is not None:
            del self[self._place], self._steps[self._place]
            self._place = None


def picking(pick: Callable[[list[Any]], int | None]) -> trio.abc.Instrument:
    """What has *pick* choose the task that a run of trio resumes next."""
    need(ON_TRIO)
    from trio._core._run import GLOBAL_RUN_CONTEXT
    from trio.abc import Instrument

    class Picking(Instrument):
        def before_run(self) -> None:
            runner = GLOBAL_RUN_CONTEXT.runner
            runner.runq = _Queue(pick, runner.runq)

    return Picking()


@checks(ON_TRIO)
def _check_on_trio() -> None:
    import trio
    from trio._core import _run

    wanted(_run, "GLOBAL_RUN_CONTEXT")
    source: Any = _run.unrolled_run.__code__
    if not {"runq", "clear", "batch"} <= {*source.co_names, *source.co_varnames}:
        raise Gone("trio's loop, which takes its tasks from Runner.runq")
    if not hasattr(trio.abc.Instrument, "before_run"):
        raise Gone("trio.abc.Instrument.before_run")
