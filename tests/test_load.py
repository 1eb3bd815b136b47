"""Many tasks, items and calls: the loads in small, and each load seen to find what is broken.

The full sizes: ``python -m tests.load``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

import kingdom_async as ka
from load import bulk, groups, offloads, queues

first = partial(ka.TaskGroup, errors="first")


async def assert_finds(load: Awaitable[str], finding: str) -> None:
    """*load* fails, and an AssertionError somewhere in what it raises says *finding*."""
    try:
        await load
    except BaseException as raised:
        errors = [raised]
        for error in errors:
            errors += getattr(error, "exceptions", ())
        assert any(
            isinstance(error, AssertionError) and re.search(finding, str(error))
            for error in errors
        ), errors
    else:
        raise AssertionError(f"not found: {finding}")


# --- tasks in a group ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("failing", [False, True], ids=["all end", "one fails"])
@pytest.mark.parametrize("make", [ka.TaskGroup, first], ids=["group", "first"])
async def test_many_tasks_all_end(make: groups.Group, failing: bool) -> None:
    """All begin, all end, none outlives the group, and one failure comes out once."""
    await groups.tasks(2_000, make, failing)


async def test_a_task_costs_the_memory_that_anyio_takes() -> None:
    """The group's own part is one place in a list."""

    async def each(make: groups.Group) -> float:
        figures = await groups.tasks(500, make, False)
        return float(figures.split("; ")[1].split()[0])

    async def least(make: groups.Group) -> float:
        # Threads of others, such as an executor's of an earlier test, are counted as well.
        return min([await each(make) for _ in range(3)])

    theirs = await least(anyio.create_task_group)
    assert await least(ka.TaskGroup) < theirs + 100
    assert await least(first) < theirs + 100


async def test_a_group_that_loses_its_failure_is_found() -> None:
    """Planted: nothing is raised."""

    @asynccontextmanager
    async def swallowing() -> AsyncIterator[Any]:
        try:
            async with first() as group:
                yield group
        except groups.Planted:
            pass

    with pytest.raises(AssertionError, match=r"^what came out: None"):
        await groups.tasks(50, swallowing, True)


async def test_a_group_that_is_left_before_its_tasks_is_found() -> None:
    """Planted: the tasks belong to somebody else, who lives on."""
    async with ka.TaskGroup() as elsewhere:

        @asynccontextmanager
        async def leaking() -> AsyncIterator[Any]:
            yield elsewhere

        with pytest.raises(AssertionError, match=r"^50 tasks have not ended"):
            await groups.tasks(50, leaking, False)


# --- items through a queue -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("maxsize", "batch"), [(10, None), (500, None), (100, 50)])
async def test_the_size_of_a_queue_bounds_its_memory(maxsize: int, batch: int | None) -> None:
    """However many items pass, each is taken once, in the order of its producer."""
    await queues.items(20_000, ka.Queue(maxsize), batch)


class Keeping(ka.Queue[queues.Item]):
    """Planted: a queue that keeps what it has given away."""

    async def put(self, item: queues.Item) -> None:
        await super().put(item)
        self.__dict__.setdefault("kept", []).append(item)


class Losing(ka.Queue[queues.Item]):
    """Planted: a queue that loses an item now and then."""

    async def put(self, item: queues.Item) -> None:
        if item.number % 100 != 99:
            await super().put(item)


class Repeating(ka.Queue[queues.Item]):
    """Planted: a queue that gives an item twice."""

    async def put(self, item: queues.Item) -> None:
        await super().put(item)
        if item.number == 99:
            await super().put(item)


@pytest.mark.parametrize(
    ("planted", "finding"),
    [
        (partial(Keeping, 10), r"^a peak of \d+ bytes, above \d+"),
        (partial(ka.Queue, 10, overflow="drop_old"), r"items were lost$"),
        (partial(Losing, 10), r"items were lost$"),
        (partial(Repeating, 10), "changed their order$|items came twice$"),
    ],
    ids=["keeping", "dropping", "losing", "repeating"],
)
async def test_a_broken_queue_is_found(planted: Any, finding: str) -> None:
    """What is kept shows in the peak; what is lost or doubled, in what was taken."""
    queue = planted()
    await assert_finds(queues.items(4_000, queue), finding)
    queue.drain()


# --- items through amap and imap -----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("load", [bulk.amap, bulk.imap])
async def test_bulk_work_takes_flat_memory(load: Any) -> None:
    """However many items pass, each result stands in its place."""
    await load(20_000)


async def test_an_amap_that_keeps_its_items_is_found() -> None:
    """Planted: all items are pulled at once."""

    async def keeping(func: Any, items: Any, limit: int) -> list[int]:
        return await ka.amap(func, list(items), limit=limit)

    with pytest.raises(AssertionError, match="bytes above the list of results"):
        await bulk.amap(4_000, keeping)


async def test_an_imap_that_keeps_its_items_or_its_order_is_found() -> None:
    """Planted: all items are pulled at once; and results come as they are done."""
    with pytest.raises(AssertionError, match=r"^a peak of"):
        await bulk.imap(4_000, lambda func, items, limit: ka.imap(func, [*items], limit=limit))
    await assert_finds(bulk.imap(4_000, partial(ka.imap, ordered=False)), "is wrong")


# --- calls in threads ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("abandon", [False, True], ids=["waits", "abandons"])
async def test_cancelled_calls_leave_no_token_and_no_thread(abandon: bool) -> None:
    """Each call is accounted for, and there are never more threads than tokens."""
    await offloads.offloads(500, abandon)


async def forgetful(func: Any, *args: Any, limiter: Any, abandon_on_cancel: bool) -> Any:
    """Planted: the result of a call that was cancelled meanwhile is lost."""
    result = await ka.offload(func, *args, limiter=limiter)
    await ka.sleep(0.001)  # for as long as that
    return result


async def keeps_a_token(func: Any, *args: Any, limiter: Any, abandon_on_cancel: bool) -> Any:
    """Planted: a token is never given back."""
    if args[0] == 7:
        await limiter.acquire_on_behalf_of(object())
    return await ka.offload(func, *args, limiter=limiter)


async def test_a_call_whose_result_is_lost_is_found() -> None:
    """Planted: see `forgetful`."""
    await assert_finds(offloads.offloads(300, False, call=forgetful), "its result was lost")


async def test_a_token_that_is_never_given_back_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted: see `keeps_a_token`."""
    monkeypatch.setattr(offloads, "LATE", 0.5)
    await assert_finds(offloads.offloads(50, False, call=keeps_a_token), "tokens? .* out$")


async def test_more_threads_than_tokens_are_found() -> None:
    """Planted: a call that takes no token of the limiter, and stays for a while."""
    plenty = anyio.CapacityLimiter(100)

    async def uncounted(
        func: Any, number: int, _: float, asks: bool, limiter: Any, abandon_on_cancel: bool
    ) -> Any:
        return await ka.offload(func, number, 0.2, asks, limiter=plenty)

    load = offloads.offloads(200, False, call=uncounted)
    await assert_finds(load, r"threads under 8 tokens$")
