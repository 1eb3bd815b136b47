"""Tools that make concurrent code testable: as plain functions, and as fixtures of pytest."""

from __future__ import annotations

from ._internals import FeatureOff
from .clock import Deadlock, run_virtual

__all__ = ["Deadlock", "FeatureOff", "run_virtual"]
