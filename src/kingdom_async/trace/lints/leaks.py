"""Lines that spawn tasks which do not end: found by counting.

Rule: a line is told of once, and again only after its tasks had become few.
"""

from __future__ import annotations

from collections import defaultdict
from time import sleep
from typing import TYPE_CHECKING, Any

from ..raw.rows import CODE, INSTRUCTION, Life
from ..raw.store import copied

if TYPE_CHECKING:
    from ..raw.recorder import Recorder

#: Seconds between two counts of the live tasks, and how often their number has to grow.
_EVERY, _GROWN = 1.0, 8
#: How many are counted between two pauses.
_BREATH = 1000


class Leaks:
    """Counts the live tasks of one recording by the line that spawned them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._limit = recorder.thresholds.leaking
        #: By line: the last counts, as long as they grew.
        self._counts: dict[tuple[int, int], list[int]] = {}
        self._told: set[tuple[int, int]] = set()
        self._counted = -_EVERY

    def look(self, at: float) -> None:
        """Count them, if it is time to."""
        if at - self._counted >= _EVERY:
            self._counted = at
            self._count()

    def _count(self) -> None:
        counts: dict[tuple[int, int], int] = defaultdict(int)
        samples: dict[tuple[int, int], list[Any]] = {}
        for number, raw in enumerate(copied(self._recorder.store.live.values())):
            if number % _BREATH == _BREATH - 1:
                sleep(0)
            if raw[CODE] is not None:
                key = id(raw[CODE]), raw[INSTRUCTION]  # hashing a code object takes long
                counts[key] += 1
                samples[key] = raw
        before, self._counts = self._counts, {}
        for key, count in counts.items():
            grown = before.get(key, [])
            self._counts[key] = [*grown, count] if grown and count > grown[-1] else [count]
            if count < self._limit:
                self._told.discard(key)
            elif len(self._counts[key]) > _GROWN and key not in self._told:
                self._told.add(key)
                self._tell(Life(*samples[key]).place, self._counts[key])
        self._told &= counts.keys()

    def _tell(self, place: str | None, counts: list[int]) -> None:
        what = (
            f"{counts[-1]} live tasks were spawned at {place}, and there are more at each "
            f"look: {counts[0]} were there {len(counts) - 1} looks ago"
        )
        self._recorder.suspect("leaking", None, what, place)
