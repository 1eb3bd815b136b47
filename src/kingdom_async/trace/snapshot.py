"""A recording as it stood at one moment: what views draw, and what goes into a file.

Rule: a snapshot is complete in itself; a file that was saved, loaded and saved again is the
same file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .records import Dropped, Lag, Lint, Span, Step, TaskRecord

_FORMAT = "kingdom_async.trace/1"
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
            if data.pop("format") != _FORMAT:
                raise ValueError("another format")
            for name, kind in _KINDS.items():
                data[name] = tuple(kind(*row) for row in data[name])
            data["dropped"] = Dropped(*data["dropped"])
            return cls(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"this is no recording of kingdom_async ({error}); "
                "save one with recording.save(path)"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The recording as plain dicts and lists, each record with its field names."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _KINDS:
            data[name] = [
                asdict(record) if not isinstance(record, tuple) else record._asdict()  # type: ignore[attr-defined]
                for record in data[name]
            ]
        return {**data, "dropped": self.dropped._asdict()}

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline: one page that needs no network.

        Raises:
            OSError: If the file cannot be written.
        """
        from .html import page

        Path(path).write_text(page(self), encoding="utf-8")

    def to_perfetto(self, path: str | os.PathLike[str]) -> None:
        """Write the events that https://ui.perfetto.dev and chrome://tracing draw.

        Raises:
            OSError: If the file cannot be written.
        """
        from .perfetto import events

        Path(path).write_text(json.dumps({"traceEvents": events(self)}), encoding="utf-8")


#: Each kind of record, by its field of `Snapshot`.
_KINDS: dict[str, Any] = {
    "tasks": TaskRecord,
    "steps": Step,
    "spans": Span,
    "lints": Lint,
    "lags": Lag,
}


def _row(record: Any) -> list[object]:
    return [*record] if isinstance(record, tuple) else [*astuple(record)]  # pyright: ignore[reportUnknownVariableType]


def load(path: str | os.PathLike[str]) -> Snapshot:
    """Read a recording that `Recording.save` wrote.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a recording.
    """
    return Snapshot.from_json(Path(path).read_text(encoding="utf-8"))
