"""The state of a queue: what it holds, whether it is open, and whose run it belongs to.

Rule: nothing here waits for anything or wakes anyone; it says so when a queue is misused.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Literal, TypeVar

from ._arguments import check_count
from ._backend import backend_class, run_finder
from ._errors import QueueClosed

T = TypeVar("T")

Overflow = Literal["wait", "drop_new", "drop_old", "error"]

_POLICIES = ("wait", "drop_new", "drop_old", "error")


def items(number: int) -> str:
    """``1 item``, ``2 items``."""
    return "1 item" if number == 1 else f"{number} items"


def items_were(number: int) -> str:
    """``1 item was``, ``2 items were``."""
    return f"{items(number)} {'was' if number == 1 else 'were'}"


class QueueState(Generic[T]):
    """What every part of a queue asks before it acts."""

    def __init__(self, maxsize: float, overflow: Overflow, name: str | None) -> None:
        if maxsize != math.inf:
            check_count(
                "maxsize",
                maxsize,
                "write math.inf for no bound, or 1 (0 is unbounded in asyncio and a "
                "rendezvous in anyio)",
            )
        if overflow not in _POLICIES:
            raise ValueError(
                f"overflow must be one of {', '.join(map(repr, _POLICIES))}, not {overflow!r}"
            )
        self.maxsize = maxsize
        self.overflow: Overflow = overflow
        self.name = name
        self._items: deque[T] = deque()
        self._find_run: Callable[[], object] = _nowhere
        self._run: object = None
        self._closed = False
        self._discarded = False
        self._error: BaseException | None = None
        self._error_traceback: TracebackType | None = None
        self._is_raised = False

    @property
    def error(self) -> BaseException | None:
        """What the queue was closed with."""
        return self._error

    @property
    def discarded(self) -> bool:
        """True once the consumers' side is closed as well."""
        return self._discarded

    def _check_open(self, call: str) -> None:
        if self._closed:
            raise QueueClosed(
                f"{call}() on {self!r}, which is closed; "
                "open a new Queue, or stop the producers before closing"
            )

    def _check_end(self, call: str) -> None:
        if not self._closed or self._items:
            return
        if self._error is not None:
            # As the first consumer found it: else each would hold the frames of all before it.
            if not self._is_raised:
                self._is_raised = True
                self._error_traceback = self._error.__traceback__
            raise self._error.with_traceback(self._error_traceback)
        raise QueueClosed(
            f"{call}() on {self!r}, which is closed and has no items left; "
            "iterate with 'async for', which ends there"
        )

    def _check_run(self, call: str) -> None:
        """Bind to the run of the first use, and refuse any other."""
        try:
            if self._run is None:
                self._find_run = run_finder()
                self._run = self._find_run()
                self._checkpoint = backend_class().checkpoint
            run = self._find_run()
        except RuntimeError:
            run = None
        if run is not self._run:
            raise RuntimeError(
                f"{call}() on {self!r} outside the run it belongs to; make the Queue in the "
                "async function that runs (in a thread: from_thread.run(queue.put, item))"
            )

    def __repr__(self) -> str:
        return f"<{self._title()} {len(self._items)}/{self.maxsize}>"

    def _title(self) -> str:
        return "Queue" if self.name is None else f"Queue {self.name!r}"


def _nowhere() -> object:
    return _nowhere
