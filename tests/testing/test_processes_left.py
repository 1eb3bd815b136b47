"""A child process that outlives the program that began it is found, and only that."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any, Literal

import anyio
import pytest
import trio

import kingdom_async as ka
from kingdom_async.testing.faults import cancel_everywhere
from kingdom_async.testing.leaks import no_leaks
from kingdom_async.testing.leftovers.left import LeakError
from support.backends import REAL, chosen

pytestmark = pytest.mark.skipif(not hasattr(os, "waitid"), reason="nobody tells what runs")

every_backend = pytest.mark.parametrize("backend", chosen(REAL))
COMMAND = ["sleep", "5"]
Begin = Callable[[], Awaitable[Any]]


async def by_anyio() -> Any:
    return await anyio.open_process(COMMAND, stdin=None, stdout=None, stderr=None)


async def by_the_loop() -> Any:
    if ka.current_backend() == "trio":
        return await trio.lowlevel.open_process(COMMAND)
    return await asyncio.create_subprocess_exec(*COMMAND)


async def by_python() -> Any:
    return subprocess.Popen(COMMAND)  # noqa: ASYNC220


every_kind = pytest.mark.parametrize("begin", [by_anyio, by_the_loop, by_python])


class Begun:
    """Begins processes, and knows their numbers."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    async def one(self, begin: Begin) -> Any:
        process = await begin()
        self.pids.append(process.pid)
        return process


@pytest.fixture
def begun() -> Iterator[Begun]:
    begun = Begun()
    yield begun
    for pid in begun.pids:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@every_backend
@every_kind
def test_one_that_is_dropped_is_found(begun: Begun, begin: Begin, backend: str) -> None:
    """In the undisturbed run, too, with the line that began it."""

    async def body() -> None:
        await begun.one(begin)
        await ka.checkpoint()

    report = cancel_everywhere(body, backend=backend)
    found = [failure for failure in report.failures if "left behind: process" in str(failure)]
    assert [found[0].step, found[-1].step] == [None, report.points]
    assert "started at test_processes_left.py:" in str(found[0])
    assert "process 'sleep'" in str(found[0]) or backend == "asyncio+uvloop"


@every_backend
@every_kind
def test_one_that_a_cancellation_leaves_is_found(
    begun: Begun, begin: Begin, backend: str
) -> None:
    """It is ended after the wait only."""

    async def body() -> None:
        process = await begun.one(begin)
        await ka.checkpoint()
        process.kill()

    report = cancel_everywhere(body, backend=backend)
    assert report.failures[-1].step == report.points
    assert all("left behind: process" in str(failure) for failure in report.failures)


@every_backend
@every_kind
@pytest.mark.parametrize("mode", ["once", "twice", "native"])
def test_one_that_is_killed_is_none(
    begun: Begun, begin: Begin, mode: Literal["once", "twice", "native"], backend: str
) -> None:
    """Though nobody waits for its end; and where its start is cancelled, nobody could."""
    if (mode, backend) == ("native", "trio"):
        pytest.skip("there is none")

    async def body() -> None:
        process = await begun.one(begin)
        try:
            await ka.checkpoint()
        finally:
            process.kill()

    cancel_everywhere(body, mode=mode, backend=backend).raise_if_failed()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio's own
@every_backend
@pytest.mark.parametrize("mode", ["once", "twice"])
def test_one_that_is_closed_is_none(mode: Literal["once", "twice"], backend: str) -> None:
    """By anyio's own way: it has shields, through which ``Task.cancel()`` goes."""

    async def body() -> None:
        async with await anyio.open_process(["cat"]):
            await ka.checkpoint()

    cancel_everywhere(body, mode=mode, backend=backend).raise_if_failed()


@every_backend
@pytest.mark.parametrize("told", [False, True], ids=["planted", "mended"])
def test_one_that_was_told_to_end_has_its_time(told: bool, backend: str) -> None:
    """As threads have, for some have much to put away; who was told nothing has a moment."""
    slow = "trap 'sleep 0.3; exit' TERM; echo; for _ in 1 2 3 4 5; do sleep 0.1; done"
    kept: list[subprocess.Popen[bytes]] = []

    async def begin_one() -> None:
        process = subprocess.Popen(["sh", "-c", slow], stdout=subprocess.PIPE)  # noqa: ASYNC220
        kept.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        if told:
            process.terminate()

    async def main() -> None:
        async with no_leaks(grace=10):
            await begin_one()

    try:
        with (
            nullcontext()
            if told
            else pytest.raises(LeakError, match="process 'sh', started at test_")
        ):
            ka.run(main, backend=backend)
    finally:
        for process in kept:
            process.communicate()


@every_backend
def test_workers_of_a_pool_are_none(backend: str) -> None:
    """anyio's own stay until the end of the loop, by design."""

    async def main() -> None:
        async with no_leaks():
            await ka.offload(int, to="process")

    ka.run(main, backend=backend)
