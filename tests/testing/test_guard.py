"""Real time for a test that starts loops of its own, one after another or one for ever."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kingdom_async as ka
from kingdom_async.testing import cancel_everywhere, explore
from kingdom_async.testing.leftovers import births
from kingdom_async.testing.plugin import guard
from support.backends import REAL, chosen

_ONE = guard.Guard()


@pytest.fixture(params=chosen(REAL))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_STEP", 0.1)


async def _short() -> None:
    for _ in range(5):
        await ka.checkpoint()


async def _for_ever() -> None:
    while True:
        await ka.checkpoint()


def _many(backend: str) -> None:
    explore(_short, seeds=10**6, backend=backend)


def _one(backend: str) -> None:
    explore(_for_ever, seeds=1, backend=backend)


def _count(backend: str) -> None:
    cancel_everywhere(_for_ever, backend=backend, clock="real")


def _in_a_group(backend: str) -> None:
    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(_for_ever)
            group.start_soon(_for_ever)

    cancel_everywhere(body, backend=backend)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("tool", [_many, _one, _count, _in_a_group])
def test_the_tools_end_when_the_time_is_up(backend: str, tool: Callable[[str], Any]) -> None:
    """Between two runs where they are many, in the midst of one that never ends.

    An error that is no KeyboardInterrupt was logged by uvloop, and the process ended. An
    interrupt that strikes while a coroutine is dropped is printed, and the next one comes.
    """
    told = pytest.raises(guard.TookTooLong, match="the call has not ended after")
    with told, _ONE.phase("the call", 0.1):
        tool(backend)
    assert not births._open  # whatever of the program never came to its end


def test_nothing_is_raised_where_python_would_swallow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a finalizer, or a callback of the collector's; a moment later it is raised."""
    monkeypatch.setattr(guard, "_PASSED_OVER", 100)
    phase = guard.Phase("the call", 1)
    phase.said = "the time is up"
    ran: list[str] = []

    class Dies:
        def __del__(self) -> None:
            phase.interrupt(0, sys._getframe())
            ran.append("finalizer")

    def collected(*_: object) -> None:
        phase.interrupt(0, sys._getframe())
        ran.append("callback")

    gc.callbacks.append(collected)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(collected)
    Dies()
    gc.collect()  # where a finalizer is late
    assert {*ran} == {"callback", "finalizer"}
    assert not phase.has_interrupted
    with pytest.raises(guard.Interrupted, match="the time is up"):
        phase.interrupt(0, sys._getframe())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_finalizer_that_hangs_is_ended() -> None:
    """It is interrupted in the end, and the test fails although Python swallows that."""

    class Pool:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.lock.acquire()

        def __del__(self) -> None:
            self.lock.acquire()

    told = pytest.raises(guard.TookTooLong, match="the call has not ended after")
    with told, _ONE.phase("the call", 0.1):
        Pool()
