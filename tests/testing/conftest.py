"""What tests of the testing tools share."""

from __future__ import annotations

import pytest

from support.small_projects import SmallProject


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> SmallProject:
    """A project of its own, for the pytest plugin."""
    return SmallProject(pytester, monkeypatch)
