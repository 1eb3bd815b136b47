"""Counts the steps of a body, and strikes right after one of them.

Rule: it counts, strikes and notes; whether what came of it is right, others decide (`one_run`).
A step counts if its task is the body's own or was started by it, and goes on after the step.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from fnmatch import fnmatchcase
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio
from anyio import CancelScope, TaskHandle

from ...trace.stacks import frames, is_library, lines, links
from ..internals import faults as internals
from .coroutines import Observed
from .excuses import only_waits_for_another, waits_for_outcome
from .steps import Pick, Watcher

if TYPE_CHECKING:
    from .steps import Task

Mode = Literal["once", "twice", "native", "error"]
MODES: tuple[Mode, ...] = ("once", "twice", "native", "error")


#: Steps besides some for each that there is. Who takes more polls, or is cancelled anew in each
#: turn; so it is given what it may wait for, time.
_MOST_STEPS = 5000
#: So often, and each time after so many more steps; who goes on then never ends.
_MOST_HURRIES, _FEW_STEPS = 20, 500


class InjectedError(Exception):
    """Raised by ``mode="error"`` where a task waits for something that may fail."""


class Plan(NamedTuple):
    """What is done at a step."""

    mode: Mode
    #: The tasks meant, by name or pattern; None for the whole body.
    task: str | None
    #: Of the schedule; None for the loop's own order.
    seed: int | None


class Injector(Watcher):
    """For one run."""

    def __init__(self, plan: Plan, at: int | None, points: int = 0) -> None:
        self._plan = plan
        self._at = at
        if plan.seed is not None:
            from .orders import order_of

            self.pick: Pick | None = order_of(plan.seed).pick
        self._most_steps = _MOST_STEPS + 20 * points
        self._steps_since = 0
        self._hurries = 0
        #: Lets time pass for a body that polls.
        self.hurry: Callable[[], object] = bool
        #: In the text of each cancellation that is ours.
        self.marker: str = f"cancel_everywhere, step {at}"
        self.error: InjectedError = InjectedError(f"injected at step {at}")
        #: How many steps there were that count.
        self.count: int = 0
        #: All steps; it stands still where nothing happens any more.
        self.turns: int = 0
        self.names: set[str] = set()
        self.struck: bool = False
        #: It had taken no notice after very many steps, and was abandoned.
        self.goes_on: bool = False
        #: Where the task was that had taken the step.
        self.place: str = ""
        #: Why nothing could be done there, though the step came.
        self.refusal: str | None = None
        #: The handle of the one task that was cancelled.
        self.handle: TaskHandle[Any] | None = None
        self._observed: list[tuple[str, Observed]] = []
        #: Of tasks of a portal that were cancelled, by the ``id`` of the coroutine.
        self._answers: dict[int, Future[Any]] = {}
        self._active = False
        #: The task after whose step it was struck.
        self._struck_task: Any = None

    # --- the body --------------------------------------------------------------------

    def begin(
        self, body: Coroutine[Any, Any, Any], scope: CancelScope, outer: CancelScope
    ) -> Observed:
        """The body starts here, in the task that calls: await what is returned."""
        self._scope, self._outer = scope, outer
        self._main = _native_task()
        self.body: Observed = Observed(body, self.marker, self._may_return)
        self._see(self._main, self.body)
        self._active = True
        return self.body

    def end(self) -> None:
        """The body is over."""
        self._active = False

    def forget(self) -> None:
        """The run is over: no cycle shall keep its loop and its tasks."""
        self._observed.clear()
        self._answers.clear()
        self.error.__traceback__ = None
        for name in ("_main", "body", "_scope", "_outer", "_target", "handle"):
            self.__dict__.pop(name, None)
        self._struck_task = None

    @property
    def has_cancelled_natively(self) -> bool:
        """It has called asyncio's ``Task.cancel()`` of the body's own task, or may have."""
        natively = self._plan.mode in ("native", "twice")
        return self.struck and natively and isinstance(self._main, asyncio.Task)

    def swallowed(self) -> list[str]:
        """The names of tasks that were cancelled, and returned all the same."""
        return [
            name
            for name, coro in self._observed
            if coro.was_cancelled
            and coro.has_returned
            and not self._handle_says_cancelled(coro)
            and not self._portal_says_cancelled(coro)
        ]

    def unfinished(self) -> list[tuple[str, str]]:
        """The tasks of the body that are still there: names and places."""
        return [
            (name, place_of(coro.inner)) for name, coro in self._observed if not coro.has_ended
        ]

    def _abandon(self) -> None:
        """Whatever of the body does not end by itself ends at its next step.

        The body's own task only where that was of no use: it may hold the group of the others.
        """
        going_on = [coro for _, coro in self._observed if not coro.has_ended]
        for coro in going_on if self.goes_on else going_on[1:] or going_on:  # the body is first
            coro.is_abandoned = True
            for holder, _ in links(coro.inner):
                internals.keep_for_ever(holder)

    def _handle_says_cancelled(self, coro: Observed) -> bool:
        """True if it was cancelled alone: its own scope, inside, has then stopped the error."""
        if self.handle is None or coro is not self._target:
            return False
        return self.handle.status is not TaskHandle.Status.FINISHED

    def _portal_says_cancelled(self, coro: Observed) -> bool:
        """True if it has told so to the thread that had called it, as it is meant to."""
        answer = self._answers.get(id(coro.inner))
        return answer is not None and answer.cancelled()

    def _may_return(self, coro: object, error: BaseException) -> bool:
        """True for a coroutine that *error* need not end, though it is thrown into it."""
        if waits_for_outcome(coro):
            return True
        answer = internals.answer_of_portal(frames(coro))
        if answer is not None:
            self._answers[id(coro)] = answer
        task = _native_task()
        whole_body = self._plan.task is None
        is_its_own = whole_body or task is self._struck_task or self.marker in str(error)
        return only_waits_for_another(task, is_its_own)

    # --- what a Watcher is told ------------------------------------------------------

    def wrapped(self, coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        if not isinstance(coro, CoroutineType):
            return coro
        return Observed(coro, self.marker, self._may_return)

    def spawned(self, task: Task) -> None:
        if not isinstance(task, asyncio.Future) and task.parent_nursery is not None:
            internals.run_in_place(task, self.wrapped)
        if self._active:
            self._see(task, _coroutine(task))

    def stepped(self, task: Task) -> None:
        self.turns += 1
        if not self._active:
            return
        coro = self.body if task is self._main else _coroutine(task)
        if type(coro) is not Observed or not coro.counts or coro.has_ended:
            return
        if self.struck:
            self._after_strike()
            return
        name = _name(task)
        self.names.add(name)
        if not self._is_meant(name, coro):
            return
        self.count += 1
        if self.count == self._at:
            self.struck = True
            self.place = place_of(coro.inner, name)
            self._strike(task, coro)

    def _see(self, task: Task, coro: Any) -> None:
        if type(coro) is Observed:
            coro.counts = True
            self._observed.append((_name(task), coro))

    # --- the strike ------------------------------------------------------------------

    def _is_meant(self, name: str, coro: Observed) -> bool:
        wanted = self._plan.task
        if wanted is not None and not is_named(name, wanted):
            return False
        return self._plan.mode != "error" or may_fail(coro.inner)

    def _strike(self, task: Task, coro: Observed) -> None:
        self._struck_task = task
        self._again = self._plan.mode == "twice"
        if self._plan.mode == "error":
            self._raise_in(task, coro)
        elif self._plan.mode == "native":
            target = self._main if self._plan.task is None else task
            assert isinstance(target, asyncio.Task)
            target.cancel(self.marker)
        elif self._plan.task is None or task is self._main:
            self._scope.cancel(self.marker)
        else:
            self._cancel_one(task, coro)

    def _cancel_one(self, task: Task, coro: Observed) -> None:
        self._target = coro
        self.handle = internals.handle_of(coro.inner)
        if self.handle is not None:
            internals.cancel_handle(self.handle, self.marker)
        elif isinstance(task, asyncio.Task):
            task.cancel(self.marker)
        else:
            self.refusal = (
                f"task {_name(task)!r} was started in a nursery of trio's, which cancels all "
                "its tasks or none; start it in a TaskGroup"
            )

    def _after_strike(self) -> None:
        self._steps_since += 1
        if self._steps_since > self._most_steps:
            self._steps_since = self._most_steps - _FEW_STEPS
            self._hurries += 1
            if self._hurries <= _MOST_HURRIES:
                self.hurry()
            else:
                self._abandon()
                self.goes_on = True
        if self._again:
            # From further out, one step later: on asyncio in the way that goes through shields.
            self._again = False
            if hasattr(self._main, "cancel"):
                self._main.cancel(self.marker)
            else:
                self._outer.cancel(self.marker)

    def _raise_in(self, task: Task, coro: Observed) -> None:
        if isinstance(task, asyncio.Task):
            coro.instead = self.error
            task.cancel(self.marker)
            coro.on_instead = getattr(task, "uncancel", None)
        elif not internals.interrupt(task, self.error):
            coro.instead = self.error  # a checkpoint, which is over in no time


def _native_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_task()


def _coroutine(task: Any) -> Any:
    return task.coro if hasattr(task, "coro") else task.get_coro()


def _name(task: Any) -> str:
    return str(task.name if hasattr(task, "name") else task.get_name())


def is_named(name: str, wanted: str) -> bool:
    """True for the whole name, its last part, or a pattern of either."""
    return fnmatchcase(name, wanted) or fnmatchcase(name.rpartition(".")[2], wanted)


def place_of(coro: object, name: str = "") -> str:
    """The line that a parked task is at, in the code of whoever wrote the body.

    Where it runs none of that, as a worker of `amap` that waits for its turn: its *name*.
    """
    stack = [frame for frame in frames(coro) if frame.f_globals.get("__name__") != _RUNNER]
    if name and all(is_library(frame.f_code.co_filename) for frame in stack):
        return f"task {_NUMBER.sub('', name)!r}"
    return str(lines(stack)[-1]) if stack else ""


#: Which of the workers it is: what is found in one is found in all.
_NUMBER = re.compile(r"\[\d+\]$")
_RUNNER = f"{__package__}.one_run"


def may_fail(coro: object) -> bool:
    """True if the task waits in a checkpoint or a sleep that the body itself calls.

    These stand for whatever may fail in earnest. A lock, a group or a queue is not among them:
    it never raises what would be raised in it.
    """
    entry: CodeType | None = None
    for frame in frames(coro):
        if not is_library(frame.f_code.co_filename):
            entry = None
        elif entry is None:
            entry = frame.f_code
    return entry in _WAITS or entry in _waits_of_trio()


_WAITS = {
    function.__code__
    for function in (
        anyio.lowlevel.checkpoint,
        anyio.sleep,
        anyio.sleep_until,
        asyncio.sleep,
    )
}


def _waits_of_trio() -> set[CodeType]:
    if "trio" not in sys.modules:
        return set()
    import trio

    functions: list[Any] = [trio.lowlevel.checkpoint, trio.sleep, trio.sleep_until]
    return {function.__code__ for function in functions}
