"""Queue: what put and get promise, the overflow policies, turns, and one run only."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import REAL, backend_and_options


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(6):
        await checkpoint()


def in_a_run(backend: str, func: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    name, options = backend_and_options(backend)
    return anyio.run(func, *args, backend=name, backend_options=options)


# --- making one --------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, -1])
def test_a_maxsize_below_one_is_refused(maxsize: int) -> None:
    """0 means opposite things elsewhere, so it is refused with what to write instead."""
    sentence = (
        f"maxsize must be 1 or more, not {maxsize}; write math.inf for no bound, or 1 "
        "(0 is unbounded in asyncio and a rendezvous in anyio)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ka.Queue[int](maxsize)


@pytest.mark.parametrize("maxsize", [2.5, 2.0, "2", None, True, math.nan])
def test_a_maxsize_that_is_no_whole_number_is_refused(maxsize: Any) -> None:
    """A maxsize is counted in items."""
    sentence = (
        f"maxsize must be a whole number, not {maxsize!r}; write math.inf for no bound, or 1 "
        "(0 is unbounded in asyncio and a rendezvous in anyio)"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.Queue[int](maxsize)


def test_maxsize_has_no_default() -> None:
    """An unbounded queue is never an accident."""
    with pytest.raises(TypeError, match="maxsize"):
        ka.Queue[int]()  # type: ignore[call-arg]


def test_an_unknown_policy_is_refused() -> None:
    """A misspelt policy is told the right ones."""
    sentence = (
        "overflow must be one of 'wait', 'drop_new', 'drop_old', 'error', not 'drop_newest'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ka.Queue[int](1, overflow="drop_newest")  # type: ignore[arg-type]


def test_any_infinite_number_means_no_bound() -> None:
    """``float("inf")`` is as good as ``math.inf``."""
    assert ka.Queue[int](float("inf")).maxsize == math.inf


def test_its_repr_has_name_and_size() -> None:
    """What errors and logs show tells one queue from another."""
    named = ka.Queue[int](3, name="pages")
    named.put_nowait(1)
    assert repr(named) == "<Queue 'pages' 1/3>"
    assert repr(ka.Queue[int](math.inf)) == "<Queue 0/inf>"
    assert named.drain() == [1]


# --- first in, first out -----------------------------------------------------------------


async def test_items_come_out_in_the_order_they_went_in() -> None:
    """One producer, one consumer: first in, first out, across many turns of the buffer."""
    queue = ka.Queue[int](7)
    taken: list[int] = []

    async def produce() -> None:
        with queue.producing():
            for number in range(300):
                await queue.put(number)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        async for number in queue:
            taken.append(number)

    assert taken == list(range(300))


async def test_hundreds_of_getters_share_fewer_items() -> None:
    """Each item is for one of them; the others go on waiting."""
    queue = ka.Queue[int](math.inf)
    taken: list[int] = []

    async def take() -> None:
        taken.append(await queue.get())

    async with anyio.create_task_group() as group:
        for _ in range(400):
            group.start_soon(take)
        await settle()
        for number in range(300):
            queue.put_nowait(number)
        await settle()
        assert sorted(taken) == [*range(300)]
        assert queue.statistics().getters == 100
        group.cancel_scope.cancel()


@pytest.mark.parametrize("maxsize", [1, 2, 50, math.inf])
async def test_many_producers_and_consumers(maxsize: float) -> None:
    """Every item comes out once, in its producer's order, and the bound holds throughout."""
    queue = ka.Queue[tuple[int, int]](maxsize)
    taken: list[tuple[int, int]] = []

    async def produce(who: int) -> None:
        for number in range(100):
            await queue.put((who, number))
            assert queue.qsize() <= maxsize

    async def consume() -> None:
        async for item in queue:
            taken.append(item)
            if item[1] % 5 == 0:
                await checkpoint()

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(consume)
        with queue.producing():
            async with anyio.create_task_group() as producers:
                for who in range(3):
                    producers.start_soon(produce, who)

    assert len(taken) == 300
    for who in range(3):
        assert [number for owner, number in taken if owner == who] == list(range(100))


async def test_those_who_wait_for_an_item_are_served_in_the_order_they_came() -> None:
    """The first getter that came is the first that is served."""
    queue = ka.Queue[int](10)
    served: list[tuple[str, int]] = []

    async def get(name: str) -> None:
        served.append((name, await queue.get()))

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(get, name)
            await settle()
        for number in range(3):
            queue.put_nowait(number)
            await settle()

    assert served == [("a", 0), ("b", 1), ("c", 2)]


async def test_those_who_wait_for_room_are_served_in_the_order_they_came() -> None:
    """The first putter that came is the first that is served."""
    queue = ka.Queue[str](1)
    queue.put_nowait("first")
    taken: list[str] = []

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(queue.put, name)
            await settle()
        assert queue.statistics().putters == 3
        for _ in range(4):
            taken.append(queue.get_nowait())
            await settle()

    assert taken == ["first", "a", "b", "c"]


async def test_an_item_put_while_someone_waits_is_theirs() -> None:
    """trio's rule of fairness: who did not wait cannot snatch the item of one who did."""
    queue = ka.Queue[int](10)
    served: list[int] = []

    async def get() -> None:
        served.append(await queue.get())

    async with anyio.create_task_group() as group:
        group.start_soon(get)
        await settle()
        queue.put_nowait(1)
        sentence = (
            "get_nowait() on <Queue 1/10>, which has no item to spare; await get() to wait"
        )
        with pytest.raises(ka.QueueEmpty, match=f"^{re.escape(sentence)}$"):
            queue.get_nowait()
        assert queue.drain() == []
        queue.put_nowait(2)
        assert queue.get_nowait() == 1  # taken in order of time; one item stays for the waiter
        await settle()
        assert served == [2]


async def test_room_made_while_someone_waits_is_theirs() -> None:
    """A woken putter's place is kept for it, so that maxsize always holds."""
    queue = ka.Queue[str](1)
    queue.put_nowait("old")

    async with anyio.create_task_group() as group:
        group.start_soon(queue.put, "waited")
        await settle()
        assert queue.get_nowait() == "old"
        with pytest.raises(ka.QueueFull):
            queue.put_nowait("pushed in")
        await settle()
        assert queue.qsize() == 1
        assert queue.get_nowait() == "waited"


async def test_a_get_later_in_the_line_does_not_overtake() -> None:
    """A get that comes after the item was promised waits for the next one."""
    queue = ka.Queue[int](10)
    served: list[tuple[str, int]] = []

    async def get(name: str) -> None:
        served.append((name, await queue.get()))

    async with anyio.create_task_group() as group:
        group.start_soon(get, "waiting")
        await settle()
        queue.put_nowait(1)
        group.start_soon(get, "late")
        await settle()
        assert served == [("waiting", 1)]
        queue.put_nowait(2)

    assert served == [("waiting", 1), ("late", 2)]


# --- nowait ------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", ["wait", "error"])
async def test_put_nowait_on_a_full_queue(overflow: Any) -> None:
    """Where nothing may be dropped, a full queue is an error at once."""
    queue = ka.Queue[int](1, overflow=overflow)
    queue.put_nowait(1)
    sentence = (
        "put_nowait() on <Queue 1/1>, which is full; await put() to wait for room, or choose "
        "overflow='drop_old'"
    )
    with pytest.raises(ka.QueueFull, match=f"^{re.escape(sentence)}$"):
        queue.put_nowait(2)
    assert queue.drain() == [1]


async def test_get_nowait_on_an_empty_queue() -> None:
    """QueueEmpty, which names the queue, is a WouldBlock."""
    queue = ka.Queue[int](1, name="jobs")
    sentence = (
        "get_nowait() on <Queue 'jobs' 0/1>, which has no item to spare; await get() to wait"
    )
    with pytest.raises(ka.QueueEmpty, match=f"^{re.escape(sentence)}$"):
        queue.get_nowait()


def test_the_errors_are_those_anyio_callers_catch() -> None:
    """Code that catches anyio's exceptions works unchanged."""
    assert issubclass(ka.QueueFull, anyio.WouldBlock)
    assert issubclass(ka.QueueEmpty, anyio.WouldBlock)
    assert issubclass(ka.QueueClosed, anyio.ClosedResourceError)


# --- overflow ----------------------------------------------------------------------------


async def test_wait_is_backpressure() -> None:
    """A put into a full queue goes on once there is room, not before."""
    queue = ka.Queue[int](2)
    done: list[int] = []

    async def produce() -> None:
        for number in range(4):
            await queue.put(number)
            done.append(number)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        await settle()
        assert done == [0, 1]
        assert queue.statistics().putters == 1
        assert queue.get_nowait() == 0
        await settle()
        assert done == [0, 1, 2]
        assert queue.drain() == [1, 2]

    assert queue.drain() == [3]
    assert queue.statistics().dropped == 0


@pytest.mark.parametrize("nowait", [True, False], ids=["put_nowait", "put"])
@pytest.mark.parametrize(
    ("overflow", "left"), [("drop_new", [0, 1, 2]), ("drop_old", [2, 3, 4])]
)
async def test_what_is_dropped_is_counted(overflow: Any, left: list[int], nowait: bool) -> None:
    """drop_new keeps what is there, drop_old what came last; neither is silent."""
    queue = ka.Queue[int](3, overflow=overflow)
    for number in range(5):
        if nowait:
            queue.put_nowait(number)
        else:
            await queue.put(number)
        assert queue.qsize() <= 3
    statistics = queue.statistics()
    assert (statistics.dropped, statistics.size, statistics.peak) == (2, 3, 3)
    assert queue.drain() == left


async def test_error_raises_and_does_not_put() -> None:
    """overflow="error" says so in a sentence, and the queue is as it was."""
    queue = ka.Queue[int](1, overflow="error")
    await queue.put(1)
    sentence = "put() on <Queue 1/1>, which is full; choose overflow='wait' for backpressure"
    with pytest.raises(ka.QueueFull, match=f"^{re.escape(sentence)}$"):
        await queue.put(2)
    assert queue.drain() == [1]
    await queue.put(3)
    assert queue.drain() == [3]


@pytest.mark.parametrize("overflow", ["drop_new", "drop_old"])
async def test_a_policy_that_drops_still_serves_who_waits(overflow: Any) -> None:
    """What is promised to a waiting getter reaches it, also when the queue overflows."""
    queue = ka.Queue[int](1, overflow=overflow)
    served: list[int] = []

    async def get() -> None:
        served.append(await queue.get())

    async with anyio.create_task_group() as group:
        group.start_soon(get)
        await settle()
        queue.put_nowait(1)
        queue.put_nowait(2)

    assert served == ([1] if overflow == "drop_new" else [2])
    assert queue.statistics().dropped == 1
    assert queue.qsize() == 0


class Reporter:
    """An item that, at its end, puts one more into its queue."""

    def __init__(self, queue: ka.Queue[Any] | None) -> None:
        self.queue = queue

    def __del__(self) -> None:
        if self.queue is not None:
            self.queue.put_nowait(Reporter(None))


@pytest.mark.parametrize("nowait", [False, True])
async def test_an_item_that_puts_as_it_is_pushed_out(nowait: bool) -> None:
    """Its own put comes after the one that pushed it out, and maxsize holds."""
    queue = ka.Queue[Any](2, overflow="drop_old")
    for _ in range(5):
        if nowait:
            queue.put_nowait(Reporter(queue))
        else:
            await queue.put(Reporter(queue))
        assert queue.qsize() <= 2
    stats = queue.statistics()
    assert (stats.size, stats.put - stats.dropped) == (2, 2)
    for item in queue.drain():
        item.queue = None


async def test_join_does_not_wait_for_what_was_dropped() -> None:
    """An item that was pushed out is nobody's work any more."""
    queue = ka.Queue[int](1, overflow="drop_old")
    await queue.put(1)
    await queue.put(2)
    assert await queue.get() == 2
    queue.task_done()
    await queue.join()


# --- turns -------------------------------------------------------------------------------


async def turns_while(work: Callable[[], Awaitable[None]]) -> int:
    """How often another task had its turn meanwhile."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await settle()
        turns = 0
        await work()
        group.cancel_scope.cancel()
    return turns


def fast_pair(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        async def consume() -> None:
            for _ in range(times):
                await queue.get()

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            for number in range(times):
                await queue.put(number)

    return work


def puts(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for number in range(times):
            try:
                await queue.put(number)
            except ka.QueueFull:
                assert queue.overflow == "error"
        queue.drain()

    return work


def gets(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for number in range(times):
            queue.put_nowait(number)
        for _ in range(times):
            await queue.get()

    return work


def puts_after_nowait(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for number in range(100):
            queue.put_nowait(number)
        await puts(queue, times)()

    return work


def gets_after_nowait(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for number in range(100):
            queue.put_nowait(number)
        for _ in range(100):
            queue.get_nowait()
        await gets(queue, times)()

    return work


def batches(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for number in range(2 * times):
            queue.put_nowait(number)
        for _ in range(times):
            await queue.get_batch(2)

    return work


def alternating(queue: ka.Queue[int], times: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for number in range(times):
            await queue.put(number)
            queue.put_nowait(number)
            queue.get_nowait()
            await queue.get()

    return work


@pytest.mark.parametrize(
    ("work", "queue"),
    [
        (fast_pair, lambda: ka.Queue[int](1000)),
        (puts, lambda: ka.Queue[int](math.inf)),
        (puts, lambda: ka.Queue[int](1, overflow="drop_new")),
        (puts, lambda: ka.Queue[int](1, overflow="drop_old")),
        (puts, lambda: ka.Queue[int](1, overflow="error")),
        (gets, lambda: ka.Queue[int](math.inf)),
        (batches, lambda: ka.Queue[int](math.inf)),
        (alternating, lambda: ka.Queue[int](10)),
        (puts_after_nowait, lambda: ka.Queue[int](math.inf)),
        (gets_after_nowait, lambda: ka.Queue[int](math.inf)),
    ],
    ids=[
        "pair",
        "puts",
        "drop_new",
        "drop_old",
        "error",
        "gets",
        "batches",
        "alternating",
        "puts_after",
        "gets_after",
    ],
)
async def test_a_fast_loop_cannot_starve_others(work: Any, queue: Any) -> None:
    """Every 64th put and every 64th get lets the other tasks have a turn."""
    assert await turns_while(work(queue(), 640)) >= 9


@pytest.mark.parametrize("overflow", ["wait", "drop_new", "drop_old", "error"])
async def test_cancellation_is_seen_within_64_puts(overflow: Any) -> None:
    """A producer that never has to wait is cancelled all the same."""
    queue = ka.Queue[int](1000 if overflow == "wait" else 1, overflow=overflow)
    for before in range(0, 70, 7):  # wherever the count stands
        for _ in range(before):
            try:
                await queue.put(0)
            except ka.QueueFull:
                break
        finished = 0
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(200):
                try:
                    await queue.put(0)
                except ka.QueueFull:
                    assert overflow == "error"
                finished += 1
        assert scope.cancelled_caught
        assert finished < 64
        queue.drain()


@pytest.mark.parametrize("batch", [False, True], ids=["get", "get_batch"])
async def test_cancellation_is_seen_within_64_gets(batch: bool) -> None:
    """A consumer that never has to wait is cancelled all the same."""
    queue = ka.Queue[int](math.inf)
    for before in range(0, 70, 7):
        for number in range(300):
            queue.put_nowait(number)
        for _ in range(before):
            await queue.get()
        finished = 0
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(200):
                await (queue.get_batch(1) if batch else queue.get())
                finished += 1
        assert scope.cancelled_caught
        assert finished < 64
        queue.drain()


async def test_an_operation_that_waits_is_a_checkpoint() -> None:
    """A get on an empty queue and a put on a full one are cancelled at once."""
    queue = ka.Queue[int](1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await queue.get()
    assert scope.cancelled_caught
    queue.put_nowait(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await queue.put(2)
    assert scope.cancelled_caught
    assert queue.drain() == [1]


async def test_an_operation_that_need_not_wait_does_not_yield() -> None:
    """A put and a get that can be served at once do not go through the event loop."""
    queue = ka.Queue[int](5)

    async def work() -> None:
        for number in range(5):
            await queue.put(number)
        for _ in range(5):
            await queue.get()

    assert await turns_while(work) == 0


# --- accounts ----------------------------------------------------------------------------


async def test_statistics_tell_what_happened() -> None:
    """Counts are since the beginning; sizes and waiters are of now."""
    queue = ka.Queue[int](3)
    for number in range(3):
        await queue.put(number)
    assert await queue.get() == 0
    assert queue.drain() == [1, 2]
    assert queue.statistics() == ka.QueueStatistics(
        size=0,
        maxsize=3,
        peak=3,
        put=3,
        taken=3,
        dropped=0,
        abandoned=0,
        unfinished=1,
        putters=0,
        getters=0,
        closed=False,
    )

    async with anyio.create_task_group() as group:
        group.start_soon(queue.get)
        group.start_soon(queue.get_batch, 5)
        await settle()
        assert queue.statistics().getters == 2
        group.cancel_scope.cancel()
    assert queue.statistics().getters == 0

    queue.close()
    assert queue.statistics().closed


@pytest.mark.parametrize("way", ["get", "get_nowait", "get_batch", "drain", "discard", "still"])
@pytest.mark.parametrize("maxsize", [9, math.inf])
async def test_the_peak_is_exact(maxsize: float, way: str) -> None:
    """The most it ever held, however the items went in and out."""
    queue = ka.Queue[int](maxsize)
    for size in (3, 7, 5):
        for number in range(size):
            await queue.put(number)
        if way == "get":
            for _ in range(size):
                await queue.get()
        elif way == "get_nowait":
            for _ in range(size):
                queue.get_nowait()
        elif way == "get_batch":
            await queue.get_batch(10)
        elif way == "drain":
            queue.drain()
        elif size == 7:
            break
        else:
            queue.drain()
    if way == "discard":
        async with queue:
            pass
    assert queue.statistics().peak == 7
    queue.drain()


@pytest.mark.parametrize("nowait", [False, True], ids=["await", "nowait"])
@pytest.mark.parametrize("maxsize", [1, 100, math.inf])
async def test_the_counts_are_exact(maxsize: float, nowait: bool) -> None:
    """Items put and taken are counted, whether or not the calls waited or gave way."""
    queue = ka.Queue[int](maxsize)

    async def put(number: int) -> None:
        for item in range(number):
            await queue.put(item)

    async def get(number: int) -> None:
        for _ in range(number):
            await queue.get()

    for number in (1, 70, 300):
        before = queue.statistics()
        if nowait:
            for item in range(number):
                queue.put_nowait(item)
                queue.get_nowait()
        for first, second in ((put, get), (get, put)):
            async with anyio.create_task_group() as group:
                group.start_soon(first, number)
                await settle()
                group.start_soon(second, number)
        after = queue.statistics()
        times = 3 if nowait else 2
        assert after.put - before.put == times * number
        assert after.taken - before.taken == times * number


async def test_join_waits_until_every_item_is_done() -> None:
    """join() ends when task_done() was called for each item put, not when it is empty."""
    queue = ka.Queue[int](5)
    joined = False

    async def join() -> None:
        nonlocal joined
        await queue.join()
        joined = True

    await queue.put(1)
    await queue.put(2)
    async with anyio.create_task_group() as group:
        group.start_soon(join)
        await settle()
        for _ in range(2):
            await queue.get()
            await settle()
            assert not joined
            queue.task_done()
        await settle()
        assert joined


async def test_join_on_nothing_is_a_checkpoint() -> None:
    """With nothing to wait for, join() still yields."""
    queue = ka.Queue[int](1)
    await queue.join()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await queue.join()
    assert scope.cancelled_caught


async def test_join_goes_on_when_more_is_put_meanwhile() -> None:
    """An item put in the turn in which the last one was done is waited for as well."""
    queue = ka.Queue[int](5)
    joined: list[bool] = []

    async def join() -> None:
        await queue.join()
        joined.append(True)

    await queue.put(1)
    async with anyio.create_task_group() as group:
        group.start_soon(join)
        await settle()
        await queue.get()
        queue.task_done()
        queue.put_nowait(2)
        await settle()
        assert joined == []
        await queue.get()
        queue.task_done()
    assert joined == [True]


async def test_task_done_more_often_than_put() -> None:
    """One task_done() too many is a mistake that is told."""
    queue = ka.Queue[int](5)
    sentence = (
        "task_done() on <Queue 0/5>, called more often than items were put; "
        "call it once for each item taken"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        queue.task_done()


async def test_drained_items_are_done() -> None:
    """What drain() takes, join() does not wait for."""
    queue = ka.Queue[int](5)
    await queue.put(1)
    await queue.put(2)
    assert queue.drain() == [1, 2]
    assert queue.drain() == []
    await queue.join()


async def test_draining_makes_room_for_all_who_wait() -> None:
    """As many putters go on as places were made."""
    queue = ka.Queue[int](2)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(queue.put, number)
        await settle()
        taken = queue.drain()
        await settle()
        assert queue.qsize() == 2
        assert queue.statistics().putters == 1
        taken += queue.drain()
        await settle()
        taken += queue.drain()
    assert sorted(taken) == list(range(5))


# --- one run -----------------------------------------------------------------------------


@pytest.mark.parametrize("later", REAL)
@pytest.mark.parametrize("first", REAL)
def test_a_queue_belongs_to_one_run(first: str, later: str) -> None:
    """Used in another run, it says so, whatever the operation."""
    queue = ka.Queue[int](5, name="jobs")

    async def use() -> None:
        await queue.put(1)
        assert await queue.get() == 1
        await queue.put(2)

    async def misuse() -> None:
        for call, misused in (
            ("put", lambda: queue.put(1)),
            ("get", queue.get),
            ("get_batch", lambda: queue.get_batch(5)),
            ("join", queue.join),
        ):
            with pytest.raises(RuntimeError, match=f"^{re.escape(sentence(call))}$"):
                await misused()
        with pytest.raises(RuntimeError, match=f"^{re.escape(sentence('put_nowait'))}$"):
            queue.put_nowait(1)
        with pytest.raises(RuntimeError, match=f"^{re.escape(sentence('get_nowait'))}$"):
            queue.get_nowait()

    def sentence(call: str) -> str:
        return (
            f"{call}() on <Queue 'jobs' 1/5> outside the run it belongs to; make the Queue in "
            "the async function that runs (in a thread: from_thread.run(queue.put, item))"
        )

    in_a_run(first, use)
    in_a_run(later, misuse)
    with pytest.raises(RuntimeError, match=f"^{re.escape(sentence('put_nowait'))}$"):
        queue.put_nowait(1)
    assert queue.drain() == [2]  # what is left when nobody waits, anyone may have


async def test_a_queue_used_in_a_thread_says_so() -> None:
    """A thread must go through from_thread; close() and drain() would not wake the loop."""
    queue = ka.Queue[int](5)
    await queue.put(1)
    for misuse in (lambda: queue.put_nowait(2), queue.get_nowait):
        with pytest.raises(RuntimeError, match="outside the run it belongs to"):
            await anyio.to_thread.run_sync(misuse)
    assert await queue.get() == 1

    async def get() -> None:
        with pytest.raises(ka.QueueClosed):
            await queue.get()

    async with anyio.create_task_group() as group:
        group.start_soon(queue.join)
        group.start_soon(get)
        await settle()
        for misuse in (queue.close, queue.drain, queue.task_done):
            sentence = (
                f"{misuse.__name__}() on <Queue 0/5> outside the run it belongs to; make the "
                "Queue in the async function that runs (in a thread: "
                "from_thread.run(queue.put, item))"
            )
            with pytest.raises(RuntimeError, match=f"^{re.escape(sentence)}$"):
                await anyio.to_thread.run_sync(misuse)
        await anyio.to_thread.run_sync(anyio.from_thread.run_sync, queue.close)
        queue.task_done()


@pytest.mark.parametrize("waiting", ["putter", "lingerer"])
async def test_a_queue_that_anyone_waits_at_is_not_closed_in_a_thread(waiting: str) -> None:
    """Whatever they wait for: it would not wake them."""
    queue = ka.Queue[int](2)
    queue.put_nowait(1)
    if waiting == "putter":
        queue.put_nowait(2)

    async def wait() -> None:
        if waiting == "lingerer":
            await queue.get_batch(2, linger=math.inf)
        else:
            with pytest.raises(ka.QueueClosed):
                await queue.put(3)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await settle()
        with pytest.raises(RuntimeError, match="outside the run it belongs to"):
            await anyio.to_thread.run_sync(queue.close)
        queue.close()
    queue.drain()


async def test_a_thread_puts_through_from_thread() -> None:
    """What the sentence advises works."""
    queue = ka.Queue[int](1)
    await anyio.to_thread.run_sync(anyio.from_thread.run, queue.put, 7)
    assert await queue.get() == 7


@pytest.mark.parametrize("backend", REAL)
@pytest.mark.parametrize("close", [False, True], ids=["open", "closed"])
def test_a_queue_may_be_filled_before_the_run(backend: str, close: bool) -> None:
    """Made and filled where no loop runs, it belongs to the run that uses it first."""
    queue = ka.Queue[int](5)
    for number in range(3):
        queue.put_nowait(number)
    if close:
        queue.close()

    async def use() -> list[int]:
        if not close:
            with queue.producing():
                await queue.put(3)
                await queue.put(4)
        return [number async for number in queue]

    assert in_a_run(backend, use) == list(range(3 if close else 5))
