"""The live view of a process: its tasks, what is wrong with them, and one of them in full.

Rule: it shows what the other process last said, and says so when that is not now. The rows
are sorted and cut short over there, so ten thousand tasks cost no more than a few hundred.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult, ScreenStackError
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Input, Static

from kingdom_async.trace.client import ControlError
from kingdom_async.trace.control.files import write

from . import top_texts as texts
from .top_texts import COLUMNS

ROWS = 200
#: What is raised on the way out: the panels are gone already, or the screen they were on.
_GONE = (NoMatches, ScreenStackError)
#: Seconds without an answer after which what is shown is marked as old.
_OLD = 1.5


class Asked(Protocol):
    """What is looked at; a `Control`."""

    @property
    def name(self) -> str: ...
    def top(self, **options: Any) -> dict[str, Any]: ...
    def on(self, level: str = ...) -> None: ...
    def off(self) -> Any: ...


class Top(App[None]):
    """Asks *control* every *interval* seconds, and shows the answer."""

    CSS: ClassVar[str] = """
    #headline, #status { height: 1; }
    #headline { background: $panel; }
    DataTable { scrollbar-size-horizontal: 0; scrollbar-size-vertical: 1; }
    #alerts { height: auto; max-height: 9; background: $surface; }
    #headline, #status, #alerts { text-wrap: nowrap; text-overflow: ellipsis; }
    VerticalScroll { scrollbar-size-vertical: 1; }
    #filter { display: none; height: 3; }
    #filter.-on { display: block; }
    DataTable { height: 3fr; }
    #details { height: 2fr; border-top: solid $primary; }
    #story { width: 1fr; padding: 0 1; }
    #histogram { width: 42; padding: 0 1; }
    .-old DataTable, .-old #details { text-opacity: 50%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort by next column"),
        Binding("v", "reverse", "Reverse"),
        Binding("p", "pause", "Pause"),
        Binding("r", "record", "Record on/off"),
        Binding("escape", "leave_filter", "All tasks", show=False),
    ]
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    TITLE: str | None = "kingdom-async trace top"

    def __init__(self, control: Asked, *, interval: float = 1.0) -> None:
        super().__init__()
        self._control = control
        self._interval = interval
        self._sort, self._descending = COLUMNS[0].key, COLUMNS[0].descending
        self._lags: deque[float] = deque(maxlen=30)
        self._answer: dict[str, Any] | None = None
        self._selected: int | None = None
        #: What is known of the selected task, also after its end.
        self._details: dict[str, Any] | None = None
        self._is_paused = False
        #: When the question was asked that is not answered yet; and the last one that was.
        self._asked: float | None = None
        self._heard = time.monotonic()
        #: The filter of the rows that are shown.
        self._filtered_by = ""
        self._is_ours = False  # a recording that was switched on here
        self._asks = asyncio.Lock()

    def compose(self) -> ComposeResult:
        yield Static(id="headline")
        yield Static(id="status")
        yield Static(id="alerts")
        yield DataTable[Text](cursor_type="row", zebra_stripes=True)
        yield Input(placeholder="name, place, group, item or state", id="filter")
        with Horizontal(id="details"):
            with VerticalScroll(can_focus=False):
                yield Static(id="story")
            yield Static(id="histogram")
        yield Footer()

    def on_mount(self) -> None:
        table = self._table
        for column in COLUMNS:
            table.add_column(column.heading, width=column.width, key=column.key)
        self._label_columns()
        table.focus()
        self.query_one("#headline", Static).update(f" asking process {self._control.name} …")
        self.set_interval(0.5, self._mark_age)
        self.run_worker(self._poll(), exclusive=True)

    def on_resize(self) -> None:
        self._label_columns()

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one(DataTable[Text])

    # --- asking ------------------------------------------------------------------------

    async def _poll(self) -> None:
        while True:
            asked = time.monotonic()
            if not self._is_paused:
                await self.ask()
            # A program that takes long to answer is asked less often.
            await asyncio.sleep(max(self._interval, 5 * (time.monotonic() - asked)))

    async def ask(self) -> None:
        """Ask once, and show the answer."""
        async with self._asks:
            with suppress(*_GONE):
                await self._ask()

    async def _ask(self) -> None:
        options: dict[str, Any] = {
            "sort": self._sort,
            "descending": self._descending,
            "filter": self.query_one("#filter", Input).value,
            "limit": ROWS,
            "task": self._selected,
        }
        self._asked = time.monotonic()
        try:
            answer = await asyncio.to_thread(self._control.top, **options)
        except ControlError as error:
            self._show_error(str(error))
            return
        finally:
            self._asked = None
        self._heard = time.monotonic()
        self._show(answer, options["filter"])

    # --- showing -----------------------------------------------------------------------

    def _mark_age(self) -> None:
        """Say that what is shown is old, while no answer comes."""
        if self._asked is not None and time.monotonic() - self._asked > _OLD:
            with suppress(*_GONE):
                self.screen.add_class("-old")
                self._show_status()

    def _show_error(self, error: str) -> None:
        self.screen.add_class("-old")
        self._show_status()
        text = Text(f" {texts.plain(error)} ", style="bold white on red")
        if self._answer is not None:
            text.append("  what is shown is what it said last", style="dim")
        self.query_one("#alerts", Static).update(text)

    def _show(self, answer: dict[str, Any], wanted: str) -> None:
        self._answer = answer
        self.screen.remove_class("-old")
        if (lag := answer["loop"].get("lag")) is not None:
            self._lags.append(lag)
        self.query_one("#headline", Static).update(texts.headline(answer))
        self._show_status()
        alerts = self.query_one("#alerts", Static)
        alerts.update(texts.alerts(answer))
        self._show_rows(list({row["ident"]: row for row in answer["rows"]}.values()))
        if answer["task"] is not None:
            self._details = answer["task"]
        shown = {row["ident"] for row in answer["rows"]}
        is_first = answer["task"] is None and self._details is None
        # A new filter takes the selection to its first row; who stops to match it keeps it.
        is_hidden = wanted not in ("", self._filtered_by) and self._selected not in shown
        self._filtered_by = wanted
        if (is_first or is_hidden) and shown:
            self._details = None
            self._selected = answer["rows"][0]["ident"]
            self.run_worker(self.ask())
        self._show_task(has_ended=answer["task"] is None)

    def _show_status(self) -> None:
        if self._answer is not None:
            status = texts.status(self._answer, self._lags)
            if self.screen.has_class("-old"):
                silent = texts.seconds(time.monotonic() - self._heard)
                mark = Text(f" NO ANSWER for {silent}; this is old ", style="bold white on red")
                status = mark + status
            if self._is_paused:
                status = Text(" PAUSED ", style="black on yellow") + status
            self.query_one("#status", Static).update(status)

    def _show_rows(self, rows: list[dict[str, Any]]) -> None:
        table = self._table
        cursor, scrolled = table.cursor_row, table.scroll_y
        with self.prevent(DataTable.RowHighlighted), self.batch_update():
            table.clear()
            for number, row in enumerate(rows):
                table.add_row(*texts.cells(row), key=str(row["ident"]))
                if row["ident"] == self._selected:
                    cursor = number
            table.move_cursor(row=min(cursor, len(rows) - 1), scroll=False)
            table.scroll_to(y=scrolled, animate=False)

    def _show_task(self, *, has_ended: bool) -> None:
        if self._details is not None:
            self.query_one("#story", Static).update(
                texts.story(self._details, has_ended=has_ended)
            )
            self.query_one("#histogram", Static).update(texts.histogram(self._details))

    def _label_columns(self) -> None:
        """Headings, with an arrow at the sorted one; the last column gets what is left."""
        table = self._table
        if not table.columns:  # the first event of the terminal's size comes early
            return
        taken = 2 + 2 * len(COLUMNS) + sum(column.width or 0 for column in COLUMNS)
        for column, shown in zip(COLUMNS, table.ordered_columns, strict=True):
            arrow = "▼" if self._descending else "▲"
            mark = f" {arrow}" if column.key == self._sort else ""
            shown.label = Text(
                f"{column.heading}{mark}",
                no_wrap=True,
                justify="right" if column.is_number else "left",
            )
            if column.width is None:
                shown.width = max(20, self.size.width - taken)
                shown.auto_width = False
        table.refresh()

    # --- keys and clicks ---------------------------------------------------------------

    @on(DataTable.RowHighlighted)
    @on(DataTable.RowSelected)
    def _select(self, event: DataTable.RowHighlighted | DataTable.RowSelected) -> None:
        key = event.row_key.value
        if key is not None and int(key) != self._selected:
            self._selected = int(key)
            self._details = None
            self.run_worker(self.ask(), group="select", exclusive=True)

    @on(DataTable.HeaderSelected)
    def _sort_by(self, event: DataTable.HeaderSelected) -> None:
        self._sort_by_column(next(c for c in COLUMNS if c.key == event.column_key.value))

    def action_sort(self) -> None:
        keys = [column.key for column in COLUMNS]
        self._sort_by_column(COLUMNS[(keys.index(self._sort) + 1) % len(COLUMNS)])

    def _sort_by_column(self, column: texts.Column) -> None:
        if column.key == self._sort:
            self._descending = not self._descending
        else:
            self._sort, self._descending = column.key, column.descending
        self._label_columns()
        self.run_worker(self.ask())

    def action_reverse(self) -> None:
        self._descending = not self._descending
        self._label_columns()
        self.run_worker(self.ask())

    def action_pause(self) -> None:
        self._is_paused = not self._is_paused
        self._show_status()

    def action_filter(self) -> None:
        wanted = self.query_one("#filter", Input)
        wanted.add_class("-on")
        wanted.focus()

    def action_leave_filter(self) -> None:
        wanted = self.query_one("#filter", Input)
        wanted.value = ""
        wanted.remove_class("-on")
        self._table.focus()

    @on(Input.Submitted)
    def _use_filter(self) -> None:
        self._table.focus()

    @on(Input.Changed)
    def _filter(self) -> None:
        self.run_worker(self.ask(), group="filter", exclusive=True)

    async def action_record(self) -> None:
        if self._answer is None:
            return
        try:
            if not self._answer["switched_on"]:
                await asyncio.to_thread(self._control.on, "steps")
                self._is_ours = True
                self.notify("Recording; r ends it and writes a page.")
            else:
                page = Path(f"recording-{self._control.name}.html")
                recording = await asyncio.to_thread(self._control.off)
                self._is_ours = False
                await asyncio.to_thread(write, recording, page)
                self.notify(f"Written: {page}")
        except (ControlError, OSError) as error:
            self.notify(texts.plain(error), severity="error")
        await self.ask()

    async def action_quit(self) -> None:
        if self._is_ours:  # nobody would look at it any more
            with suppress(ControlError):  # it has ended, or another has switched it off
                await asyncio.to_thread(self._control.off)
        self.exit()
