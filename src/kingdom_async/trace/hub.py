"""The observer that the core speaks to: it passes on to every recording that is on.

Rule: it sits in the core's slot only while something is recorded. What concerns groups and
deadlines is the same for all recordings, and is kept here once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import RLock, get_ident
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from anyio import CancelScope, get_cancelled_exc_class

from .. import _observe
from .._backend import current_backend
from .._failures import without
from .causes import Deadline, by_task
from .guard import guarded
from .lints import EVERY, Sampler
from .loops import AsyncioLoop
from .monitor import monitor
from .places import caller
from .recorder import Recorder
from .stacks import line_of
from .store import Block, Life

if TYPE_CHECKING:
    from .._observe import Group
    from .loops import Loop
    from .recording import Recording

T = TypeVar("T")
Ended = Callable[[BaseException | None], None]
#: Who counted a task that is about to be spawned, and its serial there.
Ticket = list[tuple[Recorder, "int | None"]]


class Hub:
    """All recordings that are on, and the recorders at work for them."""

    def __init__(self) -> None:
        self.recorders: tuple[Recorder, ...] = ()
        #: Recordings that were begun where no loop ran, and wait for one.
        self.waiting: tuple[Recording, ...] = ()
        #: Which recorder works for a recording, and what ends its work.
        self._at_work: dict[Recording, Recorder] = {}
        self._ends: dict[Recording, list[Callable[[], None]]] = {}
        #: Held while any of these changes, for an instant.
        self._changing = RLock()
        #: By ``id`` of the task: the deadlines around what it does now.
        self._deadlines: dict[int, list[Deadline]] = {}

    # --- switching ---------------------------------------------------------------------

    def begin(self, recording: Recording) -> None:
        """Record the loop that runs here; where none does, the next one that runs."""
        with self._changing:
            self.waiting = (*self.waiting, recording)
        try:
            current_loop()
        except RuntimeError:
            self._settle()
        else:
            self.loop_runs()

    def end(self, recording: Recording) -> None:
        """Stop *recording*, and take every hook away that it needed."""
        self._detach(recording, for_good=True)
        guarded(recording.stop)()
        self._settle()

    def _detach(self, recording: Recording, *, for_good: bool = False) -> None:
        with self._changing:
            if for_good:
                self.waiting = tuple(each for each in self.waiting if each is not recording)
            recorder = self._at_work.pop(recording, None)
            ends = self._ends.pop(recording, [])
            if recorder is not None:
                ends.append(partial(self._drop, recorder))
        for end in ends:
            guarded(end)()

    @guarded
    def loop_runs(self) -> None:
        """A loop runs in this thread: it is what waiting recordings were waiting for."""
        with self._changing:
            waiting, self.waiting = self.waiting, ()
        for recording in waiting:
            self._attach(recording)
            if not recording.is_on:  # it was ended meanwhile, by another thread
                self._detach(recording)
        self._settle()

    @guarded
    def _attach(self, recording: Recording) -> None:
        loop: Any = current_loop()
        recorder = recording.attach(loop)
        ends: list[Callable[[], None]] = []
        with self._changing:
            self.recorders = (*self.recorders, recorder)
            self._at_work[recording] = recorder
            self._ends[recording] = ends
        ends.append(monitor.add(Sampler(recorder, self._deadlines), after=EVERY))
        if loop.backend == "trio":
            from .instrument import watch as watch_trio

            ends.append(partial(_in_loop, loop, watch_trio(recorder, loop)))
        elif recorder.has_steps and loop.can_see_steps:
            from .asyncio_steps import watch as watch_asyncio

            ends.append(watch_asyncio(recorder, loop))
        recorder.sweep()

    def _drop(self, recorder: Recorder) -> None:
        with self._changing:
            self.recorders = tuple(each for each in self.recorders if each is not recorder)
        if get_ident() == recorder.loop.thread:
            recorder.sweep()
        _in_loop(recorder.loop, recorder.unfollow)

    def _settle(self) -> None:
        with self._changing:
            _observe.observer = self if self.recorders or self.waiting else None
            self.__dict__.pop("wrapped", None)
            if len(self.recorders) == 1 and not self.waiting:  # the short way
                self.wrapped = self.recorders[0].wrapped  # type: ignore[method-assign, assignment]
            if _observe.observer is None:
                self._deadlines.clear()

    def recorders_of(self, recording: Recording | None) -> list[Recorder]:
        """Who works for *recording*; for None, all that work."""
        return [
            recorder
            for each, recorder in [*self._at_work.items()]
            if recording is None or each is recording
        ]

    def crashed(self, error: BaseException) -> None:
        """An error leaves the program."""
        for recording in [*self._at_work]:
            recording.crashed(error)

    # --- what the core says ------------------------------------------------------------

    def wrapped(
        self, coro: Coroutine[Any, Any, T], name: str, group: Group, depth: int
    ) -> Coroutine[Any, Any, T]:
        if self.waiting:
            self.loop_runs()
        for recorder in self.recorders:
            coro = recorder.wrapped(coro, name, group, depth + 1)
        return coro

    @guarded
    def spawning(self, name: str, group: Group | None) -> Ticket:
        if self.waiting:
            self.loop_runs()
        return [(recorder, recorder.spawning(name, group)) for recorder in self.recorders]

    @guarded
    def unspawned(self, group: Group) -> None:
        for recorder in self.recorders:
            recorder.unspawned(recorder.expected)

    @guarded
    def unstarted(self, ticket: Ticket | None, error: BaseException) -> None:
        for recorder, serial in ticket or ():
            if serial is not None:
                recorder.unstarted(serial, error)

    def child(
        self, coro: Coroutine[Any, Any, T], ticket: Ticket | None
    ) -> Coroutine[Any, Any, T]:
        for recorder, serial in ticket or ():
            if serial is not None:
                coro = recorder.child(coro, serial)
        return coro

    @guarded
    def opened(self, group: Group) -> None:
        here = self._here() or self._newly_here()
        if here is None:
            return
        host = here.loop.identify()
        kind, code, instruction = _opener(sys._getframe(1))
        if code is None:  # opened by a task of the core's own, for the group that it is in
            raw = here.store.live.get(here.store.serials.get(host, -1))
            life = None if raw is None else Life(*raw)
            if life is not None:
                code, instruction = life.code, life.instruction
        deadlines = tuple(self._deadlines.get(host, ()))
        group._seen = block = Block(kind, code, instruction, host, deadlines)
        block.group = ref(group)

    @guarded
    def failed(self, group: Group, error: BaseException) -> None:
        block: Block | None = group._seen
        if block is None or block.cause is not None:
            return
        if without(get_cancelled_exc_class(), error) is not None:
            name = self._name_of(block.host) or "?"
            block.cause = f"task {name!r} failed: {type(error).__name__}"

    @guarded
    def closed(self, group: Group) -> None:
        for recorder in self.recorders:
            recorder.closed(group._seen)

    @guarded
    def cancelled(self, group: Group, reason: str | None) -> None:
        block: Block | None = group._seen
        here = self._here()
        if block is None or block.cause is not None or here is None:
            return
        code, instruction = caller(sys._getframe(1))
        place = None if code is None else str(line_of(code, instruction))
        name = self._name_of(here.loop.identify())
        if name is None:
            where = "" if place is None else f" at {place}"
            block.cause = f"a callback{where}" + ("" if reason is None else f": {reason}")
        else:
            block.cause = by_task(name, reason, place)

    @guarded
    def deadline_set(self, scope: CancelScope, seconds: float, reason: str | None) -> None:
        here = self._here() or self._newly_here()
        if here is not None:
            deadline = Deadline(scope, seconds, reason, *caller(sys._getframe(1)))
            self._deadlines.setdefault(here.loop.identify(), []).append(deadline)

    @guarded
    def deadline_left(self, scope: CancelScope, late: float) -> None:
        here = self._here()
        task = 0 if here is None else here.loop.identify()
        if task not in self._deadlines:  # its recording is over, and another one is on
            found = (each for each, all_ in [*self._deadlines.items()] if _has(all_, scope))
            task = next(found, 0)
        around = self._deadlines.get(task, [])
        left = [deadline for deadline in around if deadline.scope is scope]
        for deadline in left:
            around.remove(deadline)
            deadline.left()
        if not around:
            self._deadlines.pop(task, None)
        for recorder in self.recorders:
            if late > recorder.thresholds.deadline_overrun and recorder.is_here():
                for deadline in left:
                    recorder.overran(task, deadline, late)

    def task(self) -> int:
        return self._task() or 0

    @guarded
    def _task(self) -> int:
        here = self._here()
        return 0 if here is None else here.loop.identify()

    def called(self, name: str) -> Ended:
        spans = self._spans(name) or ()

        def ended(error: BaseException | None) -> None:
            for end in spans:
                if end is not None:
                    end(error)

        return ended

    @guarded
    def _spans(self, name: str) -> list[Ended | None]:
        return [recorder.span(name) for recorder in self.recorders if recorder.is_here()]

    # --- small questions ---------------------------------------------------------------

    def adopted(self, coro: Coroutine[Any, Any, T], name: str) -> Coroutine[Any, Any, T]:
        """The task that calls is to run *coro*, and is the core's own from here on."""
        return self.child(coro, self._adopting(name))

    @guarded
    def _adopting(self, name: str) -> Ticket:
        self._leave_what_is_over()
        if self.waiting:
            self.loop_runs()
        return [(each, each.adopting(name)) for each in self.recorders]

    def _leave_what_is_over(self) -> None:
        """Recordings of a run that is over wait for the next one."""
        for recording, recorder in [*self._at_work.items()]:
            if not recorder.loop.runs():
                self._detach(recording)
                recorder.lost()
                with self._changing:
                    if recording.is_on:
                        self.waiting = (*self.waiting, recording)

    def recorder_here(self) -> Recorder | None:
        """The recorder of the loop in this thread, or else the only one there is."""
        here = self._here()
        if here is None and len(self.recorders) == 1:
            return self.recorders[0]
        return here

    def _here(self) -> Recorder | None:
        """A recorder of the loop that runs in this thread."""
        for each in self.recorders:
            if each.is_here() and each.loop.is_current():
                return each
        return None

    def _newly_here(self) -> Recorder | None:
        """A recorder of the loop that runs here, and was not known to."""
        if any(each.is_here() for each in self.recorders):
            self._leave_what_is_over()
        if self.waiting:
            self.loop_runs()
        return self._here()

    def _name_of(self, task: int) -> str | None:
        here = self._here()
        if here is None:
            return None
        raw = here.store.live.get(here.store.serials.get(task, -1))
        return None if raw is None else Life(*raw).name


#: The one hub of the process.
hub: Hub = Hub()


def current_loop() -> Loop:
    """The loop that runs in this thread.

    Raises:
        RuntimeError: If none does.
    """
    try:
        backend = current_backend()
    except RuntimeError:  # in a callback of asyncio's, where no task runs
        loop = type(asyncio.get_running_loop()).__module__
        backend = "asyncio+uvloop" if loop.startswith("uvloop") else "asyncio"
    if backend == "trio":
        from .instrument import TrioLoop

        return TrioLoop()
    return AsyncioLoop(backend)


def _has(deadlines: list[Deadline], scope: CancelScope) -> bool:
    return any(deadline.scope is scope for deadline in deadlines)


def _in_loop(loop: Any, func: Callable[[], None]) -> None:
    """Call *func* in the thread of *loop*: now, or soon."""
    if get_ident() == loop.thread:
        func()
        return
    with suppress(RuntimeError):  # the loop has ended, and its hooks with it
        loop.call(func)


def _opener(frame: FrameType) -> tuple[str, CodeType | None, int]:
    """Which call opened a group, and the line that made it."""
    kind = "TaskGroup"
    code, instruction = caller(frame)
    inner: FrameType | None = frame
    while inner is not None and inner.f_code is not code and inner.f_code.co_name not in _EDGE:
        for name in (inner.f_code.co_name, Path(inner.f_code.co_filename).stem):
            kind = name.strip("_") if name.strip("_") in _CALLS else kind
        inner = inner.f_back
    return kind, code, instruction


#: What a task is run by; the frames above are not its own.
_EDGE = frozenset({"_run_coro", "child"})

#: The calls of the core that open a group of their own.
_CALLS = ("gather", "first_success", "first_finished", "amap", "imap", "offload_map")
