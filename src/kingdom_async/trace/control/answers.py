"""What a program says of itself when another process asks.

Rule: any thread may ask, whether the loop runs, is blocked or has ended. What leaves here is
plain data, and what cannot be served is refused in a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from platform import python_version
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..guard import guarded
from ..hub import hub
from ..lints.watchdog import watch_for
from ..recording import Recording, program
from ..records import now
from ..views.live import look
from ..views.table import details, row, rows
from ..views.tree import tree_of
from .files import STEPS, TASKS
from .reach import ENDED, Reach, Refused

if TYPE_CHECKING:
    from ..loops import Loop

_LONGEST_RECORDING = 600.0
_LINTS = 50


class Answers:
    """Answers for one loop, the one that runs in this thread."""

    def __init__(self, loop: Loop) -> None:
        self._reach = Reach(loop)
        #: Held while the recording that ``on`` began is exchanged.
        self._switching = Lock()
        self._switched_on: Recording | None = None
        #: What was begun here, with what ends its watchdog.
        self._recordings: dict[Recording, Callable[[], None]] = {}

    def close(self) -> None:
        """The program wants to end: end what was begun here, and let go of who waits."""
        self._reach.close()
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
        recorder = self._reach.recorder()
        switched_on = self._switched_on
        return {
            "pid": os.getpid(),
            "program": program(),
            "python": python_version(),
            "backend": self._reach.loop.backend,
            "level": None if recorder is None else "steps" if recorder.has_steps else "life",
            "recorded": None if recorder is None else now() - recorder.store.began,
            "switched_on": None if switched_on is None else switched_on.level,
            "dropped": {} if recorder is None else recorder.store.dropped()._asdict(),
            "loop": self._reach.pulse(),
        }

    def tree(self) -> dict[str, Any]:
        """The task tree as text."""
        pulse = self._reach.pulse()
        if pulse["state"] == "ended":
            raise Refused(ENDED)
        return {"loop": pulse, "tree": tree_of(self._reach.loop, self._reach.recorder())}

    def top(
        self,
        sort: str = "warning",
        descending: bool = True,
        filter: str = "",
        limit: int = 200,
        task: int | None = None,
    ) -> dict[str, Any]:
        """The live tasks as rows, and one of them in full."""
        recorder, status = self._reach.recorder(), self.status()
        if status["loop"]["state"] == "ended":
            raise Refused(ENDED)
        tasks = look(self._reach.loop, recorder)
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
            is_on = self._reach.recorder() is not None
            more = "; what the program itself records goes on" if is_on else ""
            raise Refused(f"nothing was begun with kingdom-async trace on{more}")
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
        while (left := end - now()) > 0 and not has_left() and self._reach.loop.runs():
            if self._reach.is_over.wait(min(left, 0.2)):
                break
        self._end(recording)
        return {"recording": recording.snapshot()}

    def _begun(self, level: str) -> Recording:
        if level not in ("life", "steps"):
            raise Refused(f"level must be life or steps, not {level!r:.50}")
        made = Recording(level, tasks=TASKS, steps=STEPS)  # type: ignore[arg-type]
        self._recordings[made] = _nothing
        try:
            self._reach.call(lambda: _begin(made))
        except Refused:
            self._recordings.pop(made, None)
            raise
        # On uvloop the steps of most tasks cannot be seen; who blocks the loop can.
        end = watch_for(made, self._reach.loop)
        if made in self._recordings:
            self._recordings[made] = end
        else:  # the program ended meanwhile
            end()
        return made

    def _end(self, recording: Recording) -> None:
        """End it in the loop; where that is blocked, as soon as it no longer is."""
        self._recordings.get(recording, _nothing)()
        try:
            self._reach.tell(lambda: self._ended(recording))
        except Refused:
            self._ended(recording)

    def _ended(self, recording: Recording) -> None:
        end = self._recordings.pop(recording, None)
        if end is not None:  # else another thread was first
            end()
            hub.end(recording)


def _nothing() -> None:
    """What ends no watchdog."""


def _begin(recording: Recording) -> None:
    try:
        hub.begin(recording)
    except Exception:
        hub.end(recording)  # what of it had begun
        raise
