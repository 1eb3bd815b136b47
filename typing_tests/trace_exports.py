"""Types of what takes a recording to other tools. Checked, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type

from kingdom_async import trace
from kingdom_async.trace import logs, otel
from kingdom_async.trace.views import perfetto

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer


def exports(recording: trace.Recording, tracer: Tracer, meter: Meter) -> None:
    assert_type(otel.export_spans(recording.snapshot()), int)
    assert_type(
        otel.export_spans(trace.load("a"), tracer, new_trace=lambda task: task.foreign), int
    )
    exporter = otel.Exporter(recording, tracer, new_trace=lambda task: task.name == "a")
    assert_type(exporter.export(), int)
    assert_type(exporter.close(), int)
    otel.instrument(recording)
    otel.instrument(recording, meter)
    otel.export_spans(recording)  # type: ignore  # take a snapshot() of it
    otel.Exporter(recording.snapshot())  # type: ignore  # it goes on: give the recording


def others(snapshot: trace.Snapshot, lint: trace.Lint, task: trace.TaskRecord) -> None:
    assert_type(perfetto.events(snapshot), list[dict[str, Any]])
    logs.log_lint(lint, None)
    logs.log_lint(lint, task.name)
    logs.log_error(task, ValueError())
