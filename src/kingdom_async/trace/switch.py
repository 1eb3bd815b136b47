"""On and off.

Rule: `start` and `stop` are about one recording, the program's own; `recording` makes as many
as are asked for, and none of them disturbs another.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .hub import hub
from .recording import Level, Recording

if TYPE_CHECKING:
    from .lints.suspects import Thresholds

_started: Recording | None = None


@contextmanager
def recording(
    level: Level = "life",
    *,
    tasks: int = 4096,
    steps: int = 16384,
    thresholds: Thresholds | None = None,
    log_errors: bool = False,
    dump_to: str | os.PathLike[str] | None = None,
) -> Generator[Recording]:
    """Record the tasks of the running loop while the block lasts.

    Outside any loop it records the next one that runs in any thread. Read the recording inside
    the block, or afterwards: then it stays as it was at the end.

    Args:
        level: ``"life"``: spawn, first run and exit of each task; cheap enough to be left on.
            ``"steps"``: who held the loop, and when, as well.
        tasks: How many finished tasks to keep; about 0.5 kB each.
        steps: How many steps to keep, and how many finished spans; about 0.1 kB each.
        thresholds: From when on something is a lint.
        log_errors: True to log each error of a task, as lints are: by the logger
            ``kingdom_async.trace``.
        dump_to: A folder. The last 5 seconds are saved there when a watchdog finds the loop
            blocked, and when an error leaves this block or the program of `run`: at most 10
            files, for `load`, each named after its process, its number and what happened.

    Raises:
        ValueError: If *level* or a number is not valid.

    Example:
        >>> with trace.recording(level="steps") as recording:
        ...     await work()
        >>> recording.to_html("work.html")
    """
    made = Recording(
        level,
        tasks=tasks,
        steps=steps,
        thresholds=thresholds,
        log_errors=log_errors,
        dump_to=dump_to,
    )
    hub.begin(made)
    try:
        yield made
    except BaseException as error:
        made.crashed(error)
        raise
    finally:
        hub.end(made)


def start(
    level: Level = "life",
    *,
    tasks: int = 4096,
    steps: int = 16384,
    thresholds: Thresholds | None = None,
    log_errors: bool = False,
    dump_to: str | os.PathLike[str] | None = None,
) -> Recording:
    """Begin the program's own recording, until `stop`; arguments as in `recording`.

    Raises:
        RuntimeError: If it is on already.
    """
    global _started
    if _started is not None:
        raise RuntimeError(
            "trace.start() while the program's recording is on; call trace.stop() first, or "
            "make one of your own: with trace.recording() as recording:"
        )
    _started = Recording(
        level,
        tasks=tasks,
        steps=steps,
        thresholds=thresholds,
        log_errors=log_errors,
        dump_to=dump_to,
    )
    hub.begin(_started)
    return _started


def stop() -> Recording:
    """End the program's own recording and return it.

    Raises:
        RuntimeError: If it is not on.
    """
    global _started
    if _started is None:
        raise RuntimeError("trace.stop() while nothing was started; call trace.start() first")
    stopped, _started = _started, None
    hub.end(stopped)
    return stopped


def started() -> Recording | None:
    """The program's own recording, if it is on."""
    return _started
