"""What is compared with what: the vocabulary of the modules in `benchmarks.rows`.

Rule: a side only does the work and returns what came out of it. When it runs, on which
loop, how often, and whether the outcome is right, is decided elsewhere and for all alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Run: TypeAlias = Callable[[int], Awaitable[object]]

#: Which loop a side runs on, by the backend that is measured. Missing: it has no such side.
EVERY = {name: name for name in ("asyncio", "asyncio+uvloop", "trio")}
ASYNCIO = {"asyncio": "asyncio", "asyncio+uvloop": "asyncio+uvloop"}
ASYNCIO_ALWAYS = {**ASYNCIO, "trio": "asyncio"}  # against trio its plain asyncio self
TRIO = {"trio": "trio"}

#: At most so much of the other side: everywhere, or by backend.
Goal: TypeAlias = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Side:
    """One way to do the operation."""

    name: str
    #: Does it so many times; or, for a comparison that says so, a program's source.
    run: Run | str
    #: ours ÷ this; None where it stands here for information.
    goal: Goal = None
    loops: Mapping[str, str] = field(default_factory=lambda: EVERY)
    #: A module that may be missing, and the side with it.
    needs: str | None = None

    def goal_on(self, backend: str) -> float | None:
        return self.goal.get(backend) if isinstance(self.goal, Mapping) else self.goal


@dataclass(frozen=True)
class Comparison:
    """An operation of ours, and those that it is measured against."""

    operation: str
    ours: Side
    others: tuple[Side, ...]
    #: How often a round does it.
    times: int
    #: What a side has to return for so many times.
    outcome: Callable[[int], object]
    unit: Literal["µs", "ms", "MiB"] = "µs"
    #: "excess" for ours minus theirs, where a ratio would say nothing.
    relation: Literal["ratio", "excess"] = "ratio"
    how: Literal["on a loop", "as a program", "traced memory"] = "on a loop"
    #: So many times the rounds asked for, where a single one says little.
    more_rounds: int = 1
    #: True where a round is long and comes to the same each time: it is done once.
    is_exact: bool = False


@dataclass(frozen=True)
class Row:
    """What came out, of ours against one other side on one backend."""

    operation: str
    against: str
    backend: str
    unit: str
    relation: str
    #: Medians over the rounds.
    ours: float
    theirs: float
    #: The median of what each round gave, its quartiles, and best round against best round.
    value: float
    low: float
    high: float
    best: float
    goal: float | None

    @property
    def reached(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal
