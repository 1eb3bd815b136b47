"""Random histories of a queue, compared with a plain model of it.

Each history is seeded; a failing one names its seed, and `REPLAY` runs that one alone
(the same again on asyncio; trio has an order of its own each time).
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka

SEEDS = 300
REPLAY: int | None = None

POLICIES = ("wait", "drop_new", "drop_old", "error")


def seeds() -> list[int]:
    return list(range(SEEDS)) if REPLAY is None else [REPLAY]


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(4):
        await checkpoint()


class Call:
    """A put or a get in a task of its own, and what became of it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.outcome: object = "waits"

    async def run(self, call: Callable[[], object]) -> None:
        with self.scope:
            try:
                self.outcome = await call()  # type: ignore[misc]
            except (ka.QueueClosed, ka.QueueFull) as error:
                self.outcome = type(error)
        if self.scope.cancelled_caught:
            self.outcome = "cancelled"


class Model:
    """What a queue does, when every task has gone on until it waits."""

    def __init__(self, maxsize: float, overflow: str) -> None:
        self.maxsize = maxsize
        self.overflow = overflow
        self.items: deque[int] = deque()
        self.getters: deque[Call] = deque()
        self.putters: deque[tuple[Call, int]] = deque()
        self.expected: dict[Call, object] = {}
        self.closed = False
        self.dropped = 0

    def put(self, call: Call, item: int) -> None:
        self.expected[call] = None
        if self.closed:
            self.expected[call] = ka.QueueClosed
        elif len(self.items) < self.maxsize:
            self.items.append(item)
        elif self.overflow == "drop_new":
            self.dropped += 1
        elif self.overflow == "drop_old":
            self.dropped += 1
            self.items.popleft()
            self.items.append(item)
        elif self.overflow == "error":
            self.expected[call] = ka.QueueFull
        else:
            self.expected[call] = "waits"
            self.putters.append((call, item))
        self.serve()

    def get(self, call: Call) -> None:
        self.getters.append(call)
        self.expected[call] = "waits"
        self.serve()

    def serve(self) -> None:
        while self.getters and self.items:
            self.expected[self.getters.popleft()] = self.items.popleft()
            self.refill()
        while self.closed and self.getters:
            self.expected[self.getters.popleft()] = ka.QueueClosed
        while self.closed and self.putters:
            self.expected[self.putters.popleft()[0]] = ka.QueueClosed

    def refill(self) -> None:
        while self.putters and len(self.items) < self.maxsize:
            call, item = self.putters.popleft()
            self.expected[call] = None
            self.items.append(item)

    def cancel(self, call: Call) -> None:
        if self.expected[call] == "waits":
            self.expected[call] = "cancelled"
            self.getters = deque(each for each in self.getters if each is not call)
            self.putters = deque(each for each in self.putters if each[0] is not call)


async def history(seed: int) -> None:
    """One operation after the other, each until all is quiet again: queue and model agree."""
    dice = random.Random(seed)
    maxsize = dice.choice([1, 2, 3, math.inf])
    overflow = dice.choice(POLICIES)
    queue = ka.Queue[int](maxsize, overflow=overflow)  # type: ignore[arg-type]
    model = Model(maxsize, overflow)
    calls: list[Call] = []

    async with anyio.create_task_group() as group:
        for number in range(40):
            operation = dice.choice(
                ["put", "put", "put", "get", "get", "put_nowait", "get_nowait", "cancel"]
                + (["drain"] if number % 8 == 0 else [])
                + (["close"] if number == 30 else [])
            )
            call = Call()
            if operation == "put":
                calls.append(call)
                group.start_soon(call.run, lambda item=number: queue.put(item))
                model.put(call, number)
            elif operation == "get":
                calls.append(call)
                group.start_soon(call.run, queue.get)
                model.get(call)
            elif operation == "cancel" and calls:
                call = dice.choice(calls)
                call.scope.cancel()
                model.cancel(call)
            elif operation == "put_nowait":
                full = len(model.items) >= maxsize and overflow in ("wait", "error")
                if model.closed or full:
                    with pytest.raises(ka.QueueClosed if model.closed else ka.QueueFull):
                        queue.put_nowait(number)
                else:
                    queue.put_nowait(number)
                    model.put(call, number)
            elif operation == "get_nowait":
                if model.items:
                    assert queue.get_nowait() == model.items.popleft()
                    model.refill()
                else:
                    with pytest.raises(ka.QueueClosed if model.closed else ka.QueueEmpty):
                        queue.get_nowait()
            elif operation == "drain":
                # Those who waited fill the places in any order, if several at once: so
                # drain until none is left.
                drained, expected = queue.drain(), list(model.items)
                assert drained == expected
                model.items.clear()
                model.refill()
                while model.items:
                    await settle()
                    drained += queue.drain()
                    expected += model.items
                    model.items.clear()
                    model.refill()
                assert sorted(drained) == sorted(expected)
            elif operation == "close":
                queue.close()
                model.closed = True
                model.serve()
            await settle()
            for call in calls:
                assert call.outcome == model.expected[call]
            statistics = queue.statistics()
            assert statistics.size == len(model.items)
            assert statistics.putters == len(model.putters)
            assert statistics.getters == len(model.getters)
            assert statistics.dropped == model.dropped
        group.cancel_scope.cancel()
    assert queue.drain() == list(model.items)


async def storm(seed: int) -> None:
    """Many tasks at once, cancelled at random: nothing lost, doubled or out of order."""
    dice = random.Random(seed)
    maxsize = dice.choice([1, 2, 5, math.inf])
    overflow = dice.choice(("wait", "wait", "drop_old", "drop_new"))
    queue = ka.Queue[tuple[int, int]](maxsize, overflow=overflow)  # type: ignore[arg-type]
    put: list[tuple[int, int]] = []
    taken: list[tuple[int, int]] = []
    scopes: list[anyio.CancelScope] = []

    async def pause() -> None:
        for _ in range(dice.choice([0, 0, 0, 1, 2])):
            await checkpoint()

    async def produce(who: int) -> None:
        for number in range(12):
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await pause()
                if dice.random() < 0.3:
                    try:
                        queue.put_nowait((who, number))
                    except ka.QueueFull:
                        continue
                else:
                    await queue.put((who, number))
                put.append((who, number))
            assert queue.qsize() <= maxsize

    async def consume() -> None:
        while True:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await pause()
                choice = dice.random()
                try:
                    if choice < 0.3:
                        taken.append(queue.get_nowait())
                    elif choice < 0.8:
                        taken.append(await queue.get())
                    elif choice < 0.95:
                        taken.extend(await queue.get_batch(dice.choice([1, 2, 4])))
                    else:
                        taken.extend(queue.drain())
                except ka.QueueEmpty:
                    await checkpoint()
                except ka.QueueClosed:
                    return

    async def cancel_some() -> None:
        for _ in range(40):
            for _ in range(dice.choice([0, 0, 1, 2])):
                if scopes:
                    dice.choice(scopes[-6:]).cancel()
            await checkpoint()

    async with anyio.create_task_group() as group:
        for _ in range(dice.choice([1, 2, 3])):
            group.start_soon(consume)
        with queue.producing():
            async with anyio.create_task_group() as producers:
                for who in range(dice.choice([1, 2, 3])):
                    producers.start_soon(produce, who)
                await checkpoint()
                await cancel_some()

    left = queue.drain()
    assert left == []  # the consumers went on to the end
    statistics = queue.statistics()
    assert (statistics.putters, statistics.getters) == (0, 0)
    assert len(taken) == len(set(taken))
    assert set(taken) <= set(put)
    assert len(taken) + statistics.dropped == len(put)
    assert statistics.dropped == 0 or overflow != "wait"
    for who in range(3):
        numbers = [number for owner, number in taken if owner == who]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("part", range(4))
async def test_a_random_history_is_that_of_the_model(part: int) -> None:
    """Every outcome, size, waiter and drop is what the plain model says."""
    for seed in seeds()[part::4]:
        try:
            await history(seed)
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize("part", range(4))
async def test_nothing_is_lost_in_a_storm(part: int) -> None:
    """Under random cancellation every item is taken once or counted, in order."""
    for seed in seeds()[part::4]:
        try:
            await storm(seed)
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
