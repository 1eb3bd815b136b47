"""The pytest plugin where pytest is missing."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


def test_without_pytest_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence, with what to install."""
    monkeypatch.delitem(sys.modules, "kingdom_async.pytest_plugin", raising=False)
    monkeypatch.setitem(sys.modules, "pytest", None)
    says = r"^kingdom_async.pytest_plugin needs pytest; install it with: pip install pytest$"
    with pytest.raises(ModuleNotFoundError, match=says):
        import_module("kingdom_async.pytest_plugin")
