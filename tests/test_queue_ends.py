"""How a stream of items ends: producing, close, discard, and what is left behind."""

from __future__ import annotations

import gc
import logging
import re
import traceback
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(6):
        await checkpoint()


async def outcome(queue: ka.Queue[int], into: list[object], how: str = "get") -> None:
    """Take one item, or the error."""
    try:
        into.append(await (queue.get() if how == "get" else queue.get_batch(5)))
    except Exception as error:
        into.append(error)


# --- close -------------------------------------------------------------------------------


async def test_consumers_get_what_is_there_and_then_the_end() -> None:
    """After close(), what is buffered comes out first; then iteration ends."""
    queue = ka.Queue[int](5)
    for number in range(3):
        await queue.put(number)
    queue.close()
    assert [number async for number in queue] == [0, 1, 2]
    assert [number async for number in queue] == []


@pytest.mark.parametrize("call", ["get", "get_nowait", "get_batch"])
async def test_taking_from_a_closed_and_empty_queue(call: str) -> None:
    """QueueClosed, with a sentence."""
    queue = ka.Queue[int](5)
    queue.close()
    sentence = (
        f"{call}() on <Queue 0/5>, which is closed and has no items left; iterate with "
        "'async for', which ends there"
    )
    with pytest.raises(ka.QueueClosed, match=f"^{re.escape(sentence)}$"):
        if call == "get":
            await queue.get()
        elif call == "get_nowait":
            queue.get_nowait()
        else:
            await queue.get_batch(5)


@pytest.mark.parametrize("call", ["put", "put_nowait", "producing"])
@pytest.mark.parametrize("overflow", ["wait", "drop_new", "drop_old", "error"])
async def test_putting_into_a_closed_queue(call: str, overflow: Any) -> None:
    """QueueClosed whatever the policy; nothing was put and nothing counted as dropped."""
    queue = ka.Queue[int](1, overflow=overflow)
    await queue.put(0)
    queue.close()
    sentence = (
        f"{call}() on <Queue 1/1>, which is closed; open a new Queue, or stop the producers "
        "before closing"
    )
    with pytest.raises(ka.QueueClosed, match=f"^{re.escape(sentence)}$"):
        if call == "put":
            await queue.put(1)
        elif call == "put_nowait":
            queue.put_nowait(1)
        else:
            with queue.producing():
                pass
    assert queue.statistics().dropped == 0
    assert queue.drain() == [0]


async def test_a_consumer_sees_where_the_producer_failed() -> None:
    """All the way: the queue was closed while the error was still on it."""
    queue = ka.Queue[int](1)

    async def parse() -> None:
        with queue.producing():
            await checkpoint()
            raise ValueError("bad page")

    async def load_pages() -> None:
        await parse()

    async def consume() -> list[str]:
        try:
            await queue.get()
        except ValueError as error:
            return [line.name for line in traceback.extract_tb(error.__traceback__)]
        return []

    async with ka.TaskGroup() as group:
        consumer = group.start_soon(consume)
        with pytest.raises(ValueError, match="bad page"):
            await load_pages()
    lines = consumer.return_value
    assert lines[0] == "consume"
    assert lines[-2:] == ["load_pages", "parse"]


async def test_closing_again_changes_nothing() -> None:
    """The first close counts."""
    queue = ka.Queue[int](1)
    queue.close()
    queue.close(ValueError("too late"))
    assert [number async for number in queue] == []


@pytest.mark.parametrize("how", ["get", "get_batch"])
async def test_close_wakes_every_consumer_that_waits(how: str) -> None:
    """Those who wait for an item that will never come are told."""
    queue = ka.Queue[int](1)
    into: list[object] = []
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(outcome, queue, into, how)
        await settle()
        queue.close()
    assert [type(each) for each in into] == [ka.QueueClosed] * 3


async def test_close_wakes_every_producer_that_waits() -> None:
    """A put that waits when the queue is closed has not put."""
    queue = ka.Queue[int](1)
    await queue.put(0)
    errors: list[BaseException] = []

    async def put(number: int) -> None:
        try:
            await queue.put(number)
        except ka.QueueClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for number in (1, 2, 3):
            group.start_soon(put, number)
        await settle()
        queue.close()
    assert len(errors) == 3
    assert queue.drain() == [0]


async def test_a_putter_given_room_in_the_turn_of_the_close_has_not_put() -> None:
    """The close wins over a place that was promised but not filled yet."""
    queue = ka.Queue[int](1)
    await queue.put(0)
    async with anyio.create_task_group() as group:

        async def put() -> None:
            with pytest.raises(ka.QueueClosed):
                await queue.put(1)

        group.start_soon(put)
        await settle()
        assert queue.get_nowait() == 0
        queue.close()
    assert queue.drain() == []
    assert queue.statistics().put == 1


async def test_an_item_promised_before_the_close_is_delivered() -> None:
    """A getter that was served keeps its item; the others, who wait, get the end."""
    queue = ka.Queue[int](5)
    into: list[object] = []
    async with anyio.create_task_group() as group:
        group.start_soon(outcome, queue, into)
        await settle()
        group.start_soon(outcome, queue, into)
        await settle()
        queue.put_nowait(7)
        queue.close()
    assert into[0] == 7
    assert isinstance(into[1], ka.QueueClosed)


async def test_an_item_given_up_after_the_close_goes_to_who_still_waits() -> None:
    """The end is told only when no item can come any more, also from a cancelled owner."""
    queue = ka.Queue[int](5)
    into: list[object] = []
    async with anyio.create_task_group() as group:
        scopes: list[anyio.CancelScope] = []

        async def first() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await outcome(queue, into)

        group.start_soon(first)
        await settle()
        group.start_soon(outcome, queue, into)
        await settle()
        queue.put_nowait(7)
        scopes[0].cancel()
        queue.close()
    # Whether the first was in time is the backend's choice; the item is there once.
    assert into.count(7) == 1


# --- close with an error -----------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [ValueError, ka.QueueClosed, ka.EndOfStream, KeyboardInterrupt]
)
async def test_close_with_an_error_gives_every_consumer_that_object(
    kind: type[BaseException],
) -> None:
    """After what is buffered, each consumer gets the error itself, whichever way it takes."""
    queue = ka.Queue[int](5)
    await queue.put(1)
    broken = kind("broken")
    queue.close(broken)
    taken: list[int] = []
    with pytest.raises(kind) as info:
        async for number in queue:
            taken.append(number)
    assert info.value is broken
    assert taken == [1]
    for take in (queue.get, lambda: queue.get_batch(5), queue.batches(5).__anext__):
        with pytest.raises(kind) as info:
            await take()
        assert info.value is broken
    with pytest.raises(kind) as info:
        queue.get_nowait()
    assert info.value is broken


async def test_close_with_an_error_reaches_those_who_wait() -> None:
    """A consumer that waits when the error comes gets it; a producer gets QueueClosed."""
    queue = ka.Queue[int](1)
    broken = ValueError("broken")
    into: list[object] = []
    async with anyio.create_task_group() as group:
        group.start_soon(outcome, queue, into, "get")
        group.start_soon(outcome, queue, into, "get_batch")
        await settle()
        queue.close(broken)
    assert into == [broken, broken]
    with pytest.raises(ka.QueueClosed):
        await queue.put(1)


# --- producing ---------------------------------------------------------------------------


async def test_the_last_producer_closes() -> None:
    """The queue is open as long as one producing() block is."""
    queue = ka.Queue[int](5)
    with queue.producing():
        with queue.producing():
            await queue.put(1)
        assert not queue.statistics().closed
        await queue.put(2)
    assert queue.statistics().closed
    assert [number async for number in queue] == [1, 2]


async def test_the_first_error_of_the_producers_reaches_the_consumers() -> None:
    """What was put comes first, then the first exception, when the last block is left."""
    queue = ka.Queue[int](5)
    first, second = ValueError("first"), KeyError("second")
    taken: list[int] = []
    with pytest.raises(KeyError), queue.producing():
        with pytest.raises(ValueError, match="first"), queue.producing():
            raise first
        await queue.put(1)
        raise second
    with pytest.raises(ValueError, match="first") as info:
        async for number in queue:
            taken.append(number)
    assert info.value is first
    assert taken == [1]


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


async def test_the_first_error_is_told_by_identity() -> None:
    """An exception that is false is an exception."""
    queue = ka.Queue[int](5)
    first = Falsy()
    with pytest.raises(ValueError, match="second"), queue.producing():
        with pytest.raises(Falsy), queue.producing():
            raise first
        raise ValueError("second")
    with pytest.raises(Falsy):
        await queue.get()


async def test_a_cancelled_producer_closes_without_an_error() -> None:
    """Cancellation is no failure of the stream: consumers see its end."""
    queue = ka.Queue[int](5)
    with anyio.CancelScope() as scope, queue.producing():
        await queue.put(1)
        scope.cancel()
        await checkpoint()
    assert scope.cancelled_caught
    assert [number async for number in queue] == [1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_exception_closes_without_an_error(kind: type[BaseException]) -> None:
    """Only an Exception is handed to consumers; an interrupt goes its own way."""
    queue = ka.Queue[int](5)
    with pytest.raises(kind), queue.producing():
        raise kind
    assert [number async for number in queue] == []


async def test_closing_by_hand_inside_producing() -> None:
    """A queue closed meanwhile stays as it was closed."""
    queue = ka.Queue[int](5)
    with pytest.raises(ka.QueueClosed), queue.producing():
        queue.close()
        await queue.put(1)
    assert [number async for number in queue] == []


# --- discard and leftovers ---------------------------------------------------------------


async def test_leaving_the_block_discards_what_nobody_took(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leftovers are logged with name and number, and counted."""
    async with ka.Queue[int](5, name="jobs") as queue:
        for number in range(3):
            await queue.put(number)
        await queue.get()
    assert [(each.name, each.levelno, each.getMessage()) for each in caplog.records] == [
        (
            "kingdom_async",
            logging.WARNING,
            "Queue 'jobs': 2 items were put and never taken",
        )
    ]
    statistics = queue.statistics()
    assert (statistics.abandoned, statistics.size, statistics.closed) == (2, 0, True)
    assert queue.drain() == []


async def test_a_queue_left_empty_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """No leftovers, no words; and nobody can put or take any more."""
    async with ka.Queue[int](5) as queue:
        await queue.put(1)
        await queue.get()
    assert not caplog.records
    with pytest.raises(ka.QueueClosed):
        await queue.put(1)
    with pytest.raises(ka.QueueClosed):
        await queue.get()


async def test_discarding_wakes_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    """Producers and consumers that wait are told, and joiners that it can never be."""
    full, empty = ka.Queue[int](1), ka.Queue[int](1)
    told: list[str] = []

    async def expect_closed(name: str, call: Any, *args: Any) -> None:
        with pytest.raises(ka.QueueClosed):
            await call(*args)
        told.append(name)

    async with anyio.create_task_group() as group, full, empty:
        await full.put(0)
        group.start_soon(expect_closed, "put", full.put, 1)
        group.start_soon(expect_closed, "join", full.join)
        group.start_soon(expect_closed, "get", empty.get)
        await settle()
    assert sorted(told) == ["get", "join", "put"]
    assert [each.getMessage() for each in caplog.records] == [
        "Queue: 1 item was put and never taken"
    ]


async def test_join_says_that_it_can_never_be(caplog: pytest.LogCaptureFixture) -> None:
    """Items that were discarded will never be done."""
    async with ka.Queue[int](5) as queue:
        await queue.put(1)
    sentence = (
        "join() on <Queue 0/5>, of which 1 item was discarded; leave 'async with queue' "
        "after join() has returned"
    )
    with pytest.raises(ka.QueueClosed, match=f"^{re.escape(sentence)}$"):
        await queue.join()
    assert len(caplog.records) == 1


async def test_discarding_during_a_cancellation_lets_it_pass(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leftovers are logged, never warned about, so that what was passing goes on."""
    with anyio.CancelScope() as scope:
        async with ka.Queue[int](5) as queue:
            await queue.put(1)
            scope.cancel()
            await checkpoint()
    assert scope.cancelled_caught
    with pytest.raises(ValueError, match="mine"):
        async with ka.Queue[int](5) as queue:
            await queue.put(1)
            raise ValueError("mine")
    assert len(caplog.records) == 2


async def test_an_item_promised_before_the_discard_is_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only what nobody was promised is discarded."""
    queue = ka.Queue[int](5)
    into: list[object] = []
    async with anyio.create_task_group() as group, queue:
        group.start_soon(outcome, queue, into)
        await settle()
        queue.put_nowait(1)
        queue.put_nowait(2)
    assert into == [1]
    assert queue.statistics().abandoned == 1
    assert len(caplog.records) == 1


async def test_collected_with_items_inside(caplog: pytest.LogCaptureFixture) -> None:
    """A queue that is dropped with items in it warns and logs."""
    queue: ka.Queue[int] | None = ka.Queue[int](5, name="jobs")
    assert queue is not None
    await queue.put(1)
    sentence = (
        "Queue 'jobs' was dropped with 1 item in it; drain() takes them, 'async with' "
        "discards them"
    )
    with pytest.warns(ResourceWarning, match=f"^{re.escape(sentence)}$"):
        del queue
        gc.collect()
    assert [each.getMessage() for each in caplog.records] == [
        "Queue 'jobs': 1 item was put and never taken"
    ]


async def test_collected_empty_or_half_made(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said where nothing is left, nor of a queue that was never made."""
    queue = ka.Queue[int](5)
    await queue.put(1)
    await queue.get()
    del queue
    with pytest.raises(ValueError, match="maxsize"):
        ka.Queue[int](0)
    gc.collect()
    assert not caplog.records


async def test_an_end_of_iteration_is_no_quiet_end() -> None:
    """StopAsyncIteration given to close() reaches the consumers, as what it is not."""
    queue = ka.Queue[int](1)
    queue.close(StopAsyncIteration("x"))
    with pytest.raises(RuntimeError, match="StopAsyncIteration") as caught:
        async for _ in queue:
            pass
    assert isinstance(caught.value.__cause__, StopAsyncIteration)


async def test_join_ends_when_items_are_discarded_while_it_waits() -> None:
    """One item is in work, one is discarded: the join can never be, and says so at once."""
    queue = ka.Queue[int](2)
    queue.put_nowait(1)
    queue.put_nowait(2)
    assert queue.get_nowait() == 1

    async def discard() -> None:
        await anyio.wait_all_tasks_blocked()
        queue.discard()

    async with anyio.create_task_group() as group:
        group.start_soon(discard)
        with pytest.raises(ka.QueueClosed, match="of which 1 item was discarded"):
            await queue.join()


@pytest.mark.parametrize("error", ["because", ValueError, 1])
async def test_close_with_what_is_no_error(error: Any) -> None:
    """It gets a sentence there, and not where each consumer raises it; nothing is closed."""
    queue = ka.Queue[int](1, name="jobs")
    sentence = (
        "close() on <Queue 'jobs' 0/1> takes the error for the consumers to raise, not "
        f"{error!r}; write close(ConnectionError('lost'))"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        queue.close(error)
    assert not queue.statistics().closed
