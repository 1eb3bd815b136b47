"""Cancelling `offload_map`: between items, and with no thread left behind."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from support.backends import asyncio_only
from support.native import by_task_cancel
from support.threads import Held, seen

LATE = 30.0  # seconds


class Counted:
    """A quick function that knows how many of its calls are running."""

    def __init__(self) -> None:
        self.called = 0
        self.running = 0
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self.called += 1
            self.running += 1
        with self._lock:
            self.running -= 1
        return item


async def endless() -> AsyncIterator[int]:
    for number in itertools.count():
        await ka.checkpoint()
        yield number


@pytest.fixture(params=["collection", "iterator", "async iterator"])
def items(request: pytest.FixtureRequest) -> Any:
    """More items than any test gets through."""
    return {
        "collection": lambda: range(10**9),
        "iterator": itertools.count,
        "async iterator": endless,
    }[request.param]()


async def test_threads_stop_before_their_next_item(items: Any) -> None:
    """The items in work are finished, no other is begun, and then the call ends."""
    held = Held()
    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(lambda: ka.offload_map(held, items, limit=3, chunksize=20))
            await held.until_started(3)
            scope.cancel()
            with ka.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
                assert held.running == 3
                held.let_go()
    assert scope.cancelled_caught
    assert (held.started, held.running) == (3, 0)


async def test_the_function_may_stop_early(items: Any) -> None:
    """check_cancelled() works in the function."""
    inside, cancelled = threading.Event(), threading.Event()
    called: list[int] = []

    def work(item: int) -> None:
        called.append(item)
        inside.set()
        assert cancelled.wait(LATE)
        ka.check_cancelled()
        called.append(-1)

    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(lambda: ka.offload_map(work, items, limit=1))
            with ka.CancelScope(shield=True):
                await seen(inside)
                scope.cancel()
                cancelled.set()
    assert scope.cancelled_caught
    assert called == [0]


@pytest.mark.parametrize("to", ["threads", "executor"])
async def test_a_slow_source_is_left_between_two_items(to: str) -> None:
    """However large the chunk that was asked for."""
    inside, go = threading.Event(), threading.Event()
    pulled: list[int] = []

    def slow() -> Iterator[int]:
        for number in range(10):
            pulled.append(number)
            yield number
            inside.set()
            assert go.wait(LATE)

    with ThreadPoolExecutor(1) as executor, ka.CancelScope() as scope:
        where: Any = executor if to == "executor" else "thread"
        async with ka.TaskGroup() as group:
            group.start_soon(
                lambda: ka.offload_map(str, slow(), to=where, limit=1, chunksize=10)
            )
            with ka.CancelScope(shield=True):
                await seen(inside)
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
                go.set()
    assert scope.cancelled_caught
    assert pulled in ([0], [0, 1])


async def test_an_executor_of_threads_finishes_its_item() -> None:
    """As in threads of the call's own: what runs is waited for, the rest not begun."""
    held = Held()
    with ThreadPoolExecutor(1) as executor, ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(
                lambda: ka.offload_map(held, range(100), to=executor, limit=2, chunksize=4)
            )
            await held.until_started()
            scope.cancel()
            with ka.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()  # what is pending is withdrawn by now
                held.let_go()
    assert scope.cancelled_caught
    assert (held.started, held.running) == (1, 0)


# --- what an async source gave away -------------------------------------------------


def fails_at_0(item: int) -> int:
    return item // item


def a_queue(items: int) -> ka.Queue[int]:
    queue = ka.Queue[int](items)
    for item in range(items):
        queue.put_nowait(item)
    queue.close()
    return queue


@pytest.mark.parametrize("to", ["thread", "process", "executor"])
async def test_what_was_pulled_and_not_begun_is_named(
    to: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure ends its chunk: the source has given the rest away, and it must not vanish."""
    with ThreadPoolExecutor(1) as executor:
        where = executor if to == "executor" else to
        queue = a_queue(6)
        with pytest.raises(ZeroDivisionError):
            await ka.offload_map(fails_at_0, queue, to=where, limit=1, chunksize=4)
    [message] = [record.getMessage() for record in caplog.records]
    assert message == (
        "offload_map(fails_at_0) ended early; pulled from the source and not begun: 1, 2, 3"
    )
    assert queue.drain() == [4, 5]


async def test_what_a_process_did_not_get_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled while the process starts: the chunk is pickled by then, and not sent."""
    queue = a_queue(3)
    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(lambda: ka.offload_map(abs, queue, to="process", limit=1))
            while queue.qsize() == 3:
                await ka.checkpoint()
            scope.cancel()
    [message] = [record.getMessage() for record in caplog.records]
    assert message == "offload_map(abs) ended early; pulled from the source and not begun: 0"
    assert queue.drain() == [1, 2]


async def test_what_was_pulled_is_named_when_the_call_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The item in work is finished; the others of its chunk, and of one on its way, are not."""
    held, more = Held(), anyio.Event()

    async def source() -> AsyncIterator[int]:
        for number in range(5):
            yield number
        await more.wait()

    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(lambda: ka.offload_map(held, source(), limit=2, chunksize=3))
            await held.until_started()
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            with ka.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
                held.let_go()
    [message] = [record.getMessage() for record in caplog.records]
    assert message.endswith("pulled from the source and not begun: 3, 4, 1, 2")
    assert (held.started, held.running) == (1, 0)


# --- natively ------------------------------------------------------------------------


@asyncio_only
async def test_native_cancellation_waits_for_the_threads(items: Any) -> None:
    """Task.cancel(), even twice: the call ends when its threads have, and no thread is left."""
    held = Held()
    task = asyncio.ensure_future(ka.offload_map(held, items, limit=3, chunksize=20))
    await held.until_started(3)
    for _ in range(2):
        task.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not task.done()
    held.let_go()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (held.started, held.running) == (3, 0)


@asyncio_only
async def test_wait_for_leaves_no_thread() -> None:
    """The timeout strikes anywhere, and nothing runs when it is raised."""
    work = Counted()
    for _ in range(5):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ka.offload_map(work, itertools.count(), limit=3), 0.002)
        called = work.called
        assert work.running == 0
        await ka.offload(int)
        assert work.called == called


@asyncio_only
@pytest.mark.parametrize("where", ["threads", "executor"])
async def test_native_cancellation_at_every_turn(
    items: Any, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the turn: the call is cancelled, nothing runs on, no error is logged."""
    work = Counted()
    with ThreadPoolExecutor(2) as executor:
        to: Any = executor if where == "executor" else "thread"
        for turns in range(25):
            for _ in range(3):
                call = ka.offload_map(work, items, to=to, limit=2, chunksize=5)
                with pytest.raises(asyncio.CancelledError):
                    await by_task_cancel(call, turns)
                called = work.called
                assert work.running == 0
                await ka.offload(int)
                assert work.called == called
                if not isinstance(items, range):
                    items = endless() if isinstance(items, AsyncIterator) else itertools.count()
    told = [record.getMessage() for record in caplog.records]
    assert all("pulled from the source and not begun: " in each for each in told)
    assert not told or isinstance(items, AsyncIterator)


@asyncio_only
async def test_a_natively_cancelled_worker_is_never_a_short_result(items: Any) -> None:
    """Somebody cancels one of the tasks inside: the call fails and says so."""
    held = Held()
    call = asyncio.ensure_future(ka.offload_map(held, items, limit=3, chunksize=20))
    await held.until_started(3)
    (worker,) = [task for task in asyncio.all_tasks() if task.get_name().endswith("[1]")]
    worker.cancel()
    await anyio.wait_all_tasks_blocked()
    held.let_go()
    with pytest.raises(ka.TaskCancelled, match=r"^offload_map\(\): the task of a worker was"):
        await call
    await held.until_ended()
    assert held.started == 3
