"""``kingdom-async trace top``: driven by keys, with made-up processes and a real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("textual")

from rich.text import Text
from textual.widgets import DataTable, Input, Static

from kingdom_async.cli import top_texts as texts
from kingdom_async.cli.top import ROWS, Top
from kingdom_async.trace.client import ControlError, connect
from kingdom_async.trace.control import sockets
from support.control import only_folder, running, runtime_folder
from support.made_up_snapshots import random_snapshot

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from kingdom_async.trace.snapshot import Snapshot


@pytest.fixture
def anyio_backend() -> str:
    """The view's own loop, which is Textual's; what it looks at runs on any."""
    return "asyncio"


def a_row(ident: int, **more: Any) -> dict[str, Any]:
    row = {
        "ident": ident,
        "name": f"task-{ident}",
        "state": "waiting",
        "age": float(ident),
        "busy": 0.012,
        "steps": 3,
        "idle": 0.5,
        "waits": "service.py:12 in fetch",
        "source": "await queue.get()",
        "item": None,
        "spans": [],
        "foreign": False,
        "early": False,
        "warning": None,
    }
    return {**row, **more}


class Made:
    """A made-up process: what it says can be changed, and what was asked is noted."""

    name = "1234"

    def __init__(self, rows: list[dict[str, Any]], **status: Any) -> None:
        self.rows = rows
        self.status: dict[str, Any] = {
            "pid": 1234,
            "program": "service.py --port 80",
            "python": "3.13.0",
            "backend": "trio",
            "level": "steps",
            "recorded": 75.0,
            "switched_on": None,
            "dropped": {"tasks": 0, "steps": 1200},
            "loop": {"state": "runs", "lag": 0.0004},
            "lints": [],
            **status,
        }
        self.asked: list[dict[str, Any]] = []
        self.switched: list[str] = []
        self.error: str | None = None

    def top(self, **options: Any) -> dict[str, Any]:
        self.asked.append(options)
        if self.error is not None:
            raise ControlError(self.error)
        rows = [row for row in self.rows if options["filter"] in row["name"]]
        if options["sort"] == "age":
            rows = sorted(rows, key=lambda row: row["age"], reverse=options["descending"])
        selected = next((row for row in self.rows if row["ident"] == options["task"]), None)
        return {
            **self.status,
            "tasks": len(self.rows),
            "matching": len(rows),
            "rows": rows[: options["limit"]],
            "task": None if selected is None else details(selected),
        }

    def on(self, level: str = "life") -> None:
        self.switched.append(level)
        self.status["switched_on"] = level

    def off(self) -> Snapshot:
        self.switched.append("off")
        self.status["switched_on"] = None
        return random_snapshot(1)


def details(row: dict[str, Any]) -> dict[str, Any]:
    line = {"path": "/app/service.py", "number": 12, "function": "fetch"}
    return {
        **row,
        "serial": row["ident"],
        "group": "TaskGroup at service.py:40 in main",
        "place": "service.py:41 in main",
        "stack": [
            {**line, "number": 30, "function": "handle", "source": "user = await fetch(id)"},
            {**line, "source": "await queue.get()"},
        ],
        "spans": [{"name": "load user", "seconds": 1.25}],
        "lints": ["task 'task-1' held the loop for 0.3 s"] if row["warning"] else [],
        "histogram": [0, 12, 30, 2, 1, 0, 0],
    }


@asynccontextmanager
async def shown(made: Any, interval: float = 0.1) -> AsyncIterator[tuple[Top, Pilot[None]]]:
    """The view of *made* on a screen of 150 columns, once it has its first answer."""
    app = Top(made, interval=interval)
    async with app.run_test(size=(150, 45)) as pilot:
        await until(pilot, lambda: "asking process" not in said(app, "headline"))
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Until *true*; the view asks by the clock, so it is the clock that is waited for."""
    end = time.monotonic() + 15
    while not true():
        assert time.monotonic() < end, pilot.app.export_screenshot()[-20_000:]
        await pilot.pause(0.01)


def said(app: Top, name: str) -> str:
    """The text of one of the panels."""
    shown = app.query_one(f"#{name}", Static).visual
    return str(shown)


def names(app: Top) -> list[str]:
    table = app.query_one(DataTable[Text])
    return [str(table.get_row_at(number)[1]) for number in range(table.row_count)]


# --- what is shown -------------------------------------------------------------------------


async def test_shows_the_process_and_its_tasks() -> None:
    """Who it is, how it is, a row for each task, and the first one in full."""
    made = Made([a_row(1, item="'item 7'"), a_row(2, state="new", steps=0, waits=None)])
    async with shown(made) as (app, pilot):
        await until(pilot, lambda: "await stack" in said(app, "story"))
        headline = said(app, "headline")
        assert headline == " service.py --port 80   process 1234  trio  Python 3.13.0"
        status = said(app, "status")
        assert status.startswith(" 2 tasks   loop lag 400 µs ")
        assert status.endswith("recorded steps for 1 m 15   dropped 1,200 steps")
        table = app.query_one(DataTable[Text])
        assert [str(cell) for cell in table.get_row_at(0)] == [
            "",
            "task-1 'item 7'",
            "waiting",
            "1.0 s",
            "500 ms",
            "12 ms",
            "3",
            "service.py:12 in fetch  await queue.get()",
        ]
        assert [str(cell) for cell in table.get_row_at(1)][-3:] == ["—", "—", ""]
        assert said(app, "story").splitlines() == [
            "task-1  waiting  1.0 s old",
            "group TaskGroup at service.py:40 in main",
            "spawned at service.py:41 in main",
            "item 'item 7'",
            "",
            "await stack",
            "service.py:30 in handle  user = await fetch(id)",
            "  └ service.py:12 in fetch  await queue.get()",
            "▸ load user  since 1.2 s",
        ]
        histogram = said(app, "histogram").splitlines()
        assert histogram[0] == "steps  45 kept, 12 ms busy"
        assert histogram[3] == f"  < 1 ms {'█' * 20} 30"


async def test_ages_that_are_not_known_to_the_second() -> None:
    """Who was there before the recording is as old as that at least, as in a tree."""
    old = a_row(80, foreign=True, early=True)
    async with shown(Made([old, a_row(9, foreign=True)])) as (app, pilot):
        await until(pilot, lambda: "await stack" in said(app, "story"))
        table = app.query_one(DataTable[Text])
        assert str(table.get_row_at(0)[3]) == "≥ 1 m 20"
        assert str(table.get_row_at(1)[3]) == "9.0 s"
        headline = said(app, "story").splitlines()[0]
        assert headline == "task-80  waiting  at least 1 m 20 old  from before the recording"
        await pilot.press("down")
        await until(pilot, lambda: "task-9" in said(app, "story"))
        assert said(app, "story").splitlines()[0] == "task-9  waiting  9.0 s old  foreign"


async def test_a_service_of_an_older_version() -> None:
    """Whose rows say less."""
    row = a_row(1)
    del row["early"]
    async with shown(Made([row])) as (app, pilot):
        await until(pilot, lambda: "await stack" in said(app, "story"))
        assert str(app.query_one(DataTable[Text]).get_row_at(0)[3]) == "1.0 s"


async def test_shows_what_is_wrong_before_all_else() -> None:
    """The loop that is blocked, with its line; then the lints, each task's last one."""
    line = {"path": "/app/service.py", "number": 9, "function": "crunch", "source": "fib(40)"}
    lints = [
        {"kind": "long-step", "task": 1, "message": "task 'a' held the loop", "ago": ago}
        for ago in (0.5, 3.0)
    ]
    loop = {"state": "blocked", "seconds": 2.5, "task": "a", "stack": [line]}
    made = Made([a_row(1, warning="long-step"), a_row(2)], loop=loop, lints=lints)
    async with shown(made) as (app, pilot):
        assert said(app, "alerts").splitlines() == [
            " BLOCKED for 2.5 s by task 'a' ",
            "   service.py:9 in crunch  fib(40)",
            " ⚠ long-step x2",
            "   long-step  500 ms ago  task 'a' held the loop",
        ]
        assert "loop lag no answer" in said(app, "status")
        assert str(app.query_one(DataTable[Text]).get_row_at(0)[0]) == "long-step"
        await until(pilot, lambda: "⚠ task 'task-1' held" in said(app, "story"))
        assert said(app, "story").splitlines()[-1] == "⚠ task 'task-1' held the loop for 0.3 s"
        made.status |= {"loop": {"state": "runs", "lag": 0.3}, "lints": []}
        await until(pilot, lambda: said(app, "alerts") == "")
        assert "loop lag 300 ms" in said(app, "status")


async def test_follows_the_program() -> None:
    """New tasks come, old ones go; the selected one stays in view after its end."""
    made = Made([a_row(number) for number in range(1, 6)])
    async with shown(made) as (app, pilot):
        await pilot.press("down", "down")
        await until(pilot, lambda: said(app, "story").startswith("task-3  waiting"))
        made.rows = [a_row(number) for number in (9, 8, 1, 3)]
        await until(pilot, lambda: names(app) == ["task-9", "task-8", "task-1", "task-3"])
        assert app.query_one(DataTable[Text]).cursor_row == 3
        made.rows = [a_row(number) for number in (9, 8)]
        await until(pilot, lambda: said(app, "story").startswith("task-3  has ended"))
        made.rows = []
        await until(pilot, lambda: names(app) == [])
        made.rows = [a_row(4)]
        await until(pilot, lambda: names(app) == ["task-4"])


async def test_ten_thousand_tasks_are_a_few_hundred_rows() -> None:
    """It says how many there are; what is shown was chosen by the process."""
    made = Made([a_row(number) for number in range(10_000)])
    async with shown(made) as (app, _):
        assert len(names(app)) == ROWS
        assert said(app, "status").startswith(f" 10,000 tasks, the first {ROWS} shown ")


async def test_names_are_text_and_nothing_else() -> None:
    """No markup, no control characters."""
    made = Made([a_row(1, name="[red]\x1b[2J\udc80[/]", item="[bold]", source="[link=x]")])
    async with shown(made) as (app, _):
        assert names(app) == [r"[red]\x1b[2J\udc80[/] [bold]"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.0, "0 µs"),
        (0.000_25, "250 µs"),
        (0.25, "250 ms"),
        (9.96, "10.0 s"),
        (59.94, "59.9 s"),
        (61.0, "1 m 01"),
        (7500.0, "2 h 05"),
    ],
)
async def test_times_are_read_at_a_glance(seconds: float | None, text: str) -> None:
    """In the unit that fits."""
    assert texts.seconds(seconds) == text


# --- keys ----------------------------------------------------------------------------------


async def test_sorts_by_column() -> None:
    """With s and v, or by a click on a heading; the process sorts."""
    made = Made([a_row(number) for number in range(1, 4)])
    async with shown(made) as (app, pilot):
        await pilot.press("s", "s", "s")
        await until(pilot, lambda: names(app) == ["task-3", "task-2", "task-1"])
        assert (made.asked[-1]["sort"], made.asked[-1]["descending"]) == ("age", True)
        labels = [
            str(column.label) for column in app.query_one(DataTable[Text]).ordered_columns
        ]
        assert labels[3] == "age ▼"
        await pilot.press("v")
        await until(pilot, lambda: names(app) == ["task-1", "task-2", "task-3"])
        await pilot.click(DataTable, offset=(20, 0))
        await until(pilot, lambda: made.asked[-1]["sort"] == "name")
        assert made.asked[-1]["descending"] is False
        await pilot.click(DataTable, offset=(20, 0))
        await until(pilot, lambda: made.asked[-1]["descending"] is True)


async def test_filters() -> None:
    """With /; escape shows all tasks again."""
    made = Made([a_row(number) for number in range(1, 13)])
    async with shown(made) as (app, pilot):
        await pilot.press("/", *"task-1")
        await until(pilot, lambda: names(app) == ["task-1", "task-10", "task-11", "task-12"])
        assert " 12 tasks, 4 match " in said(app, "status")
        await pilot.press("enter", "s")  # the keys work again
        await until(pilot, lambda: made.asked[-1]["sort"] == "name")
        await pilot.press("escape")
        await until(pilot, lambda: len(names(app)) == 12)
        assert not app.query_one("#filter", Input).has_class("-on")


async def test_the_filter_takes_the_selection_along() -> None:
    """What is told of in full is one of the rows that are shown."""
    made = Made([a_row(number) for number in range(1, 13)])
    async with shown(made) as (app, pilot):
        await until(pilot, lambda: said(app, "story").startswith("task-1 "))
        await pilot.press("/", *"task-7", "enter")
        await until(pilot, lambda: said(app, "story").startswith("task-7 "))
        made.rows = [row for row in made.rows if row["ident"] != 7]
        await until(pilot, lambda: "has ended" in said(app, "story"))
        assert said(app, "story").startswith("task-7 ")


def test_few_samples_are_called_few() -> None:
    """One quick answer says little of a loop."""
    answer = {**Made([]).status, "tasks": 0, "matching": 0, "rows": []}
    assert " 400 µs ▃ 1 sample   recorded" in texts.status(answer, [0.0004]).plain
    assert "sample" not in texts.status(answer, [0.0004] * 5).plain


async def test_pauses() -> None:
    """Nothing is asked until it goes on."""
    made = Made([a_row(1)])
    async with shown(made) as (app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: said(app, "status").startswith(" PAUSED "))
        await pilot.pause(0.1)
        many = len(made.asked)
        made.rows = [a_row(2)]
        await pilot.pause(0.2)
        assert (len(made.asked), names(app)) == (many, ["task-1"])
        await pilot.press("p")
        await until(pilot, lambda: names(app) == ["task-2"])


async def test_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With r; a second r ends it, and writes a page."""
    monkeypatch.chdir(tmp_path)
    made = Made([a_row(1)], level=None)
    async with shown(made) as (app, pilot):
        assert said(app, "status").endswith("nothing is recorded; r begins")
        await pilot.press("r")
        await until(pilot, lambda: app._answer is not None and app._answer["switched_on"])
        await pilot.press("r")
        page = tmp_path / "recording-1234.html"
        await until(pilot, page.exists)
        assert made.switched == ["steps", "off"]


async def test_leaves_no_recording_behind() -> None:
    """One that was begun here ends when the view does; others go on."""
    made = Made([a_row(1)])
    async with shown(made) as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: app._is_ours)
        await pilot.press("q")
    assert made.switched == ["steps", "off"]
    async with shown(made) as (app, pilot):
        await pilot.press("q")
    assert made.switched == ["steps", "off"]


# --- a process that ends, or is slow -------------------------------------------------------


async def test_says_that_the_process_has_ended() -> None:
    """What it said last stays; when it answers again, that is shown."""
    made = Made([a_row(1)])
    async with shown(made) as (app, pilot):
        made.error = "process 1234 no longer serves; has it ended?"
        await until(pilot, lambda: "no longer serves" in said(app, "alerts"))
        assert said(app, "alerts") == (
            " process 1234 no longer serves; has it ended?   what is shown is what it said last"
        )
        assert names(app) == ["task-1"]
        assert said(app, "status").startswith(" NO ANSWER for ")
        await pilot.press("r")
        await pilot.press("down", "s", "p", "p")
        made.error = None
        await until(pilot, lambda: said(app, "alerts") == "")
        assert "NO ANSWER" not in said(app, "status")


async def test_a_slow_process_is_asked_less_often() -> None:
    """The view stays alive meanwhile."""
    made, answer_now = Made([a_row(1)]), Event()
    async with shown(made) as (app, pilot):
        ask = made.top

        def slow(**options: Any) -> dict[str, Any]:
            assert answer_now.wait(15)
            return ask(**options)

        made.top = slow  # type: ignore[method-assign]
        await asyncio.sleep(0.1)
        await pilot.press("/", "x")
        assert app.query_one("#filter", Input).value == "x"
        await until(pilot, lambda: said(app, "status").startswith(" NO ANSWER for "))
        assert app.screen.has_class("-old")
        answer_now.set()
        await until(pilot, lambda: names(app) == [])
        assert not app.screen.has_class("-old")


# --- a real process ------------------------------------------------------------------------

SERVICE = """
import sys
import kingdom_async as ka

async def tick():
    while True:
        await ka.sleep(0.01)

async def serve():
    async with ka.TaskGroup() as group:
        for number in range(3):
            group.start_soon(tick, name=f"ticker-{number}")
        print("ready", flush=True)
        await ka.offload(sys.stdin.readline, abandon_on_cancel=True)
        group.cancel()

ka.run(serve)
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with runtime_folder() as runtime:
        only_folder(monkeypatch, runtime)
        yield runtime


@pytest.mark.skipif(not sockets.IS_SUPPORTED, reason="needs unix sockets")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_watches_a_real_process_to_its_end(backend: str, folder: Path) -> None:
    """Its tasks, their steps once they are recorded, and that it has ended."""
    with running(
        SERVICE, folder, KINGDOM_ASYNC_CONTROL="1", KINGDOM_ASYNC_BACKEND=backend
    ) as process:
        async with shown(connect(process.pid), interval=0.05) as (app, pilot):
            assert len([name for name in names(app) if name.startswith("ticker-")]) == 3
            await pilot.press("r")
            await until(pilot, lambda: "recorded steps" in said(app, "status"))
            await pilot.press("/", *"ticker-1", "enter")
            await until(pilot, lambda: len(names(app)) == 1)
            await pilot.press("enter")
            await until(pilot, lambda: "await ka.sleep(0.01)" in said(app, "story"))
            await until(pilot, lambda: "█" in said(app, "histogram"))
            process.kill()
            process.wait()
            await until(pilot, lambda: "no longer serves" in said(app, "alerts"))
            await pilot.press("q")
