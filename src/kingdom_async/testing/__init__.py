"""Tools that make concurrent code testable: as plain functions, and as fixtures of pytest."""

from __future__ import annotations

# from .clock import Deadlock, run_virtual

__all__: list[str] = []
