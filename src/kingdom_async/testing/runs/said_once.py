"""What hundreds of runs of one body log, in one line each.

Rule: no sentence is lost. It is held until the runs are over, and then told with their number.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from ..._failures import logger


class _Held(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        #: The first record of each sentence, and how many there were.
        self.records: dict[str, tuple[logging.LogRecord, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        first, count = self.records.get(said, (record, 0))
        self.records[said] = first, count + 1
        return False


@contextmanager
def said_once(call: str) -> Generator[None]:
    """What the core logs during the runs of *call* is told when they are over."""
    held = _Held()
    logger.addFilter(held)
    try:
        yield
    finally:
        logger.removeFilter(held)
        for said, (record, count) in held.records.items():
            if count > 1:
                record.msg, record.args = "%s (%d times in the runs of %s)", (said, count, call)
            logger.handle(record)
