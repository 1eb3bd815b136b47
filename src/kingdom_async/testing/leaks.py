"""`no_leaks`: what a block has begun must be over when it is left.

Rule: it only looks. What it finds it names, with the line it came from, and leaves as it is;
and nothing is called a leak that was there before the block, or stays alive by design.
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import time
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from itertools import chain
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from anyio.lowlevel import checkpoint
from anyio.to_thread import current_default_thread_limiter

from .._arguments import check_seconds, shown
from .._limits import LIMITERS
from ..trace.here import current_loop
from ..trace.stacks import Line, frames, is_library
from .internals import leaks as internals
from .leftovers.births import AnyCoroutine, Births, Born, origin, still_open, where_left
from .leftovers.left import Leak, LeakError
from .leftovers.processes import Child, is_running

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from ..trace.loops import NativeTask

_TURNS = 50  # of the loop, in which tasks that are over may come to their end
_PAUSE = 0.001  # seconds
_MOMENT = 0.1  # in which a process may end that nobody has told to


@asynccontextmanager
async def no_leaks(*, grace: float = 1, allow: Collection[str] = ()) -> AsyncGenerator[None]:
    """Fail if the block leaves anything behind that it has begun.

    That is: tasks; threads; child processes that still run; pools that were not shut down;
    memory streams, anyio's, trio's and those of a `Queue`, that were not closed; queues with
    items in them; tokens of limiters; coroutines that nobody awaited; async generators that
    were neither exhausted nor closed. Each is told with its name and its line.

    A generator that is dropped where it has nothing to clean up (no ``with``, no ``finally``
    around its ``yield``) is over, and no leak. Nor is a coroutine where the block itself looks
    for the warning (``pytest.warns``), or has it ignored.

    What was there before the block is not looked at, nor what stays alive by design: worker
    threads that have nothing to do, the loop's own tasks and pool. Where the block raises,
    nothing is said: what is left then is the error's doing. Only the thread and the loop of the
    block are watched, threads excepted. Use one block at a time, as another one's tasks are not
    told from its own.

    Args:
        grace: Seconds, of real time, that threads and tokens have to come to their end, and
            processes that were told to. Tasks have a few turns of the loop.
        allow: Patterns, as of `fnmatch`, of what may stay: ``"thread Otel*"``.

    Raises:
        LeakError: If something is left behind, when the block is left.

    Example:
        >>> async with no_leaks():
        ...     await serve_one_request()
    """
    _refuse_wrong(grace, allow)
    internals.check_leaks()
    watch = Watch()
    watch.begin()
    try:
        yield
        leaks = [leak for leak in await watch.last_look(grace) if not _is_allowed(leak, allow)]
    finally:
        watch.end()
    if leaks:
        raise LeakError(leaks)


def _refuse_wrong(grace: float, allow: object) -> None:
    if isinstance(allow, str):
        raise TypeError(f"allow takes a collection of patterns; write allow=[{allow!r}]")
    things: list[object] = [*allow] if isinstance(allow, Collection) else [allow]  # pyright: ignore[reportUnknownArgumentType]
    for one in things:
        if not isinstance(one, str):
            raise TypeError(
                f"allow takes patterns, not {shown(one)}; write allow=['thread Otel*']"
            )
    check_seconds("grace", grace, "write grace=1")


def _is_allowed(leak: Leak, allow: Collection[str]) -> bool:
    return any(fnmatchcase(f"{leak.kind} {leak.name}", pattern) for pattern in allow)


class Watch:
    """What has begun since `begin` and is not over: for a task of the loop that runs here."""

    def __init__(self) -> None:
        self._loop = current_loop()
        self._births = Births()
        self._untouched: WeakSet[AnyCoroutine] | None = None
        self._host = self._loop.current_task()

    def begin(self) -> None:
        self._tasks: WeakSet[Any] = WeakSet(task.native for task in self._loop.tasks())
        # A worker that is idle now may be at work for the block when that is left.
        idle = internals.idle_workers()
        self._threads = WeakSet(each for each in threading.enumerate() if each not in idle)
        self._promotions = _promotions()
        if sys.get_coroutine_origin_tracking_depth():  # else none is made like that outside
            _known.update(_untouched(None))
        self._births.begin()

    def end(self) -> None:
        if self._untouched is None:  # the block has raised
            self._collect()
        _known.update(self._untouched or ())
        self._births.end()

    def stop(self) -> None:
        """As `end`, where the loop was torn and the block may not have been left."""
        self._births.end()

    async def last_look(self, grace: float) -> list[Leak]:
        """What is left behind, once all has ended that was about to."""
        await checkpoint()
        for _ in range(_TURNS):
            if not (tasks := [*self.tasks()]):
                break
            del tasks
            await checkpoint()
        found = [*self.tasks()]
        began = time.monotonic()
        while (waited := time.monotonic() - began) < grace and self._may_end(waited):
            time.sleep(_PAUSE)  # noqa: ASYNC251  # real time, whatever clock the loop has
            await checkpoint()
        found += self.processes()  # before the last object goes that keeps one alive
        self._collect()
        return [*found, *self.threads(), *self.tokens(), *self.things()]

    def _may_end(self, waited: float) -> bool:
        """True if there is something that may come to its end yet."""
        for _, stack in self._busy_threads():
            pid = internals.child_waited_for(stack)
            if pid is None or not is_running(pid):
                return True
        told = self._births.signalled
        children = (waited < _MOMENT or child.pid in told for child in self._running())
        return any(children) or any(True for _ in self.tokens())

    def _running(self) -> Iterator[Child]:
        return (child for child in [*self._births.children.values()] if is_running(child.pid))

    def processes(self) -> Iterator[Leak]:
        for child in self._running():
            yield Leak("process", child.name, f"started at {child.place}, still runs")

    def _collect(self) -> None:
        """Have dropped what only garbage holds, and find the coroutines that are left."""
        # A full collection takes ten times as long as all the rest together. Where nothing has
        # been moved among the old objects, all that was made since `begin` is young.
        is_young = _promotions() == self._promotions
        self._untouched = WeakSet(_untouched(0, 1) if is_young else _untouched(None))
        self._untouched -= _known
        gc.collect(1 if is_young else 2)

    def tasks(self) -> Iterator[Leak]:
        for task in self._loop.tasks():
            if task.internal or task.native in self._tasks:
                continue
            if not internals.is_service(task.native):
                yield Leak("task", repr(task.name), _waits(task))

    def threads(self) -> Iterator[Leak]:
        for thread, stack in self._busy_threads():
            if internals.child_waited_for(stack) is not None:
                continue  # the process is told instead
            started = self._births.threads.get(thread)
            how = "" if started is None else f"started at {started}, "
            yield Leak("thread", repr(thread.name), f"{how}runs {_line(stack)}")

    def _busy_threads(self) -> Iterator[tuple[threading.Thread, list[FrameType]]]:
        stacks = sys._current_frames()
        for thread in threading.enumerate():
            if thread in self._threads or isinstance(thread, threading._DummyThread):
                continue
            stack = _stack(stacks.get(thread.ident or 0))
            if stack and not internals.is_idle(thread, stack):
                yield thread, stack  # else it has just ended, or stays by design

    def tokens(self) -> Iterator[Leak]:
        for limiter, borrower, place in [*self._births.tokens.values()]:
            if borrower in limiter.statistics().borrowers and not self._was_there(borrower):
                yield Leak("token", f"of {_limiter_name(limiter)}", f"borrowed at {place}")

    def _was_there(self, borrower: object) -> bool:
        """True for the other tasks that began before the block, and may give it back yet."""
        if borrower is self._host or borrower not in self._tasks:
            return False
        return any(task.native is borrower for task in self._loop.tasks())

    def things(self) -> Iterator[Leak]:
        """What was dropped, or is still held, and should have been closed or awaited."""
        for kind, name, place in self._births.dropped:
            yield Leak(kind, name, f"dropped, {place}")
        for name, place, has_other_end in self._births.ends:
            if has_other_end():
                yield Leak("stream", name, f"dropped, made at {place}")
        for born in [*self._births.made.values()]:
            what = born.what()
            if what is not None:
                yield from _left(born, what)
        # What a task that is about to begin will run is not forgotten.
        known = {id(task.coro) for task in self._loop.tasks()} | self._births.warned
        for coroutine in self._untouched or ():
            if id(coroutine) not in known:
                where = f"called at {origin(coroutine)}"
                yield Leak("coroutine", f"{coroutine.__qualname__}()", where)


def _left(born: Born, what: Any) -> Iterator[Leak]:
    if born.kind == "generator":
        if what.ag_frame is not None and not what.ag_running:
            how = f"begun at {born.place}, left at {where_left(what)}"
            yield Leak("generator", f"{what.__qualname__}()", how)
        return
    name = still_open(born.kind, what)
    if name is None or (born.kind == "pool" and internals.is_pool_of_loop(what)):
        return
    yield Leak(born.kind, name, f"made at {born.place}")


#: Coroutines that were there, untouched, when an earlier block ended.
_known: WeakSet[AnyCoroutine] = WeakSet()


def _promotions() -> int:
    """How often Python's collector has moved objects among the old ones."""
    _, middle, _ = gc.get_stats()
    return int(middle["collections"])


def _untouched(*generations: int | None) -> Iterator[AnyCoroutine]:
    """Coroutines that were made while a block ran, and that nobody has begun to await."""
    one: Any
    for one in chain.from_iterable(map(gc.get_objects, generations)):
        if type(one) is CoroutineType and _is_untouched(one):  # of thousands of objects
            yield one


def _is_untouched(one: AnyCoroutine) -> bool:
    if not one.cr_origin:  # made outside of a block
        return False
    return inspect.getcoroutinestate(one) == inspect.CORO_CREATED


def _waits(task: NativeTask) -> str:
    coro: Any = task.coro
    stack = [*frames(coro)]
    own = [frame for frame in stack if not is_library(frame.f_code.co_filename)]
    started = [f"started at {origin(coro)}"] if getattr(coro, "cr_origin", None) else []
    waits = [f"waits at {_line((own or stack)[::-1])}"] if own or not started else []
    return ", ".join([*started, *waits])


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, from the innermost outwards."""
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack


def _line(stack: list[FrameType]) -> str:
    own = [frame for frame in stack if not is_library(frame.f_code.co_filename)]
    frame = (own or stack)[0]
    return str(Line(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))


def _limiter_name(native: CapacityLimiter) -> str:
    if internals.native_limiter(current_default_thread_limiter()) is native:
        return "the default thread limiter"
    for limiter in LIMITERS:
        if internals.native_limiter(limiter.current) is native:
            return f"Limiter {limiter.name!r}"
    return f"a limiter of {native.total_tokens}"
