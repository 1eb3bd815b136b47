"""See every task, on every backend, live and afterwards."""

from __future__ import annotations

from .control.server import serve_control
from .lints.suspects import Thresholds
from .lints.watchdog import watchdog
from .recording import Recording
from .records import Dropped, Lag, Lint, Span, Step, TaskRecord
from .snapshot import Snapshot, load
from .spans import instrument_task, span
from .switch import recording, start, stop
from .views.tree import tree

__all__ = [
    "Dropped",
    "Lag",
    "Lint",
    "Recording",
    "Snapshot",
    "Span",
    "Step",
    "TaskRecord",
    "Thresholds",
    "instrument_task",
    "load",
    "recording",
    "serve_control",
    "span",
    "start",
    "stop",
    "tree",
    "watchdog",
]
