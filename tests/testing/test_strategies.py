"""Hypothesis draws schedules and shrinks the one that fails to the smallest."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import find, given, settings

from kingdom_async.testing import strategies
from kingdom_async.testing.schedules import explore
from support.backends import chosen

from .planted_races import RACES

on_virtual_time = pytest.mark.parametrize("backend", chosen(("asyncio", "trio")))
often = settings(max_examples=500, deadline=None, database=None, derandomize=True)


def is_found(name: str, backend: str, seed: Any) -> bool:
    bug, _ = RACES[name]
    return bool(explore(bug, seeds=[seed], backend=backend).failures)


@on_virtual_time
@pytest.mark.parametrize("name", ["check, then act", "use after close", "lost wake-up"])
def test_shrinking_gives_the_smallest_schedule(name: str, backend: str) -> None:
    """One step held back is enough for each of these, and that is what is left."""
    schedule = find(
        strategies.schedules(steps=20),
        lambda schedule: is_found(name, backend, schedule),
        settings=often,
    )
    ((step, chances),) = schedule
    assert is_found(name, backend, schedule)
    assert not is_found(name, backend, ((step, chances - 1),))
    assert not any(is_found(name, backend, ((earlier, chances),)) for earlier in range(1, step))


@on_virtual_time
def test_they_work_with_given(backend: str) -> None:
    """As plain strategies; a body without races passes."""
    _, mended = RACES["check, then act"]

    @settings(max_examples=20, deadline=None, database=None)
    @given(seed=strategies.seeds(), schedule=strategies.schedules(), step=strategies.steps(9))
    def holds(seed: int, schedule: Any, step: int) -> None:
        assert 1 <= step <= 9
        explore(mended, seeds=[seed, schedule], backend=backend).raise_if_failed()

    holds()


def test_the_smallest_are_undisturbed_runs() -> None:
    """Shrinking ends at the loop's own order, and at the first step."""
    assert find(strategies.seeds(), lambda _: True) == 0
    assert find(strategies.schedules(), lambda _: True) == ()
    assert find(strategies.steps(), lambda _: True) == 1


def test_hypothesis_is_imported_only_where_a_strategy_is_asked_for() -> None:
    """The module itself does without."""
    code = (
        "import sys, kingdom_async.testing.strategies; "
        "sys.exit(any(name.startswith('hypothesis') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_arguments() -> None:
    """A count is a whole number of at least 1."""
    with pytest.raises(ValueError, match=r"^steps must be 1 or more, not 0; write schedules"):
        strategies.schedules(steps=0)
    with pytest.raises(ValueError, match=r"^most must be 1 or more, not 0; write steps"):
        strategies.steps(0)
