"""Every step of every task, seen in one way on every backend.

Rule: this looks and says; it never decides what a task does. On asyncio it is a subclass of
the loop's own class with the public `call_soon` and `create_task` overridden, on trio an
Instrument.

A step is what a task does between two waits. It is over when the task is parked again, or has
ended: then is the moment to cancel it. On asyncio one who looks on may also say in which order
steps that are due are taken, or that none is taken in this turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from ..._backend import anyio_backend
from ..internals.faults import constructor_of
from ..internals.servers import methods_that_lose_nothing

if TYPE_CHECKING:
    from trio.lowlevel import Task as TrioTask

    #: What a backend calls a task.
    Task = asyncio.Task[Any] | TrioTask


class Step(NamedTuple):
    """A step that is due; asyncio only."""

    task: asyncio.Task[Any]
    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: Context | None


#: Which of the steps that are due is taken; None for none in this turn.
Pick: TypeAlias = "Callable[[list[Step]], int | None]"


class Watcher:
    """Who is told of steps; override what you want to hear of. Nothing here may raise."""

    #: Set it to be asked, on asyncio, which of the steps that are due is taken next: its place
    #: in the list, or None for none of them before the loop's next turn. The order of
    #: everything that is not a task's step stays as it is.
    pick: Pick | None = None

    def wrapped(self, coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """A task is made of *coro*; what is returned runs in its place. asyncio only."""
        return coro

    def spawned(self, task: Task) -> None:
        """A task was made; it has not run yet. On asyncio its group does not know it yet."""

    def stepping(self, task: Task) -> None:
        """A task is about to take a step."""

    def stepped(self, task: Task) -> None:
        """It has taken it, and is parked or has ended."""


def watched_backend(
    backend: str | tuple[str, dict[str, Any]], watcher: Watcher
) -> tuple[str, dict[str, Any]]:
    """What anyio calls a backend, and the options for it, so that *watcher* is told.

    It is told from the first task of the run on.

    Args:
        backend: One of `BACKENDS`, or such a pair, as `virtual_backend` gives.
    """
    native, options = anyio_backend(backend) if isinstance(backend, str) else backend
    if native == "trio":
        instruments = [*options.get("instruments", ()), _trio_instrument(watcher)]
        return native, {**options, "instruments": instruments}
    factory = options.get("loop_factory") or asyncio.SelectorEventLoop
    return native, {**options, "loop_factory": lambda: watched_loop(factory(), watcher)}


def watched_loop(loop: Any, watcher: Watcher) -> asyncio.AbstractEventLoop:
    """*loop*, which was just made, of any class; *watcher* is told of its steps."""
    kind = cast("Any", type(loop))
    loop.__class__ = _watched_class(kind)
    loop.watch(watcher)
    return loop  # type: ignore[no-any-return]


def is_step(callback: Any) -> bool:
    """True if *callback*, whose ``__self__`` is an asyncio task, is a step of that task.

    Steps have no name or a private one, unlike ``task.cancel`` given to `call_soon`.
    """
    name = getattr(callback, "__name__", None)
    return name is None or not hasattr(asyncio.Task, name)


def _is_task(owner: Any) -> bool:
    """True for tasks of asyncio, also for those of a factory that are written in Python."""
    if owner is None:
        return False
    return isinstance(owner, asyncio.Task) or (
        asyncio.isfuture(owner) and hasattr(owner, "get_coro")
    )


@cache
def _watched_class(base: Any) -> type:
    create_task: Callable[..., asyncio.Task[Any]] = base.create_task
    call_soon: Callable[..., asyncio.Handle] = base.call_soon
    get_task_factory: Callable[..., object] = base.get_task_factory

    class WatchedLoop(base):  # type: ignore[misc]
        """A loop that tells of each step."""

        def watch(self, watcher: Watcher) -> None:
            self._watcher = watcher
            self._due: list[Step] = []
            # Where the choice is made: not in the context of any task.
            self._neutral = Context()

        def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
            task = create_task(self, self._watcher.wrapped(coro), **options)
            self._watcher.spawned(task)
            return task

        def get_task_factory(self) -> Any:
            factory: Any = get_task_factory(self)
            constructor = constructor_of(factory)
            if constructor is None:
                return factory
            create: Any = vars(asyncio)["create_eager_task_factory"]
            return create(partial(self._constructed, constructor))

        def _constructed(
            self, constructor: Callable[..., Any], coro: Any, **options: Any
        ) -> asyncio.Task[Any]:
            task: asyncio.Task[Any] = constructor(self._watcher.wrapped(coro), **options)
            self._watcher.spawned(task)
            return task

        def call_soon(
            self, callback: Any, *args: Any, context: Context | None = None
        ) -> asyncio.Handle:
            task: Any = getattr(callback, "__self__", None)
            if not _is_task(task) or not is_step(callback):
                return call_soon(self, callback, *args, context=context)
            step = Step(task, callback, args, context)
            if self._watcher.pick is None:
                return call_soon(self, self._take, step, context=context)
            self._due.append(step)
            return call_soon(self, self._take_one, context=self._neutral)

        def _take(self, step: Step) -> None:
            self._watcher.stepping(step.task)
            try:
                step.callback(*step.args)
            finally:
                self._watcher.stepped(step.task)

        def _take_one(self) -> None:
            """There is one of these in the loop for each step that is due."""
            pick = self._watcher.pick
            place = 0 if pick is None else pick(self._due)
            if place is None:
                call_soon(self, self._take_one, context=self._neutral)
                return
            step = self._due.pop(place)
            if step.context is None:
                self._take(step)
            else:
                step.context.run(self._take, step)

    for name, method in methods_that_lose_nothing(base).items():
        setattr(WatchedLoop, name, method)
    return WatchedLoop


def _trio_instrument(watcher: Watcher) -> Any:
    from trio.abc import Instrument

    class WatchedSteps(Instrument):
        def task_spawned(self, task: TrioTask) -> None:
            watcher.spawned(task)

        def before_task_step(self, task: TrioTask) -> None:
            watcher.stepping(task)

        def after_task_step(self, task: TrioTask) -> None:
            watcher.stepped(task)

    return WatchedSteps()
