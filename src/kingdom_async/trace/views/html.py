"""A recording as one page: the timeline, with everything it needs inside.

Rule: what the traced program named is data and never markup. It reaches the page as JSON in
which ``<``, ``>`` and ``&`` are escaped, the page's scripts show it as text only, and the page
forbids itself every script but its own and every request.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..records import Outcome
    from ..snapshot import Snapshot

#: In the order in which they build on one another; they share one scope.
_SCRIPTS = (
    "text",
    "data",
    "blocks",
    "index",
    "families",
    "tree",
    "troubles",
    "theme",
    "view",
    "brush",
    "marks",
    "lanes",
    "loop",
    "links",
    "overview",
    "details",
    "tables",
    "wrong",
    "search",
    "input",
    "main",
)

_ASSETS = files("kingdom_async.trace.views") / "timeline"

_TICK = 1e-7  # seconds; every time is a whole number of these, as whole numbers are short
_LONGEST_NAME = 200
_LONGEST_MESSAGE = 2000
_OUTCOMES: tuple[Outcome, ...] = ("running", "ok", "cancelled", "error", "unknown")


def page(snapshot: Snapshot) -> str:
    """The timeline of *snapshot*: an HTML page that needs no network and no other file."""
    style = _asset("timeline.css")
    script = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    parts = {
        "policy": (
            f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'"
        ),
        "title": escape(_clean(snapshot.program, _LONGEST_NAME) or "recording"),
        "style": style,
        "script": script,
        "data": _for_html(_columns(snapshot)),
    }
    # in one pass: what is put in is not looked through again
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _for_html(data: dict[str, Any]) -> str:
    """JSON that no HTML parser sees a tag in."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _clean(text: str, longest: int) -> str:
    """*text* cut to *longest* characters, with what does not print written out."""
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    if text.isprintable():
        return text
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return "".join(shown)


class _Texts:
    """Each text once: tasks of one place share its name, place and group."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self._numbers: dict[str, int] = {}

    def column(
        self, texts: Iterable[str | None], longest: int = _LONGEST_NAME
    ) -> list[int | None]:
        return [None if text is None else self._number(text, longest) for text in texts]

    def _number(self, text: str, longest: int) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.table)
            self.table.append(_clean(text, longest))
        return number


def _columns(snapshot: Snapshot) -> dict[str, Any]:
    """The recording column by column; times count from its beginning."""
    texts = _Texts()
    return {
        "program": _clean(snapshot.program, _LONGEST_NAME),
        "backend": _clean(snapshot.backend, _LONGEST_NAME),
        "level": _clean(snapshot.level, _LONGEST_NAME),
        "python": _clean(snapshot.python, _LONGEST_NAME),
        "pid": snapshot.pid,
        "tick": _TICK,
        "duration": _ticks((snapshot.ended,), snapshot.began)[0],
        "began": _finite(snapshot.began + snapshot.epoch),
        "dropped": snapshot.dropped._asdict(),
        "long_step": _finite(snapshot.long_step),
        "outcomes": _OUTCOMES,
        "tasks": _tasks(snapshot, texts),
        "steps": _steps(snapshot),
        "spans": _spans(snapshot, texts),
        "lints": _lints(snapshot, texts),
        "lags": _lags(snapshot),
        "texts": texts.table,
    }


def _tasks(snapshot: Snapshot, texts: _Texts) -> dict[str, Any]:
    tasks, began = snapshot.tasks, snapshot.began
    return {
        "serial": [task.serial for task in tasks],
        "parent": [task.parent for task in tasks],
        "name": texts.column(task.name for task in tasks),
        "place": texts.column(task.place for task in tasks),
        "group": texts.column(task.group for task in tasks),
        "spawned": _ticks((task.spawned for task in tasks), began),
        "started": _ticks((task.started for task in tasks), began),
        "ended": _ticks((task.ended for task in tasks), began),
        "outcome": [_outcome(task.outcome) for task in tasks],
        "error": texts.column(task.error for task in tasks),
        "cancelled_by": texts.column((task.cancelled_by for task in tasks), _LONGEST_MESSAGE),
        "busy": _ticks((task.busy for task in tasks), 0.0),
        "steps": [task.steps for task in tasks],
        "foreign": [int(task.foreign) for task in tasks],
    }


def _steps(snapshot: Snapshot) -> dict[str, Any]:
    """In the order of time, each start told as the distance from the one before."""
    steps = sorted(snapshot.steps, key=lambda step: step.start)
    starts = _ticks((step.start for step in steps), snapshot.began)
    ends = _ticks((step.end for step in steps), snapshot.began)
    columns = zip(starts, ends, steps, strict=True)
    known = [(a, b, step.task) for a, b, step in columns if a is not None]
    return {
        "after": _distances([start for start, _, _ in known]),
        "length": [0 if end is None else max(0, end - start) for start, end, _ in known],
        "task": [task for _, _, task in known],
    }


def _distances(values: Sequence[int]) -> list[int]:
    return [b - a for a, b in pairwise((0, *values))]


def _spans(snapshot: Snapshot, texts: _Texts) -> dict[str, Any]:
    spans = sorted(snapshot.spans, key=lambda span: span.start)
    return {
        "name": texts.column(span.name for span in spans),
        "task": [span.task for span in spans],
        "start": _ticks((span.start for span in spans), snapshot.began),
        "end": _ticks((span.end for span in spans), snapshot.began),
        "outcome": [_outcome(span.outcome) for span in spans],
        "error": texts.column(span.error for span in spans),
    }


def _lints(snapshot: Snapshot, texts: _Texts) -> dict[str, Any]:
    lints = sorted(snapshot.lints, key=lambda lint: lint.at)
    return {
        "kind": texts.column(lint.kind for lint in lints),
        "task": [lint.task for lint in lints],
        "place": texts.column(lint.place for lint in lints),
        "message": texts.column((lint.message for lint in lints), _LONGEST_MESSAGE),
        "at": _ticks((lint.at for lint in lints), snapshot.began),
    }


def _lags(snapshot: Snapshot) -> dict[str, Any]:
    lags = sorted(snapshot.lags)
    return {
        "at": _ticks((lag.at for lag in lags), snapshot.began),
        "length": _ticks((lag.seconds for lag in lags), 0.0),
    }


def _ticks(times: Iterable[float | None], began: float) -> list[int | None]:
    return [
        None if time is None or not math.isfinite(time) else round((time - began) / _TICK)
        for time in times
    ]


def _outcome(outcome: str) -> int:
    return next((n for n, known in enumerate(_OUTCOMES) if known == outcome), 4)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
