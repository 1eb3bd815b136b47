"""Many items through one queue: its size bounds the memory, and no item is lost or doubled."""

from __future__ import annotations

import kingdom_async as ka

from .memory import traced

PRODUCERS = CONSUMERS = 4
PAYLOAD = 1000  # bytes an item
_OTHER = 256 * 1024  # bytes for tasks, frames and the like, whatever the number of items


class Item:
    """Big enough that a million of them are a gigabyte."""

    __slots__ = ("number", "payload", "producer")

    def __init__(self, producer: int, number: int) -> None:
        self.producer = producer
        self.number = number
        self.payload = bytes(PAYLOAD)


class Consumed:
    """What one consumer took: for each producer how many, up to which, and their sum."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self._last = [-1] * PRODUCERS

    def take(self, item: Item) -> None:
        assert item.number > self._last[item.producer], "a producer's items changed their order"
        self._last[item.producer] = item.number
        self.count += 1
        self.sum += item.number


async def items(size: int, queue: ka.Queue[Item], batch: int | None = None) -> str:
    """*size* items from four producers to four consumers, one by one or in batches."""
    each = size // PRODUCERS
    consumed = [Consumed() for _ in range(CONSUMERS)]

    async def produce(producer: int) -> None:
        for number in range(each):
            await queue.put(Item(producer, number))

    async def consume(mine: Consumed) -> None:
        if batch is None:
            async for item in queue:
                mine.take(item)
            return
        async for some in queue.batches(batch):
            for item in some:
                mine.take(item)

    async def produce_all() -> None:
        with queue.producing():
            async with ka.TaskGroup() as producers:
                for producer in range(PRODUCERS):
                    producers.start_soon(produce, producer)

    with traced() as memory:
        async with ka.TaskGroup() as group:
            group.start_soon(produce_all)
            for mine in consumed:
                group.start_soon(consume, mine)
    size = each * PRODUCERS
    count = sum(mine.count for mine in consumed)
    assert count >= size, f"{size - count} items were lost"
    assert count == size, f"{count - size} items came twice"
    total = sum(mine.sum for mine in consumed)
    assert total == PRODUCERS * each * (each - 1) // 2, "other items than were put"
    # In the queue, in the hands of producers, and in the hands of consumers.
    most = queue.maxsize + PRODUCERS + CONSUMERS * 2 * (batch or 1)
    bound = most * (PAYLOAD + 200) + _OTHER
    assert memory.peak <= bound, f"a peak of {memory.peak} bytes, above {bound:.0f}"
    assert memory.left <= _OTHER, f"{memory.left} bytes are left"
    return (
        f"{size} items of {PAYLOAD} bytes, all taken once and in order; peak "
        f"{memory.peak / 1024:.0f} KiB, bound {bound / 1024:.0f} KiB (maxsize {queue.maxsize})"
    )
