"""Between two calls of anyio's test runner: fixtures that hold a task group across `yield`.

Rule: what fails in such a group cancels the task of the runner. It may cancel a test there, and
the teardown that raises the failure, but not the runner's own wait for what is to be run next,
or nothing ever is (anyio#805).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import wraps
from typing import Any

from anyio import CancelScope

Fixture = Callable[..., AsyncGenerator[Any, None]]


class Between:
    """A shield that the runner's task has around it whenever it waits for work."""

    def __init__(self) -> None:
        self._shield: CancelScope | None = None
        #: How many async generator fixtures wait at their ``yield``.
        self.open = 0

    def reset(self) -> None:
        """There is a new runner, and whatever was open is gone with the old one."""
        self._shield, self.open = None, 0

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

    def around(self, fixture: Fixture) -> Fixture:
        """*fixture*, which is an async generator function, with the shield off in its steps."""

        @wraps(fixture)
        async def steps(**given: Any) -> AsyncGenerator[Any, None]:
            __tracebackhide__ = True
            generator = fixture(**given)
            self.wake()
            try:
                value = await generator.asend(None)
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
                await generator.asend(None)
            except StopAsyncIteration:
                return
            finally:
                self.rest()
            yield  # for the runner to complain of
            await generator.aclose()

        return steps
