"""Every test runs on every backend; KINGDOM_ASYNC_BACKEND picks one of them."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from support.backends import REAL, backend_and_options, chosen

_HANGS = 120.0  # seconds; a test that takes longer waits for something that never comes
_STDERR = os.dup(2)  # where it is said which one: pytest has taken the other


@pytest.fixture(params=chosen(REAL))
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend_and_options(request.param)


def pytest_configure() -> None:
    """A script that starts the suite with ``&`` has it ignore Ctrl-C, which tests press."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Async tests need no mark of their own; KINGDOM_TEST_QUICK leaves some tests out."""
    for item in items:
        if _is_left_out(item):
            item.add_marker(pytest.mark.skip(reason=f"KINGDOM_TEST_QUICK={_QUICK}"))
        if isinstance(item, pytest.Function) and "anyio_backend" in item.fixturenames:
            item.add_marker(pytest.mark.anyio)


#: "1" leaves out the slow tests, "core" those of tracing and of the testing tools as well, and
#: "tools" those of the core.
_QUICK = os.environ.get("KINGDOM_TEST_QUICK", "")


def _is_left_out(item: pytest.Item) -> bool:
    is_of_tools = item.path.parent.name in ("trace", "testing")
    if (_QUICK == "core" and is_of_tools) or (_QUICK == "tools" and not is_of_tools):
        return True
    return _QUICK in ("1", "core", "tools") and item.get_closest_marker("slow") is not None


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> None:
    """What is there before a module's tests is not looked at in each of their collections.

    A collection of all that the suite has imported takes a quarter of a second, and tests make
    thousands.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What has become garbage since it was frozen is collected in the end, and may complain."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(_HANGS, exit=True, file=_STDERR)
    yield
    faulthandler.cancel_dump_traceback_later()
