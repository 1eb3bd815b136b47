"""Measure on one backend, in this process: ``python -m benchmarks.one_backend JOB``.

Rule: nothing but rows goes to standard output, one JSON object a line, as soon as it is
known; a JSON string is a note.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from .measure import rows_of
from .rows import COMPARISONS


def main(job: str) -> None:
    asked = json.loads(job)
    for comparison in COMPARISONS:
        if asked["only"].lower() not in comparison.operation.lower():
            continue
        found = rows_of(comparison, asked["backend"], asked["rounds"], smoke=asked["smoke"])
        for row in found:
            line = json.dumps(row if isinstance(row, str) else asdict(row))
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
