"""What the pytest plugin puts around the function of one test.

Rule: it runs in the task of the test itself, and what it finds is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any

import pytest
from anyio import CancelScope

from kingdom_async_pytest import backend_of, is_every_backend

from ..._backend import current_backend
from ...trace.here import current_loop
from ..clock import running_idle
from ..clocks.idle import Idle
from ..internals.plugin import definitions_of
from .guard import Phase, TookTooLong

if TYPE_CHECKING:
    from .beside import Test
    from .between import Between


class Around:
    """What there is to know of one test while it runs."""

    def __init__(
        self, item: pytest.Item, timeout: float | None, trace: str | None, between: Between
    ) -> None:
        self.item = item
        self.between = between
        self.timeout = timeout
        self.trace = trace
        self.wants_virtual: bool = "virtual_clock" in names_of(item)
        self.wants_no_leaks: bool = "no_leaks" in names_of(item)
        self.idle: Idle = Idle()
        self.phase: Phase | None = None
        #: The async fixtures of the test that live longer than it does. Asked for now: while
        #: one is set up it does not look async, as anyio's plugin has wrapped it.
        self.wide: list[str] = _wide_fixtures(item)
        #: False until the test function runs in a loop.
        self.has_begun = False
        #: True where the test has called what the fixture `no_leaks` gives.
        self.has_called_no_leaks = False
        self.sections: list[tuple[str, str]] = []

    def watched(self, test: Test) -> Test:
        """*test* with everything around it that was asked for."""

        @wraps(test)
        async def run(**given: Any) -> None:
            __tracebackhide__ = True
            self.has_begun = True
            self.between.wake()
            try:
                self._refuse_other_backend()
                with _named(self.item.name):
                    await self._with_all_around(test, given)
            except BaseException as error:
                told = self.between.told(self.item.name, error)
                if told is error:
                    raise
                raise told from None
            finally:
                self.between.rest()

        return run

    def refuse_ordinary(self) -> None:
        """Say so where a test was not run in a loop, and asks for what happens in one.

        `no_leaks` may be there for all tests of a suite, through a fixture or a mark: it is
        refused only where the function itself names it, and does not call it either.
        """
        if self.has_begun:
            return
        make = "make it an async function with @pytest.mark.anyio, or set anyio_mode = auto"
        if self.wants_virtual:
            pytest.fail(
                f"virtual_clock: {self.item.name} is not run by anyio's plugin; {make}",
                pytrace=False,
            )
        if self.wants_no_leaks and not self.has_called_no_leaks and _names_no_leaks(self.item):
            pytest.fail(
                f"no_leaks: {self.item.name} is not run in a loop, and nothing was watched; "
                f"{make}; or write async with no_leaks() in the loop that it starts",
                pytrace=False,
            )

    async def _with_all_around(self, test: Test, given: dict[str, Any]) -> None:
        __tracebackhide__ = True
        async with AsyncExitStack() as stack:
            if self.wants_virtual:
                self._refuse_real_time()
                stack.enter_context(self.idle.watched())
            if self.phase is not None:
                stack.enter_context(_in_time(self.phase))
            if self.trace is not None:
                stack.enter_context(_traced(self, self.trace))
            if self.wants_no_leaks:
                from ..leaks import no_leaks

                await stack.enter_async_context(no_leaks())
            await test(**given)

    def _refuse_other_backend(self) -> None:
        wanted, runs = backend_of(self.item), current_backend()
        if wanted is None or wanted == runs:
            return
        why = f"{self.item.name} runs on {runs} instead of {wanted}, since "
        if not is_every_backend(self.item):
            pytest.fail(
                f"{why}anyio's plugin runs it on anyio_backend, which is another fixture than "
                "every_backend here; write anyio_backend = every_backend in conftest.py",
                pytrace=False,
            )
        wide = ", ".join(self.wide) or "of a wider scope"
        pytest.fail(
            f"{why}the async fixture {wide} holds the loop; give it function scope, or have it "
            "ask for anyio_backend",
            pytrace=False,
        )

    def _refuse_real_time(self) -> None:
        idle = running_idle()
        if idle is not None:
            self.idle = idle
            return
        wide = ", ".join(self.wide)
        held = f"the async fixture {wide}" if wide else "a fixture of a wider scope"
        pytest.fail(
            f"virtual_clock: this test runs on real time, since {held} holds an ordinary loop; "
            "give the fixture function scope, or leave virtual_clock out and call "
            "run_virtual() in an ordinary test",
            pytrace=False,
        )


@contextmanager
def _named(name: str) -> Generator[None]:
    """The task that runs all tests and fixtures is called after the test meanwhile."""
    task: Any = current_loop().current_task()
    if not hasattr(task, "set_name"):  # trio
        with _set(task, name):
            yield
        return
    before: str = task.get_name()
    task.set_name(name)
    try:
        yield
    finally:
        task.set_name(before)


@contextmanager
def _set(task: Any, name: str) -> Generator[None]:
    before: str = task.name
    task.name = name
    try:
        yield
    finally:
        task.name = before


@contextmanager
def _traced(run: Around, level: Any) -> Generator[None]:
    """Record a test, and keep the end of the recording if it fails."""
    from ...trace import recording
    from .last_records import NotLogged, last_records, tree_at

    made = None
    try:
        with recording(level) as made:
            made.lint_log = NotLogged()
            try:
                yield
            except BaseException as error:
                if not isinstance(error, pytest.skip.Exception):
                    tree = tree_at(error, current_loop())
                    run.sections.append(("task tree at the failure", tree))
                raise
    finally:
        if run.sections and made is not None:
            run.sections.append(("last tasks recorded", last_records(made.snapshot())))


@contextmanager
def _in_time(phase: Phase) -> Generator[None]:
    """The block that is cancelled when the time of *phase* is up; then that is raised."""
    error: BaseException | None = None
    with CancelScope() as scope:
        phase.enters(current_loop(), scope.cancel)
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            phase.leaves()
            if phase.said is not None:
                raise TookTooLong(phase.said) from error


def _wide_fixtures(item: pytest.Item) -> list[str]:
    return [
        f"{name!r} ({defs[-1].scope} scope)"
        for name, defs in definitions_of(item).items()
        if defs[-1].scope != "function" and is_async(defs[-1].func)
    ]


def _names_no_leaks(item: pytest.Item) -> bool:
    """Whether the function of a test does, and means ours: a project may have its own."""
    defs = definitions_of(item).get("no_leaks") or [None]
    module = getattr(getattr(defs[-1], "func", None), "__module__", None)
    is_ours = module == backend_of.__module__
    func: Any = getattr(item, "obj", None)
    return is_ours and func is not None and "no_leaks" in signature(func).parameters


def used_by(item: pytest.Item) -> set[pytest.FixtureDef[Any]]:
    """All fixtures of a test, and those that they override."""
    return {one for found in definitions_of(item).values() for one in found}


def names_of(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def is_async(func: object) -> bool:
    return iscoroutinefunction(func) or isasyncgenfunction(func)
