"""The calls of executors that are out, for who must know what a loop still waits for.

Rule: a call is out until its outcome is with its task; one that nobody waits for any more,
until it has ended.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


class ExecutorCalls:
    """Counted by the run that they belong to."""

    def __init__(self) -> None:
        self._awaited: dict[Future[Any], object] = {}
        self._abandoned: dict[Future[Any], object] = {}

    def __bool__(self) -> bool:
        return bool(self._awaited or self._abandoned)

    def began(self, future: Future[Any], run: object) -> None:
        self._awaited[future] = run

    def ended(self, future: Future[Any]) -> None:
        """Its task has the outcome, or has left."""
        run = self._awaited.pop(future)
        if not future.done():
            self._abandoned[future] = run
            future.add_done_callback(self._forget)

    def _forget(self, future: Future[Any]) -> None:
        self._abandoned.pop(future, None)

    def count(self, run: object) -> int:
        """How many are out, of that run."""
        awaited = sum(each is run for each in [*self._awaited.values()])  # threads change it
        # What has ended wakes its loop, before this is told.
        left = [*self._abandoned.items()]
        return awaited + sum(each is run and not future.done() for future, each in left)


#: Those of this process.
executor_calls = ExecutorCalls()
