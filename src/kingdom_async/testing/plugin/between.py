"""Between two calls of anyio's test runner: fixtures that hold a task group across `yield`.

Rule: what fails in such a group cancels the task of the runner. It may cancel a test there, and
the teardown that raises the failure, but not the runner's own wait for what is to be run next,
or nothing ever is (anyio#805).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

from anyio import CancelScope, get_cancelled_exc_class

from ..._failures import without
from ...trace.here import current_loop
from ..internals.faults import interrupt
from .guard import Phase, TookTooLong

Fixture = Callable[..., AsyncGenerator[Any, None]]


class Cancelled(Exception):
    """A test, or a step of a fixture, was cancelled by what another fixture holds open."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was cancelled: a task group, or another cancel scope, that an async "
            "fixture holds across its yield was cancelled; where a task in it failed, the "
            "teardown of the fixture raises that error"
        )


class Between:
    """A shield that the runner's task has around it whenever it waits for work."""

    def __init__(self) -> None:
        self._shield: CancelScope | None = None
        #: How many async generator fixtures wait at their ``yield``.
        self.open: int = 0
        #: Setup, call or teardown, where it has to end in time.
        self.phase: Phase | None = None

    def reset(self) -> None:
        """There is a new runner, and whatever was open is gone with the old one."""
        self._shield = None
        self.open = 0

    def wake(self) -> None:
        """The runner's task begins with some work; from here on it may be cancelled."""
        shield, self._shield = self._shield, None
        if shield is not None:
            shield.__exit__(None, None, None)

    def rest(self) -> None:
        """The work is done. Where no fixture is open there is nothing to be shielded from."""
        if self.open and self._shield is None:
            self._shield = CancelScope(shield=True)
            self._shield.__enter__()

    def told(self, what: str, error: BaseException) -> BaseException:
        """What to raise for *error*, which came out of *what*.

        While a fixture is open, a cancellation that nobody has caught is that fixture's. As it
        is no `Exception`, it would end the runner, and pytest with it.
        """
        rest = without(get_cancelled_exc_class(), error)
        if not self.open:
            return error
        return Cancelled(what) if rest is None else rest

    @contextmanager
    def _in_time(self) -> Generator[None]:
        """The guard knows the loop. A scope cannot be put here: the fixture opens its own."""
        phase = self.phase
        if phase is None:
            yield
            return
        loop = current_loop()
        phase.enters(loop, _raising(phase) if loop.backend == "trio" else None)
        try:
            yield
        finally:
            phase.leaves()

    def around(self, fixture: Fixture) -> Fixture:
        """*fixture*, which is an async generator function, with the shield off in its steps."""
        name = getattr(fixture, "__name__", "fixture")

        @wraps(fixture)
        async def steps(**given: Any) -> AsyncGenerator[Any, None]:
            __tracebackhide__ = True
            generator = fixture(**given)
            self.wake()
            try:
                value = await self._next(generator, f"the setup of the fixture {name!r}")
                self.open += 1
            finally:
                self.rest()
            try:
                yield value
            except GeneratorExit:  # the loop ends, and nobody asks for the teardown
                await generator.aclose()
                raise
            self.wake()
            self.open -= 1
            try:
                await self._next(generator, f"the teardown of the fixture {name!r}")
            except StopAsyncIteration:
                return
            finally:
                self.rest()
            yield  # for the runner to complain of
            await generator.aclose()

        return steps

    async def _next(self, generator: AsyncGenerator[Any, None], step: str) -> Any:
        __tracebackhide__ = True
        try:
            with self._in_time():
                return await generator.asend(None)
        except BaseException as error:
            told = self.told(step, error)
            if told is error:
                raise
            raise told from None


def _raising(phase: Phase) -> Callable[[], None]:
    """What raises in the task that calls; on asyncio an interrupt does as much."""
    import trio

    return partial(_raise_in, trio.lowlevel.current_task(), phase)


def _raise_in(task: Any, phase: Phase) -> None:
    interrupt(task, TookTooLong(phase.said))
