"""One run of a body in a loop of its own, and what must hold when it is over.

Rule: whatever the body does, this returns, and says what was wrong; only interrupts pass.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
from anyio import CancelScope, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from ..._arguments import name_of
from ..._backend import anyio_backend
from ..._failures import without
from ...trace.here import current_loop
from ...trace.hub import hub
from ...trace.views.tree import tree_of
from ..clock import virtual_backend
from ..clocks.idle import Deadlock, Idle
from ..internals.faults import open_all_shields, trio_in_order
from ..internals.leaks import STAYS
from ..leaks import Watch
from ..reports import Broken
from .checked import coroutine_of
from .coroutines import Abandoned
from .held import Held
from .steps import watched_backend

if TYPE_CHECKING:
    from ..leftovers.left import Leak
    from .fault_options import Clock
    from .injection import Injector
    from .patience import Onlooker

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

Body = Callable[[], Awaitable[object]]

#: Real seconds for which a program on virtual time may wait for nothing that is known of.
_GIVE_UP = 0.2
_STILL_ENTERED = (
    "its cancellation went on after the body had ended; a task group or a cancel scope was "
    "entered and never left"
)
#: Somebody wants all to end, and it is not the body.
_INTERRUPTS = (KeyboardInterrupt, SystemExit)
#: Of the loop, in which a task that is over may come to its end.
_TURNS = 20


class RunSettings(NamedTuple):
    """What all runs of one call share."""

    backend: str
    clock: Clock
    watch: Collection[object]
    #: What the body may raise.
    raises: tuple[type[BaseException], ...]
    #: Real seconds that threads have to come to their end, after the body.
    grace: float
    #: Decides trio's own order.
    seed: int
    #: Real seconds without any step after which a run counts as hung.
    patience: float


@dataclass
class Run:
    """What one run came to."""

    outcome: str = "cancelled"
    errors: list[BaseException] = field(default_factory=list[BaseException])
    is_hung: bool = False
    #: Something that outlives the runs is held now, and the next run would wait for it.
    is_blocked: bool = False


def _watched(
    pair: tuple[str, dict[str, Any]], injector: Injector
) -> tuple[str, dict[str, Any]]:
    if injector.pick is not None and pair[0] == "trio":
        from ..schedules import scheduled_backend

        pair = scheduled_backend(pair, injector)
    return watched_backend(pair, injector)


def _order(settings: RunSettings) -> AbstractContextManager[None]:
    """trio takes tasks in an order of its own unless told otherwise."""
    if settings.backend == "trio":
        return trio_in_order(settings.seed)
    return nullcontext()


def run_once(body: Body, settings: RunSettings, injector: Injector, onlooker: Onlooker) -> Run:
    """Run *body*, with *injector* looking on."""
    run = Run()
    idle = Idle(give_up=_GIVE_UP)
    virtual = settings.clock == "virtual" and settings.backend != "asyncio+uvloop"
    pair = (
        virtual_backend(settings.backend, idle) if virtual else anyio_backend(settings.backend)
    )
    idle.last_resort = open_all_shields
    injector.hurry = idle.hurry
    name, options = _watched(pair, injector)
    program = _Program(body, settings, injector, onlooker, idle, run)
    try:
        with _order(settings):
            anyio.run(program.named_main(), backend=name, backend_options=options)
    except (Exception, asyncio.CancelledError) as error:  # it came from the loop, not the body
        if not run.is_hung:
            run.outcome = f"raised {type(error).__name__}"
            run.errors.append(error if isinstance(error, Exception) else Broken(_STILL_ENTERED))
    finally:
        injector.forget()
        if program.watch is not None:
            program.watch.stop()
    return run


class _Program:
    """What runs in the loop."""

    def __init__(
        self,
        body: Body,
        settings: RunSettings,
        injector: Injector,
        onlooker: Onlooker,
        idle: Idle,
        run: Run,
    ) -> None:
        self._body = body
        self._settings = settings
        self._injector = injector
        self._onlooker = onlooker
        self._idle = idle
        self._run = run
        self.watch: Watch | None = None

    def named_main(self) -> Callable[[], Awaitable[None]]:
        """`main`, called as the body is: that becomes the name of its task."""

        async def program() -> None:
            await self.main()

        program.__module__ = getattr(self._body, "__module__", None) or __name__
        program.__qualname__ = name_of(self._body)
        return program

    async def main(self) -> None:
        self.watch = watch = Watch()
        held = Held(self._settings.watch)
        self._loop = current_loop()
        watch.begin()
        try:
            with self._onlooker.watching(lambda: self._injector.turns, self._give_up):
                await self._cancellable()
            if self._run.is_hung:
                return  # what is left then is that error's doing
            self._look_for_swallowing()
            leaks = await watch.last_look(self._settings.grace)
            found = [str(leak) for leak in leaks]
            if self._settings.backend == "trio":
                found += await self._system_tasks(leaks)
            self._say(f"left behind: {one}" for one in found if not one.startswith(STAYS))
            self._say(held.left())
            self._run.is_blocked = held.is_blocked
        finally:
            watch.end()

    async def _system_tasks(self, leaks: list[Leak]) -> list[str]:
        """Those that the body has started, which `no_leaks` takes for a service of the loop."""
        for _ in range(_TURNS):
            if not self._injector.unfinished():
                break
            await checkpoint()
        known = {leak.name for leak in leaks}
        left = [one for one in self._injector.unfinished() if repr(one[0]) not in known]
        return [f"task {name!r}, waits at {place}" for name, place in left]

    async def _cancellable(self) -> None:
        """The body, as far as it gets."""
        native = asyncio.CancelledError
        try:
            with CancelScope() as self._outer, CancelScope() as scope:
                await self._whole_body(scope)
        except native:  # Task.cancel() called by us: no scope stops it
            pass
        except (Exception, BaseExceptionGroup, Abandoned) as error:
            if any(without(kind, error) is not error for kind in _INTERRUPTS):
                raise
            self._ended_with(error)
        if self._injector.has_cancelled_natively:
            _take_back()
            with suppress(native):  # an error has overtaken it, and it is still to come
                await checkpoint()

    async def _whole_body(self, scope: CancelScope) -> None:
        try:
            with self._idle.watched():
                coro = coroutine_of("cancel_everywhere", self._body)
                try:
                    await self._injector.begin(coro, scope, self._outer)
                    self._run.outcome = "finished"
                finally:
                    self._injector.end()
        except get_cancelled_exc_class():
            if not self._run.is_hung:
                self._run.outcome = "cancelled"
            raise

    def _ended_with(self, error: BaseException) -> None:
        if isinstance(error, Deadlock):
            self._run.outcome, self._run.is_hung = "hung", True
            self._run.errors.append(error)
        if self._injector.goes_on:
            self._run.outcome, self._run.is_hung = "hung", True
            self._say(["swallowed again and again: it was cancelled, and goes on for ever"])
        if self._run.is_hung:
            return
        self._run.outcome = f"raised {type(error).__name__}"
        if not _is_expected(error, (*self._settings.raises,), self._injector.error):
            self._run.errors.append(error)

    def _look_for_swallowing(self) -> None:
        self._say(
            f"swallowed: task {name!r} was cancelled, and returned all the same"
            for name in self._injector.swallowed()
        )

    def _say(self, sentences: Iterable[str]) -> None:
        self._run.errors.extend(Broken(sentence) for sentence in sentences)

    def _give_up(self, times: int) -> None:
        """Called in the loop, each time that nothing has happened for long."""
        self._run.is_hung, self._run.outcome = True, "hung"
        if times == 1:
            tree = tree_of(self._loop, hub.recorder_here())
            text = f"hung: no task took a step for {self._settings.patience:g} s"
            self._say([f"{text}\n{tree}"])
        self._outer.cancel("hung")
        if times > 1:
            open_all_shields()


def _take_back() -> None:
    """asyncio counts cancellations, from Python 3.11 on."""
    task: Any = asyncio.current_task()
    while getattr(task, "cancelling", int)():
        task.uncancel()


def _is_expected(
    error: BaseException, allowed: tuple[type[BaseException], ...], injected: BaseException
) -> bool:
    if isinstance(error, BaseExceptionGroup):
        parts = cast("tuple[BaseException, ...]", error.exceptions)  # pyright: ignore[reportUnknownMemberType]
        return all(_is_expected(part, allowed, injected) for part in parts)
    return isinstance(error, allowed) or any(one is injected for one in chain_of(error))


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """*error*, and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
