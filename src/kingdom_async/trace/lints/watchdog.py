"""The watchdog: who blocks the loop, told while it is blocked.

Rule: one watches each loop for all recordings and the log; one that a recording brings along
is quiet, and there only where no other one is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..here import current_loop
from ..monitor import monitor
from .pings import OVERSLEPT, Watchdog

if TYPE_CHECKING:
    from ..loops import Loop
    from ..recording import Recording


@contextmanager
def watchdog(seconds: float, *, recording: Recording | None = None) -> Generator[None]:
    """Report what blocks the running loop, while it does.

    A thread asks the loop to answer, every quarter of *seconds*. If it has not after
    *seconds*, a warning of the logger ``kingdom_async.trace`` names the task, the line and the
    stack; a second one comes when the loop is free again. Every recording that is on gets a
    lint of kind ``blocked-loop``, and how long each answer took in its ``lags``. Where a call
    of C code keeps even threads from running, the report comes when that call is over.

    Args:
        seconds: How long the loop may be blocked before it is reported.
        recording: The one that gets lints and lags; default, every one that is on.

    Raises:
        ValueError: If *seconds* is no number more than 0.
        RuntimeError: If no event loop runs in this thread.

    Example:
        >>> with trace.watchdog(0.5):
        ...     await work()
    """
    dog = Watchdog(_checked(seconds), _running_loop(), recording)
    end = watch(dog)
    try:
        yield
    finally:
        end()


#: At work now, with no recording of their own.
_dogs: list[Watchdog] = []


def watch(dog: Watchdog) -> Callable[[], None]:
    """Put it to work; returns what ends that, from any thread."""
    end = monitor.add(dog, dog.loop)
    if dog.is_for_all:
        _dogs.append(dog)

    def leave() -> None:  # may be called again
        end()
        dog.leave()
        with suppress(ValueError):
            _dogs.remove(dog)

    return leave


def watch_for(recording: Recording, loop: Loop) -> Callable[[], None]:
    """Watch a loop for a recording alone, and log nothing; unless it is watched already."""
    if any(dog.watches(loop) for dog in tuple(_dogs)):
        return lambda: None
    return watch(Watchdog(OVERSLEPT, loop, recording, is_quiet=True))


#: The threads in which the environment's watchdog is on.
_on: set[int] = set()


@contextmanager
def of_program(seconds: float) -> Generator[None]:
    """The watchdog that the environment asks for; one, where run() and environment() do."""
    thread = get_ident()
    if thread in _on:
        yield
        return
    _on.add(thread)
    try:
        with watchdog(seconds):
            yield
    finally:
        _on.discard(thread)


def _after_fork() -> None:
    """None of them is at work here, though the thread has its parent's number."""
    _dogs.clear()
    _on.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _checked(seconds: Any) -> float:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and 0 < seconds < inf:
        return float(seconds)
    raise ValueError(
        "watchdog() takes the seconds for which the loop may be blocked, more than 0, not "
        f"{seconds!r:.50}; write watchdog(0.5)"
    )


def _running_loop() -> Loop:
    try:
        return current_loop()
    except RuntimeError:
        raise RuntimeError(
            "watchdog() where no event loop runs; enter it inside an async function, or set "
            "KINGDOM_ASYNC_WATCHDOG=0.5 for run()"
        ) from None
