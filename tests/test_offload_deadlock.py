"""thread → loop → thread under one exhausted limiter: reported, and never by mistake."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest

import kingdom_async as ka
from support.backends import asyncio_only
from support.threads import Held, seen, tokens_back

LATE = 30.0  # seconds


def deadlock(func: str, limiter: str, tokens: int) -> str:
    """The whole sentence, as a pattern."""
    sentence = (
        f"offload({func}), called back from a thread, would wait for ever: every token of "
        f"{limiter} ({tokens} in all) is held by a thread that waits like this one; give the "
        "inner calls a limiter of their own"
    )
    return f"^{re.escape(sentence)}$"


def call_back(limiter: anyio.CapacityLimiter | None) -> str:
    """In a thread: have the loop offload another function, and wait for it."""

    async def inner() -> str:
        return await ka.offload(str, "inner", limiter=limiter)

    return ka.from_thread.run(inner)


@pytest.mark.parametrize("abandon", [False, True])
async def test_one_token(abandon: bool) -> None:
    """A thread with the only token cannot get another one; its function gets the error."""
    limiter = ka.Limiter(1, name="one")
    with anyio.fail_after(LATE):
        with pytest.raises(ka.LimiterDeadlock, match=deadlock("str", "'one'", 1)):
            await ka.offload(call_back, limiter, limiter=limiter, abandon_on_cancel=abandon)
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("abandon", [False, True])
async def test_two_tokens_and_two_workers(abandon: bool) -> None:
    """The last to come is refused, its thread ends, and the other goes on with its token."""
    limiter = ka.Limiter(2, name="two")
    both_are_there = threading.Barrier(2)
    outcomes: list[str | ka.LimiterDeadlock] = []

    def work() -> str:
        both_are_there.wait(LATE)
        return call_back(limiter)

    async def worker() -> None:
        try:
            call = ka.offload(work, limiter=limiter, abandon_on_cancel=abandon)
            outcomes.append(await call)
        except ka.LimiterDeadlock as error:
            outcomes.append(error)

    with anyio.fail_after(LATE):
        async with ka.TaskGroup() as group:
            group.start_soon(worker)
            group.start_soon(worker)

    refused, inner = sorted(outcomes, key=lambda outcome: isinstance(outcome, str))
    assert inner == "inner"
    assert isinstance(refused, ka.LimiterDeadlock)
    assert re.search(deadlock("str", "'two'", 2), str(refused))
    assert limiter.borrowed_tokens == 0


async def test_the_default_limiter_is_named() -> None:
    """Without a limiter= it is the default one that is exhausted."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    with anyio.fail_after(LATE):
        sentence = deadlock("str", "the default thread limiter", 1)
        with pytest.raises(ka.LimiterDeadlock, match=sentence):
            await ka.offload(call_back, None)


async def test_a_limiter_of_anyio_is_named_by_its_repr() -> None:
    """It has no other name."""
    limiter = anyio.CapacityLimiter(1)
    with anyio.fail_after(LATE):
        with pytest.raises(ka.LimiterDeadlock, match=deadlock("str", repr(limiter), 1)):
            await ka.offload(call_back, limiter, limiter=limiter)


async def test_two_limiters_that_wait_for_each_other() -> None:
    """One thread has the token the other waits for, and the other way round."""
    left, right = ka.Limiter(1, name="left"), ka.Limiter(1, name="right")
    both_are_there = threading.Barrier(2)
    outcomes: list[str] = []

    def work(inner: ka.Limiter) -> str:
        both_are_there.wait(LATE)
        return call_back(inner)

    async def worker(outer: ka.Limiter, inner: ka.Limiter) -> None:
        try:
            outcomes.append(await ka.offload(work, inner, limiter=outer))
        except ka.LimiterDeadlock:
            outcomes.append("refused")

    with anyio.fail_after(LATE):
        async with ka.TaskGroup() as group:
            group.start_soon(worker, left, right)
            group.start_soon(worker, right, left)
    assert sorted(outcomes) == ["inner", "refused"]
    assert (left.borrowed_tokens, right.borrowed_tokens) == (0, 0)


async def test_three_levels_deep() -> None:
    """The threads around the innermost call hold all three tokens."""
    limiter = ka.Limiter(3, name="three")

    def dive(levels: int) -> int:
        async def deeper() -> int:
            return await ka.offload(dive, levels - 1, limiter=limiter)

        return 0 if levels == 1 else 1 + ka.from_thread.run(deeper)

    with anyio.fail_after(LATE):
        assert await ka.offload(dive, 3, limiter=limiter) == 2
        with pytest.raises(ka.LimiterDeadlock, match=r"every token of 'three' \(3 in all\)"):
            await ka.offload(dive, 4, limiter=limiter)
    assert limiter.borrowed_tokens == 0


async def test_the_function_may_handle_it() -> None:
    """The error is raised in the thread, where it can be caught like any other."""
    limiter = ka.Limiter(1, name="one")

    def careful() -> str:
        try:
            return call_back(limiter)
        except ka.LimiterDeadlock:
            return "did it myself"

    assert await ka.offload(careful, limiter=limiter) == "did it myself"


# --- tasks that hold a token by themselves --------------------------------------------


def by_a_task(func: str, limiter: str, tokens: int) -> str:
    """The whole sentence, as a pattern."""
    sentence = (
        f"offload({func}), by a task that holds a token of the same limiter, would wait for "
        f"ever: every token of {limiter} ({tokens} in all) is held by a task that waits like "
        "this one; leave out either limiter= or the 'async with' around the call"
    )
    return f"^{re.escape(sentence)}$"


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_task_that_holds_the_only_token(abandon: bool) -> None:
    """`async with limiter: await offload(…, limiter=limiter)` is refused, and gives it back."""
    limiter = ka.Limiter(1, name="one")
    with anyio.fail_after(LATE):
        with pytest.raises(ka.LimiterDeadlock, match=by_a_task("str", "'one'", 1)):
            async with limiter:
                await ka.offload(str, 1, limiter=limiter, abandon_on_cancel=abandon)
        assert await ka.offload(str, 1, limiter=limiter) == "1"
    assert limiter.borrowed_tokens == 0


async def test_a_task_that_holds_the_only_token_of_anyios_limiter() -> None:
    """anyio's own limiter is watched as well."""
    limiter = anyio.CapacityLimiter(1)
    with anyio.fail_after(LATE):
        with pytest.raises(ka.LimiterDeadlock, match=by_a_task("str", repr(limiter), 1)):
            async with limiter:
                await ka.offload(str, 1, limiter=limiter)


async def test_two_tasks_that_hold_the_two_tokens() -> None:
    """The last to come is refused; its token lets the other one go on."""
    limiter = ka.Limiter(2, name="two")
    both_hold = anyio.Event()
    outcomes: list[str] = []

    async def worker() -> None:
        try:
            async with limiter:
                if limiter.borrowed_tokens == 2:
                    both_hold.set()
                await both_hold.wait()
                outcomes.append(await ka.offload(str, "done", limiter=limiter))
        except ka.LimiterDeadlock as error:
            outcomes.append(str(error))

    with anyio.fail_after(LATE):
        async with ka.TaskGroup() as group:
            group.start_soon(worker)
            group.start_soon(worker)
    assert outcomes[1] == "done"
    assert re.search(by_a_task("str", "'two'", 2), outcomes[0])
    assert limiter.borrowed_tokens == 0


async def test_a_task_that_holds_the_token_its_thread_asks_for() -> None:
    """The task waits for the thread, and the thread for the token of the task."""
    limiter, other = ka.Limiter(1, name="one"), ka.Limiter(1, name="other")
    with anyio.fail_after(LATE):
        with pytest.raises(ka.LimiterDeadlock, match=deadlock("str", "'one'", 1)):
            async with limiter:
                await ka.offload(call_back, limiter, limiter=other)


async def test_a_process_for_a_task_that_holds_a_token() -> None:
    """A task may hold one token of a limiter; it is told which of the two to leave out."""
    limiter = ka.Limiter(2, name="two")
    sentence = (
        "offload(abs, to='process'): this task holds a token of 'two' already; leave out "
        "either limiter= or the 'async with' around the call"
    )
    with pytest.raises(ka.OffloadError, match=f"^{re.escape(sentence)}$"):
        async with limiter:
            await ka.offload(abs, 1, to="process", limiter=limiter)


async def test_no_alarm_while_the_limiter_has_another_token() -> None:
    """One for the block, one for the thread: wasteful, and no deadlock."""
    limiter = ka.Limiter(2, name="two")
    async with limiter:
        assert await ka.offload(str, 1, limiter=limiter) == "1"


async def test_no_alarm_while_another_task_will_give_its_token_back() -> None:
    """One token is held by a task that waits for nobody here."""
    limiter = ka.Limiter(2, name="two")

    async def hold() -> None:
        async with limiter:
            with anyio.fail_after(LATE):
                while not limiter.statistics().tasks_waiting:
                    await ka.checkpoint()

    async with ka.TaskGroup() as group, limiter:
        group.start_soon(hold)
        while limiter.available_tokens:
            await ka.checkpoint()
        assert await ka.offload(str, 1, limiter=limiter) == "1"


async def test_no_alarm_for_the_tasks_of_a_task_that_holds_a_token() -> None:
    """The task itself does not wait for them before it has left the block."""
    limiter = ka.Limiter(1, name="one")
    async with ka.TaskGroup() as group, limiter:
        job = group.start_soon(lambda: ka.offload(str, 1, limiter=limiter))
        while not limiter.statistics().tasks_waiting:
            await ka.checkpoint()
    assert job.return_value == "1"


@asyncio_only
async def test_no_alarm_for_an_abandoned_call_of_a_task_that_holds_a_token() -> None:
    """Who was cancelled natively, and left its thread behind, can give its token back."""
    limiter, other = ka.Limiter(1, name="one"), ka.Limiter(1, name="other")
    held = Held()
    outcomes: list[str] = []

    def stay_then_nest() -> None:
        held()
        outcomes.append(call_back(limiter))

    async def leave_it_behind() -> None:
        async with limiter:
            with suppress(asyncio.CancelledError):
                await ka.offload(stay_then_nest, limiter=other)
            held.let_go()
            while not limiter.statistics().tasks_waiting:
                await ka.checkpoint()

    task = asyncio.ensure_future(leave_it_behind())
    await held.until_started()
    task.cancel()
    with anyio.fail_after(LATE):
        await asyncio.wait([task])
        await tokens_back(other)
    assert outcomes == ["inner"]


# --- no false alarm ------------------------------------------------------------------


async def test_no_alarm_for_a_job_that_the_thread_does_not_wait_for() -> None:
    """A background task started from the thread gets its token once the thread has ended."""
    limiter = ka.Limiter(1, name="one")

    async with ka.TaskGroup() as group:

        async def job() -> None:
            results.append(await ka.offload(str, "job", limiter=limiter))

        async def job_waits() -> None:
            group.start_soon(job)
            with anyio.fail_after(LATE):
                while not limiter.statistics().tasks_waiting:
                    await ka.checkpoint()

        results: list[str] = []
        await ka.offload(ka.from_thread.run, job_waits, limiter=limiter)
    assert results == ["job"]


async def test_no_alarm_for_a_job_started_by_run_sync() -> None:
    """from_thread.run_sync(group.start_soon, …) waits for nothing but the start."""
    limiter = ka.Limiter(1, name="one")
    ended: list[str] = []
    go = threading.Event()

    async def job() -> None:
        go.set()
        ended.append(await ka.offload(str, "job", limiter=limiter))

    async with ka.TaskGroup() as group:

        def start_job() -> None:
            ka.from_thread.run_sync(group.start_soon, job)
            assert go.wait(LATE)

        await ka.offload(start_job, limiter=limiter)
    assert ended == ["job"]


async def test_no_alarm_where_a_job_nests_in_its_own_right() -> None:
    """The thread that started the job ends by itself; only the job's own thread waits."""
    limiter = ka.Limiter(2, name="two")
    held = Held()
    results: list[str] = []
    started = threading.Event()

    def start_job_and_stay(group: ka.TaskGroup) -> None:
        ka.from_thread.run_sync(group.start_soon, job)
        held()

    async def job() -> None:
        results.append(await ka.offload(nest, limiter=limiter))

    def nest() -> str:
        started.set()
        return call_back(limiter)

    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(start_job_and_stay, group, limiter=limiter))
        await seen(started)
        await anyio.wait_all_tasks_blocked()
        assert limiter.statistics().tasks_waiting == 1
        held.let_go()
    assert results == ["inner"]


async def test_no_alarm_while_another_holder_will_end() -> None:
    """One token is held by a call that waits for nobody: the inner call waits for it."""
    limiter = ka.Limiter(2, name="two")
    held = Held()
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(held, limiter=limiter))
        await held.until_started()
        nesting = group.start_soon(lambda: ka.offload(call_back, limiter, limiter=limiter))
        with anyio.fail_after(LATE):
            while not limiter.statistics().tasks_waiting:
                await ka.checkpoint()
        held.let_go()
    assert nesting.return_value == "inner"


async def test_no_alarm_while_the_loop_itself_holds_a_token() -> None:
    """A token borrowed by `async with` is nobody's thread, and may come back."""
    limiter = ka.Limiter(2, name="two")
    async with ka.TaskGroup() as group, limiter:
        nesting = group.start_soon(lambda: ka.offload(call_back, limiter, limiter=limiter))
        with anyio.fail_after(LATE):
            while not limiter.statistics().tasks_waiting:
                await ka.checkpoint()
    assert nesting.return_value == "inner"


async def test_no_alarm_with_another_limiter() -> None:
    """What the error recommends works."""
    outer, inner = ka.Limiter(1, name="outer"), ka.Limiter(1, name="inner")
    for _ in range(3):
        assert await ka.offload(call_back, inner, limiter=outer) == "inner"


@asyncio_only
async def test_a_refused_call_of_a_natively_cancelled_one_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody is left to raise the deadlock to; it is said in the log, and nothing hangs."""
    limiter = ka.Limiter(1, name="one")
    held = Held()

    def stay_then_nest() -> str:
        held()
        return call_back(limiter)

    task = asyncio.ensure_future(ka.offload(stay_then_nest, limiter=limiter))
    await held.until_started()
    task.cancel()
    await asyncio.wait([task])
    held.let_go()
    await tokens_back(limiter)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ka.LimiterDeadlock)
