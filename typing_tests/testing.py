"""Types of the testing tools: checked, never run."""

from __future__ import annotations

import sys

import kingdom_async as ka
from kingdom_async.testing import Failure, Report, cancel_everywhere, run_virtual

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


async def body() -> None:
    await ka.checkpoint()


lock = ka.Lock()
report = cancel_everywhere(body, backend="trio", mode="error", watch=[lock], raises=ValueError)
assert_type(report, Report)
assert_type(report.failures, list[Failure])
assert_type(report.failures[0].step, "int | None")
assert_type(report.outcomes["cancelled"], int)
cancel_everywhere(fetch)  # type: ignore[arg-type]
cancel_everywhere(body, mode="thrice")  # type: ignore[arg-type]
