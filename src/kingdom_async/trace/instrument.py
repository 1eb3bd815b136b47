"""The trio side of the tracer: an Instrument that sees every task live and step.

Rule: the only file of the package that imports trio at module level. A hook never raises:
trio would drop the instrument and say so in its log only.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal

import trio
from outcome import Error
from trio.lowlevel import Task

from .guard import guarded
from .loops import CORE, NativeTask
from .raw.causes import is_called
from .raw.edges import cut
from .raw.rows import IDENT, SERIAL, Account
from .recording import Recording
from .records import now
from .stacks import innermost, links

if TYPE_CHECKING:
    from types import CodeType

    from trio._core._run import CancelStatus

    from .raw.recorder import Recorder

#: Where trio has what a task is resumed with, and what cancels it; without these, swallowed
#: cancellations go unseen.
_CAN_SEE_CANCELS = hasattr(Task, "_next_send") and hasattr(Task, "_cancel_status")


class TrioLoop:
    """The run of trio's that the caller is in."""

    backend = "trio"
    can_see_steps = True

    def __init__(self) -> None:
        self.thread: int = get_ident()
        self.root: Task | None = trio.lowlevel.current_root_task()
        self._token = trio.lowlevel.current_trio_token()
        self.run: int = id(self._token)
        self.current_task: Callable[[], object] = trio.lowlevel.current_task
        #: By ``id``: tasks that a cancellation was delivered to, and where they were.
        self.cancelled: dict[int, tuple[CodeType, int] | None] = {}

    def identify(self) -> int:
        try:
            return id(trio.lowlevel.current_task())
        except RuntimeError:
            return 0

    def tasks(self) -> list[NativeTask]:
        found: list[NativeTask] = []
        pending = [] if self.root is None else [self.root]
        while pending:
            task = pending.pop()
            found.append(_described(task))
            for nursery in task.child_nurseries:
                pending.extend(nursery.child_tasks)
        return found

    def described(self, native: Task) -> NativeTask:
        return _described(native)

    def call(self, func: Callable[[], object]) -> None:
        self._token.run_sync_soon(func)

    def later(self, seconds: float, func: Callable[[], object]) -> Callable[[], object]:
        # Not by a task or a timer: the program's clock may jump to it.
        later = _Later(now() + seconds, func)
        trio.lowlevel.add_instrument(later)
        return later.leave

    def has_swallowed(self) -> bool:
        # Not by trio.current_effective_deadline(): among 600 groups it recurses too deep.
        return bool(self.cancelled) and (
            self.identify() in self.cancelled
            and trio.lowlevel.current_task()._cancel_status.effectively_cancelled
        )

    def where_cancelled(self) -> tuple[CodeType, int] | None:
        return self.cancelled.get(self.identify())

    def is_current(self) -> bool:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:  # in a hook; or in asyncio, whose guest trio is
            with suppress(RuntimeError):
                asyncio.get_running_loop()
                return False
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def when_done(self, native: object, tell: object) -> None:
        return None  # task_exited is called for each

    def runs(self) -> bool:
        try:
            self._token.run_sync_soon(int)
        except trio.RunFinishedError:
            return False
        return True

    def is_cancelled(self, native: Task) -> bool:
        nursery = native.parent_nursery
        return nursery is not None and is_called(nursery.cancel_scope)

    def scopes(self, native: Task) -> Iterator[Any]:
        status: Any = getattr(native, "_cancel_status", None)
        if status is not None and _sleeps(native):
            status = status._parent  # a sleep has one of its own
        while status is not None:
            yield status._scope
            status = status._parent

    def is_idle(self) -> bool:
        """True while it waits for events.

        A ping would be one, and would keep `wait_all_tasks_blocked` and a clock that jumps
        waiting, which both look for a time without any.
        """
        frame = sys._current_frames().get(self.thread)
        return (
            frame is not None
            and frame.f_code.co_name == "get_events"
            and frame.f_locals.get("timeout", 0) > 0
        )


class _Later(trio.abc.Instrument):
    """Calls a function once, after the first turn of the loop that ends after a time."""

    def __init__(self, at: float, func: Callable[[], object]) -> None:
        self._at = at
        self._func = guarded(func)

    def before_io_wait(self, timeout: float) -> None:
        """The turn is over; trio calls this."""
        if now() >= self._at:
            self.leave()
            self._func()

    def leave(self) -> None:
        """Look at no more turns."""
        with suppress(KeyError, RuntimeError):  # it did already, or the run is over
            trio.lowlevel.remove_instrument(self)


class _Watching(trio.abc.Instrument):
    """Tells a recorder what the run does."""

    _recorder: Recorder
    _loop: TrioLoop

    def after_run(self) -> None:
        """The run is over; trio calls this."""
        self._let_go()

    def _let_go(self) -> None:
        """Keep no task alive; there is none without steps."""

    def _watch_lives(self) -> None:
        """Note each task as it is spawned, and as it exits."""
        recorder, loop = self._recorder, self._loop
        store = recorder.store
        serials, accounts, has_steps = store.serials, store.accounts, recorder.has_steps
        end = guarded(store.end)

        def task_spawned(task: Task) -> None:
            row = recorder.expected
            if row is None:
                self._meet(task)
                return
            recorder.expected = None
            row[IDENT] = ident = id(task)
            serials[ident] = row[SERIAL]
            if has_steps:
                accounts[ident] = Account(row[SERIAL])

        def task_exited(task: Task) -> None:
            serial = serials.get(id(task))
            if serial is not None:  # else it was ours, and has said so
                end(serial, id(task), "unknown")
            if loop.cancelled:
                loop.cancelled.pop(id(task), None)

        # As attributes they cost less than as methods.
        vars(self).update(task_spawned=task_spawned, task_exited=task_exited)

    @guarded
    def _meet(self, task: Task) -> None:
        if self._loop.root is None:
            self._loop.root = trio.lowlevel.current_root_task()
        if not _is_internal(task):
            self._recorder.strangers.meet(_described(task), spawned=now())

    def _watch_steps(self) -> None:
        """Time each step: it ends where the next one begins, or where the loop waits."""
        recorder, cancelled = self._recorder, self._loop.cancelled
        get_account, append = recorder.store.accounts.get, recorder.store.steps.append
        long_step = recorder.thresholds.long_step
        holder, begun = _running(), now()
        # The step that the recording begins in is cut at its start, the last one at its end.
        current: Account | None = get_account(id(holder))

        # Written out, since this is paid for at each step of each task.
        def before_task_step(task: Task) -> None:
            nonlocal current, holder, begun
            at = now()
            if current is not None:
                held = at - begun
                current.busy += held
                current.steps += 1
                append((begun, at, current.serial))
                if held > long_step:
                    recorder.stepped_long(current.serial, held, holder)
            current = get_account(id(task))
            holder = task
            begun = at
            if _CAN_SEE_CANCELS and type(task._next_send) is Error:
                _look_for_cancel(task, cancelled)

        def before_io_wait(timeout: float) -> None:
            nonlocal current, holder
            if timeout > 0 and current is not None:  # else the next step begins at once
                at = now()
                held = at - begun
                current.busy += held
                current.steps += 1
                append((begun, at, current.serial))
                if held > long_step:
                    recorder.stepped_long(current.serial, held, holder)
                current = holder = None

        def let_go() -> None:
            nonlocal current, holder
            cut(recorder, begun, current)
            current = holder = None

        vars(self).update(before_task_step=before_task_step, before_io_wait=before_io_wait)
        self._let_go = let_go  # type: ignore[method-assign]


_LIFE = ("task_spawned", "task_exited")
_STEPS = ("before_task_step", "before_io_wait")


def _ignored(_: object) -> None: ...


class LifecycleInstrument(_Watching):
    """See the life of every task of one trio run, and with level "steps" every step.

    For programs that are trio's alone; under `kingdom_async.trace.recording` it works by
    itself. ``instrument.recording`` has the same records and views as there, but for spans,
    and for the outcomes: trio tells an Instrument that a task ended, and not how.

    It is for one run. Added in the middle of it, by ``trio.lowlevel.add_instrument``, it begins
    with the next spawn, exit or step, and notes who is alive then; taken away before the end of
    the run, ``instrument.recording`` stays on until its ``stop()``.

    Args:
        level: ``"life"``: spawn and exit; ``"steps"``: who held the loop as well.
        tasks: How many finished tasks to keep.
        steps: How many steps to keep.

    Example:
        >>> instrument = LifecycleInstrument()
        >>> trio.run(main, instruments=[instrument])
        >>> instrument.recording.to_html("run.html")
    """

    def __init__(
        self,
        level: Literal["life", "steps"] = "steps",
        *,
        tasks: int = 4096,
        steps: int = 16384,
    ) -> None:
        self.recording: Recording = Recording(level, tasks=tasks, steps=steps)
        # trio looks for hooks when the instrument is added, which is before the run begins.
        self._hooks = [*_LIFE, *(_STEPS if level == "steps" else ())]
        for name in self._hooks:
            setattr(self, name, partial(self._late, name))

    def before_run(self) -> None:
        """The run begins; trio calls this."""
        for name in self._hooks:  # where the beginning fails, nothing more is done
            setattr(self, name, _ignored)
        self._begin()

    def after_run(self) -> None:
        """The run is over; trio calls this."""
        super().after_run()
        guarded(self.recording.stop)()

    @guarded
    def _begin(self) -> None:
        if not self.recording.is_on:
            raise RuntimeError(
                "a LifecycleInstrument is for one run; "
                "write trio.run(main, instruments=[LifecycleInstrument()]) for each"
            )
        self._loop = TrioLoop()
        self._recorder = self.recording.attach(self._loop)
        self._watch_lives()
        if self.recording.level == "steps":
            self._watch_steps()

    def _late(self, name: str, of: object) -> None:
        """The first hook that is called in a run that was under way before."""
        self.before_run()
        getattr(self, name)(of)
        if hasattr(self, "_recorder"):
            self._recorder.strangers.sweep()


class _Added(_Watching):
    """An instrument that a recording adds to a run."""

    def __init__(self, recorder: Recorder, loop: TrioLoop) -> None:
        self._recorder, self._loop = recorder, loop
        self._watch_lives()
        if recorder.has_steps:
            self._watch_steps()


def watch(recorder: Recorder, loop: TrioLoop) -> Callable[[], None]:
    """Have *recorder* told of the tasks of the run that the caller is in.

    Returns what ends that, from within the run.
    """
    instrument = _Added(recorder, loop)
    trio.lowlevel.add_instrument(instrument)

    def end() -> None:
        with suppress(KeyError, RuntimeError):  # dropped by trio, or the run is over
            trio.lowlevel.remove_instrument(instrument)
        instrument._let_go()

    return end


def _running() -> Task | None:
    """The task that the caller is in, if any."""
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        return None


def _look_for_cancel(task: Task, cancelled: dict[int, Any]) -> None:
    if isinstance(getattr(task._next_send, "error", None), trio.Cancelled):
        with suppress(AttributeError):  # of another trio
            if _comes_from_outside(task):
                cancelled[id(task)] = innermost(task.coro)


def _comes_from_outside(task: Task) -> bool:
    """True if what cancels a task is its group or its handle; not a block or timer of its own.

    The outermost block of a task of ours is the one that its handle cancels.
    """
    around = None if task.parent_nursery is None else task.parent_nursery._cancel_status
    status: CancelStatus | None = task._cancel_status
    while status is not None and status.effectively_cancelled:
        if status is around or status._parent is around:
            return True
        status = status._parent
    return False


def _described(task: Task) -> NativeTask:
    nursery = task.parent_nursery
    parent = 0 if nursery is None else id(nursery.parent_task)
    return NativeTask(id(task), task.name, task.coro, parent, _is_internal(task), task)


def _sleeps(task: Task) -> bool:
    return any(code is trio.sleep_until.__code__ for _, code in links(task.coro))


def _is_internal(task: Task) -> bool:
    """True for what trio itself starts: the init task, and system tasks of its own."""
    return task.parent_nursery is None or task.name.startswith(_OWN)


#: How the names of tasks begin that nobody asked for.
_OWN = ("<TrioToken.", "trio._core", CORE)
