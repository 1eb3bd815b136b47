"""What a task waits for, told by the functions on its await stack.

Rule: told by code objects of the libraries that are loaded. A function that a library does not
have is left out. The limiter or queue itself is looked at only when somebody is told of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from inspect import unwrap
from types import CodeType, FrameType
from typing import Any

from anyio import CapacityLimiter

from ..._buffer import Buffer
from ..._limits import Limiter
from ..._thread_calls import ThreadCall
from ..stacks import variable

#: Waits that end only when somebody gives something back, and what that is.
_SCARCE = {
    "a lock": (
        "anyio._backends._asyncio:Lock.acquire",
        "anyio._backends._trio:Lock.acquire",
        "asyncio:Lock.acquire",
        "trio:Lock.acquire",
        "trio:StrictFIFOLock.acquire",
    ),
    "a condition": (
        "anyio:Condition.wait",
        "asyncio:Condition.wait",
        "trio:Condition.wait",
    ),
    "a semaphore": (
        "anyio._backends._asyncio:Semaphore.acquire",
        "anyio._backends._trio:Semaphore.acquire",
        "asyncio:Semaphore.acquire",
        "trio:Semaphore.acquire",
    ),
    "a token of a limiter": (
        "anyio._backends._asyncio:CapacityLimiter.acquire_on_behalf_of",
        "anyio._backends._trio:CapacityLimiter.acquire_on_behalf_of",
        "trio:CapacityLimiter.acquire_on_behalf_of",
    ),
    "room in a queue": (
        "kingdom_async._buffer:Buffer._put_with_care",
        "asyncio:Queue.put",
        "anyio.streams.memory:MemoryObjectSendStream.send",
        "trio:MemorySendChannel.send",
    ),
}

#: Waits for nothing but the next turn.
_CHECKPOINTS = (
    "asyncio.tasks:__sleep0",
    "trio.lowlevel:checkpoint",
    "trio.lowlevel:cancel_shielded_checkpoint",
)


class Waits:
    """By the ``id`` of a function's code: what is waited for there."""

    def __init__(self) -> None:
        scarce = [
            (code, what)
            for what, names in _SCARCE.items()
            for code in map(_code, names)
            if code is not None
        ]
        checkpoints = [code for code in map(_code, _CHECKPOINTS) if code is not None]
        # Hashing a code object takes long: its id stands for it, so it is kept alive.
        self._kept = [*scarce, *checkpoints]
        self.scarce: dict[int, str] = {id(code): what for code, what in scarce}
        self.checkpoints: set[int] = {id(code) for code in checkpoints}


def in_words(
    what: str, waiting: Iterable[FrameType], name_of: Callable[[int], str | None]
) -> str:
    """*what* is waited for, with its name where it has one, and who holds the tokens.

    Args:
        what: One of those above.
        waiting: The frames of who waits, the outermost first.
        name_of: The name of a task, by its ``id``.
    """
    holders: list[str] = []
    for frame in waiting:
        owner: Any = variable(frame, "self")
        if _is_a(Limiter, owner):
            what = what.replace("a limiter", f"limiter {owner.name!r}")
        elif _is_a(Buffer, owner) and owner.name is not None:
            what = what.replace("a queue", f"queue {owner.name!r}")
        elif _is_a(ThreadCall, owner):
            what = what.replace("a limiter", owner.limiter_name)
        elif _is_a(CapacityLimiter, owner):
            tasks = [
                one.waiter if isinstance(one, ThreadCall) else id(one)
                for one in owner.statistics().borrowers
            ]
            names = (name_of(task) for task in tasks if task is not None)
            holders = [name for name in names if name is not None]
    if not holders:
        return what
    more = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
    return f"{what}, held by task {holders[0]!r}{more}"


def _is_a(kind: type[object], owner: object) -> bool:
    """As `isinstance`, which asks the object too: that may be code of the program's."""
    return issubclass(type(owner), kind)


@lru_cache(maxsize=4)
def _waits_of(_: tuple[bool, ...]) -> Waits:
    return Waits()


def known_waits() -> Waits:
    """Those of the libraries that are loaded by now."""
    return _waits_of(tuple(name in sys.modules for name in _LIBRARIES))


def _code(name: str) -> CodeType | None:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return getattr(unwrap(found), "__code__", None) if callable(found) else None


_LIBRARIES = ("anyio._backends._asyncio", "anyio._backends._trio", "trio", "asyncio")
