"""The private names of anyio's pytest plugin that ours needs.

Rule: as in `_internals`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ._internals import _check, _wanted

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


@_check(RUNNERS)
def _check_runners() -> None:
    from anyio import pytest_plugin

    _wanted(pytest_plugin, "get_runner", "_current_runner", "_runner_leases", "_runner_stack")
