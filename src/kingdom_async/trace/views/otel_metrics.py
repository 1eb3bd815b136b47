"""Metrics of a recording for OpenTelemetry, for `otel`.

Rule: a recording is only read, when a collection asks; each step and each lag is measured
once, however many readers collect.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from ..records import Dropped, Lag, Step, TaskRecord

#: The name of our tracer and our meter.
SCOPE = "kingdom_async"
#: Seconds; OpenTelemetry's own default is meant for milliseconds.
_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class HasRecords(Protocol):
    """What `instrument` needs of a recording: its records so far, in order of time."""

    @property
    def tasks(self) -> tuple[TaskRecord, ...]: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...
    @property
    def lags(self) -> tuple[Lag, ...]: ...
    @property
    def dropped(self) -> Dropped: ...


def instrument(recording: HasRecords, meter: Meter | None = None) -> None:
    """Keep metrics of a recording: live, spawned and finished tasks, loop lag, steps.

    | metric | kind | attributes |
    |---|---|---|
    | ``kingdom_async.tasks.live`` | up-down counter | |
    | ``kingdom_async.tasks.spawned`` | counter | |
    | ``kingdom_async.tasks.finished`` | counter | ``kingdom_async.outcome`` |
    | ``kingdom_async.records.dropped`` | counter | ``kingdom_async.record`` |
    | ``kingdom_async.loop.lag`` | histogram, s | |
    | ``kingdom_async.step.duration`` | histogram, s | |

    Nothing is measured while the program runs: at each collection the counters are read from
    the recording, and the histograms are fed with the records that came since the last one. So
    a histogram lacks the steps for which there was no room in between, and
    ``records.dropped`` says how many; and tasks that were dropped before any collection saw
    them are finished with the outcome "unknown". Steps need the level "steps".

    Call it once for a recording. The meter keeps the recording from then on, because
    OpenTelemetry has no way to take a callback back.

    Args:
        recording: What to measure; its properties are read in the collecting thread.
        meter: Where to; OpenTelemetry's global one if not given.

    Raises:
        ImportError: If OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.metrics import Observation, get_meter
    except ImportError as error:
        raise missing("instrument()") from error
    meter = get_meter(SCOPE) if meter is None else meter
    counts = _Counts(recording)
    lag, step = (
        meter.create_histogram(
            f"kingdom_async.{name}",
            unit="s",
            description=description,
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        for name, description in (
            ("loop.lag", "How long the loop took to answer a ping."),
            ("step.duration", "How long one step held the loop."),
        )
    )

    def live(_: CallbackOptions) -> Iterable[Observation]:
        # Asked for at each collection, and before the histograms are read.
        for seconds in counts.new_lags():
            lag.record(seconds)
        for seconds in counts.new_steps():
            step.record(seconds)
        return [Observation(counts.live())]

    def spawned(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(counts.spawned())]

    def finished(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {"kingdom_async.outcome": outcome})
            for outcome, count in counts.finished().items()
        ]

    def dropped(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {"kingdom_async.record": kind})
            for kind, count in recording.dropped._asdict().items()
        ]

    meter.create_observable_up_down_counter(
        "kingdom_async.tasks.live", [live], "{task}", "Tasks that have not ended."
    )
    for name, callback, unit, description in (
        ("tasks.spawned", spawned, "{task}", "Tasks that were spawned or found."),
        ("tasks.finished", finished, "{task}", "Tasks that have ended, by outcome."),
        ("records.dropped", dropped, "{record}", "Records for which there was no room."),
    ):
        meter.create_observable_counter(f"kingdom_async.{name}", [callback], unit, description)


class _Counts:
    """What a recording adds up to, with all that it has dropped since."""

    def __init__(self, recording: HasRecords) -> None:
        self._recording = recording
        self._lock = Lock()  # several readers may collect at a time
        self._last_lag = float("-inf")
        self._last_step = float("-inf"), float("-inf")
        self._spawned = self._missed = 0
        self._counted: set[int] = set()
        self._outcomes: Counter[str] = Counter()

    def live(self) -> int:
        return sum(task.outcome == "running" for task in self._recording.tasks)

    def spawned(self) -> int:
        with self._lock:
            # A task may be dropped between the two: a counter still never goes down.
            total = self._recording.dropped.tasks + len(self._recording.tasks)
            self._spawned = max(self._spawned, total)
            return self._spawned

    def finished(self) -> Counter[str]:
        """How many tasks have ended, by outcome; "unknown" for those never seen ended."""
        with self._lock:
            dropped, tasks = self._recording.dropped.tasks, self._recording.tasks
            ended = {task.serial: task.outcome for task in tasks if task.outcome != "running"}
            self._outcomes.update(ended[serial] for serial in ended.keys() - self._counted)
            self._counted = set(ended)
            missed = dropped + len(ended) - self._outcomes.total()
            self._missed = max(self._missed, missed)
            return self._outcomes + Counter(unknown=self._missed)

    def new_lags(self) -> list[float]:
        """The lags since the last call, in seconds."""
        with self._lock:
            new = [lag for lag in self._recording.lags if lag.at > self._last_lag]
            self._last_lag = max([self._last_lag, *(lag.at for lag in new)])
            return [lag.seconds for lag in new]

    def new_steps(self) -> list[float]:
        """The durations of the steps since the last call, in seconds."""
        with self._lock:
            new = [step for step in self._recording.steps if step[:2] > self._last_step]
            self._last_step = max([self._last_step, *(step[:2] for step in new)])
            return [step.end - step.start for step in new]


def missing(call: str) -> ImportError:
    """What is raised where OpenTelemetry is not installed."""
    return ImportError(
        f"{call} needs OpenTelemetry; install it with: pip install 'kingdom_async[otel]'"
    )
