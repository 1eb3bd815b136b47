"""Whether a task is being cancelled, by what, and whether a shield keeps that away for a time.

Rule: asked from another thread, of the scopes themselves; nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from ..raw.causes import is_called
from ..raw.rows import Life

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..raw.causes import Deadline
    from ..raw.recorder import Recorder

#: Groups inside one another that are looked at.
_DEPTH = 100


class Cancels:
    """What cancels the tasks of one recording, as of now; each scope is asked once."""

    def __init__(self, recorder: Recorder) -> None:
        self._store, self._loop = recorder.store, recorder.loop
        self._called: dict[int, bool] = {}

    def of(self, life: Life, native: Any, deadlines: Sequence[Deadline]) -> str | None:
        """What cancels a task, to follow "its cancellation"; None where nothing is to be told.

        Args:
            life: The task.
            native: The same, as its loop knows it.
            deadlines: Those around what it does now.
        """
        cause = self._cause(life, deadlines)
        if cause is None and self._loop.is_cancelled(native):
            cause = "by its loop"
        if cause is None:
            return None
        is_shielded, ends = _shield(self._loop.scopes(native))
        if not is_shielded:
            return f"({cause})"
        return None if ends else f"({cause}), in a shield without a deadline"

    def _cause(self, life: Life, deadlines: Sequence[Deadline]) -> str | None:
        """One of the deadlines and groups around it."""
        around = [*deadlines]
        for _ in range(_DEPTH):
            for deadline in reversed(around):
                if self._is_called(deadline.scope):
                    return deadline.cause
                if getattr(deadline.scope, "shield", False):
                    return None
            block = life.block
            if block is None:
                return None
            group = block.group()
            if group is not None and self._is_called(group.cancel_scope):
                return block.cause or f"the scope of {block.label}"
            around = [*block.deadlines]
            above = None if life.parent is None else self._store.live.get(life.parent)
            life = Life(*above) if above is not None else life._replace(block=None)
        return None

    def _is_called(self, scope: Any) -> bool:
        found = self._called.get(id(scope))
        if found is None:
            found = self._called[id(scope)] = is_called(scope)
        return found


def _shield(scopes: Iterable[Any]) -> tuple[bool, bool]:
    """Whether a task cleans up in a shield that has not run out, and whether it will."""
    is_shielded = ends = False
    with suppress(AttributeError):  # of another anyio or trio
        for scope in scopes:
            if is_called(scope):  # a shield whose time has run out is none
                return is_shielded and not scope.shield, ends
            if scope.deadline < inf and (scope.shield or not is_shielded):
                ends = True
            is_shielded = is_shielded or scope.shield
    return is_shielded, ends
