"""The tools of `kingdom_async.testing` as fixtures.

Rule: they do what the functions do, on the backend of the test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from kingdom_async_pytest import backend_of, setting

from ..leaks import no_leaks

if TYPE_CHECKING:
    import pytest

    from ..reports import Report


def on_backend_of(request: pytest.FixtureRequest, tool: str) -> Callable[..., Report]:
    """A tool of `kingdom_async.testing` that starts loops, for this test.

    It runs on the backend of the test, with the seed of the command line alone where there is
    one, and raises what its report tells of.
    """
    from ... import testing

    func: Callable[..., Any] = getattr(testing, tool)
    backend = backend_of(request.node)
    seed = setting(request.config, "seed")
    given: dict[str, Any] = {}
    if seed is not None:
        given = {"seeds": [int(seed)]} if tool == "explore" else {"seed": int(seed)}

    @wraps(func)
    def run(body: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        report: Report = func(body, **{"backend": backend, **options, **given})
        report.raise_if_failed()
        return report

    return run


def no_leaks_of(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`no_leaks`, which a test may call, too, where it starts a loop itself."""
    plugin: Any = request.config.pluginmanager.get_plugin("kingdom_async_at_work")
    run = plugin.run

    @wraps(no_leaks)
    def called(**options: Any) -> Any:
        run.has_called_no_leaks = True
        return no_leaks(**options)

    return called
