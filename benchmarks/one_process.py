"""What a process of its own does: measure some operations on one backend.

Rule: nothing but results goes to standard output: one line of JSON for each operation, as
soon as it is known.
"""

from __future__ import annotations

import json
import sys

from .measure import rounds_of
from .rows import COMPARISONS


def main(job: str) -> None:
    asked = json.loads(job)
    by_name = {comparison.operation: comparison for comparison in COMPARISONS}
    for operation in asked["operations"]:
        found = rounds_of(
            by_name[operation], asked["backend"], asked["rounds"], smoke=asked["smoke"]
        )
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
