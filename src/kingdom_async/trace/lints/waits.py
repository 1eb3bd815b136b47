"""What a task waits for, told by the functions on its await stack.

Rule: told by code objects of the libraries that are loaded, and by nothing that the program
holds. A function that a library does not have is left out.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from inspect import unwrap
from types import CodeType
from typing import Any

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
