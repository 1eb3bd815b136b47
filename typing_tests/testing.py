"""Types of the testing tools: checked, never run."""

from __future__ import annotations

import sys

import kingdom_async as ka
from kingdom_async.testing import run_virtual

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type


async def fetch(number: int) -> str:
    await ka.checkpoint()
    return str(number)


assert_type(run_virtual(fetch, 1), str)
assert_type(run_virtual(fetch, 1, backend="trio", grace=0.1), str)
run_virtual(fetch)  # type: ignore[arg-type]
run_virtual(fetch, "one")  # type: ignore[arg-type]
