"""The timeline: one page, drawn in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from kingdom_async.trace.records import Dropped, Lag, Lint, Span, Step, TaskRecord
from kingdom_async.trace.views.html import page
from support import recordings
from support.browser import Browser, Shown, chromium

if TYPE_CHECKING:
    from kingdom_async.trace.snapshot import Snapshot

HOSTILE = "</script><img src=x onerror=alert(1)>&lt;{{data}}\x1b[31m\u202e\ud800"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("service") / "service.html"
    recordings.service().to_html(path)
    return path


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.html"
    recordings.big().to_html(path)
    return path


@pytest.fixture
def service(browser: Browser, service_file: Path) -> Iterator[Shown]:
    with browser.open(service_file) as shown:
        yield shown


@pytest.fixture
def big(browser: Browser, big_file: Path) -> Iterator[Shown]:
    with browser.open(big_file) as shown:
        yield shown


Show: TypeAlias = Callable[..., Shown]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Shows a recording: ten seconds of nothing but what a test adds."""
    with ExitStack() as stack:

        def show(snapshot: Snapshot | None = None, **added: Any) -> Shown:
            path = tmp_path / "shown.html"
            empty = replace(recordings.Loop(seed=0).snapshot(), began=0.0, ended=10.0)
            replace(snapshot or empty, **added).to_html(path)
            return stack.enter_context(browser.open(path))

        yield show


def task(serial: int, name: str, **changes: Any) -> TaskRecord:
    """A task of somebody else's that was there before the recording was."""
    unknown = TaskRecord(
        serial, None, name, None, None, None, None, None, "running", None, None, 0.0, 0, True
    )
    return replace(unknown, **changes)


def hostile() -> Snapshot:
    """A recording in which everything that has a name has a hostile one."""
    text = HOSTILE
    first = TaskRecord(
        0, None, text, text, text, 0.0, 0.1, 0.5, "error", text, text, 0.1, 1, False
    )
    twin = replace(first, serial=1, parent=0)
    other = replace(first, serial=2, parent=0)
    return replace(
        recordings.Loop(seed=0).snapshot(),
        program=text,
        python=text,
        backend=text,
        began=0.0,
        ended=1.0,
        tasks=(first, twin, other),
        steps=(Step(0.1, 0.2, 0),),
        spans=(Span(text, 0, 0.1, 0.3, "error", text),),
        lints=(Lint(text, 0, text, text, 0.2),),
    )


def data_of(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="recording">(.*?)</script>', text)
    assert found
    data: dict[str, object] = json.loads(found[1])
    return data


# --- the page as text ----------------------------------------------------------------------


def test_page_names_no_other_address() -> None:
    """Nothing in the page points to the network."""
    text = page(recordings.service())
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, never fetched


def test_what_the_program_named_is_never_markup() -> None:
    """A hostile name reaches the page as JSON that no parser sees a tag in."""
    text = page(hostile())
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert "\u202e" not in text
    text.encode()  # no half of a surrogate pair is left


def test_huge_names_are_cut() -> None:
    """A name of a megabyte does not make a page of one."""
    snapshot = recordings.service()
    huge = replace(snapshot.tasks[0], name="x" * 1_000_000)
    text = page(replace(snapshot, tasks=(huge, *snapshot.tasks[1:])))
    assert len(text) < len(page(snapshot)) + 1000
    assert f"{'x' * 199}\\u2026" in text


def test_times_that_are_no_numbers_are_unknown() -> None:
    """A broken time costs that time only."""
    snapshot = recordings.service()
    broken = replace(snapshot.tasks[3], started=float("nan"), ended=float("inf"))
    data = data_of(page(replace(snapshot, tasks=(broken,))))
    assert data["tasks"]["started"] == [None]  # type: ignore[index]


def test_large_recordings_are_compact() -> None:
    """A step costs less than 20 bytes of page."""
    text = page(recordings.big(tasks=1000, steps=20_000))
    assert len(text) < 100_000 + 1000 * 100 + 20_000 * 20


# --- in the browser ------------------------------------------------------------------------


def test_page_draws_and_asks_for_nothing(service: Shown) -> None:
    """It opens from a file, with no complaint and no request (`open` checks both)."""
    assert service.colors() > 10
    assert service.do("kingdom.counts")["tasks"] == len(recordings.service().tasks)


def test_head_says_what_ran(service: Shown) -> None:
    """Program, backend, Python, process, level, duration and counts stand at the top."""
    head = service.text("header")
    assert "python -m orders.service --port 8080" in head
    for fact in ("trio", "Python 3.13.5", "pid 41277", "level steps", "4.61 s", "83 tasks"):
        assert fact in head
    assert re.search(r"4\s*failed", head)


def test_drops_are_loud(browser: Browser, tmp_path: Path) -> None:
    """What there was no room for is said at the top, in numbers; else nothing is."""
    path = tmp_path / "dropped.html"
    recordings.service(dropped=Dropped(tasks=12, steps=3400)).to_html(path)
    with browser.open(path) as shown:
        assert shown.page.is_visible("[role=alert]")
        said = shown.text("[role=alert]").replace("\u202f", " ")
        assert said.startswith("Dropped: 12 tasks, 3 400 steps.")


def test_lints_that_fell_to_the_rate_limit_are_no_alarm(show: Show) -> None:
    """Of what happens often some is kept: said beside the lints, with no limit blamed."""
    shown = show(recordings.service(dropped=Dropped(lints=391)))
    assert not shown.page.is_visible("[role=alert]")
    assert shown.text("#shown").startswith("391 more of these were not kept: of each kind, 20")


def test_nothing_dropped_says_nothing(service: Shown) -> None:
    """A complete recording has no warning."""
    assert not service.page.is_visible("[role=alert]")


def test_wheel_zooms_at_the_pointer(service: Shown) -> None:
    """What is under the pointer stays there while the wheel turns."""
    before = service.width()
    spot = "kingdom.where('metrics', 2.5)"
    service.do("kingdom.fitRows()")
    at = service.do(spot)
    box = service.page.locator("#timeline").bounding_box()
    service.page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
    service.page.mouse.wheel(0, -600)
    service.page.wait_for_function("kingdom.visible().to < 4.6")
    assert service.width() < before / 2
    assert service.do(spot)["x"] == pytest.approx(at["x"], abs=1)


def test_drag_pans_within_the_recording(service: Shown) -> None:
    """Dragging moves the time; never past an end."""
    service.do("kingdom.show(2, 3)")
    box = service.page.locator("#timeline").bounding_box()
    middle = box["x"] + 900, box["y"] + 200
    service.page.mouse.move(*middle)
    service.page.mouse.down()
    service.page.mouse.move(middle[0] - 200, middle[1], steps=4)
    service.frame()
    assert service.visible()["from"] > 2.1
    service.page.mouse.move(middle[0] - 200, middle[1])
    service.page.mouse.up()
    service.do("kingdom.show(-5, -4)")
    assert service.visible()["from"] == 0


def test_brush_zooms_to_a_part(service: Shown) -> None:
    """A drag over the overview shows that part."""
    box = service.page.locator("#overview").bounding_box()
    service.page.mouse.move(box["x"] + 600, box["y"] + 20)
    service.page.mouse.down()
    service.page.mouse.move(box["x"] + 800, box["y"] + 20, steps=4)
    service.page.mouse.up()
    service.frame()
    assert 0.5 < service.width() < 1.2


def test_keys(service: Shown) -> None:
    """Arrows pan and select, + - and 0 zoom, f goes to the task, Esc closes."""
    service.press("+", "+")
    zoomed = service.width()
    assert zoomed < 3
    before = service.visible()["from"]
    service.press("ArrowRight")
    assert service.visible()["from"] > before
    service.press("ArrowDown", "ArrowDown", "ArrowDown")
    assert service.do("kingdom.selected()") == "serve"
    assert service.text("#said").startswith("serve, ok")
    service.press("f")
    assert service.width() == pytest.approx(4.61, abs=0.2)
    rows = service.visible()["rows"]
    service.press("Enter")
    assert service.visible()["rows"] < rows - 60
    service.press("Escape", "-")
    assert service.do("kingdom.selected()") is None
    service.press("Home")
    assert service.width() == pytest.approx(4.61, abs=0.01)


def test_search_finds_counts_and_jumps(service: Shown) -> None:
    """/ and a part of a name: the matches are counted, and Enter goes from one to the next."""
    service.press("/")
    service.page.keyboard.type("LOAD_ord")
    service.frame()
    assert service.text("#hits") == "16 found"
    service.press("Enter", "Enter")
    assert service.text("#hits") == "2 of 16"
    assert service.do("kingdom.selected()") == "load_order"
    service.press("Escape")
    assert service.text("#hits") == ""


def test_search_opens_what_hides_a_match(service: Shown) -> None:
    """A task in a closed group is found, and shown."""
    service.do("kingdom.openAll(false)")
    assert "amap(fetch)[3]" not in service.visible()["names"]
    service.do("kingdom.find('fetch)[3]')")
    service.do("kingdom.jump(1)")
    assert "amap(fetch)[3]" in service.visible()["names"]


def test_outcome_is_a_search(service: Shown) -> None:
    """A press on "4 failed" goes to the first of them."""
    service.page.click("#outcomes [data-outcome=error]")
    service.frame()
    assert service.text("#hits") == "1 of 4"
    assert "failed: " in service.text("#details")


def test_details_of_a_task(service: Shown) -> None:
    """Everything that is known of a task, with links to its parent and its children."""
    assert service.do("kingdom.select('metrics')")
    details = service.text("#details")
    for known in ("blocked-loop", "Held the loop", "Longest step", "412 ms", "First run after"):
        assert known in details
    assert "service.py:94 in main" in details
    assert "Steps by length" in details
    service.page.click("#details dl .link")
    assert service.do("kingdom.selected()") == "main"


def test_details_say_who_cancelled(service: Shown) -> None:
    """A cancelled task's details name the cause."""
    service.do("kingdom.find('is:cancelled')")
    service.do("kingdom.jump(1)")
    assert "deadline 'reply within 0.6 s'" in service.text("#details .cause")


@pytest.mark.parametrize("foreign", [False, True])
def test_only_a_task_known_not_to_have_run_never_ran(
    browser: Browser, tmp_path: Path, foreign: bool
) -> None:
    """Of a foreign task it is not known when it first ran, and nothing is claimed."""
    snapshot = recordings.service()
    task = replace(snapshot.tasks[1], started=None, foreign=foreign, steps=0, parent=None)
    path = tmp_path / "foreign.html"
    replace(snapshot, tasks=(task,), steps=(), spans=()).to_html(path)
    with browser.open(path) as shown:
        shown.do("kingdom.select('serve')")
        assert ("never ran" in shown.text("#details")) is not foreign


def test_click_on_a_row_selects_it(service: Shown) -> None:
    """A click in the timeline shows the task under it."""
    at = service.do("kingdom.where('serve', 1)")
    box = service.page.locator("#timeline").bounding_box()
    service.page.mouse.click(box["x"] + at["x"], box["y"] + at["y"])
    assert service.do("kingdom.selected()") == "serve"


def test_pointer_tells_what_is_under_it(service: Shown) -> None:
    """Over the loop's row: who held it, and for how long."""
    at = service.do("kingdom.where('main', 2.2)")
    box = service.page.locator("#timeline").bounding_box()
    service.page.mouse.move(box["x"] + at["x"], box["y"] + 56)
    assert service.text("#tip") == "metrics\nheld the loop for 412 ms"


def test_lints_come_first(service: Shown) -> None:
    """A recording with lints opens with them; a click goes to the task."""
    assert "blocked-loop" in service.text("#table")
    service.page.click("#table tbody tr:first-child .link")
    assert service.do("kingdom.selected()") == "metrics"


def test_tables_sort(service: Shown) -> None:
    """The slowest tasks by any column, both ways."""
    service.page.click("#tab-slow")
    service.page.click("#table th [data-title='Longest step']")
    assert service.text("#table tbody tr:first-child .name") == "metrics"
    assert service.page.get_attribute("#table th:nth-child(5)", "aria-sort") == "descending"
    service.page.click("#table th [data-title='Longest step']")
    assert service.text("#table tbody tr:first-child .name") != "metrics"


def test_dark_follows_the_system_and_the_switch(browser: Browser, service_file: Path) -> None:
    """Dark where the system is; the switch turns it over."""
    ground = "getComputedStyle(document.body).backgroundColor"
    with browser.open(service_file, scheme="dark") as shown:
        dark = shown.do(ground)
        assert dark == "rgb(16, 19, 24)"
        shown.page.click("#theme")
        assert shown.do(ground) != dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(browser: Browser, service_file: Path, scheme: str) -> None:
    """Words have a contrast of 4.5 or more to each ground they stand on, signs 3 or more."""
    with browser.open(service_file, scheme=scheme) as shown:
        poor = shown.do("""() => {
            const style = getComputedStyle(document.documentElement);
            const light = (name) => {
                const hex = style.getPropertyValue(name).trim().slice(1);
                const [r, g, b] = [0, 2, 4].map((n) => parseInt(hex.slice(n, n + 2), 16) / 255)
                    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const pairs = [["span-text", "span", 4.5], ["lint", "warn-ground", 4.5],
                ["error", "bad-ground", 4.5], ["text", "warn-ground", 4.5],
                ["text", "hit", 4.5]];
            for (const ground of ["ground", "panel", "hover", "selected"]) {
                for (const ink of ["text", "muted", "accent", "error"])
                    pairs.push([ink, ground, 4.5]);
                for (const ink of ["ok", "cancelled", "running", "unknown", "lint", "step"])
                    pairs.push([ink, ground, 3]);
            }
            return pairs.filter(([ink, ground, least]) => {
                const [a, b] = [light(`--${ink}`), light(`--${ground}`)].sort((a, b) => b - a);
                return (a + 0.05) / (b + 0.05) < least;
            });
        }""")
        assert poor == []


def test_every_control_has_a_name(service: Shown) -> None:
    """Each button and field tells a screen reader what it is for."""
    nameless = service.do("""() => [...document.querySelectorAll("button, input, canvas")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim()))
        .map((e) => e.id)""")
    assert nameless == []


def test_hostile_names_are_only_text(browser: Browser, tmp_path: Path) -> None:
    """No name becomes an element, wherever it is shown."""
    path = tmp_path / "hostile.html"
    hostile().to_html(path)
    with browser.open(path) as shown:
        shown.press("ArrowDown")
        shown.page.click("#tab-slow")
        assert shown.do("document.querySelectorAll('img').length") == 0
        assert "</script><img src=x onerror=alert(1)>" in shown.text("#details h2")
        assert "\\x1b[31m\\u202e\\ud800" in shown.text("#details h2")


@pytest.mark.parametrize("level", ["life", "steps"])
def test_an_empty_recording_is_a_page(browser: Browser, tmp_path: Path, level: str) -> None:
    """No tasks, no steps, no time: nothing is drawn, and nothing fails."""
    path = tmp_path / "empty.html"
    empty = recordings.Loop(seed=0).snapshot(level=level)
    empty.to_html(path)
    with browser.open(path) as shown:
        shown.press("ArrowDown", "+", "f", "Enter")
        assert "No tasks were recorded." in shown.text("#table")


def test_parents_that_are_gone_or_in_a_circle(browser: Browser, tmp_path: Path) -> None:
    """Each task has one row, whatever its parents."""
    first = recordings.service().tasks[1]
    tasks = [replace(first, serial=n, parent=p) for n, p in enumerate([99, 2, 1, 3, 2])]
    path = tmp_path / "circle.html"
    replace(recordings.service(), tasks=tuple(tasks), lints=()).to_html(path)
    with browser.open(path) as shown:
        shown.do("kingdom.openAll(true)")
        assert shown.visible()["names"].count("serve") == 5


def test_deep_trees_need_no_deep_stack(browser: Browser, tmp_path: Path) -> None:
    """A chain of ten thousand tasks is drawn."""
    first = recordings.service().tasks[1]
    tasks = tuple(replace(first, serial=n, parent=n - 1 if n else None) for n in range(10_000))
    path = tmp_path / "deep.html"
    replace(recordings.service(), tasks=tasks, lints=(), spans=(), steps=()).to_html(path)
    with browser.open(path) as shown:
        assert shown.visible()["rows"] == 10_000


# --- a story at a glance -------------------------------------------------------------------


def leak(count: int, **changes: Any) -> tuple[TaskRecord, ...]:
    return tuple(task(n, "service.wait_for_confirmation", **changes) for n in range(count))


def test_tasks_of_one_name_are_one_row(show: Show) -> None:
    """A leak of foreign tasks is a row with their number, beside those of other names."""
    others = [task(1000 + n, f"Task-{n}") for n in range(30)]
    shown = show(tasks=(*leak(300), *others, task(2000, "move-in")))
    assert shown.visible()["names"] == ["service.wait_for_confirmation", "Task-…", "move-in"]
    assert "\u00d7 300" in shown.do("kingdom.texts()")
    shown.press("ArrowDown")
    assert "300 of one name" in shown.text("#details")
    shown.press("Enter")
    assert shown.visible()["rows"] == 303


def test_names_are_told_apart_in_a_group_too(show: Show) -> None:
    """In a group of many, tasks of one name are one row; a group of one name stays."""
    group = "TaskGroup at a.py:1 in main"
    mixed = [
        task(n, f"{'even' if n % 2 else 'odd'}-{n}", group=group, parent=99) for n in range(60)
    ]
    same = [
        task(100 + n, f"f[{n}]", group="amap at a.py:2 in main", parent=99) for n in range(60)
    ]
    shown = show(tasks=(*mixed, task(99, "main"), *same))
    names = shown.visible()["names"]
    assert names == ["main", group, "odd-…", "even-…", "amap at a.py:2 in main"]
    shown.do("kingdom.find('f[0]')")  # opens what it is in: the group, and no row between them
    shown.do("kingdom.jump(1)")
    assert shown.visible()["rows"] == len(names) + 60


def test_few_tasks_of_one_name_stay_rows(show: Show) -> None:
    """What fits on a screen is shown as it is."""
    shown = show(tasks=leak(15))
    assert shown.visible()["rows"] == 15


def test_what_is_wrong_stands_at_the_top(show: Show) -> None:
    """One button for each kind, gravest first; a press goes to the worst, the next one on."""
    lints = [
        *(Lint("late-first-run", n, None, f"first ran {n} s late", 0.1 * n) for n in range(20)),
        Lint("long-step", 5, None, "task 'a' (b.py:1 in c) held the loop for 0.2 s", 1.0),
        Lint("long-step", 7, None, "task 'd' (b.py:1 in c) held the loop for 0.8 s", 2.0),
    ]
    tasks = tuple(
        task(n, f"job-{chr(97 + n)}", outcome="error" if n == 3 else "running", ended=5.0)
        for n in range(20)
    )
    shown = show(tasks=tasks, lints=tuple(lints))
    kinds = shown.do("[...document.querySelectorAll('#wrong b')].map(b => b.textContent)")
    assert kinds == ["failed", "long-step", "late-first-run"]
    button = "#wrong [data-kind='long-step']"
    assert shown.text(f"{button} .said") == "job-h · 800 ms"
    shown.page.click(button)
    assert shown.do("kingdom.selected()") == "job-h"
    shown.page.click(button)
    assert shown.do("kingdom.selected()") == "job-f"
    assert "2 of 2" in shown.text(button)
    shown.page.click("#wrong [data-kind='failed']")
    assert shown.do("kingdom.selected()") == "job-d"


def test_a_leak_leads_to_the_row_of_its_tasks(show: Show) -> None:
    """A lint without a task goes to where most tasks of its line are."""
    place = "service.py:67 in login"
    lint = Lint("leaking", None, place, f"300 live tasks were spawned at {place}", 5.0)
    shown = show(tasks=leak(300, place=place), lints=(lint,))
    shown.page.click("#wrong button")
    assert shown.do("kingdom.selected()") == "service.wait_for_confirmation"
    assert place in shown.text("#details")


def test_nothing_wrong_says_nothing(show: Show) -> None:
    """A recording in which all went well has no strip of warnings."""
    shown = show(tasks=leak(3))
    assert not shown.page.is_visible("#wrong")


def test_lints_are_grouped_by_kind(show: Show) -> None:
    """Twenty of a kind are a row with their number and the worst; it opens and closes."""
    late = (
        Lint("late-first-run", n, None, f"first ran {n} s after its spawn", 0.1 * n)
        for n in range(20)
    )
    stuck = Lint("stuck", None, None, "3 tasks wait", 9.0)
    shown = show(tasks=leak(20), lints=(*late, stuck))
    rows = "document.querySelectorAll('#table tbody tr').length"
    assert shown.do(rows) == 2
    assert "stuck" in shown.text("#table tbody:nth-of-type(1)")
    assert "worst: first ran 19 s after its spawn" in shown.text("#table tr.kind")
    shown.page.click("#table tr.kind button")
    assert shown.do(rows) == 22
    assert shown.page.get_attribute("#table tr.kind button", "aria-expanded") == "true"
    shown.page.click("#table tr.kind button")
    assert shown.do(rows) == 2


def test_the_first_match_comes_into_sight_while_its_name_is_typed(show: Show) -> None:
    """Or the closed row that it is in, with the number of matches there."""
    rows = tuple(task(n, "x" * (n + 1)) for n in range(60))
    shown = show(tasks=(*rows, *(task(100 + n, f"job-{n}") for n in range(200))))
    assert "x" * 58 not in shown.visible()["names"]
    shown.press("/")
    shown.page.fill("#search", "x" * 58)
    shown.frame()
    assert "x" * 58 in shown.visible()["names"]
    assert shown.text("#hits") == "3 found"
    shown.press("Shift+Enter")
    assert shown.text("#hits") == "3 of 3"
    shown.do("kingdom.find('job-19')")
    assert "job-…" in shown.visible()["names"]
    assert "11 of 200" in shown.do("kingdom.texts()")


def held(at: float, seconds: float) -> Lint:
    text = f"task 'bad' (hog.py:4 in slow) has held the loop for {seconds} s: while True:"
    return Lint("blocked-loop", 0, "hog.py:4 in slow", text, at)


def test_a_block_lasts_until_its_ping_is_answered(show: Show) -> None:
    """The watchdog tells of a block as it begins; the page of all of it, where no step does."""
    shown = show(
        tasks=(task(0, "bad"),),
        lints=(held(2.25, 0.25),),
        lags=(Lag(2.0, 4.0), Lag(6.1, 0.0)),
        backend="asyncio+uvloop",
    )
    (block,) = shown.do("kingdom.steps()")
    assert block == {"from": 2, "to": 6, "who": "bad", "seen": True}
    assert "held the loop for 4.00 s: while True:" in shown.text("#table")


@pytest.mark.parametrize("lags", [(Lag(2.0, 4.0),), ()], ids=["asked", "not kept"])
def test_a_block_whose_length_is_told(show: Show, lags: tuple[Lag, ...]) -> None:
    """A lint of a block that is over says how long it was; it is as old as the first report."""
    lint = held(2.25, 0.25)
    said = lint.message.replace("has held the loop for 0.25", "held the loop for 4")
    lint = replace(lint, message=said)
    shown = show(tasks=(task(0, "bad"),), lints=(lint,), lags=lags, backend="asyncio+uvloop")
    (block,) = shown.do("kingdom.steps()")
    assert block["to"] - block["from"] == pytest.approx(4, abs=0.3)
    assert block["from"] == pytest.approx(2, abs=0.3)
    assert "held the loop for 4 s: while True:" in shown.text("#table")
    assert "bad · 4.00 s" in shown.text("#wrong")


def test_a_block_that_is_not_over_lasts_to_the_end(show: Show) -> None:
    """It is drawn to the end of the recording, and said to last at least so long."""
    shown = show(
        tasks=(task(0, "bad"),),
        lints=(held(6.25, 0.25),),
        lags=(Lag(5.9, 0.0),),
        level="life",
    )
    (block,) = shown.do("kingdom.steps()")
    assert (block["from"], block["to"]) == (6, 10)
    assert "bad · at least 4.00 s" in shown.text("#wrong")
    assert "has held the loop for at least 4.00 s" in shown.text("#table")


def test_a_block_whose_end_nobody_saw_is_not_made_longer(show: Show) -> None:
    """Where the program went on, and no ping was under way, the watchdog's word stands."""
    later = task(1, "later", started=7.0, spawned=7.0)
    shown = show(tasks=(task(0, "bad"), later), lints=(held(2.25, 0.25),))
    (block,) = shown.do("kingdom.steps()")
    assert (block["from"], block["to"]) == (2, 2.25)
    assert "has held the loop for 0.25 s" in shown.text("#table")


def test_a_step_that_tells_of_a_block_is_not_doubled(show: Show) -> None:
    """Steps are exact; the watchdog adds only what they do not show."""
    shown = show(tasks=(task(0, "bad"),), lints=(held(2.25, 0.25),), steps=(Step(1.9, 6.0, 0),))
    (step,) = shown.do("kingdom.steps()")
    assert not step["seen"]
    assert "held the loop for 4.10 s" in shown.text("#table")


def test_without_steps_the_page_says_why(show: Show) -> None:
    """uvloop hides the steps of others, and level life has none."""
    shown = show(tasks=leak(3), backend="asyncio+uvloop")
    assert "uvloop hides the steps" in shown.text("#about")
    assert "KINGDOM_ASYNC_WATCHDOG" in "".join(shown.do("kingdom.texts()"))
    shown = show(tasks=leak(3), level="life")
    assert 'not recorded: that takes level "steps"' in shown.do("kingdom.texts()")


def test_few_pings_make_no_longest(show: Show) -> None:
    """A single short answer says nothing of how late the loop can be."""
    shown = show(lags=(Lag(1.0, 0.009),))
    assert "only 1 sample" in shown.do("kingdom.texts()")


def test_who_was_there_before_the_recording(show: Show) -> None:
    """Its panel says so, and that it lasted at least so long."""
    shown = show(tasks=(task(0, "old"), task(1, "older", spawned=-3.0)))
    shown.do("kingdom.select('old')")
    assert "at least 10.0 s" in shown.text("#details")
    assert "before the recording" in shown.text("#details dl")
    assert "did not start it" in shown.text("#details")
    shown.do("kingdom.select('older')")
    assert "3.00 s before the recording" in shown.text("#details dl")


def test_a_task_without_a_name_is_called_after_where_it_was_seen(show: Show) -> None:
    """asyncio numbers tasks: a line that one was at says more."""
    child = task(1, "row", parent=0, group="amap at service.py:55 in rows")
    shown = show(tasks=(task(0, "Task-886"), child, task(2, "Task-887")))
    assert shown.visible()["names"] == ["Task-886 in rows", "row", "Task-887"]
    shown.do("kingdom.select('Task-886 in rows')")
    assert "service.py:55 in rows" in shown.text("#details dl")


def test_a_task_that_is_called_after_its_coroutine(show: Show) -> None:
    """The line that it was at says more than its coroutine, which is found all the same."""
    tasks = (
        task(0, "Task-886 (Cycle.run_asgi)"),
        task(1, "row", parent=0, group="amap at service.py:55 in rows"),
        task(2, "Task-887 (Server.serve)"),
        task(3, "row", parent=2, group="TaskGroup at service.py:70 in serve"),
        *(task(10 + n, f"Task-{n} (fetch)") for n in range(30)),
    )
    shown = show(tasks=tasks)
    names = ["Task-886 in rows", "row", "Task-887 (Server.serve)", "row", "Task-… (fetch)"]
    assert shown.visible()["names"][:5] == names
    assert shown.do("kingdom.find('run_asgi')") == 1
    shown.do("kingdom.jump(1)")
    assert "Cycle.run_asgi" in shown.text("#details dl")


def test_who_came_later_is_not_drawn_from_the_beginning(show: Show) -> None:
    """A task that was noted after another's spawning was not there when the recording began."""
    ours = task(1, "ours", spawned=2.0, started=2.0, foreign=False)
    tasks = (task(0, "old"), ours, task(2, "ran", steps=1), task(3, "hidden", ended=8.0))
    shown = show(tasks=tasks, steps=(Step(5.0, 5.1, 2),))
    from_ = {
        name: shown.do(f"kingdom.where('{name}').from") for name in ("old", "ran", "hidden")
    }
    assert from_ == {"old": 0, "ran": 5, "hidden": 2}
    shown.do("kingdom.select('hidden')")
    assert "unseen: during the recording" in shown.text("#details dl")


def test_long_names_keep_their_end(show: Show) -> None:
    """The number of a task is at the end of its name, and is seen."""
    name = "offload_map(orders.storage.Path.read_bytes_of_everything)[12]"
    shown = show(tasks=(task(0, name),))
    (cut,) = (text for text in shown.do("kingdom.texts()") if text.startswith("offload_map"))
    assert "…" in cut
    assert cut.endswith("[12]")


def test_red_begins_where_the_recording_says(show: Show) -> None:
    """The threshold of long steps is the recording's own."""
    shown = show(recordings.service(), long_step=0.005)
    assert shown.text("#long") == "5.00 ms or longer"
    shown.page.click("#tab-slow")
    assert shown.do("document.querySelectorAll('#table td.bad').length") > 10


def test_the_row_of_warnings_tells_and_leads(service: Shown) -> None:
    """A warning whose row is out of sight is seen in the head, and a click goes there."""
    at = service.do("kingdom.where('main', 2.067)")
    box = service.page.locator("#timeline").bounding_box()
    service.page.mouse.move(box["x"] + at["x"], box["y"] + 33)
    told = "blocked-loop\ntask 'metrics' (metrics.py:18 in collect) held"
    assert service.text("#tip").startswith(told)
    service.page.mouse.click(box["x"] + at["x"], box["y"] + 33)
    assert service.do("kingdom.selected()") == "metrics"


# --- large recordings ----------------------------------------------------------------------


def test_large_groups_open_closed(big: Shown) -> None:
    """Ten thousand tasks are first shown as their groups."""
    assert big.do("kingdom.counts.tasks") == 10_001
    assert big.visible()["rows"] < 50


def test_only_what_is_in_sight_is_drawn(big: Shown) -> None:
    """With all rows open, a frame costs what its rows cost, not what all rows would."""
    big.do("kingdom.openAll(true)")
    assert big.visible()["rows"] > 10_000
    big.do("kingdom.draw()")
    assert big.do("kingdom.drawn.primitives") < 5000


def test_drawing_is_bounded_by_pixels(big: Shown) -> None:
    """All rows a pixel high over the whole time: steps of one pixel are drawn as one."""
    big.do("kingdom.openAll(true)")
    big.do("kingdom.fitRows()")
    assert big.visible()["row"] == pytest.approx(1)
    big.do("kingdom.draw()")
    box = big.page.locator("#timeline").bounding_box()
    assert big.do("kingdom.drawn.primitives") < box["width"] * box["height"] / 20


def test_steps_in_one_pixel_are_one_box(browser: Browser, tmp_path: Path) -> None:
    """A task of a hundred thousand steps draws no more boxes than there are pixels."""
    first = replace(recordings.service().tasks[0], parent=None)
    began, n = recordings.service().began, 100_000
    steps = tuple(
        Step(began + k * 4e-5, began + k * 4e-5 + 1e-5 * (k % 3), 0) for k in range(n)
    )
    path = tmp_path / "many.html"
    snapshot = replace(
        recordings.service(), tasks=(first,), steps=steps, spans=(), lints=(), lags=()
    )
    snapshot.to_html(path)
    with browser.open(path) as shown:
        shown.do("kingdom.draw()")
        assert shown.do("kingdom.drawn.primitives") < 2 * 1440


def test_finds_one_of_many(big: Shown) -> None:
    """A search among ten thousand opens the group of the first and shows it."""
    big.press("/")
    big.page.keyboard.type("fetch)[77]")
    big.press("Enter")
    assert big.text("#hits") == "1 of 20"
    assert "amap(fetch)[77]" in big.visible()["names"]


# --- what a reader sees first --------------------------------------------------------------


def tick_labels(shown: Shown) -> list[str]:
    labels: list[str] = shown.do("kingdom.ticks()")
    return labels


def test_a_recording_of_hours_is_told_in_hours(show: Show) -> None:
    """Nobody reads 6 970.8 s."""
    lints = tuple(Lint("stuck", 0, None, "waits", 60.0 * n) for n in (5, 61))
    shown = show(tasks=(task(0, "main"),), ended=7200.0, lints=lints)
    assert "· 2 h ·" in shown.page.get_attribute("#facts", "title")
    assert tick_labels(shown) == [
        "0 min",
        "20 min",
        "40 min",
        "1 h",
        "1 h 20 min",
        "1 h 40 min",
    ]
    assert "0:05:00" in shown.text("#table")
    assert "1:01:00" in shown.text("#table")
    shown.do("kingdom.show(3600, 3720)")
    assert tick_labels(shown)[:2] == ["1:00:00", "1:00:20"]
    shown.do("kingdom.show(3600, 3600.5)")
    assert tick_labels(shown)[0] == "3\u202f600.0 s"


def test_times_of_lints_are_as_exact_as_can_be_read(show: Show) -> None:
    """To a ten-thousandth of the recording, and one time where all of a kind have the same."""
    lints = tuple(Lint("stuck", 0, None, "waits", 0.5012 + n * 1e-5) for n in range(7))
    shown = show(tasks=(task(0, "main"),), lints=lints)
    row = shown.text("#table tr.kind td:nth-child(2)")
    assert row == "0.501 s"


def test_no_label_of_the_ruler_is_cut_off(show: Show) -> None:
    """The last one is left out where it does not fit."""
    shown = show(tasks=(task(0, "main"),))
    assert tick_labels(shown) == ["0 s", "2 s", "4 s", "6 s", "8 s"]


def test_what_does_not_fit_opens_closed(show: Show) -> None:
    """Beside a group of a hundred the other tasks are in sight from the beginning."""
    group = "offload_map at survey.py:88 in read"
    many = [task(10 + n, f"f[{n % 4}]", parent=1, group=group) for n in range(100)]
    shown = show(tasks=(task(1, "read"), *many, task(200, "parse")))
    assert shown.visible()["names"] == ["read", group, "parse"]
    few = many[:10]
    shown = show(tasks=(task(1, "read"), *few, task(200, "parse")))
    assert shown.visible()["rows"] == 13


def test_a_name_that_is_long_loses_its_modules_first(show: Show) -> None:
    """What a function is called says more than where it is from."""
    tasks = (
        task(0, "kingdom_async.cli.survey.source_files.files_that_are_there.walk_the_tree"),
        task(1, "offload_map(pathlib.PathBase.some_class.another.read_all_bytes)[0]"),
    )
    texts = show(tasks=tasks).do("kingdom.texts()")
    assert any(text.startswith("…") and text.endswith(".walk_the_tree") for text in texts)
    assert any(re.fullmatch(r"offload_map\(….*read_all_bytes\)\[0\]", text) for text in texts)


def test_a_line_keeps_its_file(show: Show) -> None:
    """The name of a file has a dot, too."""
    group = "TaskGroup at a_file_with_a_rather_long_name_of_its_own_indeed.py:12 in main"
    tasks = (task(0, "main"), *(task(n, f"t{n}", parent=0, group=group) for n in (1, 2)))
    texts = show(tasks=tasks).do("kingdom.texts()")
    assert any(text.startswith("TaskGroup a_file_with") for text in texts)


def test_signs_of_lints_do_not_lie_on_one_another(show: Show) -> None:
    """A thousand in one row are as many as fit beside one another."""
    lints = tuple(Lint("stuck", 0, None, "waits", 0.01 * n) for n in range(1000))
    crowded = show(tasks=(task(0, "main"),), lints=lints).do("kingdom.drawn.primitives")
    assert crowded < 1000


def test_an_empty_recording_says_so(show: Show) -> None:
    """And does not say both that nobody held the loop, and that nobody knows."""
    shown = show(tasks=())
    texts = shown.do("kingdom.texts()")
    assert "No task ran while this was recorded." in texts
    assert "not recorded" not in texts
    assert "0 %" in texts


def test_a_small_window_has_room_for_all(browser: Browser, service_file: Path) -> None:
    """The program's name, the signs, the keys, and rows beside the details of a task."""
    with browser.open(service_file, size=(800, 600)) as shown:
        fits = """() => [...document.querySelectorAll("h1, .chip, #help, #theme, #hide")]
            .filter((part) => part.scrollWidth > part.clientWidth + 1
                || part.getBoundingClientRect().right > innerWidth).length"""
        assert shown.page.evaluate(fits) == 0
        assert shown.page.evaluate("document.querySelector('header').clientHeight") < 100
        shown.press("?")
        box = shown.page.locator("#keys").bounding_box()
        assert box["y"] + box["height"] <= 600
        assert shown.page.locator("#keys .legend").is_visible()
        shown.press("Escape")
        shown.do("kingdom.select('metrics')")
        assert shown.page.locator("#lanes").bounding_box()["height"] > 150
        assert "metrics" in shown.visible()["names"]


@pytest.mark.parametrize("width", [1000, 1200, 1440])
def test_no_tool_is_pushed_out_of_sight(
    browser: Browser, service_file: Path, width: int
) -> None:
    """Beside the details of a task the legend goes first."""
    with browser.open(service_file, size=(width, 700)) as shown:
        shown.do("kingdom.select('metrics')")
        last = shown.page.locator("#taller").bounding_box()
        stage = shown.page.locator(".stage").bounding_box()
        assert last["x"] + last["width"] <= stage["x"] + stage["width"]
