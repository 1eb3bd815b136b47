"""What a program came to, so that two runs can be compared.

Rule: nothing is left out but what no backend promises: the order in a group of errors, which
trio has none of, and the sentence that anyio's group and trio's nursery begin with.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import kingdom_async as ka
from kingdom_async._failures import is_group

#: How `explore` tells what was logged several times.
_TIMES = re.compile(r" \((\d+) times in the runs of .*\)$")
_SENTENCES = re.compile(r"unhandled errors in a TaskGroup|Exceptions from Trio nursery")


class Outcome(NamedTuple):
    """Of one run."""

    #: What the program returned, or the tree of what it raised.
    result: object
    #: What each script did, and when.
    log: dict[str, list[tuple[float, object]]]
    #: What the library logged.
    records: list[str]

    def difference(self, other: Outcome) -> str:
        """The first that is not the same; nothing if all is."""
        for name in sorted({*self.log, *other.log}):
            mine, theirs = self.log.get(name, []), other.log.get(name, [])
            if mine != theirs:
                return f"{name}: {_first(mine, theirs)}"
        if sorted(self.records) != sorted(other.records):
            return f"logged: {self.records} against {other.records}"
        return "" if self.result == other.result else f"{self.result} against {other.result}"


def _first(mine: list[tuple[float, object]], theirs: list[tuple[float, object]]) -> str:
    for number, (one, another) in enumerate(zip(mine, theirs, strict=False)):
        if one != another:
            return f"entry {number}: {one} against {another}"
    return f"{mine[len(theirs) :]} against {theirs[len(mine) :]}"


def tree(error: BaseException) -> object:
    """Types, messages, notes and parts of *error*."""
    notes = tuple(map(plain, getattr(error, "__notes__", ())))
    if is_group(error):
        return ("group", *notes, *sorted(map(tree, error.exceptions), key=repr))
    if type(error).__name__ in ("Cancelled", "CancelledError"):
        return "cancelled"
    message: object = plain(str(error))
    if isinstance(error, ka.DeadlineExceeded):
        message = (error.reason, error.seconds, error.elapsed)
    cause = () if error.__cause__ is None else (tree(error.__cause__),)
    return (type(error).__name__, message, *notes, *cause)


def plain(sentence: str) -> str:
    return _SENTENCES.sub("several", sentence)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said, times, _ = [*_TIMES.split(plain(record.getMessage())), "1", ""][:3]
        self.messages += [said] * int(times)


@contextmanager
def records() -> Generator[list[str]]:
    """What the library logs meanwhile, and does not print."""
    logger, handler = logging.getLogger("kingdom_async"), _Records()
    was, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = was
