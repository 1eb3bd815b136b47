"""What ``kingdom-async trace top`` writes: numbers, cells, and the panels around the table.

Rule: every text of the other process is put in as text, never as markup, with what could
steer a terminal written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

Answer = Mapping[str, Any]


class Column(NamedTuple):
    """A column of the table: what it is sorted by, its heading, and its width."""

    key: str
    heading: str
    width: int | None
    #: What sorting by it is good for: most first, or the alphabet.
    descending: bool
    is_number: bool = False


COLUMNS = (
    Column("warning", "warning", 14, descending=True),
    Column("name", "task", 34, descending=False),
    Column("state", "state", 7, descending=False),
    Column("age", "age", 9, descending=True, is_number=True),
    Column("idle", "rests", 8, descending=True, is_number=True),
    Column("busy", "busy", 8, descending=True, is_number=True),
    Column("steps", "steps", 8, descending=True, is_number=True),
    Column("waits", "waits at", None, descending=False),
)

_STATES = {"running": "bold green", "waiting": "", "new": "cyan"}
_MILD = "long wait"
_NONE = "—"
_BLOCKS = "▁▂▃▄▅▆▇█"
#: The classes of a histogram of steps, as the other process counts them.
_CLASSES = ("< 10 µs", "< 100 µs", "< 1 ms", "< 10 ms", "< 100 ms", "< 1 s", "longer")
#: Fewer answers than these say little of a loop's lag.
_FEW = 5
#: From here on a loop's lag is bad, and very bad.
_LAG, _LONG_LAG = 0.02, 0.1


def seconds(value: float | None) -> str:
    """A time that is read at a glance: ``12 ms``, ``3.4 s``, ``2 h 05``."""
    if value is None:
        return _NONE
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02}"
    return f"{minutes // 60} h {minutes % 60:02}"


def plain(text: object) -> str:
    """One line, with what could steer a terminal written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def cells(row: Answer) -> list[Text]:
    """A row of the table, in the order of `COLUMNS`."""
    warning = row["warning"] or ""
    name = _name(row)
    if row["item"] is not None:
        name.append(f" {plain(row['item'])}", style="magenta")
    waits = Text(style="dim")
    if row["spans"]:
        waits.append(f"{plain(row['spans'][-1])} · ", style="magenta not dim")
    if row["waits"] is not None:
        waits.append(plain(row["waits"]), style="cyan not dim")
        if row["source"]:
            waits.append(f"  {plain(row['source'])}")
    return [
        Text(warning, style="yellow" if warning == _MILD else "bold red"),
        name,
        Text(row["state"], style=_STATES.get(row["state"], "")),
        _number(f"{'≥ ' if _is_early(row) else ''}{seconds(row['age'])}"),
        _number(seconds(row["idle"])),
        _number(seconds(row["busy"]) if row["steps"] else _NONE),
        _number(f"{row['steps']:,}" if row["steps"] else _NONE),
        waits,
    ]


def _name(row: Answer) -> Text:
    """The name, with the module that it begins with less bright."""
    name = plain(row["name"])
    if row["foreign"]:
        return Text().append(name, style="dim")
    at = name.rfind(".") + 1 if name.replace(".", "").isidentifier() else 0
    return Text().append(name[:at], style="dim").append(name[at:], style="bold")


def _is_early(row: Answer) -> bool:
    """True where it was there before the recording: how old it is, is not known."""
    return bool(row.get("early"))  # a service of an older version does not say


def _number(text: str) -> Text:
    return Text(text, justify="right", style="dim" if text == _NONE else "")


def headline(answer: Answer) -> Text:
    """Who it is."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" {plain(answer['program']) or 'a program'} ", style="bold reverse")
    for part in (f"process {answer['pid']}", answer["backend"], f"Python {answer['python']}"):
        text.append(f"  {plain(part)}")
    return text


def status(answer: Answer, lags: Sequence[float]) -> Text:
    """How it is."""
    text = Text(no_wrap=True, overflow="ellipsis")
    many = answer["tasks"]
    text.append(f" {many:,} task{'' if many == 1 else 's'}", style="bold")
    if len(answer["rows"]) < answer["matching"]:
        text.append(f", the first {len(answer['rows']):,} shown", style="dim")
    if answer["matching"] < many:
        text.append(f", {answer['matching']:,} match", style="dim")
    text.append("   loop lag ", style="dim")
    lag = answer["loop"].get("lag")
    if lag is None:
        text.append("no answer ", style="bold red")
    else:
        text.append(f"{seconds(lag)} ", style=_lag_style(lag))
    for value in lags:
        text.append(_block(value), style=_lag_style(value))
    if len(lags) < _FEW:
        text.append(f" {len(lags)} sample{'' if len(lags) == 1 else 's'}", style="dim")
    if answer["level"] is None:
        text.append("   nothing is recorded; r begins", style="yellow")
        return text
    text.append("   recorded ", style="dim")
    text.append(f"{answer['level']} for {seconds(answer['recorded'])}")
    if answer["switched_on"]:
        text.append(" ● from here", style="red")
    lost = [f"{count:,} {what}" for what, count in answer["dropped"].items() if count]
    text.append("   dropped ", style="dim")
    text.append(", ".join(lost) or "nothing", style="" if lost else "dim")
    return text


def _lag_style(lag: float) -> str:
    return "bold red" if lag > _LONG_LAG else "yellow" if lag > _LAG else "green"


def _block(lag: float) -> str:
    """Higher by one for each threefold of 0.1 ms."""
    level, bound = 0, 1e-4
    while lag > bound and level < len(_BLOCKS) - 1:
        level, bound = level + 1, bound * 3
    return _BLOCKS[level]


def alerts(answer: Answer, most: int = 4) -> Text:
    """What is wrong: the loop that is blocked, then the lints, the last ones first."""
    text = Text(no_wrap=True, overflow="ellipsis")
    loop = answer["loop"]
    if loop["state"] == "blocked":
        who = "" if loop["task"] is None else f" by task {plain(loop['task'])!r}"
        blocked = f" BLOCKED for {seconds(loop['seconds'])}{who} "
        text.append(blocked, style="bold white on red")
        for line in loop["stack"][-3:]:
            text.append("\n   ")
            text.append_text(source_line(line))
    lints: list[Answer] = answer["lints"]
    if lints:
        counts = Counter(lint["kind"] for lint in lints)
        text.append("\n" if text else "")
        text.append(" ⚠ ", style="bold yellow")
        text.append("  ".join(f"{kind} x{n}" for kind, n in counts.most_common()))
    for lint in _distinct(lints)[:most]:
        text.append(f"\n   {lint['kind']}", style="bold yellow")
        text.append(f"  {seconds(lint['ago'])} ago  ", style="dim")
        text.append(plain(lint["message"]))
    return text


def _distinct(lints: Iterable[Answer]) -> list[Answer]:
    """The last lint of each kind and task."""
    return list(
        {(each["kind"], each["task"]): each for each in reversed(list(lints))}.values()
    )[::-1]


def source_line(line: Answer) -> Text:
    """A line of a stack: where, and what stands there."""
    text = Text(f"{Path(plain(line['path'])).name}:{line['number']}", style="cyan")
    text.append(f" in {plain(line['function'])}", style="dim")
    if line["source"]:
        text.append(f"  {plain(line['source'])}", style="bold")
    return text


def story(task: Answer, *, has_ended: bool) -> Text:
    """One task: what it is, where it came from, and its await stack."""
    text = Text()
    text.append(plain(task["name"]), style="bold")
    text.append("  has ended" if has_ended else f"  {task['state']}", style="green")
    if task["age"] is not None:
        text.append(f"  {'at least ' * _is_early(task)}{seconds(task['age'])} old")
    if _is_early(task):
        text.append("  from before the recording", style="dim")
    elif task["foreign"]:
        text.append("  foreign", style="dim")
    for label, value in (
        ("group", task["group"]),
        ("spawned at", task["place"]),
        ("item", task["item"]),
    ):
        if value is not None:
            text.append(f"\n{label} ", style="dim")
            text.append(plain(value))
    text.append("\n\nawait stack" if task["stack"] else "", style="dim")
    for depth, line in enumerate(task["stack"]):
        text.append("\n" + "  " * min(depth, 8) + ("└ " if depth else ""), style="dim")
        text.append_text(source_line(line))
    for span in task["spans"]:
        text.append(f"\n▸ {plain(span['name'])}", style="magenta")
        text.append(f"  since {seconds(span['seconds'])}", style="dim")
    for number, message in enumerate(task["lints"]):
        text.append("\n⚠ " if number else "\n\n⚠ ", style="bold yellow")
        text.append(plain(message))
    return text


def histogram(task: Answer, width: int = 20) -> Text:
    """How long its steps took."""
    counts: list[int] | None = task["histogram"]
    text = Text("steps", style="dim")
    if counts is None:
        return text.append("\nare not recorded;\nr begins")
    text.append(f"  {sum(counts):,} kept, {seconds(task['busy'])} busy")
    highest = max([*counts, 1])
    for label, count in zip(_CLASSES, counts, strict=True):
        bar = "█" * round(width * count / highest) or ("▏" if count else "")
        style = "red" if label in _CLASSES[-2:] else "yellow" if "100 ms" in label else "green"
        text.append(f"\n{label:>8} ", style="dim")
        text.append(bar, style=f"{style} not dim")
        text.append(f" {count:,}" if count else "")
    return text
