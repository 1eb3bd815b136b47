"""The private names of anyio's pytest plugin that ours needs.

Rule: as in `features`: used nowhere else, and checked when first used.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import isgeneratorfunction
from typing import Any

from sniffio import current_async_library_cvar

from .features import Gone, checks, wanted

RUNNERS = "the pytest plugin"

Choose = Callable[[str, dict[str, Any]], "tuple[str, dict[str, Any]]"]


def choose_for_new_runners(choose: Choose) -> Callable[[], None]:
    """Have *choose* say on what the next test runner of anyio's runs, each time one is made.

    Returns:
        What stops it.
    """
    from anyio import pytest_plugin

    plugin: Any = pytest_plugin
    original = plugin.get_runner

    @contextmanager
    def get_runner(name: str, options: dict[str, Any]) -> Generator[Any]:
        if not plugin._runner_leases:  # else one that could not be closed is still there
            plugin._current_runner = plugin._runner_stack = None
            name, options = choose(name, options)
        with original(name, options) as runner:
            yield runner

    plugin.get_runner = get_runner

    def stop() -> None:
        if plugin.get_runner is get_runner:
            plugin.get_runner = original

    return stop


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
        self._kept: tuple[str | None, dict[str, Any], int] | None = None

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
        run = _run_of_trio()
        in_main_thread = threading.current_thread() is threading.main_thread()
        wakeup = signal.set_wakeup_fd(-1) if in_main_thread else -1  # trio wants it, too
        self._kept = current_async_library_cvar.get(), {**run}, wakeup
        current_async_library_cvar.set(None)
        run.clear()

    def _take(self) -> None:
        assert self._kept is not None
        library, run, wakeup = self._kept
        self._kept = None
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
    if "trio" in sys.modules:
        from trio._core import _run

        wanted(_run, "GLOBAL_RUN_CONTEXT")
    wanted(pytest_plugin, "get_runner", "_current_runner", "_runner_leases", "_runner_stack")
