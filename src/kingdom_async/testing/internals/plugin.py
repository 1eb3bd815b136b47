"""The private names of anyio's pytest plugin that ours needs.

Rule: as in `features`: used nowhere else, and checked when first used.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import isgeneratorfunction
from typing import Any

from sniffio import current_async_library_cvar

from ..._backend import running_library
from .features import Gone, checks, wanted

RUNNERS = "the pytest plugin"

Choose = Callable[[str, dict[str, Any]], "tuple[str, dict[str, Any]]"]
#: The library that runs, by its name; trio's run; and the file that signals wake.
_Kept = tuple["str | None", dict[str, Any], int]


def choose_for_new_runners(choose: Choose, is_apart: Callable[[], bool]) -> Callable[[], None]:
    """Have *choose* say on what the next test runner of anyio's runs, each time one is made.

    Where *is_apart* says so, it is not the one that fixtures hold, but another beside it.

    Returns:
        What stops it.
    """
    from anyio import pytest_plugin

    plugin: Any = pytest_plugin
    original = plugin.get_runner
    apart = _Apart()

    def lease(name: str, options: dict[str, Any]) -> Any:
        if not plugin._runner_leases:  # else one that could not be closed is still there
            plugin._current_runner = plugin._runner_stack = None
            name, options = choose(name, options)
        return original(name, options)

    @contextmanager
    def get_runner(name: str, options: dict[str, Any]) -> Generator[Any]:
        if not is_apart():
            with lease(name, options) as runner:
                yield runner
            return
        with apart.at_hand():
            leased = lease(name, options)
            runner = leased.__enter__()
        try:
            yield _Lent(runner, apart)
        finally:
            with apart.at_hand():
                leased.__exit__(None, None, None)

    plugin.get_runner = get_runner

    def stop() -> None:
        if plugin.get_runner is get_runner:
            plugin.get_runner = original

    return stop


class _Apart:
    """A place for a second runner. Outside of its calls the first one is where it always is."""

    def __init__(self) -> None:
        self._kept: _Kept = (None, {}, -1)
        self._runner: tuple[Any, Any, int] = (None, None, 0)
        self._is_here = False

    @contextmanager
    def at_hand(self) -> Generator[None]:
        if self._is_here:
            yield
            return
        kept, runner = _put_away(), _exchange_runner(self._runner)
        _put_back(self._kept)
        self._is_here = True
        try:
            yield
        finally:
            self._is_here = False
            self._kept, self._runner = _put_away(), _exchange_runner(runner)
            _put_back(kept)


class _Lent:
    """The second runner, which is at hand while it is called."""

    def __init__(self, runner: Any, apart: _Apart) -> None:
        self._runner = runner
        self._apart = apart

    def is_running(self) -> bool:
        return bool(self._runner.is_running())

    def run_test(self, *args: Any) -> None:
        __tracebackhide__ = True
        with self._apart.at_hand():
            self._runner.run_test(*args)

    def run_fixture(self, *args: Any) -> Any:
        __tracebackhide__ = True
        with self._apart.at_hand():
            return self._runner.run_fixture(*args)

    def run_asyncgen_fixture(self, *args: Any) -> Generator[Any]:
        __tracebackhide__ = True
        steps = iter(self._runner.run_asyncgen_fixture(*args))
        with self._apart.at_hand():
            value = next(steps)
        yield value
        with self._apart.at_hand():
            next(steps, None)


def _exchange_runner(other: tuple[Any, Any, int]) -> tuple[Any, Any, int]:
    """Put *other* where anyio's plugin has its runner, and return what was there."""
    from anyio import pytest_plugin

    plugin: Any = pytest_plugin
    before = plugin._current_runner, plugin._runner_stack, plugin._runner_leases
    plugin._current_runner, plugin._runner_stack, plugin._runner_leases = other
    return before


def end_with_backend(fixturedef: Any, request: Any) -> None:
    """Have an async fixture end when the value of ``anyio_backend`` does.

    pytest does so for what a fixture names as its arguments, and anyio's plugin adds that
    argument too late. Otherwise a fixture of a wide scope would hold the loop of one backend
    while tests for the next one are run, in that loop.
    """
    if "anyio_backend" not in fixturedef.argnames:
        backend = request._get_active_fixturedef("anyio_backend")
        backend.addfinalizer(partial(fixturedef.finish, request=request))


@contextmanager
def as_anyio_has_it(fixturedef: Any, request: Any) -> Generator[None]:
    """An async fixture as anyio's plugin has it called: with an ordinary function.

    Other plugins that look for async functions pass it by then.
    """
    from anyio import pytest_plugin

    hook: Any = pytest_plugin.pytest_fixture_setup(fixturedef, request)
    next(hook)
    try:
        yield
    finally:
        with suppress(StopIteration):
            hook.send(None)


class Runners:
    """Those of anyio's that a fixture holds, while an ordinary test is called.

    Between two calls of a runner its loop stands still; but anyio and trio go on taking it for
    the one that runs in this thread, so that no other could be started.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    @contextmanager
    def put_away(self) -> Generator[None]:
        self._put()
        try:
            yield
        finally:
            self._take()

    @contextmanager
    def at_hand(self) -> Generator[None]:
        """As always, for an async fixture that an ordinary test asks for while it runs."""
        if self._kept is None:
            yield
            return
        self._take()
        try:
            yield
        finally:
            self._put()

    def _put(self) -> None:
        self._kept = _put_away()

    def _take(self) -> None:
        assert self._kept is not None
        kept, self._kept = self._kept, None
        _put_back(kept)


def _put_away() -> _Kept:
    """What anyio, trio and the signals of this thread know of a runner; now they do not."""
    run = _run_of_trio()
    in_main_thread = threading.current_thread() is threading.main_thread()
    wakeup = signal.set_wakeup_fd(-1) if in_main_thread else -1  # trio wants it, too
    kept = current_async_library_cvar.get(), {**run}, wakeup
    current_async_library_cvar.set(None)
    run.clear()
    return kept


def _put_back(kept: _Kept) -> None:
    library, run, wakeup = kept
    current_async_library_cvar.set(library)
    _run_of_trio().update(run)
    if wakeup != -1:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def _run_of_trio() -> dict[str, Any]:
    """The attributes of what trio knows of the run in this thread; none between runs."""
    if "trio" not in sys.modules:
        return {}
    from trio._core import _run

    return _run.GLOBAL_RUN_CONTEXT.__dict__


def scopes_here() -> Any:
    """The cancel scopes around the task that runs, for `is_cancelled`, as long as they are."""
    if running_library() == "trio":
        import trio

        return trio.lowlevel.current_task()._cancel_status
    from anyio._backends import _asyncio

    backend: Any = _asyncio
    state = backend._task_states.get(asyncio.current_task())
    return None if state is None else state.cancel_scope


def is_cancelled(scopes: Any) -> bool:
    """Whether what runs inside of *scopes* is cancelled by now."""
    if hasattr(scopes, "effectively_cancelled"):  # trio's
        return bool(scopes.effectively_cancelled)
    return scopes is not None and bool(scopes._effectively_cancelled)


def original_of(inner_test: Any) -> Any:
    """The function of a test of hypothesis, without what anyio's plugin puts around it."""
    return getattr(inner_test, "_anyio_original_func", inner_test)


def definitions_of(item: Any) -> dict[str, Any]:
    """The fixtures of a test by their names, each with all that there are of that name."""
    found: Any = getattr(item, "_fixtureinfo", None)
    return {} if found is None else found.name2fixturedefs


@checks(RUNNERS)
def _check_runners() -> None:
    from anyio import pytest_plugin

    if "_anyio_original_func" not in pytest_plugin.pytest_pyfunc_call.__code__.co_names:
        raise Gone("_anyio_original_func of anyio's pytest plugin")
    if not isgeneratorfunction(pytest_plugin.pytest_fixture_setup):
        raise Gone("anyio's pytest_fixture_setup() as a generator")
    from anyio._backends import _asyncio

    wanted(_asyncio, "_task_states")
    wanted(_asyncio.CancelScope, "_effectively_cancelled")
    if "trio" in sys.modules:
        import trio
        from trio._core import _run

        wanted(_run, "GLOBAL_RUN_CONTEXT")
        wanted(_run.CancelStatus, "effectively_cancelled")
        wanted(trio.lowlevel.Task, "_cancel_status")
    wanted(pytest_plugin, "get_runner", "_current_runner", "_runner_leases", "_runner_stack")
