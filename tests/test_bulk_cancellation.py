"""Bulk calls that are cancelled: by scopes, natively, from inside and from outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from support.backends import asyncio_only, virtual_time
from support.native import turns_until_done
from support.turns import settle

Bulk = Callable[..., Awaitable[list[Any]]]


async def by_amap(func: Any, items: Any, **options: Any) -> list[Any]:
    return await ka.amap(func, items, **options)


async def by_imap(func: Any, items: Any, **options: Any) -> list[Any]:
    async with ka.imap(func, items, **options) as results:
        return [result async for result in results]


async def by_unordered_imap(func: Any, items: Any, **options: Any) -> list[Any]:
    return sorted(await by_imap(func, items, ordered=False, **options))


ways = pytest.mark.parametrize(
    "bulk", [by_amap, by_imap, by_unordered_imap], ids=["amap", "imap", "unordered"]
)


class Work:
    """Items that each take a turn or two, from a source of either kind, and who is inside."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.inside = 0
        self.source_open = False

    def items(self, size: int) -> Any:
        return self._async_items(size) if self.kind == "async" else iter(range(size))

    async def _async_items(self, size: int) -> AsyncIterator[int]:
        self.source_open = True
        try:
            for number in range(size):
                if number % 3 == 0:
                    await ka.checkpoint()
                yield number
        finally:
            self.source_open = False

    async def __call__(self, number: int) -> int:
        self.inside += 1
        try:
            for _ in range(number % 3):
                await ka.checkpoint()
        finally:
            self.inside -= 1
        return number

    @property
    def is_over(self) -> bool:
        return not self.inside and not self.source_open


kinds = pytest.mark.parametrize("kind", ["sync", "async"])


# --- by a scope ----------------------------------------------------------------------


@ways
@kinds
@pytest.mark.parametrize("limit", [1, 3])
async def test_cancelling_the_caller_cancels_all(bulk: Bulk, kind: str, limit: int) -> None:
    """At every turn of the loop: nothing of the call goes on behind it."""
    done = False
    turns = 0
    while not done:
        turns += 1
        work = Work(kind)

        async def call(work: Work = work) -> None:
            nonlocal done
            assert await bulk(work, work.items(8), limit=limit) == [*range(8)]
            done = True

        async with ka.TaskGroup() as group:
            task = group.start_soon(call)
            await settle(turns)
            task.cancel()
            await task.wait()
            assert work.is_over
    assert turns > 2


@virtual_time
@ways
@kinds
async def test_a_timeout_around_the_call_ends_it(bulk: Bulk, kind: str) -> None:
    """And says so, with its own error."""
    work = Work(kind)

    async def slowly(number: int) -> None:
        await work(number)
        await ka.sleep(1)

    with (
        pytest.raises(ka.DeadlineExceeded, match=r"^not done after 2\.5 s"),
        ka.fail_after(2.5),
    ):
        await bulk(slowly, work.items(20), limit=2)
    assert work.is_over


async def test_cancelling_from_the_body_of_an_imap() -> None:
    """The body's own scope around the block, cancelled while it consumes."""
    work = Work("async")
    with ka.CancelScope() as scope:
        async with ka.imap(work, work.items(99), limit=3) as results:
            async for result in results:
                if result == 10:
                    scope.cancel()
    assert scope.cancelled_caught
    assert work.is_over


async def test_a_scope_inside_the_block_ends_the_loop_only() -> None:
    """The results go on where they were."""
    work = Work("async")
    async with ka.imap(work, work.items(99), limit=3) as results:
        got = []
        with ka.CancelScope() as scope:
            async for result in results:
                got.append(result)
                if result == 10:
                    scope.cancel()
                    await ka.checkpoint()
        got += [result async for result in results]
    assert got == [*range(99)]


# --- natively, by whoever runs the caller --------------------------------------------


@asyncio_only
@ways
@kinds
@pytest.mark.parametrize("limit", [1, 3])
async def test_native_cancellation_of_the_caller_cancels_all(
    bulk: Bulk, kind: str, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At every turn of the loop: CancelledError comes out, and nothing goes on behind it."""
    work = Work(kind)
    before = len(asyncio.all_tasks())

    async def call() -> None:
        assert await bulk(work, work.items(8), limit=limit) == [*range(8)]

    cancelled = 0
    async for _ in turns_until_done(call):
        cancelled += 1
        assert work.is_over
        await settle(3)
        assert len(asyncio.all_tasks()) == before
    assert cancelled > 3
    # An async source may have given an item away that nobody had begun.
    assert all("and not begun: " in record.getMessage() for record in caplog.records)
    assert kind == "async" or not caplog.records


@asyncio_only
@kinds
async def test_native_cancellation_of_an_imaps_body_while_it_works(kind: str) -> None:
    """The body may be anywhere, and its finally runs."""
    work = Work(kind)
    cleaned = []

    async def call() -> None:
        async with ka.imap(work, work.items(8), limit=2) as results:
            try:
                async for _ in results:
                    await settle(2)
            finally:
                cleaned.append(1)

    runs = 0
    async for _ in turns_until_done(call):
        runs += 1
        assert work.is_over
    assert len(cleaned) >= runs - 1  # the first run did not reach its body


@asyncio_only
@ways
@kinds
async def test_wait_for_around_the_call_ends_it(bulk: Bulk, kind: str) -> None:
    """asyncio's timeouts cancel natively: TimeoutError, and nothing goes on."""
    work = Work(kind)

    async def forever(number: int) -> None:
        await work(number)
        if number == 5:
            await ka.sleep_forever()

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(bulk(forever, work.items(9), limit=3), 0.001)
    assert work.is_over


@asyncio_only
async def test_asyncio_timeout_inside_an_imaps_body() -> None:
    """It ends what it is around, and the results go on."""
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout() came with Python 3.11")
    release = ka.Event()

    async def work(number: int) -> int:
        if number == 2:
            await release.wait()
        return number

    async with ka.imap(work, range(5), limit=2) as results:
        got = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                async for result in results:
                    got.append(result)
                    if result == 1:
                        timeout.reschedule(0)  # now
        assert got == [0, 1]
        release.set()
        assert [result async for result in results] == [2, 3, 4]


# --- natively, one of the call's own tasks -------------------------------------------


def _message(call: str, whose: str) -> str:
    return f"{call}(): the task of {whose} was cancelled from outside, by asyncio.Task.cancel()"


def _cancel_current_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@asyncio_only
@ways
@kinds
@pytest.mark.parametrize("limit", [1, 3])
async def test_an_item_that_cancels_its_own_task_fails_the_call(
    bulk: Bulk, kind: str, limit: int
) -> None:
    """TaskCancelled, with the item named; never a result too few."""
    work = Work(kind)

    async def cancels(number: int) -> int:
        if number == 5:
            _cancel_current_task()
            await ka.checkpoint()
        return await work(number)

    with pytest.raises(ka.TaskCancelled) as caught:
        await bulk(cancels, work.items(20), limit=limit)
    assert str(caught.value) == _message(bulk.__name__.split("_")[-1], "item 5")
    assert caught.value.__notes__ == ["while mapping item 5: 5"]
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert work.is_over


@asyncio_only
@ways
async def test_on_error_is_not_asked_about_a_native_cancellation(bulk: Bulk) -> None:
    """The item did not fail: its task was taken away."""

    async def cancels(number: int) -> int:
        _cancel_current_task()
        await ka.checkpoint()
        return number

    with pytest.raises(ka.TaskCancelled):
        await bulk(cancels, range(3), limit=1, on_error=ka.ErrorResult)


@asyncio_only
@ways
async def test_a_cancelled_future_in_an_item_fails_the_call(bulk: Bulk) -> None:
    """What awaits an asyncio task that was cancelled ends as one that was cancelled."""

    async def awaits(number: int) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if number == 2:
            future.cancel()
        else:
            future.set_result(number)
        return await future

    with pytest.raises(ka.TaskCancelled):
        await bulk(awaits, range(5), limit=2)


@asyncio_only
@ways
@kinds
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_task_of_the_call_that_is_cancelled_from_outside_fails_the_call(
    bulk: Bulk, kind: str, limit: int
) -> None:
    """Any of its tasks, at every turn, begun or not: TaskCancelled or all of the results."""
    outcomes = set()
    for turns in range(16):
        for which in range(limit + 2):
            work = Work(kind)
            others = asyncio.all_tasks()
            outcome = "nothing"

            async def call(work: Work = work) -> None:
                nonlocal outcome
                try:
                    results = await bulk(work, work.items(8), limit=limit)
                except ka.TaskCancelled:
                    outcome = "TaskCancelled"
                else:
                    assert results == [*range(8)]
                    outcome = "results"

            async with ka.TaskGroup() as group:
                group.start_soon(call)
                await settle(turns)
                tasks = sorted(
                    (task for task in asyncio.all_tasks() - others if "map" in task.get_name()),
                    key=lambda task: task.get_name(),
                )
                if which < len(tasks):
                    tasks[which].cancel()
            assert outcome != "nothing"
            assert work.is_over
            outcomes.add(outcome)
    assert outcomes == {"TaskCancelled", "results"}


@asyncio_only
@kinds
async def test_an_imaps_body_is_not_cancelled_with_a_task_of_the_call(kind: str) -> None:
    """It learns of it where it iterates, after the results before the gap."""
    for turns in range(1, 12):
        for which in range(4):
            work = Work(kind)
            others = asyncio.all_tasks()
            async with ka.imap(work, work.items(30), limit=2) as results:
                await settle(turns)
                tasks = sorted(asyncio.all_tasks() - others, key=lambda task: task.get_name())
                if which >= len(tasks):
                    continue
                tasks[which].cancel()
                await settle()
                got = []
                try:
                    async for result in results:
                        got.append(result)
                except ka.TaskCancelled:
                    assert got == [*range(len(got))]
                else:
                    assert got == [*range(30)]
                await ka.checkpoint()
            assert work.is_over


@asyncio_only
async def test_an_imap_whose_crew_is_cancelled_before_it_began_says_so() -> None:
    """Nothing else is left to tell it, and the body was cut short."""
    others = asyncio.all_tasks()
    with pytest.raises(ka.TaskCancelled) as caught:
        async with ka.imap(Work("sync"), range(3), limit=2) as results:
            for task in asyncio.all_tasks() - others:
                task.cancel()
            async for _ in results:
                pass
    assert str(caught.value) == _message("imap", "the crew")


@asyncio_only
@ways
async def test_a_source_whose_task_is_cancelled_fails_the_call(bulk: Bulk) -> None:
    """Whether it waits for itself or for demand; and it is closed."""
    for wait in (True, False):
        closed = []

        async def items(wait: bool = wait, closed: list[int] = closed) -> AsyncIterator[int]:
            try:
                task = asyncio.current_task()
                assert task is not None
                for number in range(20):
                    if number == 7:
                        if wait:
                            task.cancel()
                            await ka.sleep_forever()
                        asyncio.get_running_loop().call_soon(task.cancel)
                    yield number
            finally:
                await ka.checkpoint()
                closed.append(1)

        async def work(number: int) -> int:
            await settle(4)
            return number

        with pytest.raises(ka.TaskCancelled) as caught:
            await bulk(work, items(), limit=1)
        assert str(caught.value) == _message(bulk.__name__.split("_")[-1], "the source")
        assert closed == [1]


# --- failures that meet cancellations ------------------------------------------------


async def test_a_failure_wins_over_a_cancellation_of_the_caller() -> None:
    """An item that fails in its cleanup is heard of."""

    async def work(number: int) -> None:
        try:
            await ka.sleep_forever()
        finally:
            if number == 1:
                raise LookupError("cleanup")

    with ka.CancelScope() as scope:
        with pytest.raises(LookupError, match=r"^cleanup") as caught:
            async with ka.TaskGroup(errors="first") as group:
                group.start_soon(settle)

                async def cancel() -> None:
                    await settle(10)
                    scope.cancel()

                group.start_soon(cancel)
                await ka.amap(work, range(3), limit=3)
        assert "while mapping item 1: 1" in caught.value.__notes__


async def test_a_bulk_call_in_a_cancelled_scope_works_on_nothing() -> None:
    """It is a checkpoint before it begins."""
    started = []

    async def work(number: int) -> None:
        started.append(number)

    with ka.CancelScope() as scope:
        scope.cancel()
        await ka.amap(work, range(5))
    assert scope.cancelled_caught
    assert not started


@virtual_time
async def test_a_shielded_item_may_finish() -> None:
    """The call ends when it has."""
    finished = []

    async def work(number: int) -> None:
        with ka.shielded(5):
            await ka.sleep(3)
            finished.append(number)

    begin = ka.current_time()
    with ka.move_on_after(1):
        await ka.amap(work, range(2), limit=2)
    assert sorted(finished) == [0, 1]
    assert anyio.current_time() - begin == pytest.approx(3)
