"""The observer that the core speaks to: it passes on to every recording that is on.

Rule: it sits in the core's slot only while something is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _observe
from .guard import guarded
from .here import call_in, current_loop
from .lints.sampler import EVERY, Sampler
from .monitor import monitor
from .raw.blocks import Blocks
from .raw.recorder import Recorder

if TYPE_CHECKING:
    from .._observe import Group
    from .raw.rows import Row
    from .recording import Recording

T = TypeVar("T")
Ended = Callable[[BaseException | None], None]
#: Who counted a task that is about to be spawned, and its row there.
Ticket = list[tuple[Recorder, "Row | None"]]


class Hub(Blocks):
    """All recordings that are on, and the recorders at work for them."""

    def __init__(self) -> None:
        super().__init__()
        self.recorders: tuple[Recorder, ...] = ()
        #: Recordings that were begun where no loop ran, and wait for one.
        self.waiting: tuple[Recording, ...] = ()
        #: Which recorder works for a recording, and what ends its work.
        self._at_work: dict[Recording, Recorder] = {}
        self._ends: dict[Recording, list[Callable[[], None]]] = {}
        #: Held while any of these changes, for an instant.
        self._changing = RLock()

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
        recorder.strangers.sweep()
        for job in (Sampler(recorder, self._deadlines), recording.lint_log.tick):
            end = guarded(monitor.add)(job, loop, after=EVERY)  # there may be no more threads
            ends += [] if end is None else [end]
        if loop.backend == "trio":
            from .instrument import watch as watch_trio

            ends.append(partial(call_in, loop, watch_trio(recorder, loop)))
        elif recorder.has_steps and loop.can_see_steps:
            from .raw.asyncio_steps import watch as watch_asyncio

            ends.append(watch_asyncio(recorder, loop))
        with self._changing:
            is_over = self._ends.get(recording) is not ends
        if is_over:  # another thread has stopped it, and did not see all of these
            for end in ends:
                guarded(end)()

    def _drop(self, recorder: Recorder) -> None:
        with self._changing:
            self.recorders = tuple(each for each in self.recorders if each is not recorder)
        if get_ident() == recorder.loop.thread:
            recorder.strangers.sweep()
        call_in(recorder.loop, recorder.strangers.unfollow)

    def _settle(self) -> None:
        with self._changing:
            _observe.observer = self if self.recorders or self.waiting else None
            vars(self).pop("wrapped", None)
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
            if recorder.owns(group):
                recorder.unspawned()

    @guarded
    def unstarted(self, ticket: Ticket | None, error: BaseException) -> None:
        for recorder, row in ticket or ():
            if row is not None:
                recorder.unstarted(row, error)

    def child(
        self, coro: Coroutine[Any, Any, T], ticket: Ticket | None
    ) -> Coroutine[Any, Any, T]:
        for recorder, row in ticket or ():
            if row is not None:
                coro = recorder.child(coro, row)
        return coro

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
            if each.is_here():
                return each
        return None

    def _newly_here(self) -> Recorder | None:
        """A recorder of the loop that runs here, and was not known to."""
        if any(each.loop.thread == get_ident() for each in self.recorders):
            self._leave_what_is_over()
        if self.waiting:
            self.loop_runs()
        return self._here()


#: The one hub of the process.
hub: Hub = Hub()
