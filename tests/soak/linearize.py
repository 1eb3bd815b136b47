"""Whether a concurrent history is one that a plain, sequential thing could have had.

Rule: this knows nothing of queues. A history is linearizable if each call can be taken for one
that happened in a single moment between its begin and its end, so that all answers are right.
(Wing and Gong, "Testing and verifying concurrent objects", 1993, with a memo of Lowe's.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

State = TypeVar("State", bound=Hashable)

#: The end of a call that has none.
NEVER = 1 << 60


@dataclass(eq=False)
class Call:
    """One call of one task, as it was seen from outside."""

    task: int
    name: str
    argument: object
    begun: int
    ended: int = NEVER
    answer: object = None
    #: It ended in nothing: it was cancelled, and so must have done nothing.
    is_void: bool = False
    #: It still waited when nothing else could happen any more.
    was_blocked: bool = False

    def overlaps(self, other: Call) -> bool:
        return self.begun < other.ended and other.begun < self.ended

    def __str__(self) -> str:
        answer = "cancelled" if self.is_void else repr(self.answer)
        end = "" if self.ended == NEVER else self.ended
        blocked = " (blocked)" if self.was_blocked else ""
        argument = "" if self.argument is None else repr(self.argument)
        return (
            f"task {self.task} [{self.begun}-{end}] {self.name}({argument}) → {answer}{blocked}"
        )


#: The states that can follow when a call has its answer in this state; none if it cannot. The
#: others are the calls that are under way at that moment.
Step = Callable[[State, Call, Collection[Call]], Iterable[State]]


def linearization(
    calls: Sequence[Call], start: State, step: Step[State], is_end: Callable[[State], bool]
) -> list[Call] | None:
    """An order in which *calls* can have happened, one at a time; None if there is none."""
    effective = [call for call in calls if not call.is_void]
    void = [call for call in calls if call.is_void]
    seen: set[tuple[int, State]] = set()

    def search(done: int, state: State, order: list[Call]) -> list[Call] | None:
        if len(order) == len(effective):
            return order if is_end(state) else None
        if (done, state) in seen:
            return None
        seen.add((done, state))
        left = [(place, call) for place, call in enumerate(effective) if not done >> place & 1]
        first_end = min(call.ended for _, call in left)
        for place, call in left:
            if call.begun > first_end:
                continue  # another one had ended before this began
            others = [other for _, other in left if other is not call and other.overlaps(call)]
            others += [other for other in void if other.overlaps(call)]
            for following in step(state, call, others):
                found = search(done | 1 << place, following, [*order, call])
                if found is not None:
                    return found
        return None

    return search(0, start, [])
