"""The books of a queue: what went in, what came out, and whether that balances.

Rule: an entry is made in the very step in which the queue's call has returned, so the entries
stand in the order in which the items went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import kingdom_async as ka

    #: Whose item it is, and which of theirs.
    Item = tuple[int, int]


class Books:
    """For one queue."""

    def __init__(self, queue: ka.Queue[Item]) -> None:
        self.queue = queue
        self.accepted: list[Item] = []
        self.taken: list[Item] = []
        #: What a producer or a ``close()`` gave to the consumers.
        self.errors: list[Exception] = []
        self.ends_seen: list[Exception] = []

    def check_size(self) -> None:
        assert self.queue.qsize() <= self.queue.maxsize, f"overfull: {self.queue!r}"

    def check(self) -> None:
        """Call it when no task is left."""
        statistics = self.queue.statistics()
        assert (statistics.putters, statistics.getters) == (0, 0), f"waiters: {statistics}"
        left = self.queue.drain()
        assert len(left) == statistics.size, f"drain() gave {len(left)} of {statistics.size}"
        out = self.taken + left
        assert len(set(out)) == len(out), f"doubled: {out}"
        self._check_order(out)
        self._check_counts(statistics, len(left))
        for error in self.ends_seen:
            assert error is self.queue.error, f"{error!r} came for {self.queue.error!r}"
            assert error in self.errors, f"nobody gave {error!r}"

    def _check_order(self, out: list[Item]) -> None:
        drops = self.queue.overflow.startswith("drop")
        if drops:
            assert is_subsequence(out, self.accepted), f"{out} of {self.accepted}"
        else:
            assert out == self.accepted[: len(out)], f"{out} of {self.accepted}"
        for who in {who for who, _ in out}:  # it follows from that; it is what is promised
            numbers = [number for owner, number in out if owner == who]
            assert numbers == sorted(numbers), f"producer {who}: {numbers}"

    def _check_counts(self, statistics: ka.QueueStatistics, left: int) -> None:
        gone = statistics.dropped + statistics.abandoned
        assert len(self.accepted) == len(self.taken) + left + gone, (
            f"{len(self.accepted)} in, {len(self.taken)} out, {left} left, {statistics}"
        )
        assert statistics.taken == len(self.taken), f"{len(self.taken)} taken, {statistics}"
        refused = statistics.dropped if self.queue.overflow == "drop_new" else 0
        assert statistics.put == len(self.accepted) - refused, f"put: {statistics}"
        assert statistics.peak <= self.queue.maxsize, f"peak: {statistics}"
        if not self.queue.overflow.startswith("drop"):
            assert statistics.dropped == 0, f"dropped: {statistics}"


def is_subsequence(part: Iterable[object], whole: Iterable[object]) -> bool:
    rest: Iterator[object] = iter(whole)
    return all(any(one == other for other in rest) for one in part)
