"""From when on something looks wrong, and who is told.

Rule: what is told is told by those who see it; none of them decides who reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..records import Lint


@dataclass(frozen=True)
class Thresholds:
    """From when on something is a lint. All in seconds, but for the last two."""

    #: Holding the loop: in one step; or all its life, for a task.
    long_step: float = 0.1
    never_yielded: float = 0.05
    #: Between the spawning of a task and its first step.
    late_first_run: float = 0.1
    #: Leaving a block after its deadline.
    deadline_overrun: float = 0.1
    #: Alive after a cancellation.
    cancelled_but_alive: float = 1.0
    #: Waiting for a lock, a limiter, or room in a queue.
    stuck: float = 30.0
    #: Live tasks from one line, growing all the time.
    leaking: int = 100
    #: Steps a second that wait for nothing.
    spinning: int = 1000


class Suspect(Protocol):
    """Told of what looks wrong with a task; returns what is kept of it."""

    def __call__(
        self,
        kind: str,
        serial: int | None,
        what: str,
        place: str | None = None,
        amount: float = 0.0,
        where: str | None = None,
    ) -> Lint | None: ...
