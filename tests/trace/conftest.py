"""After each test of tracing nothing of it is left; a hook that stays on spoils the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.traces import left_by_tracing


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert not left_by_tracing()
