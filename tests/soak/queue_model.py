"""A queue as a plain, sequential thing: what each call answers, in which state.

Rule: strict but for one allowance, which the docstrings of the queue make. An item that a task
was given leave to take is not there for `get_nowait`, `get_batch` and `drain`, and a place that
one was given leave to fill is not there for `put_nowait`. So each of them may find one item or
place less for each call under way that waits for one, even if that is cancelled then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from .linearize import Call

FULL, EMPTY, CLOSED, DONE = "full", "empty", "closed", "done"

_WAITS_FOR_ITEM = ("get", "get_batch")


class State(NamedTuple):
    """All there is to know."""

    items: tuple[int, ...] = ()
    is_closed: bool = False


class Model:
    """Of a queue of that size and policy."""

    def __init__(self, maxsize: float, overflow: str) -> None:
        self.maxsize = maxsize
        self.overflow = overflow
        self._steps: dict[str, Callable[[State, Call, Collection[Call]], list[State]]] = {
            "put": self._put,
            "put_nowait": self._put,
            "get": self._get,
            "get_nowait": self._get,
            "get_batch": self._take_many,
            "drain": self._take_many,
            "close": self._close,
            "qsize": self._qsize,
        }

    def step(self, state: State, call: Call, others: Collection[Call]) -> list[State]:
        return self._steps[call.name](state, call, others)

    def may_block(self, state: State, call: Call) -> bool:
        """True if *call* rightly still waits, where nothing else can happen any more."""
        if state.is_closed:
            return False
        if call.name in _WAITS_FOR_ITEM:
            return not state.items
        return self.overflow == "wait" and len(state.items) >= self.maxsize

    def _put(self, state: State, call: Call, others: Collection[Call]) -> list[State]:
        items, is_full = state.items, len(state.items) >= self.maxsize
        if state.is_closed or call.answer == CLOSED:
            return [state] if state.is_closed and call.answer == CLOSED else []
        if call.answer == FULL:
            spoken_for = _number_of(("put",), others) if call.name == "put_nowait" else 0
            may_refuse = self.overflow == "error" or call.name == "put_nowait"
            has_room = len(items) + spoken_for < self.maxsize
            return [state] if may_refuse and not has_room else []
        if is_full and self.overflow == "drop_new":
            return [state]
        if is_full and self.overflow == "drop_old":
            items = items[1:]
        elif is_full:
            return []
        return [State((*items, _item(call)), False)]

    def _get(self, state: State, call: Call, others: Collection[Call]) -> list[State]:
        if call.answer == CLOSED:
            return [state] if state.is_closed and not state.items else []
        if call.answer == EMPTY:
            owned = _number_of(_WAITS_FOR_ITEM, others)
            is_end = state.is_closed and not state.items
            return [state] if len(state.items) <= owned and not is_end else []
        if not state.items or state.items[0] != call.answer:
            return []
        return [State(state.items[1:], state.is_closed)]

    def _take_many(self, state: State, call: Call, others: Collection[Call]) -> list[State]:
        if call.answer == CLOSED:
            return self._get(state, call, others)
        taken = cast("tuple[int, ...]", call.answer)
        number = len(taken)
        owned = _number_of(_WAITS_FOR_ITEM, others)
        is_all = len(state.items) - number <= owned
        if call.name == "get_batch":
            is_all = is_all or number == call.argument
            if not 0 < number <= int(str(call.argument)):
                return []
        if state.items[:number] != taken or not is_all:
            return []
        return [State(state.items[number:], state.is_closed)]

    def _close(self, state: State, call: Call, others: Collection[Call]) -> list[State]:
        return [State(state.items, True)]

    def _qsize(self, state: State, call: Call, others: Collection[Call]) -> list[State]:
        return [state] if call.answer == len(state.items) else []


def _number_of(names: tuple[str, ...], calls: Collection[Call]) -> int:
    return sum(call.name in names for call in calls)


def _item(call: Call) -> int:
    assert isinstance(call.argument, int)
    return call.argument
