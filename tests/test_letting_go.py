"""What is dropped is freed there and then, and what is kept keeps nothing else alive."""

from __future__ import annotations

import asyncio
import gc
import math
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import WeakSet, ref

import pytest
from anyio import from_thread

import kingdom_async as ka
from support.backends import asyncio_only


class Page:
    """What functions return here."""


class Number:
    """An int could not be watched."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return self.value == other

    def __hash__(self) -> int:
        return hash(self.value)


class Refused(Exception):
    """That of a built-in class could not be watched."""


pages: WeakSet[Page] = WeakSet()


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """Reference cycles stay, and show."""
    gc.collect()
    pages.clear()
    gc.disable()
    yield
    gc.enable()


async def settle() -> None:
    """Threads and tasks that have ended let go of what they had a moment later."""
    for _ in range(100):
        await ka.sleep(0.001)
        if not pages:
            return


def page_of(number: int) -> Page:
    if number == 7:
        raise Refused(number)
    page = Page()
    pages.add(page)
    return page


async def fetch(number: int) -> Page:
    await ka.checkpoint()
    return page_of(number)


async def slow(number: int) -> Page:
    await ka.sleep(math.inf)
    return page_of(number)


async def through_imap(items: range, **options: Any) -> list[Any]:
    async with ka.imap(fetch, items, limit=2, **options) as results:
        return [page async for page in results]


async def through_a_pool(items: range, **options: Any) -> list[Any]:
    with ThreadPoolExecutor(2) as pool:
        return await ka.offload_map(page_of, items, to=pool, limit=2, **options)


BULK: dict[str, Callable[..., Awaitable[Any]]] = {
    "amap": partial(ka.amap, fetch),
    "amap(limit=2)": partial(ka.amap, fetch, limit=2),
    "imap": through_imap,
    "offload_map": partial(ka.offload_map, page_of, limit=2),
    "offload_map(chunksize=3)": partial(ka.offload_map, page_of, limit=2, chunksize=3),
    "offload_map(to=pool)": through_a_pool,
}


@pytest.mark.parametrize("call", [pytest.param(BULK[name], id=name) for name in BULK])
async def test_results_are_the_callers_alone(call: Callable[..., Any]) -> None:
    """A service that drops them has the memory back at once."""
    results = await call(range(6))
    assert len(pages) == 6
    del results
    await settle()
    assert not pages


@pytest.mark.parametrize("call", [pytest.param(BULK[name], id=name) for name in BULK])
async def test_a_kept_error_keeps_no_results(call: Callable[..., Any]) -> None:
    """Its traceback has the frames of workers, which may hold the last one, not all of them."""
    results = await call(range(-2000, 10), on_error=ka.ErrorResult)
    errors = [result for result in results if isinstance(result, ka.ErrorResult)]
    assert (len(errors), len(pages)) == (1, 2009)
    del results
    await settle()
    assert len(pages) <= 3


@pytest.mark.parametrize("call", [pytest.param(BULK[name], id=name) for name in BULK])
async def test_a_kept_error_keeps_no_items(call: Callable[..., Any]) -> None:
    """But its own, and what a worker had in hand."""
    numbers = [Number(value) for value in range(-2000, 10)]
    seen = WeakSet(numbers)
    results = await call(numbers, on_error=ka.ErrorResult)
    errors = [result for result in results if isinstance(result, ka.ErrorResult)]
    del numbers, results
    await settle()
    assert errors[0].item in seen
    assert len(seen) <= 4


@pytest.mark.parametrize("call", [pytest.param(BULK[name], id=name) for name in BULK])
async def test_the_error_of_a_call_keeps_no_results(call: Callable[..., Any]) -> None:
    """Whoever keeps it, until the next attempt perhaps, keeps little."""
    with pytest.raises(Refused) as raised:
        await call(range(-200, 8))
    await settle()
    assert raised.value.args == (7,)
    assert len(pages) <= 3


async def in_a_group() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(fetch, 7)


async def in_time() -> None:
    with ka.fail_after(60):
        await fetch(7)


async def broken_source() -> AsyncIterator[int]:
    yield 1
    raise Refused


async def amap_over_a_broken_source() -> None:
    await ka.amap(fetch, broken_source(), limit=2)


async def cancelled_natively() -> Page:
    raise asyncio.CancelledError


FAILING: dict[str, Callable[[], Awaitable[Any]]] = {
    # Not of our threads: anyio's own calls there leave a cycle.
    **{name: partial(BULK[name], range(7, 8)) for name in ("amap", "amap(limit=2)", "imap")},
    "offload_map(to=pool)": partial(through_a_pool, range(7, 8)),
    "amap of a source": amap_over_a_broken_source,
    "gather": lambda: ka.gather(fetch(7), slow(1)),
    "first_finished": lambda: ka.first_finished(fetch(7), slow(1)),
    "with_timeout": lambda: ka.with_timeout(60, fetch(7), default=None),
    "TaskGroup": in_a_group,
    "fail_after": in_time,
}


@pytest.mark.parametrize("call", [pytest.param(FAILING[name], id=name) for name in FAILING])
async def test_an_error_that_was_handled_is_freed(call: Callable[[], Any]) -> None:
    """With all that the frames in its traceback hold."""
    seen: ref[BaseException] | None = None
    try:
        await call()
    except Refused as error:
        seen = ref(error)
    for _ in range(100):
        await ka.sleep(0.001)
        if seen is not None and seen() is None:
            return
    raise AssertionError("the error is still there")


@asyncio_only
async def test_a_native_cancellation_that_ends_a_race_is_freed() -> None:
    """As any other error of a race."""
    with pytest.raises(ka.TaskCancelled) as raised:
        await ka.first_finished(cancelled_natively(), slow(1))
    seen = ref(raised.value)
    del raised
    await settle()
    assert seen() is None


async def test_what_a_shield_cut_off_is_freed() -> None:
    """As with any other timeout."""
    seen: ref[BaseException] | None = None
    try:
        with ka.shielded(0):
            await ka.sleep(math.inf)
    except ka.DeadlineExceeded as error:
        seen = ref(error)
    await settle()
    assert seen is not None
    assert seen() is None


async def test_offload_lets_go_of_its_function() -> None:
    """A method keeps its object only while it runs."""

    class Connection:
        def query(self) -> int:
            return 1

    connection = Connection()
    seen = ref(connection)
    assert await ka.offload(connection.query) == 1
    del connection
    for _ in range(100):
        await ka.sleep(0.001)
        if seen() is None:
            return
    raise AssertionError("the connection is still there")


async def test_a_task_that_a_thread_started_does_not_keep_its_function() -> None:
    """It has the context of that thread as long as it lives."""

    class Connection:
        def listen(self, group: ka.TaskGroup) -> None:
            from_thread.run_sync(group.start_soon, ka.sleep, math.inf)

    async with ka.TaskGroup() as group:
        connection = Connection()
        seen = ref(connection)
        await ka.offload(connection.listen, group)
        del connection
        await settle()
        assert seen() is None
        group.cancel()


@pytest.mark.parametrize("race", [ka.first_success, ka.first_finished])
async def test_the_value_of_a_race_is_the_callers_alone(race: Callable[..., Any]) -> None:
    """The frames of a cancelled loser may live longer."""
    page = await race(fetch(0), slow(1))
    assert len(pages) == 1
    del page
    await settle()
    assert not pages


async def test_each_consumer_has_a_traceback_of_its_own() -> None:
    """One error for all of them: it does not grow with each that raises it."""
    queue = ka.Queue[int](1)
    queue.close(ConnectionError("lost"))
    lengths: list[int] = []
    for _ in range(3):
        with pytest.raises(ConnectionError) as raised:
            await queue.get()
        lengths.append(len(traceback.extract_tb(raised.value.__traceback__)))
        del raised
    assert len({*lengths}) == 1
