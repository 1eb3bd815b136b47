"""The events for Perfetto and chrome://tracing keep to the format, and tell the story."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace.records import Dropped, Lag, Lint, Span, Step
from kingdom_async.trace.views.perfetto import events
from support.made_up_snapshots import BEGAN, random_snapshot, snapshot, task

if TYPE_CHECKING:
    from kingdom_async.trace.snapshot import Snapshot

Event = dict[str, Any]

#: What an event of each phase must have beside "ph", "name", "ts", "pid" and "tid".
NEEDS = {
    "b": {"cat", "id2"},
    "e": {"cat", "id2"},
    "X": {"dur"},
    "s": {"cat", "id"},
    "f": {"cat", "id", "bp"},
    "C": {"args"},
    "i": {"s"},
    "M": {"args"},
}


# --- a checker of the format ---------------------------------------------------------------


def checked(made_up: Snapshot) -> list[Event]:
    """The events as a viewer reads them from the file, after all rules have been checked."""
    text = json.dumps({"traceEvents": events(made_up)}, allow_nan=False)
    found: list[Event] = json.loads(text)["traceEvents"]
    _check_fields(found)
    last = max(nanoseconds(event["ts"]) for event in found)
    assert last <= round((made_up.ended - made_up.began) * 1e9)
    _check_lives(found)
    _check_slices(found)
    _check_arrows(found)
    return found


def nanoseconds(microseconds: float) -> int:
    return round(microseconds * 1000)


def _check_fields(found: list[Event]) -> None:
    for event in found:
        assert event.keys() >= {"ph", "name", "ts", "pid", "tid"} | NEEDS[event["ph"]], event
        assert isinstance(event["name"], str)
        assert event["name"]
        assert isinstance(event["ts"], float)
        assert event["ts"] >= 0
        # Perfetto takes no plain numbers
        for number in (event.get("id", "0"), *event.get("id2", {"local": "0"}).values()):
            int(number, 16)
        assert event.get("s", "p") in {"g", "p", "t"}
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
    times = [event["ts"] for event in found]
    assert times == sorted(times)


def _check_lives(found: list[Event]) -> None:
    """Async events: by category and id a stack, each end with the name of its begin."""
    stacks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in found:
        key = event.get("cat", ""), event.get("id2", {}).get("local", "")
        if event["ph"] == "b":
            stacks[key].append(event["name"])
        elif event["ph"] == "e":
            assert stacks[key].pop() == event["name"]
    assert not any(stacks.values())


def _check_slices(found: list[Event]) -> None:
    """Complete events: those of one thread follow one another."""
    free: dict[int, int] = defaultdict(int)
    free_float: dict[int, float] = defaultdict(float)
    for event in found:
        if event["ph"] == "X":
            start, thread = nanoseconds(event["ts"]), event["tid"]
            assert event["dur"] >= 0
            assert start >= free[thread]
            assert event["ts"] >= free_float[thread]
            free[thread] = start + nanoseconds(event["dur"])
            free_float[thread] = event["ts"] + event["dur"]


def _check_arrows(found: list[Event]) -> None:
    """Flow events: a start, then its finish, each while a slice of its thread is open."""
    latest: dict[int, Event] = {}
    under_way: set[str] = set()
    done: set[str] = set()
    for event in found:
        if event["ph"] == "X":
            latest[event["tid"]] = event
        elif event["ph"] in "sf":
            around = latest[event["tid"]]
            start, at = nanoseconds(around["ts"]), nanoseconds(event["ts"])
            assert start <= at <= start + nanoseconds(around["dur"])
        if event["ph"] == "s":
            assert event["id"] not in under_way | done
            under_way.add(event["id"])
        elif event["ph"] == "f":
            assert event["bp"] == "e"
            under_way.remove(event["id"])
            done.add(event["id"])
    assert not under_way


def of(found: list[Event], phase: str, name: str | None = None) -> list[Event]:
    return [e for e in found if e["ph"] == phase and name in {None, e["name"]}]


# --- the format ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_any_recording_gives_events_by_the_rules(seed: int) -> None:
    """Each rule of the format holds, also where the recording itself makes no sense."""
    made_up = random_snapshot(seed)
    found = checked(made_up)
    assert len(of(found, "b")) == len(made_up.tasks) + len(made_up.spans)
    assert len(of(found, "X")) > 100


def test_an_empty_recording_is_a_drawing_too() -> None:
    """Names, and a count of no tasks."""
    found = checked(snapshot())
    assert {event["ph"] for event in found} == {"M", "C"}


def test_the_file_is_what_the_viewers_open(tmp_path: Path) -> None:
    """`to_perfetto` writes one object with the list of events."""
    made_up = snapshot(task(0))
    made_up.to_perfetto(tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["traceEvents"] == events(made_up)


def test_arrows_are_drawn_in_recordings_at_random() -> None:
    """The rules above are not kept by drawing nothing."""
    arrows = [e for seed in range(60) for e in of(checked(random_snapshot(seed)), "f")]
    assert {e["tid"] for e in arrows} == {1, 2}


# --- the story -----------------------------------------------------------------------------


def test_a_life_tells_how_it_ended() -> None:
    """Outcome, error, who cancelled and where it was spawned are shown at a click."""
    failed = task(1, 0, outcome="error", error="KeyError", busy=0.002, steps=3)
    stopped = task(2, 0, outcome="cancelled", cancelled_by="deadline 'reply'")
    found = checked(snapshot(task(0, ended=BEGAN + 0.5), failed, stopped))
    (life,) = of(found, "b", "task-1")
    assert life["args"] == {
        "task": 1,
        "parent": 0,
        "outcome": "error",
        "error": "KeyError",
        "place": "service.py:2 in main",
        "group": "TaskGroup at service.py:10 in main",
        "busy_ms": 2.0,
        "steps": 3,
    }
    assert life["ts"] == 1000.0
    assert of(found, "e", "task-1")[0]["ts"] == 11000.0
    (life,) = of(found, "b", "task-2")
    assert life["args"]["cancelled_by"] == "deadline 'reply'"
    (instant,) = of(found, "i", "cancelled: task-2")
    assert instant["ts"] == 12000.0
    assert instant["args"] == {"task": 2, "cancelled_by": "deadline 'reply'"}


def test_a_task_that_runs_still_is_drawn_to_the_end_and_says_so() -> None:
    """No life is left open."""
    found = checked(snapshot(task(0, ended=None, outcome="running")))
    assert of(found, "b")[0]["args"]["unfinished"] is True
    assert of(found, "e")[0]["ts"] == 1_000_000.0


def test_a_task_from_before_the_recording_is_drawn_from_its_start() -> None:
    """A foreign task has a life, from the first moment of the recording."""
    found = checked(snapshot(task(0, spawned=None, started=None, foreign=True)))
    assert of(found, "b")[0]["ts"] == 0.0
    assert of(found, "b")[0]["args"]["foreign"] is True


def test_spans_nest_in_their_task_and_in_one_another() -> None:
    """They share the id of the task; one that sticks out is drawn by itself."""
    at = BEGAN
    spans = (
        Span("outer", 0, at + 0.1, at + 0.4, "ok", None),
        Span("inner", 0, at + 0.2, at + 0.3, "error", "OSError"),
        Span("beside", 0, at + 0.25, at + 0.5, "ok", None),
        Span("open", 0, at + 0.6, None, "running", None),
        Span("nobody's", None, at + 0.1, at + 0.2, "ok", None),
    )
    found = checked(snapshot(task(0, spawned=at, ended=None), spans=spans))
    order = [(e["ph"], e["name"]) for e in found if e.get("cat") == "task"]
    assert order == [
        ("b", "task-0"),
        ("b", "outer"),
        ("b", "inner"),
        ("e", "inner"),
        ("e", "outer"),
        ("b", "open"),
        ("e", "open"),
        ("e", "task-0"),
    ]
    assert {e["id2"]["local"] for e in found if e.get("cat") == "task"} == {"0x0"}
    assert {e["name"] for e in found if e.get("cat") == "span"} == {"beside", "nobody's"}
    assert of(found, "b", "inner")[0]["args"]["error"] == "OSError"
    assert of(found, "b", "open")[0]["args"]["unfinished"] is True


def test_an_arrow_goes_from_the_step_that_spawned_to_the_first_step() -> None:
    """Both ends lie in steps of the loop's thread, under the names of the tasks."""
    at = BEGAN
    steps = (
        Step(at, at + 0.002, 0),
        Step(at + 0.002, at + 0.003, None),
        Step(at + 0.003, at + 0.004, 1),
        Step(at + 0.004, at + 0.005, 1),
    )
    child = task(1, 0, spawned=at + 0.001, started=at + 0.0030001)
    found = checked(snapshot(task(0, spawned=at), child, steps=steps))
    loop = [e for e in found if e["ph"] in "Xsf"]
    assert [(e["ph"], e["name"]) for e in loop] == [
        ("X", "task-0"),
        ("s", "spawn"),
        ("X", "a callback"),
        ("X", "task-1"),
        ("f", "spawn"),
        ("X", "task-1"),
    ]
    assert {e["tid"] for e in loop} == {1}


def test_without_steps_arrows_go_between_marks() -> None:
    """At level "life" there is no slice to bind to, so each end brings its own."""
    found = checked(snapshot(task(0), task(1, 0), task(2, 1)))
    assert [e["name"] for e in of(found, "X")] == [
        "spawn: task-1",
        "first run: task-1",
        "spawn: task-2",
        "first run: task-2",
    ]
    assert {e["tid"] for e in of(found, "X") + of(found, "s") + of(found, "f")} == {2}
    assert len(of(found, "s")) == len(of(found, "f")) == 2


@pytest.mark.parametrize(
    ("spawning", "running"),
    [(None, 1), (0, None), (0, 0)],
    ids=["no step spawned it", "its first step is lost", "another task's step"],
)
def test_an_arrow_whose_step_is_lost_goes_between_marks(
    spawning: int | None, running: int | None
) -> None:
    """It never starts or ends in a step of somebody else."""
    at = BEGAN
    steps = [Step(at, at + 0.0001, 0), Step(at + 0.02, at + 0.03, 1)]
    if spawning is not None:
        steps.append(Step(at + 0.001, at + 0.002, spawning))
    if running is not None:
        steps.append(Step(at + 0.003, at + 0.004, running))
    else:
        steps.append(Step(at + 0.01, at + 0.011, 0))
    child = task(1, 0, spawned=at + 0.0015, started=at + 0.0035)
    found = checked(snapshot(task(0, spawned=at), child, steps=tuple(steps)))
    assert [e["tid"] for e in of(found, "s") + of(found, "f")] == [2, 2]


def test_a_task_spawned_before_the_recording_has_no_arrow() -> None:
    """Its spawning is not in the drawing."""
    early = task(1, 0, spawned=BEGAN - 0.001, started=BEGAN + 0.001)
    assert not of(checked(snapshot(task(0), early)), "s")


def test_a_task_that_never_ran_or_came_from_nowhere_has_no_arrow() -> None:
    """An arrow needs both ends."""
    found = checked(snapshot(task(0), task(1, 0, started=None), task(2, None)))
    assert not of(found, "s")


def test_live_tasks_and_lag_are_counters() -> None:
    """The count goes up with each spawn and down with each end; lag is in milliseconds."""
    tasks = task(0, ended=BEGAN + 0.5), task(1, 0, ended=BEGAN + 0.5), task(2, 0, ended=None)
    lags = Lag(BEGAN + 0.25, 0.125), Lag(BEGAN + 0.3, float("inf"))
    found = checked(snapshot(*tasks, lags=lags))
    counts = [(e["ts"], e["args"]["live"]) for e in of(found, "C", "tasks")]
    assert counts == [(0.0, 1), (1000.0, 2), (2000.0, 3), (500_000.0, 1), (1_000_000.0, 1)]
    (lag,) = of(found, "C", "loop lag")
    assert lag["args"] == {"ms": 125.0}


def test_a_lint_is_an_instant_with_its_sentence() -> None:
    """Kind and task in the name; the message and the line at a click."""
    lint = Lint("long-step", 0, "a.py:3 in f", "task-0 held the loop", BEGAN + 0.5)
    about_the_loop = Lint("blocked-loop", None, None, "blocked", BEGAN + 0.6)
    found = checked(snapshot(task(0), lints=(lint, about_the_loop)))
    first, second = of(found, "i")
    assert first["name"] == "long-step: task-0"
    assert first["s"] == "p"
    assert first["args"] == {
        "message": "task-0 held the loop",
        "task": 0,
        "place": "a.py:3 in f",
    }
    assert second["name"] == "blocked-loop: the loop"


def test_what_was_dropped_stands_at_the_start_and_at_the_process() -> None:
    """Nobody takes a part of a recording for the whole."""
    found = checked(snapshot(task(0), dropped=Dropped(tasks=3, steps=7)))
    (instant,) = of(found, "i")
    assert instant["name"] == "dropped: 3 tasks, 7 steps"
    assert instant["ts"] == 0.0
    assert of(found, "M", "process_labels")[0]["args"] == {
        "labels": "dropped: 3 tasks, 7 steps"
    }


def test_process_and_threads_have_names() -> None:
    """The program, the backend, the Python, the level."""
    found = checked(replace(snapshot(), level="life"))
    names = [e["args"]["name"] for e in of(found, "M") if "name" in e["args"]]
    assert names == [
        "service.py (asyncio, Python 3.13, level life)",
        "asyncio loop",
        "spawn and first run",
    ]
    assert {e["pid"] for e in found} == {4242}


# --- what was recorded ---------------------------------------------------------------------


@pytest.mark.parametrize("level", ["life", "steps"])
async def test_a_real_recording_keeps_to_the_rules(level: Literal["life", "steps"]) -> None:
    """Tasks, a span, an error and a cancellation, as the recorder tells them."""

    async def fail() -> None:
        with trace.span("reading"):
            await ka.checkpoint()
        raise LookupError

    with trace.recording(level=level) as recording:
        with pytest.raises(LookupError):
            async with ka.TaskGroup(errors="first") as group:
                group.create_task(fail(), name="fails")
                group.create_task(ka.sleep_forever(), name="waits")
        made = recording.snapshot()
    found = checked(made)
    assert len(of(found, "b", "fails")) == len(of(found, "b", "reading")) == 1
    assert of(found, "b", "fails")[0]["args"]["error"] == "LookupError"
    assert of(found, "i", "cancelled: waits")
    assert len(of(found, "s")) >= 2
