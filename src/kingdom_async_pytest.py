"""What pytest loads in every project that has kingdom_async installed: names, and no code.

Rule: nothing is imported here before a test asks for one of these fixtures or an option is
given; in other projects the plugin is not there. What it does is in
`kingdom_async.pytest_plugin`.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kingdom_async.pytest_plugin import VirtualClock
    from kingdom_async.testing import Report

_NEEDS = {"asyncio": "asyncio", "asyncio+uvloop": "uvloop", "trio": "trio"}
_OPTIONS = {
    "backends": "comma-separated: which of asyncio, asyncio+uvloop and trio every_backend is",
    "seed": "a number: the one seed of explore and cancel_everywhere, to see a failure again",
    "timeout": "real seconds for each test, or 'off'; default 60 where a fixture of "
    "kingdom_async is used, else off",
    "trace": "life or steps: record each async test, and show the end of the recording beside "
    "the traceback of one that fails; default off",
}


class Backend(str):
    """The name of a backend, as a parameter of `every_backend`."""


BACKENDS = tuple(Backend(name) for name, needs in _NEEDS.items() if find_spec(needs))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kingdom_async")
    for name, text in _OPTIONS.items():
        group.addoption(f"--kingdom-{name}", default=None, help=text)
        # A list that is read as a string is deprecated.
        kind: Literal["linelist", "string"] = "linelist" if name == "backends" else "string"
        parser.addini(f"kingdom_{name}", type=kind, default=None, help=text)


def setting(config: pytest.Config, name: str) -> str | None:
    """What the command line says, else the configuration file, else None."""
    given: str | None = config.getoption(f"kingdom_{name}")
    if given is None:
        written = _written(config, f"kingdom_{name}") or None
        given = ",".join(map(str, written)) if isinstance(written, list) else written  # pyright: ignore[reportUnknownArgumentType]
    return given


def _written(config: pytest.Config, key: str) -> Any:
    """A string where a list may be, too: in ``[tool.pytest]``, whose values have types."""
    try:
        return config.getini(key)
    except (TypeError, pytest.UsageError):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, and the only way to what is written
            value: Any = dict(getattr(config, "inicfg", {})).get(key)
        if not isinstance(value, str):
            raise
        return value


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Load the plugin where it is asked for."""
    if any(setting(config, name) for name in _OPTIONS) or any(map(fixtures_used, items)):
        from kingdom_async.pytest_plugin import Plugin

        plugin = Plugin(config)
        config.pluginmanager.register(plugin, "kingdom_async_at_work")
        plugin.select(items)


def fixtures_used(item: pytest.Item) -> set[str]:
    """Which fixtures of kingdom_async a test uses, itself or through others."""
    used = {*getattr(item, "fixturenames", ())} & FIXTURES
    return used | {"every_backend"} if backend_of(item) is not None else used


def backend_of(item: pytest.Item) -> Backend | None:
    """The parameter of `every_backend` with which *item* runs, whatever it is called there."""
    return next(iter(backends_of(item)), None)


def backends_of(item: pytest.Item) -> set[Backend]:
    """Two where a test has both `every_backend` and a fixture of another name that is it."""
    return {param for param in _params_of(item).values() if isinstance(param, Backend)}


def is_every_backend(item: pytest.Item) -> bool:
    """True where the fixture ``anyio_backend`` of a test is `every_backend`."""
    return isinstance(_params_of(item).get("anyio_backend"), Backend)


def _params_of(item: pytest.Item) -> dict[str, Any]:
    callspec: Any = getattr(item, "callspec", None)
    params: dict[str, Any] = callspec.params if callspec is not None else {}
    return params


@pytest.fixture(scope="session", params=BACKENDS)
def every_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """asyncio, asyncio with uvloop where it is installed, and trio.

    Write ``anyio_backend = every_backend`` in a conftest.
    """
    from kingdom_async._backend import anyio_backend

    return anyio_backend(request.param)


@pytest.fixture(params=[pytest.param(None, id="virtual")])
def virtual_clock(request: pytest.FixtureRequest, anyio_backend: object) -> VirtualClock:
    """The test runs on virtual time: when every task waits, the clock jumps on."""
    from kingdom_async.pytest_plugin import virtual_clock_of

    return virtual_clock_of(request)


@pytest.fixture(scope="session")
def kingdom_seed(pytestconfig: pytest.Config) -> int:
    """The number given with ``--kingdom-seed``, or 0; for tests with a seed of their own."""
    from kingdom_async.testing.plugin.options import read_seed

    return read_seed(pytestconfig)


@pytest.fixture
def cancel_everywhere(
    request: pytest.FixtureRequest, every_backend: object
) -> Callable[..., Report]:
    """`testing.cancel_everywhere` on every backend; raises what it finds."""
    from kingdom_async.testing.plugin.tools import on_backend_of

    return on_backend_of(request, "cancel_everywhere")


@pytest.fixture
def explore(request: pytest.FixtureRequest, every_backend: object) -> Callable[..., Report]:
    """`testing.explore` on every backend; raises what it finds."""
    from kingdom_async.testing.plugin.tools import on_backend_of

    return on_backend_of(request, "explore")


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Any:
    """The whole test runs inside of `kingdom_async.testing.no_leaks`."""
    from kingdom_async.testing.plugin.tools import no_leaks_of

    return no_leaks_of(request)


FIXTURES = frozenset(
    (
        "every_backend",
        "virtual_clock",
        "kingdom_seed",
        "cancel_everywhere",
        "explore",
        "no_leaks",
    )
)
