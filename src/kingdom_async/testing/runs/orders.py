"""The order in which tasks take their steps, decided by a seed.

Rule: an order depends on nothing but its seed and what the program does: not on the addresses
of objects, nor on the clock. Tasks are told apart by when they were first seen.

Steps are only permuted among themselves; timers, sockets and callbacks stay where they are. A
step that is held back lets others pass, and where there are none, whole turns of the loop. None
is held back for ever: a task that waits in a loop for another one would wait in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from .steps import Pick, Watcher

#: A step, by its number, and how many chances to run it lets pass.
Delay = tuple[int, int]
#: What decides an order: a number, or every step that is held back.
Seed = int | tuple[Delay, ...]

#: A step is passed over so many times at most.
_MOST = 500


class Due(Protocol):
    """A step that could be taken now."""

    @property
    def task(self) -> Any: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    """A step that is due."""

    #: Which task it is of, by the order in which they were first seen.
    serial: int
    #: At which choice it was first seen.
    since: int
    #: It is not taken before that choice.
    until: int


class Order:
    """The loop's own order: the first that came, and none is held back. The base of all."""

    def __init__(self) -> None:
        #: False before the body begins, and after it has ended: then nothing is decided.
        self.is_on = False
        #: How many were made.
        self.choices: int = 0
        self._seen = 0  # tasks; more than are known, since those that are gone are forgotten
        self._serials: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._waiting: dict[int, _Waiting] = {}

    def pick(self, due: Sequence[Due]) -> int | None:
        """The place of the step to be taken; None if it is to be none in this turn."""
        self.choices += 1
        now, waiting = self.choices, self._waiting
        seen = [waiting.get(id(step.task)) for step in due]
        if None in seen:
            self._meet([step.task for step in due if id(step.task) not in waiting], len(due))
            seen = [waiting.get(id(step.task)) for step in due]
        ripe = [(one, place) for place, one in enumerate(seen) if one and one.until <= now]
        if not ripe:
            return None
        chosen, place = ripe[0] if len(ripe) == 1 or not self.is_on else self._one_of(ripe)
        del waiting[id(due[place].task)]
        if self.is_on:
            self._took(chosen)
        return place

    def _meet(self, tasks: list[Any], others: int) -> None:
        """Those are due since the last choice."""
        met: list[tuple[int, Any]] = []
        for task in tasks:  # made one after the other, so their order is the program's
            serial = self._serials.get(task)
            if serial is None:
                self._serials[task] = serial = self._seen
                self._seen += 1
                self._new_task(serial)
            met.append((serial, task))
        if len(met) > 1:  # a cancellation reaches tasks in the order of their addresses
            met.sort(key=_first)
        for serial, task in met:
            chances = min(self._hold(serial, others), _MOST) if self.is_on else 0
            self._waiting[id(task)] = _Waiting(serial, self.choices, self.choices + chances)

    def _one_of(self, ripe: list[tuple[_Waiting, int]]) -> tuple[_Waiting, int]:
        if self.choices > _MOST:
            eldest = min(ripe, key=_age)
            if self.choices - eldest[0].since > _MOST:
                return eldest
        return self._prefer(ripe)

    # What orders differ in:

    def _new_task(self, serial: int) -> None:
        """A task takes its first step soon."""

    def _hold(self, serial: int, others: int) -> int:
        """How many choices a step is held back for; *others* of them are about a turn."""
        return 0

    def _prefer(self, ripe: list[tuple[_Waiting, int]]) -> tuple[_Waiting, int]:
        """One of several."""
        return ripe[0]

    def _took(self, chosen: _Waiting) -> None:
        """That is the one."""


def _first(met: tuple[int, Any]) -> int:
    return met[0]


def _age(one: tuple[_Waiting, int]) -> tuple[int, int]:
    return one[0].since, one[0].serial


def _serial(one: tuple[_Waiting, int]) -> int:
    return one[0].serial


class _Seeded(Order):
    """An order of which a seed decides."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)


class _Shuffled(_Seeded):
    """Any one of those that are due."""

    def _prefer(self, ripe: list[tuple[_Waiting, int]]) -> tuple[_Waiting, int]:
        ripe.sort(key=_serial)
        return ripe[int(self._random.random() * len(ripe))]


class _HeldBack(_Shuffled):
    """Shuffled, and steps are held back now and then, for some turns."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._share = self._random.choice((0.1, 0.3, 0.5))
        self._turns = self._random.choice((1, 3, 10))

    def _hold(self, serial: int, others: int) -> int:
        if self._random.random() >= self._share:
            return 0
        return others * self._random.randint(1, self._turns)


class _Laggards(_Seeded):
    """In the order they came, but some tasks lag behind in all that they do."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._turns = self._random.choice((1, 2, 5, 20))
        self._slow: set[int] = set()

    def _new_task(self, serial: int) -> None:
        if self._random.random() < 0.4:
            self._slow.add(serial)

    def _hold(self, serial: int, others: int) -> int:
        return others * self._random.randint(1, self._turns) if serial in self._slow else 0

    def _prefer(self, ripe: list[tuple[_Waiting, int]]) -> tuple[_Waiting, int]:
        return min(ripe, key=_age)


class _Ranked(_Seeded):
    """Each task has a rank, and only the first of those that can run does, until it falls back.

    (Burckhardt and others, "A randomized scheduler with probabilistic guarantees of finding
    bugs", ASPLOS 2010.)
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._ranks: dict[int, float] = {}
        self._last = 1.0
        self._falls = self._random.choice((0.0, 0.05, 0.2))

    def _new_task(self, serial: int) -> None:
        self._ranks[serial] = self._random.random()

    def _prefer(self, ripe: list[tuple[_Waiting, int]]) -> tuple[_Waiting, int]:
        return min(ripe, key=lambda one: self._ranks[one[0].serial])

    def _took(self, chosen: _Waiting) -> None:
        if self._random.random() < self._falls:
            self._last += 1
            self._ranks[chosen.serial] = self._last


class _Delayed(Order):
    """In the order they came, but for the steps that are named."""

    def __init__(self, delays: tuple[Delay, ...]) -> None:
        super().__init__()
        self._delays: dict[int, int] = {}
        for step, chances in delays:
            self._delays[step] = self._delays.get(step, 0) + chances
        self._steps = 0

    def _prefer(self, ripe: list[tuple[_Waiting, int]]) -> tuple[_Waiting, int]:
        return min(ripe, key=_age)

    def _hold(self, serial: int, others: int) -> int:
        self._steps += 1
        return self._delays.get(self._steps, 0)


_KINDS: tuple[Callable[[int], Order], ...] = (_Shuffled, _HeldBack, _Laggards, _Ranked)


def order_of(seed: Seed) -> Order:
    """The order that *seed* decides; with 0 it is the loop's own."""
    if isinstance(seed, tuple):
        return _Delayed(seed)
    if seed == 0:
        return Order()
    return _KINDS[seed % len(_KINDS)](seed)


class Scheduled(Watcher):
    """Has the tasks of a run take their steps in that order; asyncio asks it by itself."""

    def __init__(self, order: Order) -> None:
        self.pick: Pick | None = order.pick
