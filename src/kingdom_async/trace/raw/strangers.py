"""Tasks of others in the loop that is recorded: who they are, and when they end.

Rule: what a loop does not tell is found by sweeping through its tasks. Nothing is left with a
task once nobody records it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..guard import guarded
from ..records import now
from .places import spawner
from .rows import BEGUN, FOREIGN, IDENT, PARENT, SERIAL, Account

if TYPE_CHECKING:
    from ..loops import NativeTask
    from ..records import Outcome
    from .recorder import Recorder


class Strangers:
    """The tasks that the core did not start, for one recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._store, self._loop = recorder.store, recorder.loop
        #: By serial: what takes back the request to be told of the end.
        self._followed: dict[int, Callable[[], object]] = {}

    @guarded
    def meet(
        self, task: NativeTask, spawned: float | None = None, started: float | None = None
    ) -> int:
        """Note a task that the core did not start; returns its serial.

        Args:
            task: The task.
            spawned: When it was spawned, by the code that runs now; None where not known.
            started: When it first ran, or was seen to.
        """
        store = self._store
        before = store.serials.get(task.ident)
        if before is not None:  # one whose end went unseen had the same id
            store.end(before, task.ident, "unknown", is_in_step=False)
        parent = store.serials.get(task.parent)
        code, instruction = (None, 0) if spawned is None else spawner(sys._getframe(1))
        row = store.row(task.name, None, parent, code, instruction, spawned)
        serial: int = row[SERIAL]
        row[FOREIGN], row[IDENT], row[BEGUN] = True, task.ident, started
        store.serials[task.ident] = serial
        if self._recorder.has_steps:
            store.accounts[task.ident] = Account(serial)
        forget = self._loop.when_done(task.native, partial(self._done, serial, task.ident))
        if forget is not None:
            self._followed[serial] = forget
        return serial

    @guarded
    def meet_current(self) -> None:
        """Note the task that runs; it was not there when the recording began."""
        native = self._loop.current_task()
        if native is not None:
            task = self._loop.described(native)
            if not task.internal:
                self.meet(task, started=now())

    @guarded
    def _done(self, serial: int, ident: int, outcome: Outcome) -> None:
        """A task of others has ended, as its loop says."""
        self._followed.pop(serial, None)
        self._store.end(serial, ident, outcome, is_in_step=False)

    @guarded
    def unfollow(self) -> None:
        """Leave nothing with the tasks of others; in the loop's thread."""
        while self._followed:
            self._followed.popitem()[1]()

    @guarded
    def sweep(self) -> None:
        """Note the tasks of others that are alive, and the end of those that are not."""
        tasks, store = self._loop.tasks(), self._store
        # Where all that live have begun, nobody has to be asked.
        are_begun = len(store.live) <= len(store.serials)
        for task in tasks:
            is_known = task.internal or task.ident in self._store.serials
            # One of ours is known once it has begun.
            is_known = is_known or task.ident == self._recorder.adopted
            if not is_known and (are_begun or has_begun(task.coro)):
                self.meet(task)
        for task in tasks:
            self._find_parent(task)
        alive = {task.ident for task in tasks}
        for ident, serial in list(self._store.serials.items()):
            if ident not in alive:
                self._store.end(serial, ident, "unknown", is_in_step=False)

    def _find_parent(self, task: NativeTask) -> None:
        """It may have been met before its parent was, or where that was not known."""
        store = self._store
        serial, parent = store.serials.get(task.ident), store.serials.get(task.parent)
        row = None if serial is None or parent is None else store.live.get(serial)
        if row is not None and row[PARENT] is None and row[FOREIGN]:
            row[PARENT] = parent


def has_begun(coro: object) -> bool:
    """False for a coroutine that has not run yet."""
    return not inspect.iscoroutine(coro) or inspect.getcoroutinestate(coro) != "CORO_CREATED"
