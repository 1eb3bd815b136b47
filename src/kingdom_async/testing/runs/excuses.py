"""Which task may return all the same, though a cancellation was thrown into it.

Rule: what is no swallowing is excused here, each for a reason of its own, and nothing else is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ... import _offload
from ...trace.stacks import frames


def waits_for_outcome(coro: object) -> bool:
    """True in `offload`, which returns what comes late, so that nothing is done unknown."""
    return any(frame.f_globals.get("__name__") == _offload.__name__ for frame in frames(coro))


def only_waits_for_another(task: object, is_its_own: bool) -> bool:
    """True for a task that was not cancelled: one that it waits for was.

    What it does about that is its own affair.

    Args:
        task: The one that runs.
        is_its_own: Whether it looks like its own cancellation. That is asked where no task
            knows how often it was cancelled: before Python 3.11.
    """
    if not asyncio.isfuture(task):
        return False  # trio cancels nobody by the way
    cancelling: Callable[[], int] | None = getattr(task, "cancelling", None)
    return not is_its_own if cancelling is None else cancelling() == 0
