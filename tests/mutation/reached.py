"""Which tests reach which line of the core, and how long each takes.

Rule: seen by running them, with `sys.monitoring`; what runs in other processes is not seen.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

_TOOL = 4  # sys.monitoring's numbers 0 to 2 and 5 have meanings


class Recorder:
    """A pytest plugin: writes ``reached.json`` in the working directory."""

    def __init__(self) -> None:
        self._core = str(Path("src/kingdom_async").absolute())
        self._lines: set[str] = set()
        self._reached: dict[str, list[str]] = {}
        self._seconds: dict[str, float] = {}

    def pytest_collection_finish(self) -> None:
        """Watch every function of the core; all of it has been imported by now."""
        sys.monitoring.use_tool_id(_TOOL, "kingdom mutation")
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, self._line)
        for each in gc.get_objects():
            if isinstance(each, FunctionType):
                self._watch(each.__code__)

    def _watch(self, code: CodeType) -> None:
        if str(Path(code.co_filename).parent) == self._core:
            sys.monitoring.set_local_events(_TOOL, code, sys.monitoring.events.LINE)
            for constant in code.co_consts:
                if isinstance(constant, CodeType):
                    self._watch(constant)

    def _line(self, code: CodeType, line: int) -> object:
        self._lines.add(f"{Path(code.co_filename).stem}:{line}")
        return sys.monitoring.DISABLE  # until the next test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self._lines.clear()
        sys.monitoring.restart_events()
        began = time.monotonic()
        result = yield
        self._seconds[item.nodeid] = round(time.monotonic() - began, 4)
        self._reached[item.nodeid] = sorted(self._lines)
        return result

    def pytest_sessionfinish(self) -> None:
        Path("reached.json").write_text(
            json.dumps({"seconds": self._seconds, "reached": self._reached})
        )


class Chooser:
    """A pytest plugin: runs the tests named, in that order, after those nobody knows yet."""

    def __init__(self, wanted: list[str], known: set[str]) -> None:
        self._place = {name: place for place, name in enumerate(wanted, 1)}
        self._unwanted = known - set(wanted)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        left = [item for item in items if item.nodeid in self._unwanted]
        items[:] = sorted(
            (item for item in items if item.nodeid not in self._unwanted),
            key=lambda item: self._place.get(item.nodeid, 0),
        )
        config.hook.pytest_deselected(items=left)
