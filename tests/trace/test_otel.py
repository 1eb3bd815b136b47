"""Recordings as OpenTelemetry spans and metrics, seen through the real SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext, StatusCode

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import otel
from kingdom_async.trace.records import Dropped, Lag, Lint, Span, Step, TaskRecord
from support.made_up_snapshots import BEGAN, random_snapshot, snapshot, task
from support.turns import settle

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from kingdom_async.trace.snapshot import Snapshot


class Sink:
    """Where spans go to in these tests."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.tracer: Tracer = provider.get_tracer("tests")

    def spans(self) -> dict[str, ReadableSpan]:
        found = self.memory.get_finished_spans()
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}


class Recording:
    """A recording whose records are those of a snapshot, and go on as the test says."""

    def __init__(self, first: Snapshot) -> None:
        self.now = first

    def snapshot(self) -> Snapshot:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def exported(made_up: Snapshot, **options: Any) -> dict[str, ReadableSpan]:
    sink = Sink()
    count = otel.export_spans(made_up, sink.tracer, **options)
    assert count == len(sink.memory.get_finished_spans())
    return sink.spans()


def context_of(span: ReadableSpan) -> SpanContext:
    assert span.context is not None
    return span.context


def nanoseconds(at: float) -> int:
    return round(1_700_000_000.25e9) + round(at * 1e9)


# --- a whole recording ---------------------------------------------------------------------


def test_a_task_is_a_span_under_its_parent() -> None:
    """One trace, real times to the nanosecond."""
    spans = exported(snapshot(task(0, ended=BEGAN + 0.5), task(1, 0), task(2, 1)))
    root, child, grandchild = (spans[f"task-{number}"] for number in range(3))
    assert root.parent is None
    assert child.parent == context_of(root)
    assert grandchild.parent == context_of(child)
    assert not child.links
    assert child.start_time == nanoseconds(BEGAN + 0.001)
    assert child.end_time == nanoseconds(BEGAN + 0.011)
    (first_run,) = child.events
    assert first_run.name == "kingdom_async.first_run"
    assert first_run.timestamp == nanoseconds(BEGAN + 0.0015)


def test_a_name_that_cannot_be_encoded_loses_nothing() -> None:
    """One text that is no Unicode would make the exporter drop the whole batch."""
    odd = task(0, name="\ud800 odd", place="\udc80.py:1 in f", outcome="error", error="E\ud800")
    lone = Span("s\udfff", 0, BEGAN + 0.002, BEGAN + 0.003, "ok", None)
    spans = exported(replace(snapshot(odd), spans=(lone,)))
    assert set(spans) == {"? odd", "s?"}
    for span in spans.values():
        span.to_json().encode()
        for value in (span.attributes or {}).values():
            str(value).encode()


def test_attributes_have_the_names_that_opentelemetry_gives_them() -> None:
    """``code.*`` for the line, ``kingdom_async.*`` for what is ours."""
    child = task(1, 0, name="amap(fetch)[3]", busy=0.25, steps=4)
    span = exported(snapshot(task(0), child))["amap(fetch)"]
    assert dict(span.attributes or {}) == {
        "kingdom_async.backend": "asyncio",
        "kingdom_async.task.serial": 1,
        "kingdom_async.task.parent": 0,
        "kingdom_async.task.name": "amap(fetch)[3]",
        "kingdom_async.task.group": "TaskGroup at service.py:10 in main",
        "kingdom_async.task.foreign": False,
        "kingdom_async.task.busy": 0.25,
        "kingdom_async.task.steps": 4,
        "kingdom_async.outcome": "ok",
        "code.file.path": "service.py",
        "code.line.number": 2,
        "code.function.name": "main",
    }


def test_a_span_of_a_task_that_nobody_named_is_called_after_its_coroutine() -> None:
    """asyncio's number would make a name of its own of each task."""
    span = exported(snapshot(task(0, name="Task-12 (Cycle.run_asgi)")))["Cycle.run_asgi"]
    assert span.attributes is not None
    assert span.attributes["kingdom_async.task.name"] == "Task-12 (Cycle.run_asgi)"


def test_a_failure_is_a_status_and_an_exception() -> None:
    """As instrumentation libraries report one."""
    span = exported(snapshot(task(0, outcome="error", error="KeyError")))["task-0"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "KeyError"
    assert span.attributes is not None
    assert span.attributes["error.type"] == "KeyError"
    exception = span.events[-1]
    assert exception.name == "exception"
    assert dict(exception.attributes or {}) == {"exception.type": "KeyError"}
    assert exception.timestamp == span.end_time


def test_success_is_ok_and_cancellation_is_neither() -> None:
    """A cancelled task did not fail; an event says what cancelled it."""
    stopped = task(1, 0, outcome="cancelled", cancelled_by="deadline 'reply'")
    spans = exported(snapshot(task(0), stopped))
    assert spans["task-0"].status.status_code is StatusCode.OK
    assert spans["task-1"].status.status_code is StatusCode.UNSET
    event = spans["task-1"].events[-1]
    assert event.name == "kingdom_async.cancelled"
    assert dict(event.attributes or {}) == {"kingdom_async.cancelled_by": "deadline 'reply'"}


def test_what_still_runs_ends_with_the_recording_and_says_so() -> None:
    """A span that is never ended is never seen."""
    spans = exported(snapshot(task(0, ended=None, outcome="running")))
    assert spans["task-0"].end_time == nanoseconds(BEGAN + 1.0)
    assert (spans["task-0"].attributes or {})["kingdom_async.outcome"] == "running"


def test_under_a_foreign_parent_a_trace_begins_with_a_link_to_it() -> None:
    """The parent may never end, and a trace without its root is no trace."""
    foreign = task(0, spawned=None, started=None, foreign=True, outcome="unknown")
    spans = exported(snapshot(foreign, task(1, 0), task(2, 1)))
    root, parent = spans["task-1"], spans["task-0"]
    assert root.parent is None
    assert [link.context for link in root.links] == [parent.context]
    assert context_of(root).trace_id != context_of(parent).trace_id
    assert spans["task-2"].parent == context_of(root)
    assert parent.start_time == nanoseconds(BEGAN)


def test_the_caller_says_which_tasks_begin_a_trace() -> None:
    """So that each request of a service is one."""
    made_up = snapshot(task(0), task(1, 0, name="request"), task(2, 1))
    spans = exported(made_up, new_trace=lambda task: task.name == "request")
    assert spans["request"].parent is None
    assert [link.context for link in spans["request"].links] == [spans["task-0"].context]
    assert spans["task-2"].parent == context_of(spans["request"])


def test_a_parent_that_was_dropped_leaves_its_number() -> None:
    """There is nothing to link to."""
    span = exported(snapshot(task(5, 2)))["task-5"]
    assert span.parent is None
    assert not span.links
    assert (span.attributes or {})["kingdom_async.task.parent"] == 2


def test_spans_are_children_of_their_task_or_of_one_another() -> None:
    """As the blocks lie in the code."""
    at = BEGAN
    spans = (
        Span("inner", 0, at + 0.2, at + 0.3, "error", "OSError"),
        Span("outer", 0, at + 0.1, at + 0.4, "ok", None),
        Span("beside", 0, at + 0.35, at + 0.5, "ok", None),
        Span("nobody's", None, at + 0.1, at + 0.5, "ok", None),
        Span("nobody's either", None, at + 0.2, at + 0.3, "ok", None),
    )
    found = exported(snapshot(task(0, spawned=at, ended=at + 0.9), spans=spans))
    assert found["outer"].parent == found["beside"].parent == found["task-0"].context
    assert found["inner"].parent == found["outer"].context
    assert found["inner"].status.description == "OSError"
    assert found["nobody's"].parent is found["nobody's either"].parent is None


def test_a_lint_is_an_event_of_its_task() -> None:
    """With its kind, its sentence and its line."""
    lint = Lint("long-step", 0, "a.py:3 in f", "task-0 held the loop", BEGAN + 0.005)
    span = exported(snapshot(task(0), lints=(lint,)))["task-0"]
    (event,) = (event for event in span.events if event.name == "kingdom_async.lint")
    assert event.timestamp == nanoseconds(BEGAN + 0.005)
    assert dict(event.attributes or {}) == {
        "kingdom_async.lint.kind": "long-step",
        "kingdom_async.lint.message": "task-0 held the loop",
        "code.file.path": "a.py",
        "code.line.number": 3,
        "code.function.name": "f",
    }


def test_the_span_around_the_export_is_not_the_parent(sink: Sink) -> None:
    """Whoever exports has nothing to do with what was recorded."""
    with sink.tracer.start_as_current_span("the exporter"):
        otel.export_spans(snapshot(task(0)), sink.tracer)
    assert sink.spans()["task-0"].parent is None


@pytest.mark.parametrize("seed", range(20))
def test_any_recording_can_be_exported(seed: int, sink: Sink) -> None:
    """A span for each record, each with an end that is not before its start."""
    made_up = random_snapshot(seed)
    count = otel.export_spans(made_up, sink.tracer)
    found = sink.memory.get_finished_spans()
    assert count == len(found) == len(made_up.tasks) + len(made_up.spans)
    ids = {context_of(span).span_id for span in found}
    for span in found:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
        assert span.parent is None or span.parent.span_id in ids


def test_a_sampler_that_takes_nothing_is_served_too() -> None:
    """Spans that do not record are ended like any other."""
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("tests")
    assert otel.export_spans(snapshot(task(0), task(1, 0)), tracer) == 2


# --- while it goes on ----------------------------------------------------------------------


def live(serial: int, parent: int | None = None) -> TaskRecord:
    return task(serial, parent, ended=None, outcome="running")


def test_each_finished_task_goes_out_once(sink: Sink) -> None:
    """However often it is seen; and children find a parent that has not ended."""
    recording = Recording(snapshot(live(0), live(1, 0)))
    exporter = otel.Exporter(recording, sink.tracer)
    assert exporter.export() == 0
    recording.now = snapshot(live(0), task(1, 0), task(2, 0))
    assert [exporter.export(), exporter.export()] == [2, 0]
    recording.now = snapshot(task(0), task(1, 0), task(2, 0))
    assert [exporter.export(), exporter.close(), exporter.close()] == [1, 0, 0]
    spans = sink.spans()
    assert spans["task-1"].parent == spans["task-2"].parent == spans["task-0"].context


def test_a_task_that_was_seen_before_it_ran_tells_when_it_first_did(sink: Sink) -> None:
    """What is not known at the first call is told at the last."""
    recording = Recording(snapshot(replace(live(0), started=None, name="early")))
    exporter = otel.Exporter(recording, sink.tracer)
    exporter.export()
    recording.now = snapshot(task(0, busy=0.5, steps=2))
    exporter.export()
    span = sink.spans()["early"]
    assert [event.name for event in span.events] == ["kingdom_async.first_run"]
    assert (span.attributes or {})["kingdom_async.task.busy"] == 0.5


def test_a_clock_that_is_set_changes_no_duration(sink: Sink) -> None:
    """A task's times are told with the epoch with which it began."""
    recording = Recording(snapshot(live(0)))
    exporter = otel.Exporter(recording, sink.tracer)
    exporter.export()
    recording.now = replace(snapshot(task(0)), epoch=1_600_000_000.0)
    exporter.export()
    span = sink.spans()["task-0"]
    assert span.start_time is not None
    assert span.end_time == span.start_time + 10_000_000


def test_closing_ends_what_still_runs(sink: Sink) -> None:
    """With the outcome that it has."""
    exporter = otel.Exporter(Recording(snapshot(task(0), live(1, 0))), sink.tracer)
    assert exporter.close() == 2
    assert (sink.spans()["task-1"].attributes or {})["kingdom_async.outcome"] == "running"


def test_a_task_that_was_dropped_in_between_ends_as_unknown(sink: Sink) -> None:
    """It is not kept open, and nothing of it is kept."""
    recording = Recording(snapshot(live(0), live(1, 0)))
    exporter = otel.Exporter(recording, sink.tracer)
    exporter.export()
    recording.now = snapshot(live(0))
    assert exporter.export() == 1
    assert (sink.spans()["task-1"].attributes or {})["kingdom_async.outcome"] == "unknown"
    assert exporter._spans.contexts.keys() == exporter._spans.open.keys() == {0}


def test_a_span_goes_out_when_it_ends_under_one_that_has_not(sink: Sink) -> None:
    """A server's main task never ends; what happens in it is seen all the same."""
    outer = Span("outer", 0, BEGAN + 0.1, None, "running", None)
    inner = Span("inner", 0, BEGAN + 0.2, BEGAN + 0.3, "ok", None)
    recording = Recording(snapshot(live(0), spans=(outer, inner)))
    exporter = otel.Exporter(recording, sink.tracer)
    assert [exporter.export(), exporter.export()] == [1, 0]
    outer = replace(outer, end=BEGAN + 0.4, outcome="ok")
    recording.now = snapshot(live(0), spans=(outer, inner))
    assert exporter.export() == 1
    spans = sink.spans()
    assert spans["inner"].parent == spans["outer"].context


def test_a_lint_is_an_event_once(sink: Sink) -> None:
    """Though the recording has it each time, and may know more of it later."""
    lint = Lint("stuck", 0, None, "task-0 waits", BEGAN + 0.5)
    recording = Recording(snapshot(live(0), lints=(lint,)))
    exporter = otel.Exporter(recording, sink.tracer)
    exporter.export()
    recording.now = snapshot(live(0), lints=(replace(lint, message="task-0 waited 5 s"),))
    exporter.export()
    exporter.close()
    events = [event.name for event in sink.spans()["task-0"].events]
    assert events.count("kingdom_async.lint") == 1


async def test_a_real_recording_is_exported_while_it_goes_on(sink: Sink) -> None:
    """The recorder's own tasks and spans on every backend, once each, nested as they ran."""

    async def fail() -> None:
        with trace.span("reading"):
            await ka.checkpoint()
        raise LookupError

    async def work() -> None:
        with pytest.raises(LookupError):
            async with ka.TaskGroup(errors="first") as group:
                group.create_task(fail(), name="fails")
                group.create_task(ka.sleep_forever(), name="waits")

    meters = Meters()
    with trace.recording() as recording:
        otel.instrument(recording, meters.meter)
        exporter = otel.Exporter(recording, sink.tracer)
        async with ka.TaskGroup() as group:
            group.create_task(work(), name="works")
        exporter.export()
        assert by("outcome", meters.collect()["tasks.finished"]) == {
            "ok": 1,
            "error": 1,
            "cancelled": 1,
        }
    exporter.close()
    spans = sink.spans()
    assert spans["fails"].parent == spans["waits"].parent == spans["works"].context
    assert spans["reading"].parent == spans["fails"].context
    assert spans["fails"].status.description == "LookupError"
    assert "kingdom_async.cancelled" in {event.name for event in spans["waits"].events}


async def test_the_wait_for_a_token_is_a_span_of_the_call(sink: Sink) -> None:
    """Told apart from the call that it is a part of, on every backend."""
    limiter = ka.Limiter(1, name="database")
    with trace.recording() as recording:
        async with ka.TaskGroup() as group, limiter:
            group.create_task(ka.offload(len, "", limiter=limiter), name="calls")
            await settle()
    otel.export_spans(recording.snapshot(), sink.tracer)
    spans = sink.spans()
    assert spans["offload(len)"].parent == spans["calls"].context
    assert spans["waits for 'database'"].parent == spans["offload(len)"].context


# --- metrics -------------------------------------------------------------------------------


class Meters:
    """A meter with readers, and what they read."""

    def __init__(self, readers: int = 1) -> None:
        self.readers = [InMemoryMetricReader() for _ in range(readers)]
        provider = MeterProvider(metric_readers=self.readers, shutdown_on_exit=False)
        self.meter = provider.get_meter("tests")

    def collect(self, reader: int = 0) -> dict[str, list[Any]]:
        """The points by metric, without the name's beginning."""
        data = self.readers[reader].get_metrics_data()
        assert data is not None
        (ours,) = json.loads(data.to_json())["resource_metrics"][0]["scope_metrics"]
        return {
            metric["name"].removeprefix("kingdom_async."): metric["data"]["data_points"]
            for metric in ours["metrics"]
        }


def value(points: list[Any]) -> int:
    (point,) = points
    return point["value"]


def by(attribute: str, points: list[Any]) -> dict[str, int]:
    values = {
        point["attributes"][f"kingdom_async.{attribute}"]: point["value"] for point in points
    }
    return {name: count for name, count in values.items() if count}


def test_tasks_are_counted_live_spawned_and_finished() -> None:
    """By outcome, and each once over several collections."""
    meters = Meters()
    recording = Recording(snapshot(live(0), task(1, 0), task(2, 0, outcome="error")))
    otel.instrument(recording, meters.meter)
    for _ in range(2):
        found = meters.collect()
        assert value(found["tasks.live"]) == 1
        assert value(found["tasks.spawned"]) == 3
        assert by("outcome", found["tasks.finished"]) == {"ok": 1, "error": 1}
    recording.now = snapshot(task(0), task(1, 0), task(2, 0, outcome="error"), live(3))
    found = meters.collect()
    assert value(found["tasks.live"]) == 1
    assert value(found["tasks.spawned"]) == 4
    assert by("outcome", found["tasks.finished"]) == {"ok": 2, "error": 1}


def test_what_was_dropped_is_counted_on() -> None:
    """No counter goes down; a task dropped before any collection ended as "unknown"."""
    meters = Meters()
    recording = Recording(snapshot(live(0), task(1, 0)))
    otel.instrument(recording, meters.meter)
    meters.collect()
    # 1 is dropped after it was counted; 2 and 3 before
    recording.now = snapshot(
        live(0), task(4, 0, outcome="cancelled"), dropped=Dropped(tasks=3, steps=9)
    )
    for _ in range(2):
        found = meters.collect()
        assert value(found["tasks.spawned"]) == 5
        counts = by("outcome", found["tasks.finished"])
        assert counts == {"ok": 1, "unknown": 2, "cancelled": 1}
        assert by("record", found["records.dropped"]) == {"tasks": 3, "steps": 9}


def test_histograms_take_each_step_and_lag_once() -> None:
    """Fed at each collection with what came since the last, in seconds."""
    meters = Meters()
    at = BEGAN
    first = Step(at, at + 0.002, 0), Step(at + 0.002, at + 0.002, None)
    recording = Recording(snapshot(steps=first, lags=(Lag(at, 0.25),)))
    otel.instrument(recording, meters.meter)
    meters.collect()
    more = (*first[1:], Step(at + 0.002, at + 0.302, 1))
    recording.now = snapshot(steps=more, lags=(Lag(at, 0.25), Lag(at + 1, 0.5)))
    meters.collect()
    found = meters.collect()
    (steps,), (lags,) = found["step.duration"], found["loop.lag"]
    assert steps["count"] == 3
    assert steps["sum"] == pytest.approx(0.302)
    assert steps["max"] == pytest.approx(0.3)
    assert lags["count"] == 2
    assert lags["sum"] == 0.75
    assert steps["explicit_bounds"][0] == 0.0001


def test_two_readers_see_the_same() -> None:
    """What one collection fed is there for the other, once."""
    meters = Meters(readers=2)
    made_up = snapshot(task(0), steps=(Step(BEGAN, BEGAN + 1, 0),))
    otel.instrument(Recording(made_up), meters.meter)
    for reader in (0, 1, 0):
        found = meters.collect(reader)
        assert found["step.duration"][0]["count"] == 1
        assert by("outcome", found["tasks.finished"]) == {"ok": 1}


def test_a_recording_with_nothing_in_it_has_zeros() -> None:
    """And no point in the histograms."""
    meters = Meters()
    otel.instrument(Recording(snapshot()), meters.meter)
    found = meters.collect()
    assert value(found["tasks.live"]) == value(found["tasks.spawned"]) == 0
    assert "step.duration" not in found
    assert "tasks.finished" not in found


def test_a_counter_never_goes_down() -> None:
    """Also where a task is dropped between two looks at the recording."""
    meters = Meters()
    recording = Recording(snapshot(task(0), dropped=Dropped(tasks=5)))
    otel.instrument(recording, meters.meter)
    before = meters.collect()
    recording.now = snapshot(task(0), dropped=Dropped(tasks=4))
    after = meters.collect()
    for name in ("tasks.spawned", "tasks.finished"):
        assert [p["value"] for p in after[name]] == [p["value"] for p in before[name]]


# --- without OpenTelemetry -----------------------------------------------------------------


def test_opentelemetry_is_imported_by_a_call_only_and_asked_for_in_a_sentence() -> None:
    """Without the extra, the error says what to install."""
    program = """
import sys
sys.modules["opentelemetry.trace"] = sys.modules["opentelemetry.metrics"] = None
from kingdom_async.trace import otel
print("opentelemetry" in sys.modules)
for call in (lambda: otel.export_spans(None), lambda: otel.Exporter(None),
             lambda: otel.instrument(None)):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    install = "needs OpenTelemetry; install it with: pip install 'kingdom_async[otel]'"
    assert done.stdout.splitlines() == [
        "False",
        f"export_spans() {install}",
        f"Exporter() {install}",
        f"instrument() {install}",
    ]
