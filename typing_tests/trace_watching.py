"""Types of the watchdog, lints and the flight recorder. Checked, never run."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_type

from kingdom_async import trace


def watching(folder: Path) -> None:
    thresholds = trace.Thresholds(stuck=5, leaking=1000)
    with trace.recording("steps", thresholds=thresholds, dump_to=folder) as recording:
        with trace.watchdog(0.5) as nothing:
            assert_type(nothing, None)
        with trace.watchdog(1, recording=recording):
            pass
    assert_type(trace.start(dump_to="folder", log_errors=True), trace.Recording)
    assert_type(recording.lints, tuple[trace.Lint, ...])
    assert_type(recording.lags[0].seconds, float)
    assert_type(recording.dump(last=5), trace.Snapshot)
    recording.when_linted.append(heard)
    trace.watchdog("1")  # type: ignore[arg-type]  # seconds are a number
    trace.watchdog(1, recording)  # type: ignore[call-arg]  # by its name only


def heard(lint: trace.Lint, task_name: str | None) -> None: ...
