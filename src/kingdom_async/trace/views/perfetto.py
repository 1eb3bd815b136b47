"""A recording as Chrome trace events, which Perfetto and chrome://tracing draw.

Rule: whatever the recording holds, the events keep to the format: each ``b`` has its ``e``,
slices of one thread never overlap, and both ends of an arrow lie in a slice, because the
viewers drop what does not. Times are whole nanoseconds from the start, none after the end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ..records import Lag, Lint, Span, Step, TaskRecord
    from ..snapshot import Snapshot

Event: TypeAlias = dict[str, Any]

#: The threads that are drawn: the loop with its steps, and the ends of arrows without a step.
_LOOP, _SPAWNS = 1, 2
#: Nanoseconds that such an end is wide, where there is room.
_MARK = 1000
#: Colours of chrome://tracing; Perfetto has its own.
_COLOURS = {"error": "terrible", "cancelled": "grey"}


def events(snapshot: Snapshot) -> list[Event]:
    """The events of *snapshot*, in order of time, the names of process and threads first."""
    return _Drawing(snapshot).events()


class _Slice(NamedTuple):
    """A step as it is drawn: in nanoseconds, and clear of its neighbours."""

    start: int
    end: int
    task: int | None


class _Drawing:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.end = self.nanoseconds(snapshot.ended)
        self.tasks = {task.serial: task for task in snapshot.tasks}
        self.steps = self._clear(snapshot.steps)
        self.starts = [step.start for step in self.steps]
        #: Arrows by child: those between two steps, by their index, and the others.
        self.bound: dict[int, tuple[int, int]] = {}
        self.unbound: list[TaskRecord] = []
        self._connect()

    def events(self) -> list[Event]:
        drawn = [
            *self._lives(),
            *self._slices(),
            *self._marks(),
            *self._live_tasks(),
            *self._lags(self.snapshot.lags),
            *self._instants(),
        ]
        # A stable sort: at one time, events stand in the order in which they were made.
        return [*self._names(), *sorted(drawn, key=lambda event: event["ts"])]

    # --- times and names -----------------------------------------------------------------

    def nanoseconds(self, at: float) -> int:
        """A time as drawn. What is outside of the recording, or no number, is moved into it."""
        began, ended = self.snapshot.began, self.snapshot.ended
        return max(0, round((min(ended, max(began, at)) - began) * 1e9))

    def event(self, phase: str, name: str, at: int, **more: object) -> Event:
        return {"ph": phase, "name": name, "ts": at / 1000, "pid": self.snapshot.pid, **more}

    def name_of(self, serial: int | None, otherwise: str = "a callback") -> str:
        if serial is None:
            return otherwise
        task = self.tasks.get(serial)
        return f"task {serial}" if task is None else task.name or f"task {serial}"

    def _names(self) -> Iterator[Event]:
        drawn = self.snapshot
        where = f"{drawn.backend}, Python {drawn.python}, level {drawn.level}"
        dropped = f"dropped: {drawn.dropped}"
        threads = {_LOOP: f"{drawn.backend} loop", _SPAWNS: "spawn and first run"}
        for name, args in (
            ("process_name", {"name": f"{drawn.program} ({where})"}),
            ("process_labels", {"labels": dropped}),
            ("process_sort_index", {"sort_index": 0}),
        ):
            yield self.event("M", name, 0, tid=_LOOP, args=args)
        for thread, title in threads.items():
            yield self.event("M", "thread_name", 0, tid=thread, args={"name": title})
            yield self.event(
                "M", "thread_sort_index", 0, tid=thread, args={"sort_index": thread}
            )
        if any(drawn.dropped):
            yield self.event(
                "i", dropped, 0, tid=_LOOP, s="p", cat="dropped", args=drawn.dropped._asdict()
            )

    # --- lives -----------------------------------------------------------------------------

    def _lives(self) -> Iterator[Event]:
        spans: dict[int | None, list[Span]] = defaultdict(list)
        for span in self.snapshot.spans:
            spans[span.task if span.task in self.tasks else None].append(span)
        loose = spans.pop(None, [])
        for task in self.snapshot.tasks:
            yield from self._life(task, spans.get(task.serial, []), loose)
        for number, span in enumerate(loose):
            begin, end = self._span_events(span, {"cat": "span", **_local(number)})
            yield begin
            yield end

    def _life(self, task: TaskRecord, spans: list[Span], loose: list[Span]) -> Iterator[Event]:
        """A task with the spans that nest in it; those that do not go to *loose*."""
        key = {"cat": "task", **_local(task.serial)}
        start, end = self._lifetime(task)
        args = {**_told(task), **self._unfinished(task.ended)}
        look = {"cname": _COLOURS[task.outcome]} if task.outcome in _COLOURS else {}
        name = self.name_of(task.serial)
        yield self.event("b", name, start, tid=_LOOP, **key, args=args, **look)
        last = self.event("e", name, end, tid=_LOOP, **key)
        open_spans: list[Event] = []
        for span in sorted(spans, key=lambda span: (span.start, -self._end(span.end))):
            begin, finish = self._span_events(span, key)
            while open_spans and open_spans[-1]["ts"] <= begin["ts"]:
                yield open_spans.pop()
            around = open_spans[-1] if open_spans else last
            if start / 1000 <= begin["ts"] and finish["ts"] <= around["ts"]:
                yield begin
                open_spans.append(finish)
            else:
                loose.append(span)
        yield from reversed(open_spans)
        yield last

    def _lifetime(self, task: TaskRecord) -> tuple[int, int]:
        known = (at for at in (task.spawned, task.started) if at is not None)
        start = self.nanoseconds(next(known, self.snapshot.began))
        return start, max(start, self._end(task.ended))

    def _end(self, ended: float | None) -> int:
        return self.end if ended is None else self.nanoseconds(ended)

    def _span_events(self, span: Span, key: Event) -> tuple[Event, Event]:
        start = self.nanoseconds(span.start)
        args = _known(outcome=span.outcome, error=span.error, task=span.task)
        args.update(self._unfinished(span.end))
        name = span.name or "span"
        return (
            self.event("b", name, start, tid=_LOOP, **key, args=args),
            self.event("e", name, max(start, self._end(span.end)), tid=_LOOP, **key),
        )

    def _unfinished(self, ended: float | None) -> dict[str, object]:
        return {"unfinished": True} if ended is None else {}

    # --- steps and arrows ------------------------------------------------------------------

    def _clear(self, steps: Iterable[Step]) -> list[_Slice]:
        """The steps in order, each cut where the one before it has not ended."""
        slices: list[_Slice] = []
        free = 0
        for step in sorted(steps, key=lambda step: (step.start, step.end)):
            start, end = max(free, self.nanoseconds(step.start)), self.nanoseconds(step.end)
            if start <= end:
                slices.append(_Slice(start, end, step.task))
                free = end
        return slices

    def _connect(self) -> None:
        """Find, by child, the steps that spawned it and first ran it."""
        for task in self.snapshot.tasks:
            spawned, started = task.spawned, task.started
            if task.parent is None or spawned is None or started is None:
                continue
            if not self.snapshot.began <= spawned <= started <= self.snapshot.ended:
                continue
            source = self._step_around(self.nanoseconds(spawned))
            target = self._first_step(task.serial, self.nanoseconds(started))
            if source is not None and target is not None and source < target:
                self.bound[task.serial] = source, target
            else:
                self.unbound.append(task)

    def _step_around(self, at: int) -> int | None:
        found = bisect_right(self.starts, at) - 1
        return found if found >= 0 and at <= self.steps[found].end else None

    def _first_step(self, serial: int, at: int) -> int | None:
        found = self._step_around(at)
        if found is None:  # noted just before its step
            found = bisect_right(self.starts, at)
        known = found < len(self.steps) and self.steps[found].task == serial
        return found if known else None

    def _slices(self) -> Iterator[Event]:
        """The steps, each with the ends of arrows that lie in it right behind it."""
        ends: dict[int, list[tuple[int, str, int]]] = defaultdict(list)
        for serial, (source, target) in self.bound.items():
            spawned = self.nanoseconds(self.tasks[serial].spawned or 0.0)
            ends[source].append((spawned, "s", serial))
            ends[target].append((self.steps[target].start, "f", serial))
        for number, step in enumerate(self.steps):
            args = _known(task=step.task)
            name = self.name_of(step.task)
            yield self._slice(_LOOP, name, "step", step.start, step.end, args)
            for at, phase, serial in sorted(ends.get(number, ())):
                yield self._arrow_end(phase, at, serial, _LOOP)

    def _marks(self) -> Iterator[Event]:
        """Arrows without steps to bind to: between marks on a thread of their own."""
        marks: list[tuple[int, str, int]] = []
        for task in self.unbound:
            marks.append((self.nanoseconds(task.spawned or 0.0), "s", task.serial))
            marks.append((self.nanoseconds(task.started or 0.0), "f", task.serial))
        marks.sort(key=lambda mark: mark[0])  # of one task and one time, spawned stays first
        afters = [at for at, *_ in marks[1:]] + [self.end]
        for (at, phase, serial), after in zip(marks, afters, strict=False):
            name = f"{'spawn' if phase == 's' else 'first run'}: {self.name_of(serial)}"
            until = min(at + _MARK, max(at, after))
            yield self._slice(_SPAWNS, name, "spawn", at, until, {"task": serial})
            yield self._arrow_end(phase, at, serial, _SPAWNS)

    def _slice(
        self, thread: int, name: str, category: str, start: int, end: int, args: Event
    ) -> Event:
        dur = (end - start) / 1000
        if start / 1000 + dur > end / 1000:  # by a rounding; the next slice may begin there
            dur = math.nextafter(end / 1000, 0) - start / 1000
        return self.event("X", name, start, dur=dur, tid=thread, cat=category, args=args)

    def _arrow_end(self, phase: str, at: int, serial: int, thread: int) -> Event:
        bound = {"bp": "e"} if phase == "f" else {}
        key = {"cat": "spawn", "id": hex(serial)}
        return self.event(phase, "spawn", at, tid=thread, **key, **bound)

    # --- counters and instants -------------------------------------------------------------

    def _live_tasks(self) -> Iterator[Event]:
        changes: dict[int, int] = defaultdict(int)
        changes[0] = changes[self.end] = 0
        for task in self.snapshot.tasks:
            start, end = self._lifetime(task)
            changes[start] += 1
            if task.ended is not None:
                changes[end] -= 1
        live = 0
        for at in sorted(changes):
            live += changes[at]
            yield self.event("C", "tasks", at, tid=_LOOP, args={"live": live})

    def _lags(self, lags: Iterable[Lag]) -> Iterator[Event]:
        for lag in lags:
            if math.isfinite(lag.seconds):
                args = {"ms": round(lag.seconds * 1000, 6)}
                yield self.event(
                    "C", "loop lag", self.nanoseconds(lag.at), tid=_LOOP, args=args
                )

    def _instants(self) -> Iterator[Event]:
        for lint in self.snapshot.lints:
            yield self._instant(_lint_title(lint, self), "lint", lint.at, _lint_args(lint))
        for task in self.snapshot.tasks:
            if task.outcome == "cancelled" and task.ended is not None:
                args = _known(task=task.serial, cancelled_by=task.cancelled_by)
                name = f"cancelled: {self.name_of(task.serial)}"
                yield self._instant(name, "cancelled", task.ended, args)

    def _instant(self, name: str, category: str, at: float, args: Event) -> Event:
        # Of the process: an instant of a thread would be a slice there, and draw arrows to it.
        more = {"tid": _LOOP, "s": "p", "cat": category, "args": args}
        return self.event("i", name, self.nanoseconds(at), **more)


def _lint_title(lint: Lint, drawing: _Drawing) -> str:
    return f"{lint.kind}: {drawing.name_of(lint.task, 'the loop')}"


def _lint_args(lint: Lint) -> Event:
    return _known(message=lint.message, task=lint.task, place=lint.place)


def _told(task: TaskRecord) -> Event:
    """What a click on a task shows."""
    args = _known(
        task=task.serial,
        parent=task.parent,
        outcome=task.outcome,
        error=task.error,
        cancelled_by=task.cancelled_by,
        place=task.place,
        group=task.group,
        foreign=task.foreign or None,
    )
    if task.steps and math.isfinite(task.busy):
        args.update(busy_ms=round(task.busy * 1000, 6), steps=task.steps)
    return args


def _local(number: int) -> Event:
    # An id of the process: Perfetto draws what has a plain "id" apart from it.
    return {"id2": {"local": hex(number)}}


def _known(**args: object) -> Event:
    return {name: value for name, value in args.items() if value is not None}
