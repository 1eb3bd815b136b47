"""The recorder: what the core says becomes raw entries of a store.

Rule: it writes as little as it can, and everything a reader wants is made when he asks. It
sees the one loop that it was attached to, and never raises into it.
"""

from __future__ import annotations

import inspect
import math
import sys
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from anyio import get_cancelled_exc_class

from .._failures import without
from .._given import close_unstarted
from .causes import Deadline, cause_of
from .children import Child, Wrapped, make_child, make_wrapped
from .guard import guarded
from .places import outside, spawner
from .records import now
from .store import LONGEST_NAME, Account, Block, Life, Store, copied

if TYPE_CHECKING:
    from .._observe import Group
    from .loops import Loop, NativeTask
    from .records import Outcome, TaskRecord

T = TypeVar("T")


@dataclass(frozen=True)
class Thresholds:
    """From when on something is a lint. All in seconds, but for the last two."""

    #: Holding the loop: in one step; or all its life, for a task.
    long_step: float = 0.1
    never_yielded: float = 0.05
    #: Between the spawning of a task and its first step.
    late_first_run: float = 0.1
    #: Leaving a block after its deadline.
    deadline_overrun: float = 0.1
    #: Alive after a cancellation.
    cancelled_but_alive: float = 1.0
    #: Waiting for a lock, a limiter, or room in a queue.
    stuck: float = 30.0
    #: Live tasks from one line, growing all the time.
    leaking: int = 100
    #: Steps a second that wait for nothing.
    spinning: int = 1000


class Suspect(Protocol):
    """Told of what looks wrong with a task."""

    def __call__(
        self, kind: str, serial: int | None, what: str, place: str | None = None
    ) -> None: ...


class Recorder:
    """Writes what happens in one loop into a store.

    Args:
        store: Where to.
        loop: The loop to watch; the one that runs in this thread.
        has_steps: True to keep an account of each task's steps.
        thresholds: From when on something is suspect.
        suspect: Told of it: the kind, the task's serial, what is wrong.
        failures: Each is told of each task that fails.
    """

    def __init__(
        self,
        store: Store,
        loop: Loop,
        *,
        has_steps: bool,
        thresholds: Thresholds,
        suspect: Suspect,
        failures: list[Callable[[TaskRecord], None]] | None = None,
    ) -> None:
        self.store = store
        self.loop = loop
        self.has_steps = has_steps
        self.thresholds = thresholds
        self.suspect = suspect
        self.failures: list[Callable[[TaskRecord], None]] = [] if failures is None else failures
        #: The serial of the task that is being spawned, for what sees the native task.
        self.expected: int | None = None
        #: The ``id`` of the native task that was ours from some point on.
        self._adopted = 0
        #: Children that have not begun; they may be cancelled before they do.
        self.unbegun: dict[int, Coroutine[Any, Any, object]] = {}
        #: By serial, of the tasks of others: what takes back the request to be told of the end.
        self._followed: dict[int, Callable[[], object]] = {}
        self._thread = loop.thread
        #: What runs in place of a coroutine, in a task that `spawning` has counted.
        self.child: Child = make_child(self)
        #: The two in one, for a task that is about to be spawned.
        self.wrapped: Wrapped = make_wrapped(self)

    # --- tasks of the core -------------------------------------------------------------

    @guarded
    def spawning(self, name: str, group: Group | None) -> int | None:
        """Count a task that is about to be spawned; None if it is another loop's."""
        if get_ident() != self._thread:
            return None
        store = self.store
        block: Block | None = None if group is None else group._seen
        host = 0 if block is None else block.host
        parent = store.serials.get(host or self.loop.identify())
        frame = outside(sys._getframe(2))
        self.expected = serial = store.spawned
        store.spawned = serial + 1
        name = name[:LONGEST_NAME]
        store.live[serial] = (name, block, parent, frame.f_code, frame.f_lasti, now(), False)
        return serial

    @guarded
    def unspawned(self, serial: int | None) -> None:
        """That task could not be spawned."""
        if get_ident() != self._thread:
            return
        self.expected = None
        if serial is not None and self.store.live.pop(serial, None) is not None:
            close_unstarted([self.unbegun.pop(serial, None)])
            self.store.never += 1

    @guarded
    def adopting(self, name: str) -> int | None:
        """The task that calls is ours from here on; None if it is another loop's."""
        if get_ident() != self._thread:
            return None
        self._adopted = task = self.loop.identify()
        serial = self.store.serials.get(task)
        if serial is None:
            return self.spawning(name, None)
        life = Life(*self.store.live[serial])
        life = life._replace(name=name[:LONGEST_NAME], spawned=now(), foreign=False)
        self.store.live[serial] = tuple(life)
        return serial

    @guarded
    def unstarted(self, serial: int, error: BaseException) -> None:
        """That task is over; unless it has begun, in which case it has said so itself."""
        raw = self.store.live.get(serial)
        if raw is None or serial in self.store.started:
            return
        if is_cancellation(error):
            cause = cause_of(error, Life(*raw), self.store)
            self.store.end(serial, self.loop.identify(), "cancelled", None, cause)
        else:
            self.store.end(serial, self.loop.identify(), "error", type(error).__name__)

    @guarded
    def began_late(self, serial: int) -> None:
        """A task first ran long after it was spawned."""
        late = now() - self.store.live[serial][5]
        self.suspect("late-first-run", serial, f"first ran {late:.3g} s after its spawn")

    @guarded
    def swallowed(self, serial: int) -> None:
        """A task ends well that a cancellation was delivered to."""
        self.suspect("swallowed-cancellation", serial, "was cancelled, and ended as if not")

    @guarded
    def succeeded(self, serial: int, task: int) -> None:
        """A task has ended well, and has an account."""
        self._look_for_waits(serial, task)
        self.store.end(serial, task, "ok", is_in_step=self.loop.can_see_steps)

    @guarded
    def failed(self, serial: int, task: int, error: BaseException) -> None:
        """A task has ended with an error, or cancelled."""
        store, in_step = self.store, self.loop.can_see_steps
        raw = store.live.get(serial)
        if raw is None:
            return
        life = Life(*raw)
        self._look_for_waits(serial, task)
        if isinstance(error, GeneratorExit):  # dropped, by a loop that was closed
            store.end(serial, task, "unknown", is_in_step=in_step)
        elif is_cancellation(error):
            cause = cause_of(error, life, store)
            store.end(serial, task, "cancelled", None, cause, is_in_step=in_step)
        else:
            store.end(serial, task, "error", type(error).__name__, is_in_step=in_step)
            for tell in self.failures:
                guarded(tell)(store.last_record())
            if life.block is not None and life.block.cause is None:
                life.block.cause = f"task {life.name!r} failed: {type(error).__name__}"

    @guarded
    def closed(self, block: Block) -> None:
        """A group was left: its children that never began were cancelled before they did."""
        for serial, child in [*self.unbegun.items()]:
            raw = self.store.live.get(serial)
            if raw is None:
                self.unbegun.pop(serial, None)
            elif raw[1] is block:
                self.unbegun.pop(serial, None)
                close_unstarted([child])
                self.store.end(serial, 0, "cancelled", None, block.cause or "Task.cancel()")

    # --- steps -------------------------------------------------------------------------

    @guarded
    def step(self, start: float, end: float, account: Account) -> None:
        """A task held the loop from *start* to *end*."""
        account.busy += end - start
        account.steps += 1
        self.store.steps.append((start, end, account.serial))
        if end - start > self.thresholds.long_step:
            self.stepped_long(account.serial, end - start)

    @guarded
    def stepped_long(self, serial: int | None, held: float) -> None:
        """A task held the loop for long."""
        self.suspect("long-step", serial, f"held the loop for {held:.3g} s")

    @guarded
    def callback_step(self, start: float, end: float, owner: object) -> None:
        """A callback that is no task's held the loop."""
        self.store.all_steps += 1
        self.store.steps.append((start, end, None))
        if end - start > self.thresholds.long_step:
            what = "a callback" if owner is None else f"a callback of {type(owner).__name__}"
            self.suspect("long-step", None, f"{what} held the loop for {end - start:.3g} s")

    def _look_for_waits(self, serial: int, task: int) -> None:
        account = self.store.accounts.get(task)
        if task == self._adopted:  # its first step began before it was ours
            return
        if account is None or account.steps > (not self.loop.can_see_steps):
            return
        held = now() - self.store.started.get(serial, math.inf)
        if held > self.thresholds.never_yielded:
            what = f"held the loop for {held:.3g} s, and never let go of it"
            self.suspect("never-yielded", serial, what)

    # --- what else there is to note ----------------------------------------------------

    def is_here(self) -> bool:
        """True in the thread of the loop that is recorded."""
        return get_ident() == self._thread

    @guarded
    def span(self, name: str) -> Callable[[BaseException | None], None]:
        """Begin a span in the task that calls; what is returned ends it."""
        store = self.store
        task = store.serials.get(self.loop.identify())
        number = store.add_span(str(name)[:LONGEST_NAME], task)

        @guarded
        def ended(error: BaseException | None) -> None:
            if error is None:
                store.end_span(number, "ok", None)
            elif is_cancellation(error):
                store.end_span(number, "cancelled", None)
            else:
                store.end_span(number, "error", type(error).__name__)

        return ended

    @guarded
    def overran(self, task: int, deadline: Deadline, late: float) -> None:
        """A block was left *late* seconds after its deadline."""
        serial = self.store.serials.get(task)
        what = f"left a block {late:.3g} s after its {deadline}"
        self.suspect("deadline-overrun", serial, what, deadline.place)

    # --- tasks of others ---------------------------------------------------------------

    @guarded
    def meet(self, task: NativeTask, spawned: float | None = None) -> int:
        """Note a task that the core did not start; returns its serial."""
        store = self.store
        before = store.serials.get(task.ident)
        if before is not None:  # one whose end went unseen had the same id
            store.end(before, task.ident, "unknown", is_in_step=False)
        serial = store.spawned
        store.spawned = serial + 1
        parent = store.serials.get(task.parent)
        code, instruction = (None, 0) if spawned is None else spawner(sys._getframe(1))
        name = task.name[:LONGEST_NAME]
        store.live[serial] = (name, None, parent, code, instruction, spawned, True)
        store.serials[task.ident] = serial
        if self.has_steps:
            store.accounts[task.ident] = Account(serial)
        forget = self.loop.when_done(task.native, partial(self._done, serial, task.ident))
        if forget is not None:
            self._followed[serial] = forget
        return serial

    @guarded
    def _done(self, serial: int, ident: int, outcome: Outcome) -> None:
        """A task of others has ended, as its loop says."""
        self._followed.pop(serial, None)
        self.store.end(serial, ident, outcome, is_in_step=False)

    @guarded
    def unfollow(self) -> None:
        """Leave nothing with the tasks of others; in the loop's thread."""
        while self._followed:
            self._followed.popitem()[1]()

    @guarded
    def sweep(self) -> None:
        """Note the tasks of others that are alive, and the end of those that are not."""
        tasks = self.loop.tasks()
        for task in tasks:
            is_known = task.internal or task.ident in self.store.serials
            # One of ours is known once it has begun.
            is_known = is_known or task.ident == self._adopted
            if not is_known and (not self.unbegun or has_begun(task.coro)):
                self.meet(task)
        for task in tasks:
            self._find_parent(task)
        alive = {task.ident for task in tasks}
        for ident, serial in list(self.store.serials.items()):
            if ident not in alive:
                self.store.end(serial, ident, "unknown", is_in_step=False)

    def _find_parent(self, task: NativeTask) -> None:
        """It may have been met before its parent was, or where that was not known."""
        store = self.store
        serial, parent = store.serials.get(task.ident), store.serials.get(task.parent)
        raw = None if serial is None or parent is None else store.live.get(serial)
        if serial is not None and raw is not None and raw[2] is None and raw[6]:
            store.live[serial] = tuple(Life(*raw)._replace(parent=parent))

    @guarded
    def lost(self) -> None:
        """The run is over, and with it every task that is still thought to live."""
        idents = {serial: ident for ident, serial in copied(self.store.serials.items())}
        for serial in copied(self.store.live):
            self.store.end(serial, idents.get(serial, 0), "unknown", is_in_step=False)
        self.unbegun.clear()


def is_cancellation(error: BaseException) -> bool:
    """True if *error* says of a task that it was cancelled, and nothing else."""
    try:
        cancelled: type[BaseException] = get_cancelled_exc_class()
    except Exception:  # no task runs here
        cancelled = CancelledError
    return without(cancelled, error) is None


def has_begun(coro: object) -> bool:
    """False for a coroutine that has not run yet."""
    return not inspect.iscoroutine(coro) or inspect.getcoroutinestate(coro) != "CORO_CREATED"
