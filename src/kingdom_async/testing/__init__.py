"""Tools that make concurrent code testable: as plain functions, and as fixtures of pytest."""

from __future__ import annotations

from .clock import Deadlock, run_virtual
from .faults import cancel_everywhere
from .internals.features import FeatureOff
from .leaks import no_leaks
from .leftovers.left import LeakError
from .reports import Failure, Report
from .schedules import explore

__all__ = [
    "Deadlock",
    "Failure",
    "FeatureOff",
    "LeakError",
    "Report",
    "cancel_everywhere",
    "explore",
    "no_leaks",
    "run_virtual",
]

for _error in (Deadlock, FeatureOff, LeakError):
    _error.__module__ = "kingdom_async.testing"
