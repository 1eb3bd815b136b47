"""How a thread that answers a request gets the interpreter from a busy loop.

Rule: as for the monitor, which says why that takes long; but nobody knows when a request comes
and how often its answer will read and write. So the loop pauses again and again until it is
answered, a tenth of the time, and for a tenth of a second at most.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING

from ..guard import guarded
from ..records import now

if TYPE_CHECKING:
    from ..loops import Loop

#: Seconds: how long a pause is, how often there is one, and for how long.
_PAUSE, _EVERY, _FOR = 0.0001, 0.001, 0.1


def ask_for_turns(loop: Loop) -> Callable[[], None]:
    """Have *loop* pause from time to time; returns what ends that, from any thread."""
    until = now() + _FOR

    @guarded
    def pause() -> None:
        if now() < until:
            sleep(_PAUSE)
            with suppress(RuntimeError):  # the loop ends
                loop.later(_EVERY, pause)

    def end() -> None:
        nonlocal until
        until = 0.0

    with suppress(RuntimeError):  # it has ended
        if not loop.is_idle():
            loop.call(pause)
    return end
