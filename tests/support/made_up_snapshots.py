"""Recordings that nobody recorded: by hand, and at random."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from kingdom_async.trace.records import (
    Dropped,
    Lag,
    Lint,
    Outcome,
    Span,
    Step,
    TaskRecord,
)
from kingdom_async.trace.snapshot import Snapshot

#: Where every recording made here begins, on its own clock.
BEGAN = 100.0


def task(serial: int, parent: int | None = None, **more: object) -> TaskRecord:
    """A task that was spawned and ran 1 ms for each number, and lived 10 ms, if not said."""
    spawned = more.pop("spawned", BEGAN + serial / 1000)
    begin = BEGAN if spawned is None else spawned
    given = {
        "name": f"task-{serial}",
        "place": f"service.py:{serial + 1} in main",
        "group": None if parent is None else "TaskGroup at service.py:10 in main",
        "started": begin + 0.0005,  # type: ignore[operator]
        "ended": begin + 0.01,  # type: ignore[operator]
        "outcome": "ok",
        "error": None,
        "cancelled_by": None,
        "busy": 0.0,
        "steps": 0,
        "foreign": False,
    }
    return TaskRecord(serial=serial, parent=parent, spawned=spawned, **{**given, **more})  # type: ignore[arg-type]


def snapshot(*tasks: TaskRecord, ended: float = BEGAN + 1.0, **more: object) -> Snapshot:
    """A recording of one second."""
    made = Snapshot(
        backend="asyncio",
        level="steps",
        python="3.13",
        pid=4242,
        program="service.py",
        began=BEGAN,
        ended=ended,
        epoch=1_700_000_000.25,
        tasks=tasks,
        steps=(),
        spans=(),
        lints=(),
        lags=(),
        dropped=Dropped(),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def random_snapshot(seed: int, tasks: int = 40, steps: int = 200) -> Snapshot:
    """A recording with everything in it, and much of what should not be there."""
    rng = random.Random(seed)
    lives = tuple(_random_task(rng, serial) for serial in range(tasks))
    any_task = [*range(tasks + 3), None]  # some that the recording does not have

    def moment() -> float:
        # on a grid now and then, so that times meet; and some outside of the recording
        at = rng.uniform(-0.05, 1.05)
        return BEGAN + (round(at, 2) if rng.random() < 0.5 else at)

    spans = []
    for number in range(tasks):
        start = moment()
        end = rng.choice((None, start, start - 0.001, start + rng.expovariate(20)))
        whose = rng.choice(any_task)
        outcome: Outcome = "running" if end is None else rng.choice(("ok", "error"))
        error = "KeyError" if outcome == "error" else None
        spans.append(Span(f"span {number % 5}", whose, start, end, outcome, error))
    return snapshot(
        *lives,
        steps=_random_steps(rng, steps, any_task),
        spans=tuple(spans),
        lints=tuple(
            Lint("long-step", rng.choice(any_task), "a.py:1 in f", "a sentence", moment())
            for _ in range(10)
        ),
        lags=tuple(
            Lag(moment(), rng.choice((0.0, 0.001, 12.5, math.inf, math.nan))) for _ in range(10)
        ),
        dropped=Dropped(rng.randrange(2), rng.randrange(2)),
    )


def _random_task(rng: random.Random, serial: int) -> TaskRecord:
    spawned = BEGAN + rng.choice((-0.1, 0.0, round(rng.random(), 2), rng.random()))
    started = rng.choice((None, spawned, spawned + rng.expovariate(200)))
    ended = rng.choice((None, spawned, (started or spawned) + rng.expovariate(10)))
    outcome: Outcome = "running"
    if ended is not None:
        outcome = rng.choice(("ok", "cancelled", "error", "unknown"))
    return task(
        serial,
        rng.choice((None, rng.randrange(serial))) if serial else None,
        name=rng.choice(("", "same", f"täsk \ud800 {serial}", "x" * 300)),
        spawned=rng.choice((None, spawned, spawned)),
        started=started,
        ended=ended,
        outcome=outcome,
        error="ValueError" if outcome == "error" else None,
        cancelled_by="deadline 'a'" if outcome == "cancelled" else None,
        busy=rng.choice((0.0, 0.25, math.nan)),
        steps=rng.randrange(3),
        foreign=rng.random() < 0.2,
    )


def _random_steps(
    rng: random.Random, count: int, any_task: list[int | None]
) -> tuple[Step, ...]:
    at = BEGAN - 0.05
    steps = []
    for _ in range(count):
        at += rng.choice((0.0, 0.0, rng.expovariate(400), -0.0005))
        end = at + rng.choice((0.0, 1e-9, rng.expovariate(400)))
        steps.append(Step(at, end, rng.choice(any_task)))
        at = end
    return tuple(steps)
