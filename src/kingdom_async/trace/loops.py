"""The running loop, as a tracer sees it: its tasks, its thread, and a way into it.

Rule: what a tracer asks of a loop, it asks through these classes; that of trio is in
`instrument`. Hooks into asyncio's steps and the words of its cancellations are in `raw`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import ref

if TYPE_CHECKING:
    from types import CodeType

    from .records import Outcome

#: How the names of the tasks begin that a task group of ours starts for its own ends.
CORE = "TaskGroup: "
#: How asyncio calls a task that nobody has named; a number follows.
_NUMBERED = "Task-"
#: What asyncio itself runs in tasks, once the program is over.
_SHUTDOWN = "BaseEventLoop.shutdown_"


class NativeTask(NamedTuple):
    """A task as its loop knows it; held only while it is looked at."""

    ident: int
    name: str
    #: What it runs, for its stack.
    coro: object
    #: The ``id`` of the task that holds its group, where the loop knows it; else 0.
    parent: int
    #: True if it is the loop's own.
    internal: bool
    #: The task itself.
    native: Any


class Loop(Protocol):
    """One run of an event loop."""

    backend: str
    #: The thread that it runs in.
    thread: int
    #: A number of its own: a thread may have two, where trio is the guest of asyncio.
    run: int

    def current_task(self) -> object:
        """The task that calls.

        Raises:
            RuntimeError: Where no loop runs.
        """

    def identify(self) -> int:
        """``id`` of the task that calls; 0 outside any."""
        ...

    def tasks(self) -> list[NativeTask]:
        """Every task that has not ended; from any thread."""
        ...

    def described(self, native: Any) -> NativeTask:
        """What a tracer wants to know of one of them."""
        ...

    def call(self, func: Callable[[], object]) -> None:
        """Have the loop call *func* soon; from any thread.

        Raises:
            RuntimeError: If the loop has ended.
        """

    def later(self, seconds: float, func: Callable[[], object]) -> Callable[[], object]:
        """Have a busy loop call *func* in so many seconds; from its own thread.

        Never where that would move a clock of the program's own. Returns what takes it back, in
        that thread too.

        Raises:
            RuntimeError: If the loop has ended.
        """
        ...

    #: False where only a task itself can tell when it holds the loop.
    can_see_steps: bool

    def has_swallowed(self) -> bool:
        """True if the task that calls was cancelled, and nobody has taken note of it."""
        ...

    def where_cancelled(self) -> tuple[CodeType, int] | None:
        """Where that task was when it was cancelled, if the loop tells; code, instruction."""
        ...

    def runs(self) -> bool:
        """True until the loop has ended; from any thread."""
        ...

    def is_current(self) -> bool:
        """True where it is the loop that runs here."""
        ...

    def when_done(
        self, native: Any, tell: Callable[[Outcome], object]
    ) -> Callable[[], object] | None:
        """Have *tell* called when that task has ended; returns what takes that back.

        None where the end of every task is seen anyway.
        """
        ...

    def is_cancelled(self, native: Any) -> bool:
        """True if somebody cancels that task, as the loop knows; from any thread."""
        ...

    def scopes(self, native: Any) -> Iterator[Any]:
        """The cancel scopes around what that task does now, from the inside out."""
        ...

    def is_idle(self) -> bool:
        """True if a ping is not needed, since the loop waits; from any thread."""
        ...


if sys.version_info >= (3, 11):

    def _is_cancelling() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

else:

    def _is_cancelling() -> bool:
        return False


class AsyncioLoop:
    """A loop of asyncio's or uvloop's."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.thread: int = get_ident()
        self.native: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.run: int = id(self.native)
        self.can_see_steps: bool = backend == "asyncio"
        self.current_task: Callable[[], object] = asyncio.current_task

    def identify(self) -> int:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return 0
        return 0 if task is None else id(task)

    def tasks(self) -> list[NativeTask]:
        states = _states()
        return [
            described(task, getattr(states.get(task), "parent_id", None) or 0)
            for task in asyncio.all_tasks(self.native)
        ]

    def described(self, native: asyncio.Task[Any]) -> NativeTask:
        return described(native)

    def call(self, func: Callable[[], object]) -> None:
        self.native.call_soon_threadsafe(func)

    def later(self, seconds: float, func: Callable[[], object]) -> Callable[[], object]:
        if self.backend == "asyncio" and not _has_real_time(self.native):
            return int  # its clock would jump to that
        return self.native.call_later(seconds, func, context=Context()).cancel

    def has_swallowed(self) -> bool:
        return _is_cancelling()

    def where_cancelled(self) -> tuple[CodeType, int] | None:
        return None

    def runs(self) -> bool:
        return self.native.is_running()

    def is_current(self) -> bool:
        try:
            is_running = asyncio.get_running_loop() is self.native
        except RuntimeError:
            return False
        return is_running and (asyncio.current_task() is not None or not _is_guest_here())

    def when_done(
        self, native: asyncio.Task[Any], tell: Callable[[Outcome], object]
    ) -> Callable[[], object]:
        def done(task: asyncio.Task[Any]) -> None:
            # Not by task.exception(): asyncio reports an error that nobody has asked for.
            tell("cancelled" if task.cancelled() else "unknown")

        native.add_done_callback(done, context=Context())  # it keeps none of the caller's
        weakly = ref(native)

        def forget() -> None:
            if (task := weakly()) is not None:
                task.remove_done_callback(done)

        return forget

    def is_cancelled(self, native: asyncio.Task[Any]) -> bool:
        return sys.version_info >= (3, 11) and native.cancelling() > 0

    def scopes(self, native: asyncio.Task[Any]) -> Iterator[Any]:
        scope = getattr(_states().get(native), "cancel_scope", None)
        while scope is not None:
            yield scope
            scope = getattr(scope, "_parent_scope", None)

    def is_idle(self) -> bool:
        return False  # nothing in asyncio waits for the loop to be idle: a ping is no harm


def _has_real_time(loop: asyncio.AbstractEventLoop) -> bool:
    """False for a loop with a clock of its own, such as that of virtual time."""
    return getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time


def _is_guest_here() -> bool:
    """True within a trio that runs inside a callback of asyncio's."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    if lowlevel is None:
        return False
    try:
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _states() -> Mapping[asyncio.Task[Any], Any]:
    """What anyio notes of each task: who holds its group, which asyncio does not know.

    Not by `anyio.get_running_tasks`, which answers within a task only.
    """
    module = sys.modules.get("anyio._backends._asyncio")
    return getattr(module, "_task_states", {})


def tasks_of(loop: Loop) -> list[NativeTask]:
    """Every task of *loop* that has not ended; from any thread, while it runs."""
    while True:
        try:
            return loop.tasks()
        except RuntimeError:  # a set has changed while it was walked
            continue


def described(task: asyncio.Task[Any], parent: int = 0) -> NativeTask:
    """What a tracer wants to know of a task of asyncio's."""
    try:
        name = str(task.get_name())
    except Exception:  # a task of somebody's own making
        name = type(task).__name__
    coro = task.get_coro()
    runs = str(getattr(coro, "__qualname__", ""))
    internal = name.startswith(CORE) or runs.startswith(_SHUTDOWN)
    if runs and name.startswith(_NUMBERED) and name[len(_NUMBERED) :].isdigit():
        name = f"{name} ({runs})"
    return NativeTask(id(task), name, coro, parent, internal, task)
