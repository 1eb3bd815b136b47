"""Between two calls of anyio's test runner: fixtures that hold a task group across `yield`.

Rule: what fails in such a group cancels the task of the runner. It may cancel a test there, and
the teardown that raises the failure, but not the runner's own wait for what is to be run next,
or nothing ever is (anyio#805).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import pytest
from anyio import CancelScope, get_cancelled_exc_class

from ..._failures import without
from ...trace.here import current_loop
from ..internals.faults import interrupt
from ..internals.plugin import is_cancelled, scopes_here
from .guard import Phase, TookTooLong

Fixture = Callable[..., AsyncGenerator[Any, None]]
Definition = pytest.FixtureDef[Any]


class Cancelled(Exception):
    """A test, or a step of a fixture, was cancelled by what another fixture holds open."""

    def __init__(self, what: str, held: list[str]) -> None:
        super().__init__(
            f"{what} was cancelled: a task group, or another cancel scope, that an async "
            "fixture holds across its yield was cancelled; where a task in it failed, the "
            f"teardown of the fixture raises that error (open: {'; '.join(held)})"
        )


class Between:
    """The shields that the runner's task has around it while it waits for work.

    A test that uses none of the open fixtures keeps them, as whatever fails there is not its
    own. What it sets up lies inside of the innermost shield then, and is gone before that is.
    """

    def __init__(self) -> None:
        #: Open fixtures and shields, as they lie within one another, the outermost first.
        self._stack: list[Definition | CancelScope] = []
        #: The scopes right inside of each open fixture.
        self._inside: dict[Definition, Any] = {}
        #: The fixtures of the test under way.
        self.used: Collection[Definition] = ()
        #: Setup, call or teardown, where it has to end in time.
        self.phase: Phase | None = None

    @property
    def open(self) -> list[Definition]:
        """The async generator fixtures that wait at their ``yield``."""
        return [one for one in self._stack if not isinstance(one, CancelScope)]

    def reset(self) -> None:
        """There is a new runner, and whatever was open is gone with the old one."""
        self._stack, self._inside = [], {}

    def wake(self) -> None:
        """The runner's task begins with work of the test; what that uses may cancel it."""
        failed, around = self._failed(), list[Definition]()
        for one in [*self._stack]:
            if not isinstance(one, CancelScope):
                around.append(one)
                continue
            # Where some have failed, it is from these that other tests are to be shielded.
            feared = [fixture for fixture in around if fixture in failed] or around
            one.shield = not any(fixture in self.used for fixture in feared)
            if one.shield:
                around = []  # nothing of these gets any further
            if one is self._stack[-1] and not one.shield:
                self._bare_down_to(len(self._stack) - 1)

    def rest(self) -> None:
        """The work is done. Where no fixture is open there is nothing to be shielded from."""
        for one in self._stack:
            if isinstance(one, CancelScope):
                one.shield = True
        if self._stack and not isinstance(self._stack[-1], CancelScope):
            self._stack.append(shield := CancelScope(shield=True))
            shield.__enter__()

    def _wake_to_open(self, fixture: Definition) -> None:
        """A fixture that may live longer than others is set up beside them, not inside.

        Except where all that is set up there would be cancelled at once.
        """
        self.wake()
        if fixture.scope != "function" and not self._failed():
            self._bare_down_to(len(self._stack) - 1)

    def _wake_to_close(self, fixture: Definition) -> None:
        place = self._stack.index(fixture) if fixture in self._stack else len(self._stack) - 1
        self._bare_down_to(place)
        if fixture in self._stack:
            self._stack.remove(fixture)
            del self._inside[fixture]

    def _bare_down_to(self, place: int) -> None:
        """Take off the shields from there on."""
        for one in reversed(self._stack[max(place, 0) :]):
            if isinstance(one, CancelScope):
                self._stack.remove(one)
                one.__exit__(None, None, None)

    def _failed(self) -> list[Definition]:
        """The open fixtures in which all is cancelled: they failed, or lie within one."""
        return [one for one in self.open if is_cancelled(self._inside[one])]

    def told(self, what: str, error: BaseException) -> BaseException:
        """What to raise for *error*, which came out of *what*.

        While a fixture is open, a cancellation that nobody has caught is that fixture's. As it
        is no `Exception`, it would end the runner, and pytest with it.
        """
        rest = without(get_cancelled_exc_class(), error)
        if not self.open:
            return error
        held = [f"{one.argname!r}, {one.scope} scope" for one in self._failed() or self.open]
        return Cancelled(what, held) if rest is None else rest

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

    def around(self, fixture: Fixture, definition: Definition) -> Fixture:
        """*fixture*, which is an async generator function, with the shield off in its steps."""
        name = definition.argname

        @wraps(fixture)
        async def steps(**given: Any) -> AsyncGenerator[Any, None]:
            __tracebackhide__ = True
            generator = fixture(**given)
            self._wake_to_open(definition)
            try:
                value = await self._next(generator, f"the setup of the fixture {name!r}")
                self._stack.append(definition)
                self._inside[definition] = scopes_here()
            finally:
                self.rest()
            try:
                yield value
            except GeneratorExit:  # the loop ends, and nobody asks for the teardown
                await generator.aclose()
                raise
            self._wake_to_close(definition)
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
