"""What goes wrong in the tracer stays in the tracer.

Rule: whatever the program calls, or its loop, is guarded: a failure there is logged once, and
the program goes on as if nobody had looked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logger: logging.Logger = logging.getLogger("kingdom_async.trace")

#: Where it went wrong already, as the names of functions.
_reported: set[str] = set()


def guarded(func: Callable[P, R]) -> Callable[P, R | None]:
    """Make *func* log what it raises, and return None then."""

    @wraps(func)
    def harmless(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return func(*args, **kwargs)
        except Exception as error:
            report(getattr(func, "__qualname__", type(func).__qualname__), error)
            return None

    return harmless


def report(where: str, error: Exception) -> None:
    """Log that the tracer itself failed, once for each place."""
    if where in _reported:
        return
    _reported.add(where)
    with suppress(Exception):  # a handler that raises is not the program's fault either
        logger.error("tracing failed in %s, and went on without", where, exc_info=error)
