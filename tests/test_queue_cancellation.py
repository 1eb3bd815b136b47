"""A cancelled put has not put and a cancelled get has taken nothing, whenever it was.

The trials run producers and consumers of a small queue and cancel some of them at every
turn of the loop and at every operation, by a scope or by asyncio's own ``Task.cancel()``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import REAL, asyncio_only, chosen
from support.native import by_task_cancel, turns_until_done

Item = tuple[int, int]

ITEMS = 4  # of each producer


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(6):
        await checkpoint()


class Victim:
    """A task that can be cancelled from outside, and is gone quietly when it was."""

    def __init__(self, how: str, work: Callable[[], Awaitable[object]]) -> None:
        self.how = how
        self.work = work
        self.ended = False
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        if self.how == "native":
            self._task = asyncio.current_task()
        with self._scope:
            try:
                await self.work()
                await checkpoint()  # so that a cancellation at its very end ends here
            except anyio.get_cancelled_exc_class():
                if self.how == "scope":
                    raise
            finally:
                self.ended = True

    def cancel(self) -> None:
        if self._task is None:
            self._scope.cancel()
        elif not self.ended:
            self._task.cancel()


def ways(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for backend in chosen(names):
        yield backend, "scope"
        if backend.startswith("asyncio"):
            yield backend, "native"


#: Both ways to cancel, on every backend that has them.
however_cancelled = pytest.mark.parametrize(
    ("anyio_backend", "how"), list(ways(REAL)), indirect=["anyio_backend"]
)


class Trial:
    """Two producers and two consumers, one or more of whom are cancelled at one moment."""

    def __init__(self, how: str, victims: tuple[int, ...], maxsize: int, batch: int) -> None:
        self.queue = ka.Queue[Item](maxsize)
        self.put: list[Item] = []
        self.taken: list[Item] = []
        self.tasks = [
            Victim(how, lambda: self.produce(0)),
            Victim(how, lambda: self.produce(1)),
            Victim(how, lambda: self.consume(1)),
            Victim(how, lambda: self.consume(batch)),
        ]
        self.victims = victims
        self.operations = 0
        self.cancel_at_operation = -1
        self.late = False  # everything was done before the moment came

    async def produce(self, who: int) -> None:
        for number in range(ITEMS):
            await self.queue.put((who, number))
            self.put.append((who, number))
            self.operated()

    async def consume(self, batch: int) -> None:
        while True:
            try:
                if batch == 1:
                    taken = [await self.queue.get()]
                else:
                    taken = await self.queue.get_batch(batch)
            except ka.QueueClosed:
                return
            self.taken += taken
            self.operated()

    def operated(self) -> None:
        assert self.queue.qsize() <= self.queue.maxsize
        if self.operations == self.cancel_at_operation:
            self.cancel()
        self.operations += 1

    def cancel(self) -> None:
        for victim in self.victims:
            self.tasks[victim].cancel()

    async def run(self, *, turns: int = -1, operations: int = -1, canceller: int = 0) -> None:
        async def cancel_after_turns() -> None:
            for _ in range(turns):
                await checkpoint()
            self.late = all(task.ended for task in self.tasks)
            self.cancel()

        self.cancel_at_operation = operations
        starts = [task.run for task in self.tasks]
        if turns >= 0:
            starts.insert(canceller, cancel_after_turns)
        async with anyio.create_task_group() as group:
            for start in starts:
                group.start_soon(start)
            while not all(task.ended for task in self.tasks[:2]):
                if all(task.ended for task in self.tasks[2:]):
                    break  # no consumer is left: producers that wait are told by the close
                await checkpoint()
            self.queue.close()
            group.start_soon(self.see_the_end)
        if operations >= self.operations:
            self.late = True
        self.check()

    async def see_the_end(self) -> None:
        for task in self.tasks:
            while not task.ended:
                await checkpoint()

    def check(self) -> None:
        """Each item that was put came out once or is left, in its producer's order."""
        left = self.queue.drain()
        out = self.taken + left
        assert sorted(out) == sorted(self.put)
        for who in (0, 1):
            numbers = [number for owner, number in out if owner == who]
            assert numbers == list(range(len(numbers)))
        if not {2, 3} <= set(self.victims):
            assert left == []  # a consumer was there to the end
        if not set(self.victims) & {0, 1} and not {2, 3} <= set(self.victims):
            assert len(self.put) == 2 * ITEMS
        statistics = self.queue.statistics()
        assert (statistics.putters, statistics.getters) == (0, 0)
        assert statistics.put == statistics.taken == len(self.put)


VICTIMS = [(0,), (2,), (3,), (0, 2), (1, 3), (2, 3), (0, 1)]


async def produce_until_closed(trial: Trial, who: int) -> None:
    """A producer whose consumers are gone is told so, and has not put."""
    with suppress(ka.QueueClosed):
        await trial.produce(who)


def make_trial(how: str, victims: tuple[int, ...], maxsize: int) -> Trial:
    trial = Trial(how, victims, maxsize, batch=3)
    for who in (0, 1):
        trial.tasks[who].work = lambda who=who: produce_until_closed(trial, who)
    return trial


@however_cancelled
@pytest.mark.parametrize("maxsize", [1, 3])
async def test_cancelled_at_every_turn(how: str, maxsize: int) -> None:
    """Whenever producers or consumers are cancelled, every item is out once, or still there."""
    for victims in VICTIMS:
        for canceller in (0, 4):  # it runs before the others in its turn, or after them
            for turns in range(80):
                trial = make_trial(how, victims, maxsize)
                await trial.run(turns=turns, canceller=canceller)
                if trial.late:
                    break
            else:
                pytest.fail("never done")


@however_cancelled
@pytest.mark.parametrize("maxsize", [1, 3])
async def test_cancelled_in_the_turn_of_every_operation(how: str, maxsize: int) -> None:
    """Cancelled in the very turn in which a put or a get was done, by itself or another."""
    for victims in VICTIMS:
        for operations in range(80):
            trial = make_trial(how, victims, maxsize)
            await trial.run(operations=operations)
            if trial.late:
                break
        else:
            pytest.fail("never done")


# --- the same turn -----------------------------------------------------------------------


class Getter:
    """A task that waits in get() or get_batch(), to be cancelled."""

    def __init__(self, how: str, queue: ka.Queue[int], batch: bool = False) -> None:
        self.got: list[int] = []
        self.closed = False

        async def work() -> None:
            try:
                self.got += await queue.get_batch(1) if batch else [await queue.get()]
            except ka.QueueClosed:
                self.closed = True

        self.victim = Victim(how, work)
        self.run, self.cancel = self.victim.run, self.victim.cancel


def all_got(getters: Iterable[Getter]) -> list[int]:
    return [item for getter in getters for item in getter.got]


class Putter:
    """A task that waits in put(), to be cancelled."""

    def __init__(self, how: str, queue: ka.Queue[int], item: int) -> None:
        self.put: list[int] = []
        self.closed = False

        async def work() -> None:
            try:
                await queue.put(item)
            except ka.QueueClosed:
                self.closed = True
            else:
                self.put.append(item)

        self.victim = Victim(how, work)
        self.run, self.cancel = self.victim.run, self.victim.cancel


@however_cancelled
@pytest.mark.parametrize("first", ["put", "cancel"])
@pytest.mark.parametrize("batch", [False, True], ids=["get", "get_batch"])
async def test_a_put_and_the_cancellation_of_the_getter_in_one_turn(
    how: str, first: str, batch: bool
) -> None:
    """The item is with the getter or in the queue (anyio's streams lose it: ground 31)."""
    queue = ka.Queue[int](1)
    getter = Getter(how, queue, batch)
    async with anyio.create_task_group() as group:
        group.start_soon(getter.run)
        await settle()
        if first == "put":
            await queue.put(7)
            getter.cancel()
        else:
            getter.cancel()
            await queue.put(7)
    assert getter.got + queue.drain() == [7]


@however_cancelled
@pytest.mark.parametrize("first", ["get", "cancel"])
async def test_a_get_and_the_cancellation_of_the_putter_in_one_turn(
    how: str, first: str
) -> None:
    """A put that says it was cancelled has not put (anyio's streams deliver: ground 31)."""
    queue = ka.Queue[int](1)
    queue.put_nowait(1)
    putter = Putter(how, queue, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(putter.run)
        await settle()
        if first == "get":
            assert queue.get_nowait() == 1
            putter.cancel()
        else:
            putter.cancel()
            assert queue.get_nowait() == 1
    assert queue.drain() == putter.put
    assert putter.put == [] or how == "scope"


@however_cancelled
async def test_a_woken_getter_that_is_cancelled_passes_the_wake_on(how: str) -> None:
    """The next one in line gets the item; nobody sleeps beside it."""
    queue = ka.Queue[int](5)
    getters = [Getter(how, queue) for _ in range(4)]
    async with anyio.create_task_group() as group:
        for getter in getters:
            group.start_soon(getter.run)
            await settle()
        queue.put_nowait(1)
        queue.put_nowait(2)
        getters[0].cancel()
        getters[1].cancel()
        await settle()
        assert sum(len(getter.got) for getter in getters) == 2
        assert queue.statistics().getters <= 2
        queue.close()
    assert sorted(all_got(getters)) == [1, 2]


@however_cancelled
async def test_a_woken_putter_that_is_cancelled_passes_the_wake_on(how: str) -> None:
    """The next one in line puts; no place stays empty, and none is filled twice."""
    queue = ka.Queue[int](2)
    queue.put_nowait(-1)
    queue.put_nowait(-2)
    putters = [Putter(how, queue, number) for number in range(4)]
    async with anyio.create_task_group() as group:
        for putter in putters:
            group.start_soon(putter.run)
            await settle()
        assert queue.drain() == [-1, -2]
        putters[0].cancel()
        putters[1].cancel()
        await settle()
        assert queue.qsize() == 2
        taken = queue.drain()
        await settle()
        taken += queue.drain()
    assert sorted(taken) == sorted(number for putter in putters for number in putter.put)
    assert {2, 3} <= set(taken)


@however_cancelled
async def test_a_cancelled_waiter_in_the_middle_of_the_line(how: str) -> None:
    """Those behind a cancelled waiter move up, and keep their order."""
    queue = ka.Queue[int](5)
    getters = [Getter(how, queue) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for getter in getters:
            group.start_soon(getter.run)
            await settle()
        getters[1].cancel()
        await settle()
        assert queue.statistics().getters == 2
        for number in (1, 2):
            queue.put_nowait(number)
            await settle()
    assert [getter.got for getter in getters] == [[1], [], [2]]


@however_cancelled
async def test_an_item_given_up_after_the_close_goes_to_who_still_waits(how: str) -> None:
    """Consumers are told of the end only when no item can come to them any more."""
    queue = ka.Queue[int](5)
    getters = [Getter(how, queue) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for getter in getters:
            group.start_soon(getter.run)
            await settle()
        queue.put_nowait(7)
        getters[0].cancel()
        queue.close()
        with pytest.raises(ka.QueueEmpty):  # it is someone's: this is not the end yet
            queue.get_nowait()
    assert all_got(getters) == [7]
    assert sum(getter.closed for getter in getters) >= 1


@however_cancelled
async def test_an_item_given_up_after_the_discard_is_counted(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An owner that is cancelled after the discard leaves nothing behind in silence."""
    queue = ka.Queue[int](5)
    getter = Getter(how, queue)
    async with anyio.create_task_group() as group:
        group.start_soon(getter.run)
        await settle()
        async with queue:
            queue.put_nowait(7)
            getter.cancel()
    abandoned = queue.statistics().abandoned
    assert len(getter.got) + abandoned == 1
    assert len(caplog.records) == abandoned
    assert queue.qsize() == 0


@however_cancelled
async def test_a_close_and_a_cancellation_in_one_turn(how: str) -> None:
    """Those who wait end, one way or the other; what was not put is not there."""
    empty, full = ka.Queue[int](1), ka.Queue[int](1)
    full.put_nowait(1)
    getter, putter = Getter(how, empty), Putter(how, full, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(getter.run)
        group.start_soon(putter.run)
        await settle()
        empty.close()
        full.close()
        getter.cancel()
        putter.cancel()
    assert getter.got == putter.put == []
    assert full.drain() == [1]


@however_cancelled
async def test_a_cancelled_join_leaves_the_others_waiting(how: str) -> None:
    """join() that is cancelled changes nothing for the queue or for other joiners."""
    queue = ka.Queue[int](1)
    await queue.put(1)
    victim = Victim(how, queue.join)
    other = Victim(how, queue.join)
    async with anyio.create_task_group() as group:
        group.start_soon(victim.run)
        group.start_soon(other.run)
        await settle()
        victim.cancel()
        await settle()
        assert victim.ended
        assert not other.ended
        await queue.get()
        queue.task_done()


async def test_a_consumer_that_cancels_itself_keeps_what_it_took() -> None:
    """A get that has its item at once returns it, though its scope is cancelled."""
    queue = ka.Queue[int](3)
    for number in range(3):
        queue.put_nowait(number)
    taken: list[int] = []
    with anyio.CancelScope() as scope:
        async for number in queue:
            taken.append(number)
            scope.cancel()
    assert scope.cancelled_caught
    assert taken + queue.drain() == [0, 1, 2]


# --- asyncio's own ways ------------------------------------------------------------------


@asyncio_only
async def test_a_get_cancelled_natively_at_every_turn() -> None:
    """Task.cancel(), at whatever turn: the item is out or still there."""
    queue = ka.Queue[int](1)

    async def get() -> None:
        taken.append(await queue.get())

    async def get_while_another_puts() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(get)
            await checkpoint()
            await checkpoint()
            await queue.put(7)
            put.append(7)

    put: list[int] = []
    taken: list[int] = []
    async for _ in turns_until_done(get_while_another_puts):
        assert taken + queue.drain() == put
        put, taken = [], []
    assert taken == put == [7]


@asyncio_only
@pytest.mark.parametrize("turns", range(6))
async def test_a_put_cancelled_natively_at_every_turn(turns: int) -> None:
    """A put that raised CancelledError has not put, whatever happened in that turn."""
    queue = ka.Queue[int](1)
    await queue.put(1)

    async def free_a_place() -> None:
        for _ in range(2):
            await asyncio.sleep(0)
        assert queue.get_nowait() == 1

    freeing = asyncio.ensure_future(free_a_place())
    try:
        await by_task_cancel(queue.put(2), turns)
    except asyncio.CancelledError:
        await freeing
        assert queue.drain() == []
    else:
        await freeing
        assert queue.drain() == [2]


only_virtual = pytest.mark.parametrize(
    "anyio_backend", chosen(("asyncio+virtual",)), indirect=True
)


@only_virtual
async def test_wait_for_runs_out() -> None:
    """asyncio.wait_for(queue.get(), …) that times out has taken nothing."""
    queue = ka.Queue[int](1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(queue.get(), 1)
    assert queue.statistics().getters == 0
    await queue.put(1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(queue.put(2), 1)
    assert await asyncio.wait_for(queue.get(), 1) == 1
    assert queue.drain() == []


@only_virtual
@pytest.mark.parametrize("moment", [0.999, 1.0, 1.001])
@pytest.mark.parametrize("first", ["put", "wait"])
async def test_wait_for_runs_out_as_the_item_comes(moment: float, first: str) -> None:
    """In the moment of the timeout the item is returned, or left in the queue."""
    queue = ka.Queue[int](1)
    loop = asyncio.get_running_loop()
    when = loop.time() + moment
    taken: list[int] = []

    async def wait() -> None:
        with suppress(asyncio.TimeoutError):
            taken.append(await asyncio.wait_for(queue.get(), 1))

    if first == "put":
        loop.call_at(when, queue.put_nowait, 7)
        await wait()
    else:
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        loop.call_at(when, queue.put_nowait, 7)
        await waiting
    await asyncio.sleep(1)
    assert taken + queue.drain() == [7]


@only_virtual
@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
@pytest.mark.parametrize("moment", [0.999, 1.0, 1.001])
async def test_asyncio_timeout_as_the_item_comes(moment: float) -> None:
    """The same under asyncio.timeout, around an iteration."""
    queue = ka.Queue[int](1)
    loop = asyncio.get_running_loop()
    taken: list[int] = []
    loop.call_at(loop.time() + moment, queue.put_nowait, 7)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            async for item in queue:
                taken.append(item)
    await asyncio.sleep(1)
    assert taken + queue.drain() == [7]


@only_virtual
@pytest.mark.parametrize("after", [0, 1, 4.999, 5, 5.001])
async def test_a_lingering_batch_cancelled_natively(after: float) -> None:
    """wait_for around get_batch with a linger: all in the batch, or all in the queue."""
    queue = ka.Queue[int](10)
    for number in range(3):
        await queue.put(number)
    batch: list[int] = []
    with suppress(asyncio.TimeoutError):
        batch = await asyncio.wait_for(queue.get_batch(10, linger=5), after)
    assert (batch, queue.drain()) in (([0, 1, 2], []), ([], [0, 1, 2]))
    assert queue.statistics().getters == 0
    await queue.put(7)
    assert await queue.get() == 7


@only_virtual
async def test_a_batch_cancelled_natively_at_every_turn() -> None:
    """Task.cancel() at every turn of a get_batch that lingers until its batch is full."""
    queue = ka.Queue[int](10)
    taken: list[int] = []

    async def work() -> None:
        async with ka.TaskGroup() as group:

            async def put() -> None:
                for number in range(3):
                    await checkpoint()
                    await checkpoint()
                    await queue.put(number)
                    put_items.append(number)

            group.start_soon(put)
            taken.extend(await queue.get_batch(3, linger=5))

    put_items: list[int] = []
    async for _ in turns_until_done(work):
        assert taken + queue.drain() == put_items
        put_items, taken = [], []
    assert taken == put_items == [0, 1, 2]
