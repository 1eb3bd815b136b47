"""The OpenTelemetry spans of a recording, for `otel`.

Rule: a span begins when its record is first seen and ends when that is seen ended, with the
times of the record.

Spans are named as the functions are: for a worker ``amap(fetch)[3]`` the span is
``amap(fetch)``, for ``Task-12 (fetch)`` it is ``fetch``, and the full name an attribute,
because backends group by the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..records import TaskRecord
from .texts import encodable

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Tracer
    from opentelemetry.trace import Span as OtelSpan

    from ..records import Lint, Span
    from ..snapshot import Snapshot

_NUMBER = re.compile(r"\[\d+\]$|^Task-\d+ \((.*)\)$", re.DOTALL)


class _Open(NamedTuple):
    """A span that has begun: with which epoch, and when on the recording's clock."""

    span: OtelSpan
    epoch: float
    at: float


class Spans:
    """The OpenTelemetry spans of one recording, by task (its serial) and by span (a tuple)."""

    def __init__(self, tracer: Tracer, new_trace: Callable[[TaskRecord], bool] | None) -> None:
        self.tracer = tracer
        self.new_trace = new_trace
        #: Begun and not ended. Each keeps the epoch it began with, because clocks are set.
        self.open: dict[Hashable, _Open] = {}
        #: Of all that the last snapshot had, for children.
        self.contexts: dict[Hashable, Context] = {}
        #: Those that are events already. What a lint says is amended when more is known.
        self.lints: set[Hashable] = set()

    def take(self, snapshot: Snapshot) -> int:
        """Begin what is new, then end what has ended; returns how many ended."""
        tasks = {task.serial: task for task in snapshot.tasks}
        spans = dict(_keyed(snapshot.spans))
        for serial in sorted(tasks):  # a parent is counted before its children
            if serial not in self.contexts:
                self._begin_task(tasks[serial], tasks, snapshot)
        for key, span, around in _nested(spans, snapshot.ended):
            if key not in self.contexts:
                self._begin_span(key, span, around, snapshot)
        self._add_lints(snapshot)
        count = 0
        for key, span in spans.items():
            if span.end is not None:
                count += self._end(key, span, span.end, snapshot)
        for task in tasks.values():
            if task.outcome != "running":
                ended = snapshot.ended if task.ended is None else task.ended
                count += self._end(task.serial, task, ended, snapshot)
        return count + self._forget(tasks.keys() | spans.keys(), snapshot)

    def close(self, snapshot: Snapshot) -> int:
        """End all that is open."""
        known: dict[Hashable, TaskRecord | Span] = dict(_keyed(snapshot.spans))
        known.update((task.serial, task) for task in snapshot.tasks)
        return sum(
            self._end(key, known.get(key), snapshot.ended, snapshot)
            for key in reversed(list(self.open))
        )

    def _begin_task(
        self, task: TaskRecord, tasks: dict[int, TaskRecord], snapshot: Snapshot
    ) -> None:
        parent = self.contexts.get(task.parent)
        links: tuple[Link, ...] = ()
        if parent is not None and self._is_apart(task, tasks):
            links = (_link(parent),)
            parent = None
        known = (at for at in (task.spawned, task.started) if at is not None)
        begin = next(known, snapshot.began)
        name = _NUMBER.sub(r"\1", task.name) or "task"
        attributes = _task_attributes(task, snapshot)
        self._begin(task.serial, name, parent, begin, attributes, snapshot, links)

    def _is_apart(self, task: TaskRecord, tasks: dict[int, TaskRecord]) -> bool:
        parent = None if task.parent is None else tasks.get(task.parent)
        if parent is not None and parent.foreign:
            return True
        return self.new_trace is not None and self.new_trace(task)

    def _begin_span(
        self, key: Hashable, span: Span, around: Hashable, snapshot: Snapshot
    ) -> None:
        parent = self.contexts.get(around, self.contexts.get(span.task))
        attributes = _known({"kingdom_async.task.serial": span.task})
        self._begin(key, span.name or "span", parent, span.start, attributes, snapshot)

    def _begin(
        self,
        key: Hashable,
        name: str,
        parent: Context | None,
        at: float,
        attributes: dict[str, Any],
        snapshot: Snapshot,
        links: tuple[Link, ...] = (),
    ) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        # An empty context, not the current one: the exporter's own span is no parent.
        span = self.tracer.start_span(
            encodable(name),
            Context() if parent is None else parent,
            attributes=attributes,
            links=links,
            start_time=_nanoseconds(at, snapshot.epoch),
        )
        self.open[key] = _Open(span, snapshot.epoch, at)
        self.contexts[key] = set_span_in_context(span, Context())

    def _add_lints(self, snapshot: Snapshot) -> None:
        for lint in snapshot.lints:
            begun = self.open.get(lint.task)
            if begun is not None and _key_of(lint) not in self.lints:
                attributes = _known(
                    {
                        "kingdom_async.lint.kind": lint.kind,
                        "kingdom_async.lint.message": lint.message,
                        **_code(lint.place),
                    }
                )
                at = _nanoseconds(lint.at, begun.epoch)
                begun.span.add_event("kingdom_async.lint", attributes, timestamp=at)
        self.lints = {_key_of(lint) for lint in snapshot.lints}

    def _end(
        self,
        key: Hashable,
        record: TaskRecord | Span | None,
        at: float,
        snapshot: Snapshot,
    ) -> int:
        """End the span of *key*, if it is open: 1 if it was."""
        begun = self.open.pop(key, None)
        if begun is None:
            return 0
        span, epoch = begun.span, begun.epoch
        outcome = "unknown" if record is None else record.outcome
        span.set_attribute("kingdom_async.outcome", outcome)
        when = _nanoseconds(max(at, begun.at), epoch)
        if isinstance(record, TaskRecord):
            span.set_attributes(_task_attributes(record, snapshot))
            if record.started is not None:
                first = _nanoseconds(record.started, epoch)
                span.add_event("kingdom_async.first_run", timestamp=first)
            if outcome == "cancelled":
                by = _known({"kingdom_async.cancelled_by": record.cancelled_by})
                span.add_event("kingdom_async.cancelled", by, timestamp=when)
        _set_status(span, outcome, None if record is None else record.error, when)
        span.end(when)
        return 1

    def _forget(self, present: set[Hashable], snapshot: Snapshot) -> int:
        """End and forget what the recording no longer has: it ended, and was dropped."""
        gone = self.contexts.keys() - present
        count = sum(self._end(key, None, snapshot.ended, snapshot) for key in gone)
        for key in gone:
            del self.contexts[key]
        return count


def _set_status(span: OtelSpan, outcome: str, error: str | None, at: int) -> None:
    from opentelemetry.trace import Status, StatusCode

    if outcome == "ok":
        span.set_status(Status(StatusCode.OK))
    elif outcome == "error":
        kind = encodable(error or "Exception")
        span.set_attribute("error.type", kind)
        span.add_event("exception", {"exception.type": kind}, timestamp=at)
        span.set_status(Status(StatusCode.ERROR, kind))


def _task_attributes(task: TaskRecord, snapshot: Snapshot) -> dict[str, Any]:
    return _known(
        {
            "kingdom_async.backend": snapshot.backend,
            "kingdom_async.task.serial": task.serial,
            "kingdom_async.task.parent": task.parent,
            "kingdom_async.task.name": task.name,
            "kingdom_async.task.group": task.group,
            "kingdom_async.task.foreign": task.foreign,
            "kingdom_async.task.busy": task.busy if task.steps else None,
            "kingdom_async.task.steps": task.steps or None,
            **_code(task.place),
        }
    )


def _code(place: str | None) -> dict[str, Any]:
    """``"service.py:12 in main"`` as OpenTelemetry names its parts."""
    found = re.fullmatch(r"(.*):(\d+) in (.*)", place or "")
    if found is None:
        return {}
    path, line, function = found.groups()
    return {
        "code.file.path": path,
        "code.line.number": int(line),
        "code.function.name": function,
    }


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what is None; and each text such that it can be sent."""
    return {
        name: encodable(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }


def _nanoseconds(at: float, epoch: float) -> int:
    # apart, because a float of today's seconds is exact to 256 ns only
    return round(epoch * 1e9) + round(at * 1e9)


def _key_of(lint: Lint) -> Hashable:
    return lint.kind, lint.task, lint.at


def _keyed(spans: Iterable[Span]) -> Iterator[tuple[Hashable, Span]]:
    """The spans by what stays the same while they go on."""
    for span in spans:
        yield (span.task, span.start, span.name), span


def _nested(
    spans: dict[Hashable, Span], ended: float
) -> Iterator[tuple[Hashable, Span, Hashable]]:
    """Each span with the key of the one of its task that it lies in, outer ones first."""

    def until(span: Span) -> float:
        return ended if span.end is None else span.end

    around: dict[int | None, list[tuple[Hashable, float]]] = {}
    for key, span in sorted(spans.items(), key=lambda item: (item[1].start, -until(item[1]))):
        outer = around.setdefault(span.task, [])
        while outer and outer[-1][1] < until(span):
            outer.pop()
        yield key, span, outer[-1][0] if outer and span.task is not None else None
        outer.append((key, until(span)))


def _link(context: Context) -> Link:
    from opentelemetry.trace import Link, get_current_span

    return Link(get_current_span(context).get_span_context())
