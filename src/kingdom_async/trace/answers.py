"""What a program says of itself when another process asks.

Rule: any thread may ask, whether the loop runs, is blocked or has ended. What must be done
inside the loop is handed to it and waited for, for a short time; what it has not begun by
then, it never begins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from platform import python_version
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .files import STEPS, TASKS
from .guard import guarded
from .hub import hub
from .live import look
from .recording import Recording, program
from .records import Lag, now
from .stacks import Line, lines, running
from .table import details, row, rows, told
from .tree import tree_of

if TYPE_CHECKING:
    from .loops import Loop
    from .recorder import Recorder

T = TypeVar("T")

#: Seconds after which a loop that says nothing counts as blocked; and those that a change in
#: it is waited for.
_PATIENCE, _LONGER_PATIENCE = 0.25, 2.0
_LONGEST_RECORDING = 600.0
_LINTS = 50

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


class Answers:
    """Answers for one loop, the one that runs in this thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ping: _Call[float] | None = None
        self._pinging = Lock()
        #: Held while the recording that ``on`` began is exchanged.
        self._switching = Lock()
        self._switched_on: Recording | None = None
        self._recordings: set[Recording] = set()
        self._calls: set[_Call[Any]] = set()
        self._is_over = Event()

    def close(self) -> None:
        """The program wants to end: end what was begun here, and let go of who waits."""
        self._is_over.set()
        for call in tuple(self._calls):
            call.withdraw()
            call.over.set()
        for recording in tuple(self._recordings):
            guarded(self._ended)(recording)

    def to(self, request: Mapping[str, Any], has_left: Callable[[], bool]) -> dict[str, Any]:
        """The answer to one request.

        Args:
            request: ``"do"`` and its options.
            has_left: True once nobody waits for the answer any more.

        Raises:
            Refused: If there is something wrong with it.
        """
        options = dict(request)
        do = options.pop("do", None)
        commands: dict[object, tuple[Callable[..., dict[str, Any]], set[str]]] = {
            "status": (self.status, set()),
            "tree": (self.tree, set()),
            "top": (self.top, {"sort", "descending", "filter", "limit", "task"}),
            "on": (self.on, {"level"}),
            "off": (self.off, {"recording"}),
            "record": (self.record, {"seconds", "level"}),
        }
        if not isinstance(do, str) or do not in commands:
            raise Refused(f"do must be one of {', '.join(map(str, commands))}, not {do!r:.50}")
        answer, known = commands[do]
        if unknown := options.keys() - known:
            raise Refused(f"{do} has no option {min(unknown)!r:.50}")
        if do == "record":
            options["has_left"] = has_left
        return answer(**options)

    # --- looking -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What runs there, and how it is."""
        recorder = self._recorder()
        switched_on = self._switched_on
        return {
            "pid": os.getpid(),
            "program": program(),
            "python": python_version(),
            "backend": self._loop.backend,
            "level": None if recorder is None else "steps" if recorder.has_steps else "life",
            "recorded": None if recorder is None else now() - recorder.store.began,
            "switched_on": None if switched_on is None else switched_on.level,
            "dropped": {} if recorder is None else recorder.store.dropped()._asdict(),
            "loop": self.pulse(),
        }

    def tree(self) -> dict[str, Any]:
        """The task tree as text."""
        pulse = self.pulse()
        if pulse["state"] == "ended":
            raise Refused(ENDED)
        return {"loop": pulse, "tree": tree_of(self._loop, self._recorder())}

    def top(
        self,
        sort: str = "warning",
        descending: bool = True,
        filter: str = "",
        limit: int = 200,
        task: int | None = None,
    ) -> dict[str, Any]:
        """The live tasks as rows, and one of them in full."""
        recorder, status = self._recorder(), self.status()
        if status["loop"]["state"] == "ended":
            raise Refused(ENDED)
        tasks = look(self._loop, recorder)
        is_blocked = status["loop"]["state"] == "blocked"
        shown = rows(tasks, recorder, str(filter)[:200], is_blocked=is_blocked)
        try:
            ordered = shown.ordered(sort, descending=bool(descending))
        except (KeyError, TypeError):
            raise Refused(f"sort must be the name of a column, not {sort!r:.50}") from None
        if type(limit) is not int or not 0 < limit <= 1000:
            raise Refused(f"limit must be 1 to 1000 rows, not {limit!r:.50}")
        lints = [] if recorder is None else list(recorder.store.lints)[-_LINTS:]
        selected = next((each for each in tasks if each.ident == task), None)
        return {
            **status,
            "tasks": len(tasks),
            "matching": len(ordered),
            "rows": [row(*each) for each in ordered[:limit]],
            "lints": [
                {
                    "kind": lint.kind,
                    "task": lint.task,
                    "message": lint.message[:500],
                    "ago": now() - lint.at,
                }
                for lint in reversed(lints)
            ],
            "task": None if selected is None else details(selected, recorder),
        }

    def pulse(self) -> dict[str, Any]:
        """How long the loop takes to answer; if it does not, what blocks it."""
        if not self._loop.runs():
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
        if self._is_over.is_set():
            return {"state": "ended"}
        if ping.result is None:
            return {"state": "blocked", **self._blocked(now() - ping.sent)}
        self._calls.discard(ping)
        lag = ping.result - ping.sent
        for recorder in self._recorders():
            recorder.store.lags.append(Lag(ping.result, lag))
        return {"state": "runs", "lag": lag}

    def _blocked(self, seconds: float) -> dict[str, Any]:
        stack, name = lines(running(self._loop.thread)), None
        for task in look(self._loop, self._recorder()):
            if task.state == "running":
                stack, name = list(task.stack) or stack, task.name
        return {
            "seconds": seconds,
            "task": name,
            "stack": [told(line) for line in stack],
        }

    # --- recording ---------------------------------------------------------------------

    def on(self, level: str = "life") -> dict[str, Any]:
        """Begin a recording that lasts until ``off``."""
        with self._switching:
            if self._switched_on is not None:
                raise Refused(
                    f"recording is on already, with level {self._switched_on.level}; "
                    "switch it off first"
                )
            self._switched_on = self._begun(level)
        return {"level": level}

    def off(self, recording: bool = False) -> dict[str, Any]:
        """End it; its records are in the answer if they are asked for."""
        with self._switching:
            ended, self._switched_on = self._switched_on, None
        if ended is None:
            raise Refused("recording is not on; what the program itself records goes on")
        self._end(ended)
        snapshot = ended.snapshot()
        records = {"recording": snapshot} if recording else {}
        return {"level": ended.level, "seconds": snapshot.ended - snapshot.began, **records}

    def record(
        self,
        seconds: object = 5,
        level: str = "steps",
        has_left: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """A recording of the next seconds."""
        if type(seconds) not in (int, float) or not 0 < seconds <= _LONGEST_RECORDING:  # type: ignore[operator]
            raise Refused(
                f"seconds must be more than 0 and at most {_LONGEST_RECORDING:g}, "
                f"not {seconds!r:.50}"
            )
        recording = self._begun(level)
        end = now() + float(seconds)  # type: ignore[arg-type]
        while (left := end - now()) > 0 and not has_left() and self._loop.runs():
            if self._is_over.wait(min(left, 0.2)):
                break
        self._end(recording)
        return {"recording": recording.snapshot()}

    def _begun(self, level: str) -> Recording:
        if level not in ("life", "steps"):
            raise Refused(f"level must be life or steps, not {level!r:.50}")
        made = Recording(level, tasks=TASKS, steps=STEPS)  # type: ignore[arg-type]
        self._recordings.add(made)
        try:
            self._in_loop(lambda: _begin(made))
        except Refused:
            self._recordings.discard(made)
            raise
        return made

    def _end(self, recording: Recording) -> None:
        """End it in the loop; where that is blocked, as soon as it no longer is."""
        call = _Call(lambda: self._ended(recording))
        try:
            self._send(call)
        except Refused:
            self._ended(recording)
            return
        call.over.wait(_LONGER_PATIENCE)
        self._calls.discard(call)

    def _ended(self, recording: Recording) -> None:
        try:
            self._recordings.remove(recording)
        except KeyError:  # another thread was first
            return
        hub.end(recording)

    def _in_loop(self, func: Callable[[], T]) -> T:
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

    def _no_answer(self) -> str:
        if self._is_over.is_set() or not self._loop.runs():
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
            if self._is_over.is_set() or not self._loop.runs():
                raise RuntimeError
            self._loop.call(call)
        except RuntimeError:
            self._calls.discard(call)
            raise Refused(ENDED) from None

    # --- who records -------------------------------------------------------------------

    def _recorders(self) -> list[Recorder]:
        """Those of this loop: the ones with steps first, then the older ones."""
        here = [
            each
            for each in hub.recorders
            if each.loop.thread == self._loop.thread and each.loop.runs()
        ]
        return sorted(here, key=lambda each: not each.has_steps)

    def _recorder(self) -> Recorder | None:
        return next(iter(self._recorders()), None)


def _begin(recording: Recording) -> None:
    try:
        hub.begin(recording)
    except Exception:
        hub.end(recording)  # what of it had begun
        raise
