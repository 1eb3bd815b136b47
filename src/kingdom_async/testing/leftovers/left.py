"""What a block has left behind, and what to do about it.

Rule: plain data and its sentences; who finds it is `leaks`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "task",
    "thread",
    "process",
    "pool",
    "stream",
    "queue",
    "token",
    "coroutine",
    "generator",
]

_ADVICE: dict[str, str] = {
    "task": "start it in a task group that is left inside the block",
    "thread": "join it, or let it come to its end, inside the block",
    "process": "use it as 'async with', or kill it in a 'finally'",
    "pool": "shut it down, or use it as 'with … as pool'",
    "stream": "close it, or use it as 'async with'",
    "queue": "take what is in it, or use it as 'async with queue'",
    "token": "give it back in a 'finally', or borrow it with 'async with limiter'",
    "coroutine": "await it, or close it",
    "generator": "use 'async with aclosing(…)' around the loop",
}


@dataclass(frozen=True)
class Leak:
    """Something that a block has begun and left behind."""

    kind: Kind
    #: What it calls itself.
    name: str
    #: The line it came from, or where it is now.
    place: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}, {self.place}"


class LeakError(AssertionError):
    """A block has left something behind.

    Attributes:
        leaks: What it was.
    """

    def __init__(self, leaks: Collection[Leak]) -> None:
        self.leaks: tuple[Leak, ...] = tuple(leaks)
        things = "1 thing is" if len(self.leaks) == 1 else f"{len(self.leaks)} things are"
        kinds = dict.fromkeys(leak.kind for leak in self.leaks)
        super().__init__(
            "\n".join(
                [
                    f"no_leaks(): {things} left behind",
                    *(f"  - {leak}" for leak in self.leaks),
                    *(f"{kind}: {_ADVICE[kind]}" for kind in kinds),
                ]
            )
        )
