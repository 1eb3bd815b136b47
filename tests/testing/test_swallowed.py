"""Which task is told to have swallowed its cancellation, and which is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Literal

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.from_thread import BlockingPortal

import kingdom_async as ka
from kingdom_async.testing.faults import cancel_everywhere
from support.backends import REAL, chosen

asyncio_backends = pytest.mark.parametrize(
    "backend", [name for name in chosen(REAL) if name != "trio"]
)
Mode = Literal["once", "native"]


async def _waits_for_a_task() -> object:
    return await asyncio.create_task(ka.sleep(0.01))


async def _waits_for_a_gather() -> object:
    return await asyncio.gather(ka.sleep(0.01), ka.sleep(0.02))


@asyncio_backends
@pytest.mark.parametrize("mode", ["once", "native"])
@pytest.mark.parametrize("wait", [_waits_for_a_task, _waits_for_a_gather])
@pytest.mark.parametrize("mended", [False, True], ids=["planted", "mended"])
def test_a_cancellation_that_comes_through_a_task_is_missed(
    mended: bool, wait: Callable[[], Awaitable[object]], mode: Mode, backend: str
) -> None:
    """Also before Python 3.11, where it is another error by then."""

    async def body() -> None:
        try:
            await wait()
        except asyncio.CancelledError:
            if mended:
                raise

    report = cancel_everywhere(body, mode=mode, backend=backend)
    if mended:
        report.raise_if_failed()
        return
    assert {failure.step for failure in report.failures} == {*range(1, report.points + 1)}
    assert "body' was cancelled, and returned all the same" in str(report)


@asyncio_backends
@pytest.mark.parametrize("mode", ["once", "native"])
def test_whoever_waits_for_a_task_that_is_cancelled_alone_may_go_on(
    mode: Mode, backend: str
) -> None:
    """Its own cancellation would be another matter."""

    async def body() -> None:
        worker = asyncio.create_task(ka.sleep(0.01), name="worker")
        try:
            await worker
        except asyncio.CancelledError:
            if not worker.cancelled():
                raise

    report = cancel_everywhere(body, task="worker", mode=mode, backend=backend)
    report.raise_if_failed()
    assert report.outcomes == {"finished": report.points}


@pytest.mark.parametrize("backend", chosen(REAL))
@pytest.mark.parametrize("mended", [False, True], ids=["planted", "mended"])
def test_a_portal_tells_the_thread_and_goes_on(mended: bool, backend: str) -> None:
    """anyio's task there keeps its cancellation; that of the call in it is another matter."""

    async def call() -> None:
        try:
            await ka.sleep(0.01)
        except BaseException:
            if mended:
                raise

    async def body() -> None:
        async with BlockingPortal() as portal:
            with suppress(CancelledError):  # of the thread
                await anyio.to_thread.run_sync(portal.call, call)

    report = cancel_everywhere(body, backend=backend, clock="real")
    said = [str(failure) for failure in report.failures if "swallowed" in str(failure)]
    assert bool(said) != mended, report
    assert all("_call_func' was cancelled, and returned" in one for one in said)


def test_a_task_that_is_stopped_by_a_scope_of_its_own_may_return() -> None:
    """On trio that error has the body's as its context, where the body stops it on its way."""

    async def help_out(scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(60)

    async def body() -> None:
        scope = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(help_out, scope)
            try:
                await trio.sleep(0.01)
            finally:
                scope.cancel()

    cancel_everywhere(body, backend="trio").raise_if_failed()
