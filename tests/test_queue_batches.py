"""Batches: what is there, what comes within the linger, and nothing lost on the way."""

from __future__ import annotations

import math
import re
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import virtual_time


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(6):
        await checkpoint()


async def put_at(queue: ka.Queue[Any], *times: float) -> None:
    """Put each of *times* at that time, then close."""
    start = anyio.current_time()
    with queue.producing():
        for time in times:
            await anyio.sleep_until(start + time)
            await queue.put(time)


@pytest.mark.parametrize("max_items", [0, -1])
async def test_a_batch_has_room_for_an_item(max_items: int) -> None:
    """A batch of none is refused, at the call."""
    queue = ka.Queue[int](5)
    sentence = (
        f"max_items must be 1 or more, not {max_items}; "
        "a batch is as large as what is there, up to that"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        await queue.get_batch(max_items)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        queue.batches(max_items)


async def test_a_negative_linger_is_refused() -> None:
    """Time does not run backwards."""
    queue = ka.Queue[int](5)
    sentence = "linger must be 0 or more seconds, not -1; 0 takes what is there"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        await queue.get_batch(5, linger=-1)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        queue.batches(5, linger=-1)


async def test_a_batch_is_what_is_there() -> None:
    """Without a linger nothing more is waited for, and no more than asked for is taken."""
    queue = ka.Queue[int](10)
    for number in range(5):
        await queue.put(number)
    assert await queue.get_batch(3) == [0, 1, 2]
    assert await queue.get_batch(3) == [3, 4]


async def test_a_batch_waits_for_its_first_item() -> None:
    """A batch is never empty."""
    queue = ka.Queue[int](10)
    taken: list[list[int]] = []

    async def take() -> None:
        taken.append(await queue.get_batch(5))

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await settle()
        assert taken == []
        await queue.put(1)
        await queue.put(2)
    assert taken == [[1, 2]]


async def test_a_batch_makes_room_for_all_who_wait() -> None:
    """As many putters go on as items were taken."""
    queue = ka.Queue[int](3)
    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(queue.put, number)
        await settle()
        first = await queue.get_batch(10)
        await settle()
        second = await queue.get_batch(10)
    assert len(first) == len(second) == 3
    assert sorted(first + second) == list(range(6))


async def test_batches_end_with_the_queue() -> None:
    """Iteration over batches ends when the queue is closed and empty."""
    queue = ka.Queue[int](10)
    for number in range(7):
        await queue.put(number)
    queue.close()
    assert [batch async for batch in queue.batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]


async def test_leaving_batches_half_way_leaves_the_rest() -> None:
    """A loop over batches may be left anywhere; nothing needs closing and nothing is lost."""
    queue = ka.Queue[int](10)
    for number in range(7):
        await queue.put(number)
    async for batch in queue.batches(3):
        assert batch == [0, 1, 2]
        break
    await checkpoint()
    assert queue.drain() == [3, 4, 5, 6]


# --- linger ------------------------------------------------------------------------------


@virtual_time
async def test_linger_counts_from_the_first_item() -> None:
    """The wait for the first item is not part of the linger; what comes within it is taken."""
    queue = ka.Queue[float](10)
    async with anyio.create_task_group() as group:
        group.start_soon(put_at, queue, 5, 5.5, 6.2, 7)
        start = anyio.current_time()
        assert await queue.get_batch(10, linger=1.5) == [5, 5.5, 6.2]
        assert anyio.current_time() - start == pytest.approx(6.5)
        assert await queue.get_batch(10, linger=math.inf) == [7]


@virtual_time
async def test_linger_counts_from_the_call_for_items_already_there() -> None:
    """With items in the buffer the linger begins at once."""
    queue = ka.Queue[float](10)
    queue.put_nowait(0)
    start = anyio.current_time()
    assert await queue.get_batch(10, linger=2) == [0]
    assert anyio.current_time() - start == pytest.approx(2)


@virtual_time
async def test_a_full_batch_ends_the_linger() -> None:
    """As many items as asked for are taken as soon as they are there."""
    queue = ka.Queue[float](10)
    async with anyio.create_task_group() as group:
        group.start_soon(put_at, queue, 1, 2, 3, 4)
        start = anyio.current_time()
        assert await queue.get_batch(3, linger=100) == [1, 2, 3]
        assert anyio.current_time() - start == pytest.approx(3)
    assert queue.drain() == [4]


@virtual_time
@pytest.mark.parametrize("overflow", ["wait", "drop_new", "drop_old", "error"])
async def test_a_full_buffer_ends_the_linger(overflow: Any) -> None:
    """A batch larger than the queue can ever be does not wait for what cannot come."""
    queue = ka.Queue[float](2, overflow=overflow)
    async with anyio.create_task_group() as group:
        group.start_soon(put_at, queue, 1, 2, 3)
        start = anyio.current_time()
        assert await queue.get_batch(50, linger=100) == [1, 2]
        assert anyio.current_time() - start == pytest.approx(2)
    assert queue.drain() == [3]


@virtual_time
async def test_the_close_ends_the_linger() -> None:
    """What is there is taken when nothing more will come."""
    queue = ka.Queue[float](10)
    async with anyio.create_task_group() as group:
        group.start_soon(put_at, queue, 1, 2)
        assert await queue.get_batch(50, linger=100) == [1, 2]
    assert anyio.current_time() < 100
    with pytest.raises(ka.QueueClosed):
        await queue.get_batch(50, linger=100)


@virtual_time
async def test_close_with_an_error_gives_the_batch_first() -> None:
    """The items before the error are a batch; the error comes next."""
    queue = ka.Queue[int](10)
    broken = ValueError("broken")
    async with anyio.create_task_group() as group:
        batches: list[list[int]] = []

        async def consume() -> None:
            with pytest.raises(ValueError, match="broken"):
                async for batch in queue.batches(10, linger=100):
                    batches.append(batch)

        group.start_soon(consume)
        await queue.put(1)
        await settle()
        queue.close(broken)
    assert batches == [[1]]


async def test_a_batch_that_is_full_at_once_does_not_wait() -> None:
    """With enough items there, a linger costs no turn of the loop."""
    queue = ka.Queue[int](10)
    for number in range(6):
        await queue.put(number)
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await queue.get_batch(3, linger=100) == [0, 1, 2]
        queue.close()
        assert await queue.get_batch(10, linger=100) == [3, 4, 5]


@virtual_time
async def test_nothing_is_taken_before_the_batch_is_returned() -> None:
    """While one lingers, the items are in the queue, and others may take them."""
    queue = ka.Queue[int](10)
    taken: list[list[int]] = []

    async def take() -> None:
        taken.append(await queue.get_batch(10, linger=5))

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await queue.put(1)
        await queue.put(2)
        await anyio.sleep(1)
        assert queue.qsize() == 2
        assert queue.get_nowait() == 1
        assert await queue.get() == 2
        await anyio.sleep(10)  # past the linger, with nothing there: it waits for a new first
        assert taken == []
        start = anyio.current_time()
        await queue.put(3)
        while not taken:  # noqa: ASYNC110  # time passes in steps
            await anyio.sleep(0.5)
        assert anyio.current_time() - start == pytest.approx(5, abs=0.6)
    assert taken == [[3]]


@virtual_time
@pytest.mark.parametrize("after", [0, 1, 4.999, 5, 5.001])
async def test_a_batch_cancelled_while_it_lingers_has_taken_nothing(after: float) -> None:
    """Whenever it is cancelled, the items are all in the batch or all in the queue."""
    queue = ka.Queue[int](10)
    for number in range(3):
        await queue.put(number)
    batch: list[int] = []
    with anyio.move_on_after(after):
        batch = await queue.get_batch(10, linger=5)
    assert (batch, queue.drain()) in (([0, 1, 2], []), ([], [0, 1, 2]))
    assert queue.statistics().getters == 0
    if after < 5:
        assert batch == []
    await queue.put(7)
    assert await queue.get() == 7


@virtual_time
async def test_who_lingers_is_counted_beside_who_waits() -> None:
    """Both are getters."""
    queue = ka.Queue[int](10)
    await queue.put(1)
    async with anyio.create_task_group() as group:
        group.start_soon(queue.get_batch, 3, 5)
        await settle()
        assert await queue.get() == 1
        group.start_soon(queue.get)
        await settle()
        assert queue.statistics().getters == 2
        group.cancel_scope.cancel()


@virtual_time
@pytest.mark.parametrize("linger", [0, 3])
async def test_several_batchers_share_a_queue(linger: float) -> None:
    """Each item is in one batch, in order; no batch is empty, and all of them end."""
    queue = ka.Queue[float](100)
    taken: list[float] = []

    async def consume() -> None:
        async for batch in queue.batches(4, linger):
            assert 1 <= len(batch) <= 4
            taken.extend(batch)

    times = [number * 0.7 for number in range(40)]
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(consume)
        group.start_soon(put_at, queue, *times)
    assert taken == times


@virtual_time
async def test_a_batcher_and_a_getter_share_a_queue() -> None:
    """One that lingers does not keep items from one that takes them singly."""
    queue = ka.Queue[float](100)
    single: list[float] = []
    batched: list[float] = []

    async def singly() -> None:
        async for item in queue:
            single.append(item)

    async def in_batches() -> None:
        async for batch in queue.batches(4, linger=2):
            batched.extend(batch)

    times = [number * 0.7 for number in range(20)]
    async with anyio.create_task_group() as group:
        group.start_soon(in_batches)
        group.start_soon(singly)
        group.start_soon(put_at, queue, *times)
    assert sorted(single + batched) == times
    assert single


@virtual_time
async def test_one_who_waits_behind_a_batch_that_lingers_is_served() -> None:
    """The item that starts a linger goes to the next in line, not to nobody."""
    queue = ka.Queue[int](10)
    batch: list[int] = []
    single: list[int] = []

    async def take_batch() -> None:
        batch.extend(await queue.get_batch(10, linger=5))

    async def take_one() -> None:
        single.append(await queue.get())

    async with anyio.create_task_group() as group:
        group.start_soon(take_batch)
        await settle()
        group.start_soon(take_one)
        await settle()
        await queue.put(1)
        await settle()
        assert single == [1]
        await queue.put(2)
    assert batch == [2]
