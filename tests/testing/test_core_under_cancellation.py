"""Every public primitive, cancelled at every step, in every mode, on every backend.

Run with ``-rP`` to see how many points each scene has.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from kingdom_async.testing.faults import cancel_everywhere
from support.backends import REAL, chosen

from .core_scenes import MODES, NOT_ASKED, SCENES, THREADED

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from kingdom_async.testing.runs.injection import Mode

#: On all three backends together.
WANTED = 5000
SEEDS = (1, 2)

VIRTUAL = [name for name in chosen(REAL) if name != "asyncio+uvloop"]
ORDERED = [name for name in SCENES if name.startswith(("queue", "first"))]

every_backend = pytest.mark.parametrize("backend", chosen(REAL))

#: How many points there were, by scene, backend and mode, where they have been counted here.
_counted: dict[tuple[str, str, Mode], int] = {}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is abandoned is logged, which is not the point here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def modes_of(name: str, backend: str) -> list[Mode]:
    return [
        mode
        for mode in MODES
        if mode not in NOT_ASKED.get(name, ())
        if not (mode == "native" and (backend == "trio" or _is_undecidable(name)))
    ]


def _is_undecidable(name: str) -> bool:
    """Before Python 3.11 a `Task.cancel()` in the very turn in which a scope cancels the same
    task, as a race that is won does, is taken for the scope's, inside anyio."""
    return sys.version_info < (3, 11) and name.startswith("first")


def points_of(name: str, backend: str, **options: Any) -> int:
    """How many points *name* was cancelled at; it stood them all."""
    body, own = SCENES[name]()
    try:
        report = cancel_everywhere(body, backend=backend, **own, **options)
    except ValueError:
        if options.get("mode") == "error":  # it waits nowhere where an error could come from
            return 0
        raise
    report.raise_if_failed()
    assert report.points > 0
    is_exact = name not in THREADED and backend != "asyncio+uvloop"  # which has real time
    assert report.injected == report.points if is_exact else report.injected > 0
    print(f"{report.injected} of {report.points} points in {report.call} on {backend}")
    if set(options) == {"mode"}:
        _counted[name, backend, options["mode"]] = report.points
    return report.injected


@every_backend
@pytest.mark.parametrize("name", SCENES)
def test_a_primitive_stands_every_cancellation(name: str, backend: str) -> None:
    """Once, again, natively, and an error instead: nothing is left, held, lost or swallowed."""
    for mode in modes_of(name, backend):
        points_of(name, backend, mode=mode)


@pytest.mark.parametrize("backend", VIRTUAL)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", [name for name in SCENES if name.startswith(("queue", "first"))]
)
def test_queues_and_races_under_schedules(name: str, seed: int, backend: str) -> None:
    """The same where the tasks take their steps in another order."""
    points_of(name, backend, seed=seed)


@every_backend
@pytest.mark.parametrize("name", [name for name in SCENES if name.startswith("queue")])
def test_a_queue_with_one_task_gone(name: str, backend: str) -> None:
    """A producer or a consumer that is cancelled alone loses nothing of the others."""
    if name in ("queue_join", "queue_as_a_block"):
        pytest.skip("has neither by name")
    points_of(name, backend, task="producer")


def test_there_are_enough_points(capsys: pytest.CaptureFixture[str]) -> None:
    """At least 5 000, on all backends together."""
    if len(chosen(REAL)) < len(REAL):
        pytest.skip("on one backend")
    total = sum(
        count_of(name, backend, mode)
        for backend in REAL
        for name in SCENES
        for mode in modes_of(name, backend)
        if name not in THREADED
    )
    with capsys.disabled():
        print(f"\n{total} points of injection in the core's own scenes")
    assert total >= WANTED


def count_of(name: str, backend: str, mode: Mode) -> int:
    """How many points there are; the first one is tried, unless all have been."""
    if (name, backend, mode) in _counted:
        return _counted[name, backend, mode]
    scene = SCENES[name]()
    try:
        return cancel_everywhere(
            scene.body, backend=backend, mode=mode, only=1, **scene.options
        ).points
    except ValueError:
        return 0
