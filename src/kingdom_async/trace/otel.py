"""A recording as OpenTelemetry spans and metrics; needs ``kingdom_async[otel]``.

Rule: a recording is only read, and each finished task and each measurement goes out once,
however often it is seen. OpenTelemetry is imported when something is called, not before.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

from .views.otel_metrics import SCOPE, HasRecords, instrument, missing
from .views.otel_spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

    from .records import TaskRecord
    from .snapshot import Snapshot

__all__ = ["CanSnapshot", "Exporter", "HasRecords", "export_spans", "instrument"]


class CanSnapshot(Protocol):
    """What `Exporter` needs of a recording."""

    def snapshot(self) -> Snapshot: ...


def export_spans(
    snapshot: Snapshot,
    tracer: Tracer | None = None,
    *,
    new_trace: Callable[[TaskRecord], bool] | None = None,
) -> int:
    """Make a span of each task and each span of a recording; returns how many.

    A task's span is a child of its parent's. Where the parent is foreign, which may never end,
    or *new_trace* says so, the task begins a trace of its own with a link to the parent. What
    had not ended ends with the recording and has the outcome "running".

    Args:
        snapshot: What was recorded: ``recording.snapshot()`` or ``trace.load(path)``.
        tracer: Where to; OpenTelemetry's global one if not given.
        new_trace: Called with each task that has a parent.

    Raises:
        ImportError: If OpenTelemetry is not installed.
    """
    tracer = _tracer("export_spans()") if tracer is None else tracer
    spans = Spans(tracer, new_trace)
    return spans.take(snapshot) + spans.close(snapshot)


class Exporter:
    """Export a recording while it goes on: each finished task once.

    Call `export` every few seconds, and `close` at the end. A task's span begins at the call
    that first sees it and ends at the one that sees it finished, with the times recorded; only
    what was dropped from the recording between two calls is missing. Lints that are found after
    their task's end went out are missing too.

    Safe to call from any thread.

    Args:
        recording: What to export.
        tracer: Where to; OpenTelemetry's global one if not given.
        new_trace: As for `export_spans`: which tasks begin a trace of their own, say the
            requests of a service.

    Raises:
        ImportError: If OpenTelemetry is not installed.
    """

    def __init__(
        self,
        recording: CanSnapshot,
        tracer: Tracer | None = None,
        *,
        new_trace: Callable[[TaskRecord], bool] | None = None,
    ) -> None:
        self._recording = recording
        self._spans = Spans(_tracer("Exporter()") if tracer is None else tracer, new_trace)
        self._lock = Lock()

    def export(self) -> int:
        """Export what has finished since the last call; returns how many spans."""
        with self._lock:
            return self._spans.take(self._recording.snapshot())

    def close(self) -> int:
        """`export`, and end the spans of what still runs, with the outcome "running"."""
        with self._lock:
            snapshot = self._recording.snapshot()
            return self._spans.take(snapshot) + self._spans.close(snapshot)


def _tracer(call: str) -> Tracer:
    try:
        from opentelemetry.trace import get_tracer
    except ImportError as error:
        raise missing(call) from error
    return get_tracer(SCOPE)
