"""A loop that is asked to answer again and again: how late it is, and who blocks it.

Rule: asked from a thread; an idle loop answers at once. Whatever is told is found by looking
at the loop's thread from outside, and nothing is told where the whole process stood still.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf
from time import process_time
from typing import TYPE_CHECKING

from ..hub import hub
from ..logs import log_lint
from ..records import Lag, Lint, now
from .holders import Holder, holder_of, serial_in

if TYPE_CHECKING:
    from ..loops import Loop
    from ..raw.recorder import Recorder
    from ..raw.store import Store
    from ..recording import Recording

#: Seconds between two pings at least; how late the thread itself may be before it wonders.
_SHORTEST, OVERSLEPT = 0.01, 0.1
#: The share of its lateness for which the process must have run at least, for that to be its
#: own doing: where the system tells how long this thread stood in line for a processor, and
#: where it does not.
_SHARE, _SHARE_BLIND = 0.05, 0.5
#: How many lines of the stack are told, from the inside.
_LINES = 30
_HAS_HELD = re.compile(r"\bhas held the loop for \S+ s\b")


def _time_in_line() -> float | None:
    """Seconds in which this thread could run and no processor was free; Linux tells."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


class _Ping:
    """A question to the loop."""

    __slots__ = ("answered", "sent")

    def __init__(self) -> None:
        self.sent = now()
        self.answered: float | None = None

    def __call__(self) -> None:
        self.answered = now()


class Watchdog:
    """Watches one loop; a job of the monitor."""

    def __init__(
        self,
        seconds: float,
        loop: Loop,
        recording: Recording | None = None,
        *,
        is_quiet: bool = False,
    ) -> None:
        self._seconds = seconds
        self._every = max(seconds / 4, _SHORTEST)
        self.loop: Loop = loop
        self._recording = recording
        self._is_quiet = is_quiet  # nothing of it is logged
        self._ping: _Ping | None = None
        #: What was reported of this ping, for the second report.
        self._told: Lint | None = None
        self._name: str | None = None
        #: What the recordings have of it, to be amended when its length is known.
        self._noted: list[tuple[Store, Lint]] = []
        self._due = inf
        self._cpu = process_time()
        #: How long this thread has stood in line for a processor; None until it is known.
        self._line: float | None = None

    @property
    def is_for_all(self) -> bool:
        """True if it tells every recording, and the log."""
        return self._recording is None

    def watches(self, loop: Loop) -> bool:
        return self.loop.thread == loop.thread

    def __call__(self, at: float) -> float:
        """Look whether the last ping was answered; send the next. Returns when to come back."""
        held, lost = self._away(at)
        ping = self._ping
        if ping is not None and ping.answered is None:
            ping.sent += lost
            if self._told is None and at - ping.sent >= self._seconds:
                self._report(ping)
        else:
            seconds = 0.0
            if ping is not None and ping.answered is not None:
                seconds = ping.answered - ping.sent - lost
            if held > seconds:  # it was not, or hardly, asked: this thread came late itself
                self._note(Lag(self._due, held))
            if ping is not None and ping.answered is not None:
                held = max(held, self._answered(ping, seconds))
            if held >= self._seconds:
                self._report_held(held)
            self._send()
        self._due = at + self._every
        return self._due

    def leave(self) -> None:
        """The watch is over; a blockage that was told of ends with it."""
        ping, self._ping = self._ping, None
        if ping is None:
            return
        if self._told is not None or ping.answered is not None:  # nobody will look again
            self._note(Lag(ping.sent, max(0.0, (ping.answered or now()) - ping.sent)))
        self._free(ping)

    def _away(self, at: float) -> tuple[float, float]:
        """Seconds for which this thread could not run: C code ran, or the process did not."""
        late, cpu, line = at - self._due, process_time(), _time_in_line()
        used, self._cpu = cpu - self._cpu, cpu
        waited = None if line is None or self._line is None else line - self._line
        self._line = line
        if late < OVERSLEPT:
            return 0.0, 0.0
        # On a busy machine the C code is given little of a processor, and this thread as well.
        share = _SHARE_BLIND if waited is None else _SHARE
        if used < late * share or late - (waited or 0.0) < OVERSLEPT:
            return 0.0, late
        return late, 0.0

    def _send(self) -> None:
        self._ping = None
        if self.loop.is_idle():
            self._note(Lag(now(), 0.0))
            return
        ping = _Ping()
        try:
            if self.loop.backend != "trio" and not self.loop.runs():
                return  # asyncio takes calls for a loop that has stopped
            self.loop.call(ping)
        except RuntimeError:  # it has ended
            return
        self._ping = ping

    def _answered(self, ping: _Ping, seconds: float) -> float:
        """Note how long it took; returns the seconds that nobody was told of."""
        self._note(Lag(ping.sent, max(0.0, seconds)))
        if self._told is None:
            return seconds
        self._free(ping)
        return 0.0

    def _note(self, lag: Lag) -> None:
        for recorder in self._recorders():
            recorder.store.lags.append(lag)

    def _recorders(self) -> list[Recorder]:
        recorders = hub.recorders_of(self._recording)
        return [each for each in recorders if each.loop.thread == self.loop.thread]

    # --- reports -----------------------------------------------------------------------

    def _report(self, ping: _Ping) -> None:
        """The loop is blocked now."""
        if not self.loop.runs():
            self._ping = None
            return
        found = holder_of(self.loop, self._recorders())
        if found.is_nobody or (not found.stack and now() - ping.sent < 2 * self._seconds):
            return  # it waits for its turn among the threads; where it has no frames, it may
        if ping.answered is None:  # else the stack may be that of another
            self._told = self._tell(found, f"has held the loop for {now() - ping.sent:.3g} s")

    def _report_held(self, seconds: float) -> None:
        """It was, and nothing could look; whoever did it may be there still."""
        found = holder_of(self.loop, self._recorders())
        if found.is_nobody or not found.stack:
            found = Holder("the loop", None, None, None, "", [], is_nobody=True)
            self._tell(
                found,
                f"was held for {seconds:.3g} s in which no thread could run, by a call of C "
                "code that is over; the line is not known any more",
            )
            return
        self._tell(
            found,
            f"is where the loop is after {seconds:.3g} s in which no thread could run; a call "
            "of C code held the interpreter, there or right before",
        )

    def _tell(self, found: Holder, what: str) -> Lint:
        """Tell every recording, and log it."""
        what = f"{what}: {found.source}" if found.source else what
        last = None
        self._noted = []
        for recorder in self._recorders():
            last = serial_in(recorder, found.task)
            text = what if last is not None else f"{found.who} {what}"
            noted = recorder.suspect("blocked-loop", last, text, found.place)
            if noted is not None:
                self._noted.append((recorder.store, noted))
        stack = "".join(f"\n  {line}: {line.source}" for line in found.stack[-_LINES:])
        lint = Lint("blocked-loop", last, found.place, f"{found.who} {what}", now())
        self._log(replace(lint, message=lint.message + stack), found.name)
        self._name = found.name
        return lint

    def _free(self, ping: _Ping) -> None:
        told, self._told = self._told, None
        if told is not None:
            seconds = (ping.answered or now()) - ping.sent
            who = _HAS_HELD.split(told.message)[0].rstrip()
            message = f"{who} let go of the loop after {seconds:.3g} s"
            self._log(replace(told, message=message, at=now()), self._name)
            for store, lint in self._noted:
                said = _HAS_HELD.sub(f"held the loop for {seconds:.3g} s", lint.message, 1)
                store.amend_lint(lint, replace(lint, message=said))

    def _log(self, lint: Lint, name: str | None) -> None:
        if not self._is_quiet:
            log_lint(lint, name)
