"""Where `amap` and `imap` take their items from: how far, by whom, and how it ends."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import count
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from support.backends import virtual_time
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


async def same(item: Any) -> Any:
    return item


async def numbers(*args: int) -> AsyncIterator[int]:
    for number in range(*args):
        yield number


async def slow_numbers(*args: int) -> AsyncIterator[int]:
    for number in range(*args):
        if number % 3 == 0:
            await ka.checkpoint()
        yield number


def errors_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What is logged of failures; not what names an item that nobody had begun."""
    return [record for record in caplog.records if record.levelno == logging.ERROR]


class ByIndex:
    """The old protocol: iterable by its items' numbers alone."""

    def __getitem__(self, index: int) -> int:
        if index == 3:
            raise IndexError
        return index


class Counted:
    """How many items were pulled, are in work, and were done; and what that came to at most."""

    def __init__(self, size: float = float("inf")) -> None:
        self.size = size
        self.pulled = self.done = self.in_work = 0
        self.most_in_work = self.most_pulled = 0

    def items(self) -> Iterator[int]:
        while self.pulled < self.size:
            self._pull()
            yield self.pulled - 1

    async def async_items(self) -> AsyncIterator[int]:
        while self.pulled < self.size:
            if self.pulled % 5 == 0:
                await ka.checkpoint()
            self._pull()
            yield self.pulled - 1

    def _pull(self) -> None:
        self.pulled += 1
        self.most_pulled = max(self.most_pulled, self.pulled - self.done)

    async def work(self, item: int) -> int:
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        for _ in range(item % 4):
            await ka.checkpoint()
        self.in_work -= 1
        return item


# --- what may be given ---------------------------------------------------------------


@ways
@pytest.mark.parametrize(
    "make",
    [
        lambda: [0, 1, 2],
        lambda: (0, 1, 2),
        lambda: {0: "a", 1: "b", 2: "c"},
        lambda: iter(range(3)),
        lambda: (number for number in range(3)),
        ByIndex,
        lambda: numbers(3),
        lambda: slow_numbers(3),
    ],
    ids=["list", "tuple", "dict", "iterator", "generator", "by index", "async", "slow async"],
)
async def test_takes_any_iterable(bulk: Bulk, make: Callable[[], Any]) -> None:
    """Sync or async, a generator or not."""
    for limit in (1, 3, 100):
        assert await bulk(same, make(), limit=limit) == [0, 1, 2]


@ways
@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_takes_a_queue(bulk: Bulk, limit: int) -> None:
    """A queue is an async iterable: the call ends when the queue is closed."""
    queue = ka.Queue[int](2)

    async def produce() -> None:
        with queue.producing():
            for number in range(25):
                await queue.put(number)

    async with ka.TaskGroup() as group:
        group.start_soon(produce)
        assert await bulk(same, queue, limit=limit) == [*range(25)]


@ways
async def test_a_stream_is_not_closed_by_it(bulk: Bulk) -> None:
    """Only a generator is closed; a stream belongs to who opened it."""
    send, receive = anyio.create_memory_object_stream[int](5)
    with send, receive:
        send.send_nowait(1)
        send.send_nowait(0)
        send.send_nowait(5)

        async def invert(number: int) -> float:
            await ka.checkpoint()
            return 1 / number

        with pytest.raises(ZeroDivisionError):
            await bulk(invert, receive, limit=1)
        send.send_nowait(6)
        assert receive.receive_nowait() in (5, 6)


@ways
async def test_items_may_be_none_or_anything(bulk: Bulk) -> None:
    """No value has a meaning of its own."""
    odd = [None, 0, "", (), Ellipsis, NotImplemented, StopIteration, StopAsyncIteration()]

    async def place(item: object) -> int:
        return next(n for n, other in enumerate(odd) if other is item)

    assert await bulk(place, odd, limit=2) == [*range(len(odd))]
    assert await bulk(place, aiter_of(odd), limit=2) == [*range(len(odd))]


async def aiter_of(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


# --- how far it is pulled ------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("kind", ["items", "async_items"])
async def test_amap_pulls_no_more_than_is_in_work(limit: int, kind: str) -> None:
    """At each moment at most *limit* items are pulled and not done."""
    counted = Counted(100)

    async def work(item: int) -> int:
        await counted.work(item)
        counted.done += 1
        return item

    assert await ka.amap(work, getattr(counted, kind)(), limit=limit) == [*range(100)]
    assert counted.most_pulled <= limit


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("kind", ["items", "async_items"])
@pytest.mark.parametrize("ordered", [True, False])
async def test_imap_pulls_no_more_than_twice_the_limit(
    limit: int, kind: str, ordered: bool
) -> None:
    """At most *limit* in work and 2 x *limit* pulled and not consumed, at each moment."""
    counted = Counted(100)
    items = getattr(counted, kind)()
    got = []
    async with ka.imap(counted.work, items, limit=limit, ordered=ordered) as results:
        async for result in results:
            counted.done += 1  # consumed
            got.append(result)
            if result % 10 == 0:  # a slow consumer: all that may be done meanwhile is done
                await settle()
    assert sorted(got) == [*range(100)]
    assert counted.most_in_work <= limit
    assert counted.most_pulled == 2 * limit


@pytest.mark.parametrize("limit", [1, 3, 20])
@pytest.mark.parametrize("kind", ["items", "async_items"])
async def test_imap_fills_its_window_and_no_more_while_nobody_consumes(
    limit: int, kind: str
) -> None:
    """Exactly 2 x *limit* are pulled, however many workers are idle meanwhile."""
    counted = Counted()
    async with ka.imap(counted.work, getattr(counted, kind)(), limit=limit) as results:
        await settle()
        for consumed in range(1, 3 * limit):
            assert counted.pulled <= 2 * limit + consumed - 1
            await anext(results)
            await settle()
        assert counted.pulled >= consumed + limit


@ways
@pytest.mark.parametrize("ahead", [0, 3])
async def test_idle_workers_wait_for_an_async_source_without_pulling_ahead(
    bulk: Bulk, ahead: int
) -> None:
    """Many idle workers ask for no more than they will take."""
    pulled, ended = 0, 0
    limit = 4

    async def items() -> AsyncIterator[int]:
        nonlocal pulled
        for number in range(40):
            if number % 4 == ahead:
                await settle()  # until all workers are idle
            pulled += 1
            assert pulled - ended <= 2 * limit
            yield number

    async def work(number: int) -> int:
        nonlocal ended
        await ka.checkpoint()
        ended += 1
        return number

    assert await bulk(work, items(), limit=limit) == [*range(40)]


@ways
async def test_an_idle_worker_gets_the_next_item(bulk: Bulk) -> None:
    """A slow source and a quick func need no new task for each item."""
    tasks = set()

    async def items() -> AsyncIterator[int]:
        for number in range(30):
            await settle(5)
            yield number

    async def work(number: int) -> int:
        tasks.add(anyio.get_current_task().id)
        return number

    assert await bulk(work, items(), limit=20) == [*range(30)]
    assert len(tasks) <= 6  # one, and a few where trio lets others go first


@pytest.mark.parametrize("kind", ["items", "async_items"])
async def test_imap_takes_an_infinite_source(kind: str) -> None:
    """It is pulled as far as the consumer gets."""
    counted = Counted()
    async with ka.imap(counted.work, getattr(counted, kind)(), limit=3) as results:
        got = [await anext(results) for _ in range(500)]
    assert got == [*range(500)]
    assert counted.pulled <= 506


@pytest.mark.parametrize("kind", ["items", "async_items"])
async def test_amap_over_an_infinite_source_can_be_stopped(kind: str) -> None:
    """By a failure or a timeout: nothing waits for the source's end."""
    counted = Counted()

    async def work(item: int) -> None:
        if item == 200:
            raise LookupError("found")

    with pytest.raises(LookupError, match=r"^found"):
        await ka.amap(work, getattr(counted, kind)(), limit=3)
    assert counted.pulled <= 200 + 3 * 64


@ways
async def test_a_place_is_fixed_when_the_item_is_pulled(bulk: Bulk) -> None:
    """Tasks may start in any order (on trio it is a random one): results keep their place."""
    for _ in range(30):
        items = count()

        async def pull(items: Iterator[int] = items) -> int:
            return next(items)

        order: list[int] = []

        async def work(item: int, order: list[int] = order) -> int:
            order.append(item)
            await ka.checkpoint()
            return item

        assert await bulk(work, range(20), limit=8) == [*range(20)]
        assert sorted(order) == [*range(20)]


# --- who pulls it --------------------------------------------------------------------


@ways
@pytest.mark.parametrize("limit", [1, 5])
async def test_one_task_pulls_an_async_source(bulk: Bulk, limit: int) -> None:
    """From its first line to the end of its finally, and none of its workers."""
    pullers, workers = set(), set()

    async def items() -> AsyncIterator[int]:
        try:
            for number in range(30):
                pullers.add(anyio.get_current_task().id)
                await ka.checkpoint()
                yield number
        finally:
            pullers.add(anyio.get_current_task().id)

    async def work(number: int) -> int:
        workers.add(anyio.get_current_task().id)
        await ka.checkpoint()
        return number

    assert await bulk(work, items(), limit=limit) == [*range(30)]
    assert len(pullers) == 1
    assert not pullers & workers


class Closing:
    """An infinite source that says how it was closed."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.tasks: set[int] = set()

    async def items(self) -> AsyncIterator[int]:
        self.tasks.add(anyio.get_current_task().id)
        try:
            for number in count():
                yield number
        finally:
            self.log.append("closing")
            self.tasks.add(anyio.get_current_task().id)
            await ka.checkpoint()
            await settle()
            self.log.append("closed")


@ways
async def test_a_source_is_closed_when_an_item_fails(bulk: Bulk) -> None:
    """In the task that pulled it, and it may wait in its finally."""
    source = Closing()

    async def work(number: int) -> None:
        await ka.checkpoint()
        if number == 10:
            raise LookupError("ten")

    with pytest.raises(LookupError, match=r"^ten"):
        await bulk(work, source.items(), limit=3)
    assert source.log == ["closing", "closed"]
    assert len(source.tasks) == 1


@ways
@pytest.mark.parametrize("limit", [1, 4])
async def test_a_source_is_closed_when_the_caller_is_cancelled(bulk: Bulk, limit: int) -> None:
    """Before the cancellation comes out of the call."""
    source = Closing()
    with ka.CancelScope() as scope:

        async def work(number: int) -> None:
            if number == 10:
                scope.cancel()
            await ka.checkpoint()

        await bulk(work, source.items(), limit=limit)
    assert scope.cancelled_caught
    assert source.log == ["closing", "closed"]
    assert len(source.tasks) == 1


@pytest.mark.parametrize("consumed", [0, 1, 10])
async def test_a_source_is_closed_when_the_consumer_leaves(consumed: int) -> None:
    """Before the block ends."""
    source = Closing()
    async with ka.imap(same, source.items(), limit=3) as results:
        await settle()
        for _ in range(consumed):
            await anext(results)
    assert source.log == ["closing", "closed"]
    assert len(source.tasks) == 1


async def test_a_source_is_closed_when_the_body_fails() -> None:
    """And the body's error comes out as itself."""
    source = Closing()
    error = LookupError("body")
    with pytest.raises(LookupError) as caught:
        async with ka.imap(same, source.items(), limit=3) as results:
            await anext(results)
            raise error
    assert caught.value is error
    assert source.log == ["closing", "closed"]


async def test_an_imap_left_before_it_began_leaves_a_closed_source() -> None:
    """Nothing was pulled, and nothing stays open."""
    gc.collect()
    source = Closing()
    items = source.items()
    async with ka.imap(same, items, limit=3):
        pass
    assert [item async for item in items] == [] or source.log == ["closing", "closed"]


@virtual_time
@pytest.mark.parametrize("way", ["failure", "cancelled", "left"])
async def test_a_source_that_does_not_close_is_cut_off(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It has ten seconds, then it is logged; the outcome of the call stays what it was."""
    cut_off = []

    async def stubborn() -> AsyncIterator[int]:
        try:
            for number in count():
                yield number
        finally:
            try:
                await ka.sleep(1000)
            finally:
                cut_off.append(ka.current_time() - begin)

    items = stubborn()
    begin = ka.current_time()
    with ka.CancelScope() as scope:

        async def work(number: int) -> None:
            if number == 5:
                if way == "failure":
                    raise LookupError("five")
                scope.cancel()
            await ka.checkpoint()

        if way == "failure":
            with pytest.raises(LookupError, match=r"^five"):
                await ka.amap(work, items, limit=2)
        elif way == "cancelled":
            await ka.amap(work, items, limit=2)
        else:
            async with ka.imap(same, items, limit=2) as results:
                await anext(results)
    assert scope.cancelled_caught == (way == "cancelled")
    assert cut_off == pytest.approx([10])
    [record] = errors_in(caplog)
    assert "was not closed within 10 s" in record.getMessage()
    assert "stubborn" in record.getMessage()


# --- items that nobody begins ---------------------------------------------------------


@ways
async def test_an_item_on_its_way_when_the_call_is_cancelled_is_named(
    bulk: Bulk, caplog: pytest.LogCaptureFixture
) -> None:
    """The source, perhaps a queue, has given it away: it must not vanish without a word."""
    queue = ka.Queue[str](5)
    queue.put_nowait("begun")
    begun: list[str] = []
    with ka.CancelScope() as scope:

        class Items(AsyncIterator[str]):
            async def __anext__(self) -> str:
                item = await queue.get()
                if item == "pulled":
                    scope.cancel()
                return item

        async def work(item: str) -> str:
            begun.append(item)
            queue.put_nowait("pulled")
            return item

        await bulk(work, Items(), limit=1)
    assert scope.cancelled_caught
    assert begun == ["begun"]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith(
        "work) ended early; pulled from the source and not begun: 'pulled'"
    )


@virtual_time
@ways
async def test_items_that_wait_for_their_rate_are_named_too(
    bulk: Bulk, caplog: pytest.LogCaptureFixture
) -> None:
    """All that were pulled, of which the first ten by their names."""
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)

    with ka.move_on_after(3.5):
        await bulk(work, numbers(100), limit=16, rate=1)
    assert begun == [0, 1, 2, 3]
    [record] = caplog.records
    assert "not begun: " in record.getMessage()
    named, more = record.getMessage().split("not begun: ")[1].split(" and ")
    assert len(named.split(", ")) == 10
    assert more == f"{16 - 10} more"


@ways
async def test_what_a_plain_iterable_holds_is_not_named(
    bulk: Bulk, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller has it still."""
    with ka.move_on_after(0):
        await bulk(same, [1, 2, 3], limit=2)
    assert not caplog.records


# --- sources that fail ---------------------------------------------------------------


def fails_at(place: int) -> Iterator[int]:
    for number in range(20):
        if number == place:
            raise LookupError("source")
        yield number


async def async_fails_at(place: int) -> AsyncIterator[int]:
    for number in range(20):
        await ka.checkpoint()
        if number == place:
            raise LookupError("source")
        yield number


class RefusesIter:
    def __iter__(self) -> Iterator[int]:
        raise LookupError("source")


class RefusesAiter:
    def __aiter__(self) -> AsyncIterator[int]:
        raise LookupError("source")


@pytest.mark.parametrize("make", [RefusesIter, RefusesAiter])
@ways
async def test_a_source_that_cannot_be_iterated_over_fails_the_call(
    bulk: Bulk, make: Callable[[], Any]
) -> None:
    """Its own error comes out."""
    with pytest.raises(LookupError) as caught:
        await bulk(same, make(), limit=2)
    assert caught.value.args == ("source",)


@ways
@pytest.mark.parametrize("make", [fails_at, async_fails_at], ids=["sync", "async"])
async def test_a_source_that_fails_fails_the_call(
    bulk: Bulk, make: Callable[[int], Any]
) -> None:
    """At the first item, at the last or between them."""
    for place in (0, 1, 7, 19):
        for limit in (1, 3, 50):
            with pytest.raises(LookupError) as caught:
                await bulk(same, make(place), limit=limit)
            assert caught.value.args == ("source",)
            assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("make", [fails_at, async_fails_at], ids=["sync", "async"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_imap_gives_all_results_before_the_failure_of_its_source(
    make: Callable[[int], Any], ordered: bool, limit: int
) -> None:
    """What was pulled before it is worked on and consumed, also where it takes longer."""
    got = []

    async def slowly(number: int) -> int:
        await settle()
        return number

    async with ka.imap(slowly, make(7), limit=limit, ordered=ordered) as results:
        with pytest.raises(LookupError, match=r"^source"):
            async for result in results:
                got.append(result)
        assert [result async for result in results] == []
    assert sorted(got) == [*range(7)]


@pytest.mark.parametrize("make", [RefusesIter, RefusesAiter])
async def test_imaps_body_learns_of_a_broken_source_where_it_iterates(
    make: Callable[[], Any],
) -> None:
    """The body is not cancelled; the error comes out of the loop."""
    reached = False
    async with ka.imap(same, make(), limit=2) as results:
        await settle()
        await ka.checkpoint()
        reached = True
        with pytest.raises(LookupError, match=r"^source"):
            await anext(results)
    assert reached


async def test_the_failure_of_a_source_that_nobody_consumed_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leaving before the error does not make it disappear."""
    async with ka.imap(same, async_fails_at(1), limit=2):
        await settle()
    [record] = caplog.records
    assert record.getMessage() == "imap(same): an error that nobody consumed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_a_source_that_fails_while_it_is_closed_is_heard_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Beside the failure that led to it: a note on that, and logged."""

    async def items() -> AsyncIterator[int]:
        try:
            for number in count():
                yield number
        finally:
            raise RuntimeError("cannot close")

    async def fail(number: int) -> None:
        await ka.checkpoint()
        raise LookupError("item")

    with pytest.raises(LookupError, match=r"^item") as caught:
        await ka.amap(fail, items(), limit=1)
    assert any("RuntimeError('cannot close')" in note for note in caught.value.__notes__)
    assert len(caplog.records) == 1

    caplog.clear()
    async with ka.imap(same, items(), limit=1) as results:
        await anext(results)
    [record] = errors_in(caplog)
    assert record.getMessage() == "imap(same): an error that nobody consumed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)


@pytest.mark.parametrize("limit", [1, 4])
async def test_stop_async_iteration_in_an_item_does_not_end_the_loop(limit: int) -> None:
    """``await anext(empty)`` in an item is a failure, not the end of the results."""

    async def first(number: int) -> int:
        if number == 3:
            raise StopAsyncIteration
        return number

    got = []
    async with ka.imap(first, range(9), limit=limit) as results:
        with pytest.raises(RuntimeError) as caught:
            async for result in results:
                got.append(result)
    assert str(caught.value).endswith(": StopAsyncIteration was raised")
    assert isinstance(caught.value.__cause__, StopAsyncIteration)
    assert got == [0, 1, 2]


# --- sources that hold scopes and groups open ----------------------------------------


@virtual_time
@ways
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_source_may_hold_a_timeout_open_across_its_yields(
    bulk: Bulk, limit: int
) -> None:
    """When the time is up, it goes on behind its block, wherever it was then."""

    async def items() -> AsyncIterator[int]:
        with ka.move_on_after(2.5):
            for number in count():
                yield number
        yield 99

    async def slowly(number: int) -> int:
        await ka.sleep(1)
        return number

    results = await bulk(slowly, items(), limit=limit)
    assert results == [*range(3 * limit), 99]


@virtual_time
@ways
async def test_a_source_that_times_out_fails_the_call(bulk: Bulk) -> None:
    """Its ``fail_after`` raises there, and the call raises that."""

    async def items() -> AsyncIterator[int]:
        with ka.fail_after(2.5, reason="the source"):
            for number in count():
                yield number

    async def slowly(number: int) -> int:
        await ka.sleep(1)
        return number

    with pytest.raises(ka.DeadlineExceeded, match=r"^the source: not done after 2\.5 s"):
        await bulk(slowly, items(), limit=2)


@virtual_time
@ways
@pytest.mark.parametrize("when", [0.5, 1.5])
async def test_a_source_may_hold_a_task_group_open_whose_task_fails(
    bulk: Bulk, when: float
) -> None:
    """The group raises the task's failure, between two items or while one is awaited."""

    async def fail() -> None:
        await ka.sleep(when)
        raise LookupError("in the source's group")

    async def items() -> AsyncIterator[int]:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fail)
            for number in count():
                if number == 1:
                    await ka.sleep(1)
                yield number

    async def slowly(number: int) -> int:
        await ka.sleep(3 if number else 0)
        return number

    with pytest.raises(LookupError) as caught:
        await bulk(slowly, items(), limit=1)
    assert caught.value.args == ("in the source's group",)


@ways
@pytest.mark.parametrize("plain", [True, False], ids=["anyio", "ours"])
@pytest.mark.parametrize("way", ["failure", "cancelled"])
async def test_a_source_that_holds_a_task_group_open_is_closed_without_a_trace(
    bulk: Bulk, plain: bool, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tasks are cancelled and have ended; that it was closed is not an error."""
    ended = []

    async def beat() -> None:
        try:
            await ka.sleep_forever()
        finally:
            ended.append(1)

    async def items() -> AsyncIterator[int]:
        async with anyio.create_task_group() if plain else ka.TaskGroup() as group:
            group.start_soon(beat)
            for number in count():
                await ka.checkpoint()
                yield number

    with ka.CancelScope() as scope:

        async def work(number: int) -> None:
            await settle()
            if number == 3:
                if way == "failure":
                    raise LookupError("three")
                scope.cancel()
                await ka.sleep_forever()

        if way == "failure":
            with pytest.raises(LookupError, match=r"^three") as caught:
                await bulk(work, items(), limit=2)
            assert len(caught.value.__notes__) == 1
        else:
            await bulk(work, items(), limit=2)
    assert scope.cancelled_caught == (way == "cancelled")
    assert ended == [1]
    assert not caplog.records


async def test_leaving_an_imap_closes_a_source_with_a_task_group() -> None:
    """At once, as any other source."""

    async def items() -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(ka.sleep_forever)
            for number in count():
                yield number

    async with ka.imap(same, items(), limit=2) as results:
        assert await anext(results) == 0
    with ka.CancelScope() as scope:  # the scopes of this task are as they should be
        scope.cancel()
        await ka.checkpoint()
    assert scope.cancelled_caught


@ways
async def test_bulk_calls_nest_as_sources(bulk: Bulk) -> None:
    """The results of one imap are the items of another call."""

    async def results_of(inner: Any) -> AsyncIterator[int]:
        async with ka.imap(same, inner, limit=2) as results:
            async for result in results:
                yield result

    async with aclosing(results_of(results_of(range(30)))) as items:
        assert await bulk(same, items, limit=3) == [*range(30)]
