"""What a recording puts into the interpreter, and must take out again."""

from __future__ import annotations

import threading
from asyncio.events import Handle

from kingdom_async import _observe
from kingdom_async.trace.hub import hub
from kingdom_async.trace.raw import asyncio_steps

ORIGINAL = Handle._run

_THREADS = ("kingdom_async.trace", "kingdom_async control", "kingdom_async client")


def left_by_tracing() -> dict[str, object]:
    """What tracing has left behind; nothing, if all is well."""
    left: dict[str, object] = {
        "Handle._run": Handle._run is not ORIGINAL and Handle._run,
        "observer": _observe.observer,
        "recorders": hub.recorders or hub.waiting or hub._at_work,
        "ends": hub._ends or hub._deadlines,
        "steps": asyncio_steps._timed,
        "threads": [each for each in threading.enumerate() if each.name.startswith(_THREADS)],
    }
    return {name: what for name, what in left.items() if what}
