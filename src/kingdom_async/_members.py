"""The tasks of one group, and how the group is left.

Rule: only handles are kept, of the tasks that are not done yet or have failed, and the
coroutines of the group's own tasks. The handles tell which daemons to cancel, and which failure
belongs to whom.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Container, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from anyio import Event, TaskHandle, current_effective_deadline, get_cancelled_exc_class
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from ._failures import bare, distinct, first_of, identity, is_group, set_context, without
from ._given import close_unstarted

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

_UNFINISHED = (TaskHandle.Status.PENDING, TaskHandle.Status.CANCELLING)


class Members:
    """The tasks of one group: ordinary ones, and daemons, which end when those have."""

    __slots__ = (
        "_cancels",
        "_daemons",
        "_daemons_ended",
        "_group",
        "_leaving",
        "_own",
        "_settled",
        "_starting",
        "_tasks",
        "_watched",
        "are_new",
    )

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._tasks = _Unfinished()
        self._daemons = _NO_DAEMONS
        self._leaving = False
        self._watched = False
        self._daemons_ended = False
        self._starting = 0
        self._settled: Event | None = None
        self._cancels = 0
        self._own: tuple[Coroutine[Any, Any, None], ...] = ()
        #: True where the loop has not turned since the tasks were started: all are there.
        self.are_new: bool = False

    def enter(self) -> None:
        """The block is entered: cancellations from now on are those of the group's time."""
        self._cancels = native_cancels()

    def add(self, handle: TaskHandle[Any, Any], daemon: bool) -> None:
        """Keep the handle of a task that was started."""
        if not daemon:
            self._tasks.add(handle)
            return
        if self._daemons is _NO_DAEMONS:
            self._daemons = _Unfinished()
        self._daemons.add(handle)
        if self._daemons_ended:
            handle.cancel()
        elif self._leaving:
            self._watch()

    def starts(self, daemon: bool) -> None:
        """A task starts up, and has no handle yet; an ordinary one keeps daemons alive."""
        self._starting += not daemon

    def started(self, daemon: bool) -> None:
        """It has a handle by now, or has failed."""
        self._starting -= not daemon
        if self._settled is not None and not self._starting:
            self._settled.set()

    def end_daemons_last(self) -> None:
        """The body is done: once the ordinary tasks are too, the daemons are cancelled."""
        self._leaving = True
        if self._daemons.handles:
            self._watch()

    def forget(self) -> None:
        """Let go of all handles: they hold what failed, and what never started."""
        for coro in self._own:
            coro.close()
        if self._group.cancel_scope.cancel_called:
            left = (*self._tasks.unfinished(), *self._daemons.unfinished())
            close_unstarted(handle.coro for handle in left)
        self._tasks.handles.clear()
        self._daemons.handles.clear()

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._start(self._end_daemons(), "end of daemons")

    def _start(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        """Start a task of the group's own."""
        self._own += (coro,)
        self._group.create_task(coro, name=f"TaskGroup: {name}")

    async def _end_daemons(self) -> None:
        while (pending := self._tasks.unfinished()) or self._starting:  # both may grow
            for handle in pending:
                await handle.wait()
            if self._starting:
                self._settled = Event()
                await self._settled.wait()
        self._daemons_ended = True
        for daemon in self._daemons.handles:
            daemon.cancel()

    async def leave_with_first(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Leave the group, and raise the first failure itself, with all the others on it."""
        # On asyncio anyio records the failure of a task a turn after the task has failed.
        before = self._names() if exc is not None else {}
        if exc is not None or not (self.are_new or self._is_unhurt()):
            # Where no task is left to wait for, a native cancellation makes anyio's exit
            # drop the failures that it has recorded.
            self._start(checkpoint(), "exit")
        try:
            raised = None if await self._group.__aexit__(exc_type, exc, traceback) else exc
        except BaseException as error:
            raised = error
        try:
            if raised is not None and _failures_in(raised, before):
                await settle()
                raised = first_of(_failures_in(raised, before), self._names())
                cancel_again(self._cancels)
                if self._has_ended_the_loop():
                    raised = asyncio.CancelledError("the event loop is shut down")
            if raised is None or raised is exc:
                return raised is None
            context = raised.__context__
            try:
                raise raised
            finally:
                set_context(raised, context)  # Python put the body's error here
        finally:
            del raised, exc, traceback

    def _has_ended_the_loop(self) -> bool:
        """True if a task raised what tears through asyncio's loop as soon as it is raised.

        Raised once more by the group, it would tear through the loop's shutdown as well, and
        leave worker threads behind that nobody stops.
        """
        if get_cancelled_exc_class() is not asyncio.CancelledError:
            return False
        failed = (*self._tasks.failed(), *self._daemons.failed())
        return any(isinstance(error, (KeyboardInterrupt, SystemExit)) for _, error in failed)

    def _is_unhurt(self) -> bool:
        """True if nothing has failed: whoever failed has cancelled the group by now."""
        if current_effective_deadline() != -math.inf:
            return True
        return not (self._tasks.failed() or self._daemons.failed())

    def _names(self) -> dict[tuple[int, ...], str]:
        failed = (*self._tasks.failed(), *self._daemons.failed())
        return {identity(error): name for name, error in failed}


class _Unfinished:
    """The handles of tasks that have not ended, or have failed; others are dropped in time.

    At most about as many finished ones are kept as there are unfinished, so a group that
    starts tasks for years stays small.
    """

    __slots__ = ("handles", "room")

    def __init__(self) -> None:
        self.handles: list[TaskHandle[Any, Any]] = []
        self.room = 32

    def add(self, handle: TaskHandle[Any, Any]) -> None:
        self.handles.append(handle)
        if len(self.handles) > self.room:
            dropped = (TaskHandle.Status.FINISHED, TaskHandle.Status.CANCELLED)
            self.handles = [h for h in self.handles if h.status not in dropped]
            self.room = 2 * len(self.handles) + 32

    def unfinished(self) -> list[TaskHandle[Any, Any]]:
        return [handle for handle in self.handles if handle.status in _UNFINISHED]

    def failed(self) -> list[tuple[str, BaseException]]:
        """The name and the failure of each task that failed."""
        status = TaskHandle.Status.FAILED
        failed = (
            (handle, handle.exception) for handle in self.handles if handle.status is status
        )
        return [(handle.name, error) for handle, error in failed if error is not None]


_NO_DAEMONS = _Unfinished()


def _failures_in(
    raised: BaseException, before: Container[tuple[int, ...]]
) -> list[BaseException]:
    """What anyio's group recorded, in that order, with the cancellations taken out.

    What had failed *before* the body did comes before what the body raised.
    """
    cancelled = get_cancelled_exc_class()
    errors = raised.exceptions if is_group(raised) else (raised,)
    real = (without(cancelled, error) for error in errors)
    failures = [error for error in real if error is not None]
    return distinct(sorted(failures, key=lambda error: identity(bare(error)) not in before))


if sys.version_info >= (3, 13):

    def native_cancels() -> int:
        """How many of the ``Task.cancel()`` calls that nobody took back it has heard of."""
        loop = asyncio._get_running_loop()  # pyright: ignore[reportUnknownMemberType]
        task: Any = None if loop is None else asyncio.current_task(loop)
        return 0 if task is None else task.cancelling() - getattr(task, "_must_cancel", 0)

    def cancel_again(before: int) -> None:
        """Cancel the task anew, where a failure won over a native cancellation.

        *before* is what `native_cancels` said when the work began. The next wait raises the
        cancellation, as under a cancelled scope; or else nobody would hear of it any more. So
        does ``asyncio.TaskGroup``.
        """
        if (
            get_cancelled_exc_class() is asyncio.CancelledError
            and native_cancels() > before
            and current_effective_deadline() != -math.inf
            and (task := asyncio.current_task()) is not None
        ):
            task.uncancel()
            task.cancel()

else:  # what is cancelled anew cannot be taken back by asyncio.timeout(), before Python 3.13

    def native_cancels() -> int:
        return 0

    def cancel_again(before: int) -> None:
        pass


async def settle() -> None:
    """Pass one shielded checkpoint, however many native cancellations strike in it.

    A coroutine that a cancellation resumed has the `__context__` of what it raises
    overwritten in each frame on the way out; one that was resumed in peace has not.
    """
    cancelled = get_cancelled_exc_class()
    while True:
        try:
            return await cancel_shielded_checkpoint()
        except cancelled:
            continue
