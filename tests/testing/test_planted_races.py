"""`explore` finds ordering bugs that plain runs never show, and nothing in what mends them."""

from __future__ import annotations

import anyio
import pytest

from kingdom_async._backend import anyio_backend
from kingdom_async.testing import schedules
from kingdom_async.testing.schedules import explore
from support.backends import REAL, chosen

from .planted_races import DEADLOCKS, RACES, plain

on_every_backend = pytest.mark.parametrize("backend", chosen(REAL))
every_race = pytest.mark.parametrize("name", RACES)


def test_there_are_twelve_and_more() -> None:
    """Each of another kind."""
    assert len(RACES) >= 12


@every_race
@pytest.mark.parametrize("backend", chosen(("asyncio", "asyncio+uvloop")))
def test_plain_runs_never_show_it(name: str, backend: str) -> None:
    """asyncio takes tasks in the order they became ready, each time."""
    bug, _ = RACES[name]
    native, options = anyio_backend(backend)
    for _ in range(20):
        anyio.run(plain, bug, backend=native, backend_options=options)


@every_race
@on_every_backend
def test_it_is_found(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 200 seeds, the first being the loop's own order, and seen again by its seed."""
    bug, _ = RACES[name]
    if name in DEADLOCKS:  # in which nothing but the end of the patience happens
        monkeypatch.setitem(schedules._PATIENCE, "real", 0.25)
    report = explore(bug, backend=backend)
    assert report.failures, str(report)
    seeds = [failure.seed for failure in report.failures]
    assert 0 not in seeds
    if backend != "asyncio+uvloop" or name not in DEADLOCKS:  # which take long there
        assert report.injected == 200
        found = [seed for seed in seeds[:5] if seed is not None]
        again = explore(bug, seeds=found, backend=backend)
        assert [failure.seed for failure in again.failures] == found


@every_race
@on_every_backend
def test_the_mended_version_passes(name: str, backend: str) -> None:
    """All 200 orders come to the same result."""
    _, mended = RACES[name]
    report = explore(mended, backend=backend)
    report.raise_if_failed()
    assert len(report.outcomes) == 1
