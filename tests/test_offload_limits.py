"""A token is out for as long as the function runs, whatever became of the task that asked."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import kingdom_async as ka
from kingdom_async._thread_calls import ThreadCall
from support.backends import asyncio_only
from support.native import by_task_cancel
from support.threads import Held, tokens_back


@pytest.fixture(params=["ours", "anyio's", "default"])
def limiter_of(request: pytest.FixtureRequest) -> Any:
    """A function that makes a limiter, and gives it with the arguments that use it."""

    def make(tokens: int) -> tuple[anyio.CapacityLimiter, dict[str, Any]]:
        if request.param == "default":
            limiter = anyio.to_thread.current_default_thread_limiter()
            limiter.total_tokens = tokens
            return limiter, {}
        if request.param == "ours":
            limiter = ka.Limiter(tokens, name="few")
        else:
            limiter = anyio.CapacityLimiter(tokens)
        return limiter, {"limiter": limiter}

    return make


async def test_never_more_functions_than_tokens(limiter_of: Any) -> None:
    """Twenty calls under three tokens: three run, the others wait."""
    limiter, options = limiter_of(3)
    held = Held()
    async with ka.TaskGroup() as group:
        for _ in range(20):
            group.start_soon(lambda: ka.offload(held, **options))
        await held.until_started(3)
        await anyio.wait_all_tasks_blocked()
        assert (held.started, limiter.borrowed_tokens) == (3, 3)
        held.let_go()
    assert (held.started, held.most) == (20, 3)
    assert limiter.borrowed_tokens == 0


async def test_abandoned_calls_keep_their_tokens(limiter_of: Any) -> None:
    """50 calls abandoned under 5 tokens: five functions run, and no sixth until one ends."""
    limiter, options = limiter_of(5)
    held = Held()
    for _ in range(10):
        async with ka.TaskGroup() as group:
            for _ in range(5):
                group.start_soon(lambda: ka.offload(held, abandon_on_cancel=True, **options))
            await held.until_started(5)
            await anyio.wait_all_tasks_blocked()
            group.cancel()
        assert (held.started, held.running, limiter.borrowed_tokens) == (5, 5, 5)

    held.let_go()
    await tokens_back(limiter)
    await held.until_ended()
    assert (held.started, held.most) == (5, 5)


async def test_the_token_of_an_abandoned_call_goes_to_the_next_one() -> None:
    """Who waits for a token gets it when the abandoned function has ended, and not before."""
    limiter = ka.Limiter(1, name="one")
    first, second = Held(), Held("second")
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(first, limiter=limiter, abandon_on_cancel=True))
        await first.until_started()
        group.cancel()
    async with ka.TaskGroup() as group:
        call = group.start_soon(lambda: ka.offload(second, limiter=limiter))
        await anyio.wait_all_tasks_blocked()
        assert second.started == 0
        first.let_go()
        await second.until_started()
        assert first.running == 0
        second.let_go()
    assert call.return_value == "second"
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("how", ["returns", "fails"])
async def test_a_call_that_ends_gives_its_token_back(how: str) -> None:
    """Success and failure alike."""
    limiter = ka.Limiter(1, name="one")
    for _ in range(5):
        if how == "returns":
            assert await ka.offload(str, 7, limiter=limiter) == "7"
        else:
            with pytest.raises(ValueError, match="invalid literal"):
                await ka.offload(int, "seven", limiter=limiter)
        assert limiter.borrowed_tokens == 0


async def test_a_cancelled_wait_for_a_token_starts_nothing() -> None:
    """A call that is cancelled while it waits leaves no token out and no function running."""
    limiter = ka.Limiter(1, name="one")
    held, never = Held(), Held()
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(held, limiter=limiter))
        await held.until_started()
        async with ka.TaskGroup() as waiting:
            waiting.start_soon(lambda: ka.offload(never, limiter=limiter))
            await anyio.wait_all_tasks_blocked()
            waiting.cancel()
        held.let_go()
    await tokens_back(limiter)
    assert never.started == 0


async def test_one_limiter_serves_one_run_after_the_other() -> None:
    """A Limiter from module level works in every test and on every backend."""
    assert await ka.offload(str, 1, limiter=MODULE_LEVEL) == "1"
    assert MODULE_LEVEL.borrowed_tokens == 0


MODULE_LEVEL = ka.Limiter(1, name="module level")


# --- native cancellation -------------------------------------------------------------


@asyncio_only
@pytest.mark.parametrize("abandon", [False, True])
async def test_wait_for_never_lets_two_run_under_one_token(abandon: bool) -> None:
    """Four wait_for() calls that time out, under one token, are never two threads at once."""
    limiter = ka.Limiter(1, name="one")
    held = Held()

    async def impatient() -> None:
        call = ka.offload(held, limiter=limiter, abandon_on_cancel=abandon)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.001)

    first = asyncio.ensure_future(ka.offload(held, limiter=limiter))
    await held.until_started()
    first.cancel()
    for _ in range(4):
        await impatient()
    assert (held.started, limiter.borrowed_tokens) == (1, 1)
    held.let_go()
    await tokens_back(limiter)
    assert held.most == 1
    with pytest.raises(asyncio.CancelledError):
        await first


@asyncio_only
@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in Python 3.11")
async def test_asyncio_timeout_never_lets_two_run_under_one_token() -> None:
    """The same for asyncio.timeout(), with the deadline moved once the thread runs."""
    limiter = ka.Limiter(1, name="one")
    held = Held()

    async def run_out() -> None:
        async with asyncio.timeout(None) as timeout:

            async def expire() -> None:
                await held.until_started()
                timeout.reschedule(0)

            expiry = asyncio.ensure_future(expire())
            try:
                await ka.offload(held, limiter=limiter)
            finally:
                await asyncio.wait([expiry])

    for _ in range(4):
        with pytest.raises(TimeoutError):
            await run_out()
    assert (held.started, held.running, limiter.borrowed_tokens) == (1, 1, 1)
    held.let_go()
    await tokens_back(limiter)
    assert held.most == 1


@asyncio_only
async def test_fifty_natively_cancelled_calls_are_five_threads() -> None:
    """Task.cancel() goes through any shield; the token stays with the thread all the same."""
    limiter = ka.Limiter(5, name="five")
    held = Held()
    tasks = [asyncio.ensure_future(ka.offload(held, limiter=limiter)) for _ in range(50)]
    await held.until_started(5)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert (held.started, limiter.borrowed_tokens) == (5, 5)

    again = [asyncio.ensure_future(ka.offload(held, limiter=limiter)) for _ in range(3)]
    await anyio.wait_all_tasks_blocked()
    assert held.started == 5
    held.let_go()
    await asyncio.gather(*again)
    await tokens_back(limiter)
    assert (held.started, held.most) == (8, 5)


@asyncio_only
@pytest.mark.parametrize("abandon", [False, True])
async def test_native_cancellation_at_every_turn_gives_the_token_back_once(
    abandon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the turn, the token comes back exactly once: a second return would be logged."""
    limiter = ka.Limiter(2, name="two")
    running = threading.Semaphore(2)

    def work() -> str:
        assert running.acquire(blocking=False), "more functions than tokens"
        running.release()
        return "done"

    ends = {"done": 0, "cancelled": 0}
    for turns in range(12):
        for _ in range(25):
            try:
                call = ka.offload(work, limiter=limiter, abandon_on_cancel=abandon)
                assert await by_task_cancel(call, turns) == "done"
                ends["done"] += 1
            except asyncio.CancelledError:
                ends["cancelled"] += 1
            # another call at once, while the first may be on its way still
            assert await ka.offload(work, limiter=limiter) == "done"
    await tokens_back(limiter)
    assert ends["cancelled"] > 0
    assert not caplog.records


@asyncio_only
async def test_native_cancellation_while_waiting_for_a_token_loses_none() -> None:
    """Cancelled in the very turn in which the token was handed over, it is handed on."""
    limiter = ka.Limiter(1, name="one")
    for turns in range(8):
        held = Held()
        holder = asyncio.ensure_future(ka.offload(held, limiter=limiter))
        await held.until_started()
        waiter = asyncio.ensure_future(ka.offload(str, limiter=limiter))
        while not limiter.statistics().tasks_waiting:
            await ka.checkpoint()
        held.let_go()
        await holder
        for _ in range(turns):
            await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
        await tokens_back(limiter)


@asyncio_only
async def test_a_call_withdrawn_before_its_thread_takes_it_never_starts() -> None:
    """The token went back when the task left; so the thread must not run the function."""
    limiter = anyio.CapacityLimiter(1)
    held = Held()
    call = ThreadCall(held, (), limiter, "one")
    await call.__aenter__()
    assert limiter.borrowed_tokens == 1
    await call.__aexit__(None, None, None)
    assert limiter.borrowed_tokens == 0
    with pytest.raises(ka.OffloadError, match=re.escape("withdrawn before it started")):
        call.run()
    assert held.started == 0


@asyncio_only
async def test_cancelling_twice_gives_one_token_back(caplog: pytest.LogCaptureFixture) -> None:
    """A scope's cancellation that waits, then a native one, then the end of the thread."""
    limiter = ka.Limiter(1, name="one")
    held = Held()

    async def call() -> None:
        with ka.CancelScope() as scope:
            scopes.append(scope)
            await ka.offload(held, limiter=limiter)

    scopes: list[ka.CancelScope] = []
    task = asyncio.ensure_future(call())
    await held.until_started()
    scopes[0].cancel()
    await anyio.wait_all_tasks_blocked()
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert limiter.borrowed_tokens == 1
    held.let_go()
    await tokens_back(limiter)
    assert not caplog.records


async def test_a_thread_that_cannot_be_started_gives_the_token_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No thread, no token."""
    limiter = ka.Limiter(1, name="one")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        patch.setattr("trio._core._thread_cache.THREAD_CACHE._idle_workers", {})
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await ka.offload(str, limiter=limiter)
    assert limiter.borrowed_tokens == 0
