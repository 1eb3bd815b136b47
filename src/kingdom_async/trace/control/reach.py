"""A loop that is asked from another thread: to do something, or whether it is blocked.

Rule: what must be done inside the loop is handed to it and waited for, for a short time; what
it has not begun by then, it never begins.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..hub import hub
from ..records import Lag, now
from ..stacks import Line, lines, running
from ..views.live import look
from ..views.table import told

if TYPE_CHECKING:
    from ..loops import Loop
    from ..raw.recorder import Recorder

T = TypeVar("T")

#: Seconds after which a loop that says nothing counts as blocked; and those that a change in
#: it is waited for.
_PATIENCE, _LONGER_PATIENCE = 0.25, 2.0

ENDED = "the loop has ended"


class Refused(Exception):
    """A request that cannot be served; its text is for the one who asked."""


class _Call(Generic[T]):
    """A function that the loop is to call; it may be withdrawn until it is."""

    def __init__(self, func: Callable[[], T]) -> None:
        self._func = func
        self._lock = Lock()
        self.sent = now()
        self.over = Event()
        self.begun = self.withdrawn = False
        self.result: T | None = None
        self.error: Exception | None = None

    def __call__(self) -> None:
        with self._lock:
            if self.withdrawn:
                return
            self.begun = True
        try:
            self.result = self._func()
        except Exception as error:
            self.error = error
        finally:
            self.over.set()

    def withdraw(self) -> bool:
        """True if the loop has not begun it, and never will."""
        with self._lock:
            self.withdrawn = not self.begun
        return self.withdrawn


class Reach:
    """A way into one loop, from any thread."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._ping: _Call[float] | None = None
        self._pinging = Lock()
        self._calls: set[_Call[Any]] = set()
        #: Set once nothing more is asked.
        self.is_over: Event = Event()

    def close(self) -> None:
        """Withdraw what was not begun, and let go of who waits."""
        self.is_over.set()
        for call in tuple(self._calls):
            call.withdraw()
            call.over.set()

    def pulse(self) -> dict[str, Any]:
        """How long the loop takes to answer; if it does not, what blocks it."""
        if not self.loop.runs():
            return {"state": "ended"}
        with self._pinging:
            ping = self._ping
            if ping is None or ping.over.is_set():
                ping = self._ping = _Call(now)
                try:
                    self._send(ping)
                except Refused:
                    return {"state": "ended"}
        ping.over.wait(_PATIENCE)
        if self.is_over.is_set():
            return {"state": "ended"}
        if ping.result is None:
            return {"state": "blocked", **self._blocked(now() - ping.sent)}
        self._calls.discard(ping)
        lag = ping.result - ping.sent
        for recorder in self.recorders():
            recorder.store.lags.append(Lag(ping.result, lag))
        return {"state": "runs", "lag": lag}

    def _blocked(self, seconds: float) -> dict[str, Any]:
        stack, name = lines(running(self.loop.thread)), None
        for task in look(self.loop, self.recorder()):
            if task.state == "running":
                stack, name = list(task.stack) or stack, task.name
        return {
            "seconds": seconds,
            "task": name,
            "stack": [told(line) for line in stack],
        }

    def call(self, func: Callable[[], T]) -> T:
        """What *func* returns, called in the loop.

        Raises:
            Refused: If it does not answer, or *func* fails.
        """
        call = _Call(func)
        self._send(call)
        call.over.wait(_LONGER_PATIENCE)
        if not call.begun and call.withdraw():
            self._calls.discard(call)
            raise Refused(self._no_answer())
        call.over.wait()
        self._calls.discard(call)
        if call.error is not None:
            raise Refused(f"it failed there: {type(call.error).__name__}: {call.error}")
        return call.result  # type: ignore[return-value]

    def tell(self, func: Callable[[], object]) -> None:
        """Have *func* called in the loop; where that is blocked, once it no longer is.

        Raises:
            Refused: If the loop has ended.
        """
        call = _Call(func)
        self._send(call)
        call.over.wait(_LONGER_PATIENCE)
        self._calls.discard(call)

    def _no_answer(self) -> str:
        if self.is_over.is_set() or not self.loop.runs():
            return ENDED
        blocked = self._blocked(_LONGER_PATIENCE)
        place = ""
        if blocked["stack"]:
            last = blocked["stack"][-1]
            place = f" at {Line(last['path'], last['number'], last['function'])}"
        who = "" if blocked["task"] is None else f" by task {blocked['task']!r}"
        return f"the loop is blocked{who}{place}; nothing can be switched until it runs again"

    def _send(self, call: _Call[Any]) -> None:
        self._calls.add(call)
        try:
            if self.is_over.is_set() or not self.loop.runs():
                raise RuntimeError
            self.loop.call(call)
        except RuntimeError:
            self._calls.discard(call)
            raise Refused(ENDED) from None

    def recorders(self) -> list[Recorder]:
        """Those of this loop: the ones with steps first, then the older ones."""
        here = [
            each
            for each in hub.recorders
            if each.loop.thread == self.loop.thread and each.loop.runs()
        ]
        return sorted(here, key=lambda each: not each.has_steps)

    def recorder(self) -> Recorder | None:
        """The first of them."""
        return next(iter(self.recorders()), None)
