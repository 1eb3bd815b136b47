"""Whose a test is: of anyio's plugin, on which ours stands, or of pytest-asyncio.

Rule: pytest-asyncio keeps what has its mark. In its auto mode it takes every async test and
fixture that there is; those on an ``anyio_backend`` that use our fixtures are taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from typing import Any

import pytest

from kingdom_async_pytest import backend_of, fixtures_used

from ..internals.plugin import as_anyio_has_it, original_of

Test = Callable[..., Coroutine[Any, Any, Any]]

#: These need anyio's plugin to run the test.
_ANYIOS = frozenset(("every_backend", "virtual_clock"))
#: These start loops of their own, so that no test may be run in one.
_WITH_OWN_LOOPS = frozenset(("cancel_everywhere", "explore"))


def is_pytest_asyncios(item: pytest.Item) -> bool:
    """True for a test that pytest-asyncio runs."""
    return type(item).__module__.startswith("pytest_asyncio")


def is_anyios(item: pytest.Item) -> bool:
    """True for a test that anyio's plugin runs, in the loop that it keeps for fixtures, too."""
    func: Any = getattr(item, "obj", None)
    func = original_of(func.hypothesis.inner_test) if hasattr(func, "hypothesis") else func
    on_backend = "anyio_backend" in getattr(item, "fixturenames", ())
    return on_backend and iscoroutinefunction(func) and not is_pytest_asyncios(item)


def take_back(item: pytest.Item) -> None:
    """Have anyio's plugin run *item*, if only pytest-asyncio's auto mode has claimed it."""
    if not is_pytest_asyncios(item) or not fixtures_used(item):
        return
    if "anyio_backend" not in getattr(item, "fixturenames", ()) or _is_marked(item):
        return
    item.__class__ = pytest.Function  # what it was made from
    item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "asyncio"]


def on_uvloop(item: pytest.Item) -> bool:
    """True for a test whose backend is uvloop, ours or anyio's own way to ask for it."""
    if backend_of(item) == "asyncio+uvloop":
        return True
    callspec: Any = getattr(item, "callspec", None)
    for param in callspec.params.values() if callspec is not None else ():
        match param:
            case ("asyncio", {"use_uvloop": True}):
                return True
            case _:
                pass
    return False


def fixture_of(
    item: pytest.Item | None,
    fixturedef: pytest.FixtureDef[Any],
    request: pytest.FixtureRequest,
) -> AbstractContextManager[None]:
    """Where pytest-asyncio would take an async fixture of *item*, anyio's plugin goes first."""
    func: Any = fixturedef.func
    is_theirs = hasattr(getattr(func, "__func__", func), "_force_asyncio_fixture")
    if item is None or is_theirs or is_pytest_asyncios(item) or not _is_auto(item.config):
        return nullcontext()
    return as_anyio_has_it(fixturedef, request)


def refuse_pytest_asyncio(item: pytest.Item) -> None:
    """It runs each of its tests on asyncio, whatever backend is in the id."""
    used = fixtures_used(item)
    wants = " and ".join(sorted(used & _ANYIOS))
    if not wants or not is_pytest_asyncios(item):
        return
    who = f"{item.name} is run by pytest-asyncio, as its mark says, and"
    if tools := " and ".join(sorted(used & _WITH_OWN_LOOPS)):
        pytest.fail(
            f"{who} {tools} can only work in an ordinary function, as loops are started there; "
            "write def in place of async def, without a mark, and give it an async function "
            "that is the body",
            pytrace=False,
        )
    pytest.fail(
        f"{who} {wants} can only work where anyio's plugin runs the test; write "
        "@pytest.mark.anyio in place of @pytest.mark.asyncio",
        pytrace=False,
    )


class replaced:  # a context manager, read as a phrase
    """The async function of a test, wrapped while it is called."""

    def __init__(self, item: pytest.Function, wrap: Callable[[Test], Test]) -> None:
        self._item = item
        self._wrap = wrap
        self._before: Any = item.obj

    def __enter__(self) -> None:
        tests: Any = getattr(self._before, "hypothesis", None)
        if tests is not None:
            inner = original_of(tests.inner_test)
            inner = getattr(inner, "_kingdom_original", inner)
            if iscoroutinefunction(inner):
                tests.inner_test = wrapped = self._wrap(inner)
                wrapped._kingdom_original = inner  # type: ignore[attr-defined]
        elif iscoroutinefunction(self._before):
            self._item.obj = self._wrap(self._before)

    def __exit__(self, *error: object) -> None:
        self._item.obj = self._before


def _is_marked(item: pytest.Item) -> bool:
    """True if a test has the mark of pytest-asyncio, and not only from its auto mode."""
    own: list[pytest.Mark] = getattr(getattr(item, "function", None), "pytestmark", [])
    if any(mark.name == "asyncio" for mark in own):
        return True
    return item.parent is not None and item.parent.get_closest_marker("asyncio") is not None


def _is_auto(config: pytest.Config) -> bool:
    # Not asked by its name, which is another one after `-p pytest_asyncio`.
    try:
        given: Any = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
    except ValueError:  # nobody knows that setting
        return False
    return bool(given == "auto")
