"""`cancel_everywhere` finds each planted bug, and says nothing of what mends it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from kingdom_async.testing.faults import cancel_everywhere
from support.backends import REAL, chosen

from .planted import ASYNCIO_ONLY, BUGS, Scene

CASES = [
    pytest.param(make, backend, id=f"{make.__name__}-{backend}")
    for make in BUGS
    for backend in chosen(REAL)
    if not (backend == "trio" and make in ASYNCIO_ONLY)
]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize(("make", "backend"), CASES)
def test_found(make: Callable[[bool], Scene], backend: str) -> None:
    """With the bug there is a failure that names it, and a line that replays it."""
    body, options = make(False)
    report = cancel_everywhere(body, backend=backend, **options)
    said = [str(failure.error) for failure in report.failures]
    found = [f for f in report.failures if re.search(BUGS[make], str(f))]
    assert found, f"not found in {said}\n{report}"
    step = found[0].step
    assert f"backend={backend!r}" in found[0].replay
    assert f"only={step}" in found[0].replay
    again = cancel_everywhere(body, backend=backend, only=step, **options)
    assert any(re.search(BUGS[make], str(failure)) for failure in again.failures), str(again)


@pytest.mark.parametrize(("make", "backend"), CASES)
def test_nothing_is_said_of_the_mended(make: Callable[[bool], Scene], backend: str) -> None:
    """Without the bug there is no failure, and each step has had its run."""
    body, options = make(True)
    report = cancel_everywhere(body, backend=backend, **options)
    report.raise_if_failed()
    assert report.injected == report.points > 0
