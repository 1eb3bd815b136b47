"""The recorder: what the core says becomes raw entries of a store.

Rule: it writes as little as it can, and everything a reader wants is made when he asks. It
sees the one loop that it was attached to, and never raises into it.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import get_cancelled_exc_class

from ..._failures import without
from ..._given import close_unstarted
from ..guard import guarded
from ..records import now
from ..stacks import Line, innermost, is_library, line_of
from .causes import Deadline, around, cause_of
from .children import Child, Wrapped, make_child, make_wrapped
from .places import outside
from .rows import (
    BEGUN,
    BLOCK,
    FOREIGN,
    LONGEST_NAME,
    NAME,
    SERIAL,
    SPAWNED,
    Account,
    Block,
    Life,
    Row,
)
from .store import Store, copied
from .strangers import Strangers

if TYPE_CHECKING:
    from ..._observe import Group
    from ..lints.suspects import Suspect, Thresholds
    from ..loops import Loop
    from ..records import TaskRecord

T = TypeVar("T")

#: What cancels a task that never began, where nothing is known.
_NATIVELY = "Task.cancel()"


class Recorder:
    """Writes what happens in one loop into a store.

    Args:
        store: Where to.
        loop: The loop to watch; the one that runs in this thread.
        has_steps: True to keep an account of each task's steps.
        thresholds: From when on something is suspect.
        suspect: Told of it: the kind, the task's serial, what is wrong.
        failures: Each is told of each task that fails, and of its error.
    """

    def __init__(
        self,
        store: Store,
        loop: Loop,
        *,
        has_steps: bool,
        thresholds: Thresholds,
        suspect: Suspect,
        failures: list[Callable[[TaskRecord, BaseException], None]] | None = None,
    ) -> None:
        self.store = store
        self.loop = loop
        self.has_steps = has_steps
        self.thresholds = thresholds
        self.suspect = suspect
        self.failures: list[Callable[[TaskRecord, BaseException], None]] = (
            [] if failures is None else failures
        )
        #: The row of the task that is being spawned, for what sees the native task.
        self.expected: Row | None = None
        #: The ``id`` of the native task that was ours from some point on.
        self.adopted: int = 0
        self.strangers: Strangers = Strangers(self)
        #: What runs in place of a coroutine, in a task that `spawning` has counted.
        self.child: Child = make_child(self)
        #: The two in one, for a task that is about to be spawned.
        self.wrapped: Wrapped = make_wrapped(self)

    # --- tasks of the core -------------------------------------------------------------

    @guarded
    def spawning(self, name: str, group: Group | None) -> Row | None:
        """Count a task that is about to be spawned; None if it is another loop's."""
        if not self.owns(group):
            return None
        store = self.store
        block: Block | None = None if group is None else group._seen
        host = 0 if block is None else block.host
        parent = store.serials.get(host or self.loop.identify())
        frame = outside(sys._getframe(2))
        row = store.row(name, block, parent, frame.f_code, frame.f_lasti, now())
        self.expected = row
        return row

    @guarded
    def unspawned(self) -> None:
        """The task that was expected could not be spawned."""
        row, self.expected = self.expected, None
        if row is not None and self.store.live.pop(row[SERIAL], None) is not None:
            self._never_begins(row)
            self.store.never += 1

    def _never_begins(self, row: Row) -> None:
        child, row[BEGUN] = row[BEGUN], None
        if child is not None:
            row[BLOCK].unbegun -= 1
        close_unstarted([child])

    @guarded
    def adopting(self, name: str) -> Row | None:
        """The task that calls is ours from here on; None if it is another loop's."""
        if not self.is_here():
            return None
        self.adopted = task = self.loop.identify()
        serial = self.store.serials.get(task)
        if serial is None:
            return self.spawning(name, None)
        row = self.store.live[serial]
        row[NAME], row[SPAWNED], row[FOREIGN] = name[:LONGEST_NAME], now(), False
        return row

    @guarded
    def unstarted(self, row: Row, error: BaseException) -> None:
        """That task is over; unless it has begun, in which case it has said so itself."""
        serial = row[SERIAL]
        if serial not in self.store.live or row[BEGUN] is not None:
            return
        if is_cancellation(error):
            cause = cause_of(error, Life(*row), self.store)
            self.store.end(serial, self.loop.identify(), "cancelled", None, cause)
        else:
            self.store.end(serial, self.loop.identify(), "error", type(error).__name__)

    @guarded
    def began_late(self, serial: int, late: float) -> None:
        """A task first ran long after it was spawned."""
        what = f"first ran {late:.3g} s after its spawn"
        self.suspect("late-first-run", serial, what, amount=late)

    @guarded
    def swallowed(self, serial: int) -> None:
        """A task ends well that a cancellation was delivered to."""
        life = self.store.life_of(serial)
        cause = None if life is None else around(life, self.store)
        place = self.loop.where_cancelled()
        by = "" if cause is None else f" by {cause}"
        at = "" if place is None else f" at {line_of(*place)}"
        what = f"was cancelled{by}{at}, and ended as if not"
        self.suspect("swallowed-cancellation", serial, what)

    @guarded
    def succeeded(self, serial: int, task: int) -> None:
        """A task has ended well, and has an account."""
        self._look_for_waits(serial, task)
        self.store.end(serial, task, "ok", is_in_step=self.loop.can_see_steps)

    @guarded
    def failed(self, row: Row, task: int, error: BaseException) -> None:
        """A task has ended with an error, or cancelled."""
        store, in_step = self.store, self.loop.can_see_steps
        serial = row[SERIAL]
        if serial not in store.live:
            return
        life = Life(*row)
        self._look_for_waits(serial, task)
        if isinstance(error, GeneratorExit):  # dropped, by a loop that was closed
            store.end(serial, task, "unknown", is_in_step=in_step)
        elif is_cancellation(error):
            cause = cause_of(error, life, store)
            store.end(serial, task, "cancelled", None, cause, is_in_step=in_step)
        else:
            store.end(serial, task, "error", type(error).__name__, is_in_step=in_step)
            for tell in self.failures:
                guarded(tell)(store.last_record(), error)
            if life.block is not None and life.block.cause is None:
                life.block.cause = f"task {life.name!r} failed: {type(error).__name__}"

    @guarded
    def closed(self, block: Block | None) -> None:
        """A group was left: its children that never began were cancelled before they did."""
        if block is None or not block.unbegun:
            return
        for row in copied(self.store.live.values()):
            if row[BLOCK] is block and row[BEGUN] is not None and not _is_time(row[BEGUN]):
                self._never_begins(row)
                self.store.end(row[SERIAL], 0, "cancelled", None, block.cause or _NATIVELY)

    # --- steps -------------------------------------------------------------------------

    @guarded
    def step(self, start: float, end: float, account: Account, task: object) -> None:
        """A task held the loop from *start* to *end*."""
        account.busy += end - start
        account.steps += 1
        self.store.steps.append((start, end, account.serial))
        if end - start > self.thresholds.long_step:
            self.stepped_long(account.serial, end - start, task)

    @guarded
    def stepped_long(self, serial: int | None, held: float, task: object) -> None:
        """A task, or a coroutine in its place, held the loop for long, and has let go of it.

        Which line did is not known any more; but the one that it has come to is.
        """
        coro = coro_of(task)
        found, what = innermost(coro), f"held the loop for {held:.3g} s"
        if found is not None:
            line = line_of(*found)
            what += f", then came to: {line.source}" if line.source else ""
            self.suspect("long-step", serial, what, str(line), held, f"now at {line}")
            return
        code = getattr(coro, "cr_code", None)
        if code is None or is_library(code.co_filename):
            self.suspect("long-step", serial, what, amount=held)
        else:  # it has ended
            place = str(Line(code.co_filename, code.co_firstlineno, code.co_name))
            self.suspect("long-step", serial, what, place, held, f"of {place}")

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
        if task == self.adopted:  # its first step began before it was ours
            return
        if account is None or account.steps > (not self.loop.can_see_steps):
            return
        row = self.store.live.get(serial)
        held = 0.0 if row is None or not _is_time(row[BEGUN]) else now() - row[BEGUN]
        if held > self.thresholds.never_yielded:
            what = f"held the loop for {held:.3g} s, and never let go of it"
            self.suspect("never-yielded", serial, what, amount=held)

    # --- what else there is to note ----------------------------------------------------

    def is_here(self) -> bool:
        """True within the loop that is recorded."""
        return get_ident() == self.loop.thread and self.loop.is_current()

    def owns(self, group: Group | None) -> bool:
        """True for a group of the loop that is recorded; for None, within that loop."""
        block: Block | None = None if group is None else group._seen
        if block is None:
            return self.is_here()
        return get_ident() == self.loop.thread and block.run == self.loop.run

    @guarded
    def span(self, name: str) -> Callable[[BaseException | None], None]:
        """Begin a span in the task that calls; what is returned ends it."""
        store, ident = self.store, self.loop.identify()
        if ident and ident not in store.serials:
            self.strangers.meet_current()
        number = store.add_span(str(name)[:LONGEST_NAME], store.serials.get(ident))

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
        if task not in self.store.serials:
            self.strangers.meet_current()
        serial, place = self.store.serials.get(task), deadline.place
        what = f"left a block {late:.3g} s after its {deadline}"
        if serial is None:
            what = f"a task{'' if place is None else f' ({place})'} {what}"
        self.suspect("deadline-overrun", serial, what, place, late)

    @guarded
    def lost(self) -> None:
        """The run is over, and with it every task that is still thought to live."""
        idents = {serial: ident for ident, serial in copied(self.store.serials.items())}
        for serial in copied(self.store.live):
            self.store.end(serial, idents.get(serial, 0), "unknown", is_in_step=False)


def _is_time(begun: object) -> bool:
    return isinstance(begun, float)


def coro_of(task: Any) -> object:
    """What a task runs, of whichever loop; a coroutine is that itself."""
    get = getattr(task, "get_coro", None)
    return getattr(task, "coro", task) if get is None else get()


def is_cancellation(error: BaseException) -> bool:
    """True if *error* says of a task that it was cancelled, and nothing else."""
    try:
        cancelled: type[BaseException] = get_cancelled_exc_class()
    except Exception:  # no task runs here
        cancelled = CancelledError
    return without(cancelled, error) is None
