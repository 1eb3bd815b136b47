"""A recording as it stood at one moment: what views draw, and what goes into a file.

Rule: a snapshot is complete in itself; a file that was saved, loaded and saved again is the
same file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from .records import Dropped, Lag, Lint, Span, Step, TaskRecord

T = TypeVar("T")

_FORMAT = "kingdom_async.trace/1"
_HOW = "save one with recording.save(path)"
#: No time and no number in a recording is larger.
_MOST = 1e18
#: How many records are made text at a time.
_ROWS = 500


@dataclass(frozen=True)
class Snapshot:
    """What was recorded from *began* to *ended*."""

    backend: str
    #: ``"life"`` or ``"steps"``.
    level: str
    #: The Python version, the process, and what it runs.
    python: str
    pid: int
    program: str
    began: float
    ended: float
    #: What to add to a time of the recording to get seconds since 1970, UTC.
    epoch: float
    tasks: tuple[TaskRecord, ...]
    steps: tuple[Step, ...]
    spans: tuple[Span, ...]
    lints: tuple[Lint, ...]
    lags: tuple[Lag, ...]
    dropped: Dropped
    #: From how many seconds on a step is long; what the timeline draws in red.
    long_step: float = 0.1

    def since(self, start: float) -> Snapshot:
        """What of it happened at *start* or later; tasks that were alive then included."""
        return replace(
            self,
            began=max(self.began, start),
            tasks=tuple(t for t in self.tasks if t.ended is None or t.ended >= start),
            steps=tuple(step for step in self.steps if step.end >= start),
            spans=tuple(s for s in self.spans if s.end is None or s.end >= start),
            lints=tuple(lint for lint in self.lints if lint.at >= start),
            lags=tuple(lag for lag in self.lags if lag.at >= start),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file, for `load`.

        Raises:
            OSError: If the file cannot be written.
        """
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The recording as text: one JSON object, each kind of record a list of rows."""
        return "".join(self.json_parts())

    def json_parts(self) -> Iterator[str]:
        """That text in parts, none of which holds up the program's other threads for long."""
        names = [field.name for field in fields(self) if field.name not in _KINDS]
        head = {"format": _FORMAT, **{name: getattr(self, name) for name in names}}
        yield json.dumps(head, separators=(",", ":"))[:-1]
        for name in _KINDS:
            rows = getattr(self, name)
            yield f',"{name}":['
            for at in range(0, len(rows), _ROWS):
                some = [_row(record) for record in rows[at : at + _ROWS]]
                text = json.dumps(some, separators=(",", ":"))[1:-1]
                yield f",{text}" if at else text
            yield "]"
        yield "}"

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """The recording that `to_json` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            data: dict[str, Any] = json.loads(text)
        except RecursionError:
            raise ValueError("this is no recording of kingdom_async (too deep)") from None
        except ValueError as error:
            if text.startswith('{"format":"kingdom_async.trace/'):
                raise ValueError("this recording is cut off; its end is missing") from error
            raise ValueError(
                f"this is no recording of kingdom_async ({error}); {_HOW}"
            ) from error
        try:
            if data.pop("format") != _FORMAT:
                raise ValueError("another format")
            for name, kind in _KINDS.items():
                data[name] = tuple(_checked(kind(*row)) for row in data[name])
            data["dropped"] = _checked(Dropped(*data["dropped"]))
            return _checked(cls(**data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"this is no recording of kingdom_async ({error}); {_HOW}"
            ) from error

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline: one page that needs no network.

        Raises:
            OSError: If the file cannot be written.
        """
        from .views.html import page

        Path(path).write_text(page(self), encoding="utf-8")

    def to_perfetto(self, path: str | os.PathLike[str]) -> None:
        """Write the events that https://ui.perfetto.dev and chrome://tracing draw.

        Raises:
            OSError: If the file cannot be written.
        """
        from .views.perfetto import events

        Path(path).write_text(json.dumps({"traceEvents": events(self)}), encoding="utf-8")


#: Each kind of record, by its field of `Snapshot`.
_KINDS: dict[str, Any] = {
    "tasks": TaskRecord,
    "steps": Step,
    "spans": Span,
    "lints": Lint,
    "lags": Lag,
}


#: By the annotation of a field: what may stand there. bool is an int to Python, not to us.
_ALLOWED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "Outcome": (str,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
}


def _checked(record: T) -> T:
    """A record of a file, in which anything may stand.

    Raises:
        ValueError: If there is something in it that is not of its field's type, or a number
            that views cannot draw.
    """
    is_head = isinstance(record, Snapshot)
    for name, allowed in _FIELDS[type(record).__name__]:
        value: object = getattr(record, name)
        is_strict = type(value) is int or (is_head and type(value) is float)
        if name == "long_step" and value == math.inf:  # the way to switch the lint off
            continue
        if type(value) not in allowed or (is_strict and not -_MOST < value < _MOST):  # type: ignore[operator]
            raise ValueError(f"{name} is {value!r:.50}")
    return record


def _fields_of(kind: type[object]) -> list[tuple[str, tuple[type, ...]]]:
    annotations: dict[str, str] = {}
    for base in kind.__mro__:
        annotations = {**getattr(base, "__annotations__", {}), **annotations}
    return [
        (name, _ALLOWED[text])
        for name, what in annotations.items()
        if (text := getattr(what, "__forward_arg__", what)) in _ALLOWED
    ]


_FIELDS = {kind.__name__: _fields_of(kind) for kind in (Snapshot, Dropped, *_KINDS.values())}


def _row(record: Any) -> list[object]:
    return [*record] if isinstance(record, tuple) else [*astuple(record)]  # pyright: ignore[reportUnknownVariableType]


def load(path: str | os.PathLike[str]) -> Snapshot:
    """Read a recording that `Recording.save` wrote.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a recording.
    """
    return Snapshot.from_json(Path(path).read_text(encoding="utf-8"))
