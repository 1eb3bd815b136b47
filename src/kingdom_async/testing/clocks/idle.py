"""What happens when no task of a program on virtual time can run, or one always can.

Rule: this decides and the clocks obey. Time jumps where nothing but time can wake the program;
it stands still while a call runs elsewhere; where nothing at all can, that is a deadlock. A
program that never rests, since it polls, has the time of its machine after a while.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from anyio import CancelScope

from ...trace.hub import hub
from ...trace.views.tree import HINT, tree_of
from ..internals.faults import open_all_shields

if TYPE_CHECKING:
    from ...trace.loops import Loop

logger: logging.Logger = logging.getLogger("kingdom_async.testing")

#: Real seconds for which a socket that a task waits on may still have something to say.
GRACE = 0.02
#: Real seconds without any event after which a program that nothing can wake is given up.
GIVE_UP = 0.5
#: Real seconds of standing still after which a line is logged.
_LONG = 5.0
#: Turns of a loop that never rests, from one look at the real time to the next.
_OFTEN = 200


class Deadlock(RuntimeError):
    """No task can ever run again: none waits for time, a socket, or a call elsewhere."""


class Then(Enum):
    """What follows if nothing happens meanwhile."""

    JUMP = auto()
    GIVE_UP = auto()
    SAY_SO = auto()


class Rest(NamedTuple):
    """How many real seconds to wait, and what then."""

    seconds: float
    then: Then


class Outside(NamedTuple):
    """What may wake a program besides time."""

    #: Calls in threads, processes and executors that are out; not those that wait for the loop.
    calls: int
    #: Sockets, pipes and such.
    files: int


class Idle:
    """Decides for one program, or for the tests that share a loop."""

    def __init__(self, *, grace: float = GRACE, give_up: float = GIVE_UP) -> None:
        self.grace = grace
        self.give_up = give_up
        #: What a deadlock said; None while there was none.
        self.deadlock: str | None = None
        #: Called where there is a deadlock and no block to cancel, or it would not go.
        self.last_resort: Callable[[], None] = self._raise
        self._scope: CancelScope | None = None
        self._has_said_so = False
        self._times = 0
        #: Turns without a rest; when they began to be long, in real time and in virtual time.
        self._turns = 0
        self._began = (0.0, 0.0)
        self._hurries = False

    def turn(self) -> bool:
        """A turn of the loop in which a task can run; True if `jumps` is to be asked."""
        self._turns += 1
        return self._hurries or not self._turns % _OFTEN

    def jumps(self, now: float, due: float) -> bool:
        """Whether time jumps though a task can run, as it would on a machine that is slow.

        Args:
            now: What the clock says.
            due: When the next timer is; ``inf`` if none ever is.
        """
        if self._hurries:
            self._hurries = False
            return due < math.inf
        if self._turns == _OFTEN:
            self._began = time.monotonic(), now
        began, at = self._began
        busy = time.monotonic() - began
        if busy < _LONG:
            return False
        self._log("its tasks never wait; from here on it is as fast as real time")
        return due - at <= busy

    def hurry(self) -> None:
        """Jump at the next turn, if there is a timer: whatever runs only waits for it."""
        self._hurries = True

    def rest(self, outside: Outside, *, has_timer: bool) -> Rest:
        self._turns = 0
        self._hurries = False
        if outside.calls:
            return Rest(_LONG, Then.SAY_SO)
        if has_timer:
            return Rest(self.grace if outside.files else 0.0, Then.JUMP)
        return Rest(_LONG, Then.SAY_SO) if outside.files else Rest(self.give_up, Then.GIVE_UP)

    def say_so(self, outside: Outside) -> None:
        """It has stood still for long."""
        what = (
            "a call in a thread, process or executor" if outside.calls else "a socket or pipe"
        )
        self._log(f"the program waits for {what}")

    def _log(self, why: str) -> None:
        if not self._has_said_so:
            self._has_said_so = True
            logger.warning("virtual time stands still for %g s of real time: %s", _LONG, why)

    def found_deadlock(self, loop: Loop) -> None:
        """Nothing can wake the program: cancel the block that is watched."""
        self._times += 1
        self.deadlock = self.deadlock or (
            "deadlock: every task waits, and nothing is left that could wake one: no timer, no "
            f"call in a thread or process, no socket.\n{tree_text(loop)}"
        )
        if self._scope is None or self._times > 2:
            self.last_resort()
        elif self._times == 1:
            self._scope.cancel()
        else:
            open_all_shields()

    @contextmanager
    def watched(self) -> Generator[None]:
        """The block that is cancelled by a deadlock, which is then raised here.

        Raises:
            Deadlock: Whatever the block made of it.
        """
        self.deadlock, self._has_said_so, self._times = None, False, 0
        error: BaseException | None = None
        try:
            with CancelScope() as self._scope:
                yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:  # a cancellation too: a scope further out may be over
            error = raised
        self._scope = None
        text, self.deadlock = self.deadlock, None
        try:
            if text is not None:
                raise Deadlock(text) from error
            if error is not None:
                raise error
        finally:
            del error

    def _raise(self) -> None:
        raise Deadlock(self.deadlock)


def tree_text(loop: Loop) -> str:
    """The tasks of *loop*; from any thread."""
    recorder = next((each for each in hub.recorders if each.loop.thread == loop.thread), None)
    # How to start a program with a recording is no help here.
    return tree_of(loop, recorder).removesuffix(f"\n{HINT}")
