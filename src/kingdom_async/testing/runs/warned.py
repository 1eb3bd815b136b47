"""What Python warns of while one body is run again and again.

Rule: no warning is lost. What a run has not closed fails that run; what the report tells of in
other words is not said twice; and all else is given once, when the runs are over.
"""

from __future__ import annotations

import gc
import re
import warnings
from typing import TYPE_CHECKING, Any

from ..internals.leaks import PROCESSES

if TYPE_CHECKING:
    from typing_extensions import Self

#: Of these a run is told by its leaks, with the line that made them; and a queue may be dropped
#: with what a cancelled producer has put.
_TOLD = re.compile(r"^Unclosed <MemoryObject|^Async generator | was dropped with \d+ item")
#: It differs from run to run, and says nothing to a reader.
_CHANGING = re.compile(
    r" ?\bfd=\d+\b,?|,? [lr]addr=(\([^)]*\)|'[^']*'|[^ >]*)|( at)? 0x[0-9a-f]+"
)


class Warned:
    """Keeps the warnings of a block."""

    def __init__(self) -> None:
        self._catching: Any = warnings.catch_warnings(record=True)
        self._seen = 0

    def __enter__(self) -> Self:
        self._caught: list[warnings.WarningMessage] = self._catching.__enter__()
        warnings.simplefilter("always")
        return self

    def unclosed(self) -> list[str]:
        """The files, sockets and such that were dropped since this was last asked.

        Call it when no loop is open: a loop keeps alive what it listens to.
        """
        gc.collect()
        new, self._seen = self._caught[self._seen :], len(self._caught)
        texts = [str(one.message) for one in new if issubclass(one.category, ResourceWarning)]
        own = (text for text in texts if not (_TOLD.search(text) or PROCESSES.search(text)))
        return [*dict.fromkeys(_CHANGING.sub("", text) for text in own)]

    def __exit__(self, *error: object) -> None:
        gc.collect()  # what the last run has left,
        gc.collect()  # and what its finalizers have brought back
        self._catching.__exit__(*error)
        seen: set[tuple[str, str, int]] = set()
        for number, one in enumerate(self._caught):
            key = str(one.message), one.filename, one.lineno
            if key not in seen and not self._is_told(number, one):
                seen.add(key)
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def _is_told(self, number: int, one: warnings.WarningMessage) -> bool:
        """True if the report tells of it."""
        text = str(one.message)
        if issubclass(one.category, ResourceWarning):
            return number < self._seen or _TOLD.search(text) is not None
        return "was never awaited" in text
