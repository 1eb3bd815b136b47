"""Types of looking into another process; checked, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from kingdom_async import trace
from kingdom_async.trace.client import Control, connect, serving
from kingdom_async.trace.control.files import write


def serve() -> None:
    with trace.serve_control() as path:
        assert_type(path, Path)
    trace.serve_control(1)  # type: ignore  # it takes nothing


def ask() -> None:
    control = connect()
    assert_type(control, Control)
    assert_type(connect(1234), Control)
    assert_type(serving(), list[Control])
    assert_type(control.status(), dict[str, Any])
    assert_type(control.tree(), dict[str, Any])
    assert_type(control.top(sort="age", limit=10), dict[str, Any])
    assert_type(control.record(5), trace.Snapshot)
    control.on("steps")
    assert_type(control.off(), trace.Snapshot)
    write(control.record(1.5, "life"), Path("run.html"))
