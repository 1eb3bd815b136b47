"""Whether a lock, semaphore, condition or limiter is held.

Rule: it is asked in the loop that used it, and compared with what it was before the run.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from ..._arguments import shown
from ..internals import faults as internals


class Held:
    """What is held of that which a caller of `cancel_everywhere` wants watched."""

    def __init__(self, watch: Collection[object]) -> None:
        self._watch = watch
        self._before = [(one, _state(one)) for one in watch if not _is_source(one)]

    @property
    def is_blocked(self) -> bool:
        """True if something is held that the next run would find held."""
        return any(_state(one) != before for one, before in self._before)

    def left(self) -> list[str]:
        """What is held now and was not before: a sentence each."""
        pairs = [*self._before]
        for source in self._watch:
            if _is_source(source):
                pairs += [(one, _free(one)) for one in _made(source)]
        return [
            f"held after the run: {_ADDRESS.sub('', shown(one))} ({state})"
            if before
            else f"cannot be watched: {shown(one)} does not know how many may have it; make it "
            "with max_value, or asyncio's as a BoundedSemaphore"
            for one, before in pairs
            if (state := _state(one)) != before
        ]


def refuse_unwatchable(watch: object) -> None:
    """Raise for what is no collection of locks and such."""
    if not isinstance(watch, Collection) or isinstance(watch, (str, bytes)):
        raise TypeError(f"watch takes a list, not {shown(watch)}; write watch=[lock]")
    things: list[object] = [*watch]  # pyright: ignore[reportUnknownArgumentType]
    for one in things:
        if not _is_source(one):
            _state(one)


def _is_source(one: object) -> bool:
    """True for a function that says what to look at once the body has made it."""
    return callable(one) and not hasattr(one, "locked") and not _is_limiter(one)


def _made(source: Any) -> list[object]:
    found = source()
    if found is None:
        return []
    if isinstance(found, (list, tuple, set)):
        return [*found]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return [found]


def _state(one: Any) -> str:
    """What somebody may hold of it; raises for what cannot be held."""
    value = internals.semaphore_value(one)
    if value is not None:
        return f"value {value}"
    if _is_limiter(one):
        return f"borrowed tokens: {one.borrowed_tokens}"
    if callable(locked := getattr(one, "locked", None)):
        return "locked" if locked() else "free"
    raise TypeError(
        "watch takes locks, semaphores, conditions and limiters, or functions that return "
        f"them, not {shown(one)}"
    )


def _free(one: Any) -> str:
    """The state of what nobody holds; empty where that is not known."""
    if internals.semaphore_value(one) is not None:
        most = internals.semaphore_most(one)
        return "" if most is None else f"value {most}"
    return _NONE_BORROWED if _is_limiter(one) else "free"


def _is_limiter(one: object) -> bool:
    return hasattr(type(one), "borrowed_tokens")


#: It differs from run to run, and says nothing to a reader.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NONE_BORROWED = "borrowed tokens: 0"
