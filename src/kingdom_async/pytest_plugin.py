"""What the pytest plugin does where a project uses it.

Rule: it stands on anyio's plugin and never runs a test itself. Tests that use none of its
fixtures are touched only by the options that name all tests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from inspect import isasyncgenfunction, ismethod
from traceback import walk_tb
from typing import Any, NoReturn, cast

try:
    import pytest
except ModuleNotFoundError as _error:
    if _error.name != "pytest":
        raise
    raise ModuleNotFoundError(
        "kingdom_async.pytest_plugin needs pytest; install it with: pip install pytest",
        name="pytest",
    ) from None

from kingdom_async_pytest import backend_of, backends_of, every_backend, fixtures_used

from .testing.clock import virtual_backend
from .testing.clocks.idle import Deadlock
from .testing.internals.features import need
from .testing.internals.plugin import (
    RUNNERS,
    Runners,
    choose_for_new_runners,
    end_with_backend,
)
from .testing.leftovers.left import LeakError
from .testing.plugin.around import Around, is_async, names_of, used_by
from .testing.plugin.beside import (
    fixture_of,
    is_anyios,
    is_pytest_asyncios,
    on_uvloop,
    refuse_pytest_asyncio,
    replaced,
    take_back,
)
from .testing.plugin.between import Between
from .testing.plugin.guard import Guard, TookTooLong
from .testing.plugin.options import read_backends, read_seed, read_timeout, read_trace

__all__ = ["VirtualClock", "every_backend"]

_DEFAULT_TIMEOUT = 60.0


class VirtualClock:
    """What the fixture `virtual_clock` gives."""

    def __init__(self, around: Around) -> None:
        self._idle = around.idle

    @property
    def grace(self) -> float:
        """Real seconds for sockets and pipes before each jump."""
        return self._idle.grace

    @grace.setter
    def grace(self, seconds: float) -> None:
        self._idle.grace = seconds

    @property
    def now(self) -> float:
        """Seconds since the loop of this test began; inside the test."""
        import anyio

        return anyio.current_time()


class Plugin:
    """The hooks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._guard = Guard(self._stop_capturing)
        self._between = Between()
        #: Of the runner that a test on virtual time has for itself.
        self._between_apart = Between()
        self._runners = Runners()
        self.run: Around | None = None
        self._stop: Callable[[], None] | None = None
        self._backends = read_backends(config)
        self._timeout = read_timeout(config)
        self._trace = read_trace(config)
        read_seed(config)

    def pytest_unconfigure(self) -> None:
        if self._stop is not None:
            self._stop()

    def _stop_capturing(self) -> None:
        """What is printed from here on is seen, even if the process ends at once."""
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.suspend()

    def select(self, items: list[pytest.Item]) -> None:
        """Leave out what is not asked for, and what there is not."""
        # Not deselected: a test has one backend, whatever many names that is asked for by.
        items[:] = [item for item in items if len(backends_of(item)) < 2]
        for item in items:
            take_back(item)
        out = [item for item in items if not self._is_asked_for(item)]
        if out:
            self._config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item not in out]
        need(RUNNERS)
        self._stop = choose_for_new_runners(self._choose, self._is_apart)

    def _is_asked_for(self, item: pytest.Item) -> bool:
        backend = backend_of(item)
        if "virtual_clock" in names_of(item) and on_uvloop(item):
            return False  # there is no selector in it to replace
        return backend is None or self._backends is None or backend in self._backends

    def _choose(self, name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """There is to be a new runner."""
        run = self.run
        if run is None or not self._is_apart():
            self._between.reset()
            return name, options
        self._between_apart.reset()
        name, virtual = virtual_backend(name, run.idle)
        return name, {**options, **virtual}

    def _is_apart(self) -> bool:
        """True where the runner that fixtures of other tests hold is left alone."""
        run = self.run
        return run is not None and run.wants_virtual and not run.wide

    # --- one test ----------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        # Those of pytest-asyncio do not run in the task that anyio's fixtures wait in.
        between = Between() if is_pytest_asyncios(item) else self._between
        self.run = Around(item, self._time_for(item), self._trace, between)
        if self._is_apart():
            self.run.between = self._between_apart
        self._between.used = self._between_apart.used = used_by(item)
        with self._phase("the setup of"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        refuse_pytest_asyncio(item)
        with (
            nullcontext() if is_anyios(item) else self._runners.put_away(),
            self._phase(""),
            self._around_pytest_asyncios(item),
        ):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._phase("the teardown of"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        func: Any = fixturedef.func
        if not is_async(func):
            return (yield)
        if "anyio_backend" not in request.fixturenames:
            with self._runners.put_away():  # it is pytest-asyncio's
                return (yield)
        end_with_backend(fixturedef, request)
        item = None if self.run is None else self.run.item
        with self._runners.at_hand():
            if not isasyncgenfunction(func):
                with fixture_of(item, fixturedef, request):
                    return (yield)
            if ismethod(func) and type(func.__self__) is type(request.instance):
                func = func.__func__.__get__(request.instance)
            between = self._between_apart if self._is_apart() else self._between
            with (
                _set(fixturedef, "func", between.around(func, fixturedef)),
                fixture_of(item, fixturedef, request),
            ):
                return (yield)

    def _around_pytest_asyncios(self, item: pytest.Item) -> Any:
        """Of those tests, pytest_pyfunc_call sees no async function any more."""
        if self.run is None or not is_pytest_asyncios(item):
            return nullcontext()
        return replaced(cast("pytest.Function", item), self.run.watched)

    def _phase(self, part: str) -> Any:
        run = self.run
        if run is None or run.timeout is None:
            return nullcontext()
        # What a test on virtual time tears down last may be of the other runner.
        betweens = run.between, self._between
        what = f"{part} {run.item.name}".lstrip()
        return _in_phase(self._guard, run, betweens, what, run.timeout)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        run = self.run
        if run is None:
            return (yield)
        is_theirs = is_pytest_asyncios(pyfuncitem)
        try:
            with nullcontext() if is_theirs else replaced(pyfuncitem, run.watched):
                result = yield
        except (Deadlock, LeakError, TookTooLong) as error:
            if _came_through(pyfuncitem, error):
                raise
            _tell(error)
        run.refuse_ordinary()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        run = self.run
        if run is not None and run.item is item and report.failed:
            report.sections += [
                (f"kingdom_async: {title}", text) for title, text in run.sections
            ]
            run.sections = []
        return report

    def _time_for(self, item: pytest.Item) -> float | None:
        if self._timeout is not None:
            return self._timeout or None
        return _DEFAULT_TIMEOUT if fixtures_used(item) else None


def _came_through(item: pytest.Item, error: BaseException) -> bool:
    """Whether a line of the test's own file has raised it."""
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(frame.f_code.co_filename == str(item.path) for frame in frames)


def _tell(error: Exception) -> NoReturn:
    """What was found about a test: no line of it has raised that, and all others are ours."""
    raise error.with_traceback(None)


@contextmanager
def _in_phase(
    guard: Guard, run: Around, betweens: tuple[Between, ...], what: str, seconds: float
) -> Generator[None]:
    timed: list[Around | Between] = [run, *betweens]
    with guard.phase(what, seconds) as phase:
        for one in timed:
            one.phase = phase
        try:
            yield
        finally:
            for one in timed:
                one.phase = None


@contextmanager
def _set(owner: Any, name: str, value: object) -> Generator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# --- fixtures --------------------------------------------------------------------------


def virtual_clock_of(request: pytest.FixtureRequest) -> VirtualClock:
    plugin: Any = request.config.pluginmanager.get_plugin("kingdom_async_at_work")
    return VirtualClock(plugin.run)
