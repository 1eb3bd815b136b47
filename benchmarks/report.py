"""The rows as a table: on the terminal as they come, and as a page of the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from .comparison import Row  # noqa: TC001

_LIBRARIES = ("anyio", "trio", "uvloop", "aiometer", "aiotools", "quattro", "culsans")

_NONE = "-"
_HEAD = (
    "operation",
    "against",
    "backend",
    "ours",
    "theirs",
    "ratio",
    "best",
    "goal",
    "reached",
)
_WIDTHS = (37, 26, 14, 10, 10, 24, 8, 7, 7)


def text_head() -> str:
    return _text_line(_HEAD)


def text_line(row: Row, *, judged: bool = True) -> str:
    """One line; without a judgement where the numbers mean nothing."""
    cells = _cells(row)
    return _text_line(cells if judged else (*cells[:-1], _NONE))


def _text_line(cells: Sequence[str]) -> str:
    named, numbers = cells[:3], cells[3:]
    parts = [cell.ljust(width) for cell, width in zip(named, _WIDTHS[:3], strict=True)]
    parts += [cell.rjust(width) for cell, width in zip(numbers, _WIDTHS[3:], strict=True)]
    return "  ".join(parts).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    spread = f"{short(row.value)} ({short(row.low)} to {short(row.high)})"
    if row.relation == "excess":
        spread = f"+{short(row.value)} {row.unit}"
    return (
        row.operation,
        row.against,
        row.backend,
        f"{short(row.ours)} {row.unit}",
        f"{short(row.theirs)} {row.unit}",
        spread,
        short(row.best),
        _NONE if row.goal is None else f"{row.goal:g}",
        {None: _NONE, True: "yes", False: "NO"}[row.reached],
    )


def short(number: float) -> str:
    """Three digits that count, and never an exponent."""
    size = abs(number)
    decimals = sum(size < bound for bound in (0.1, 1, 10, 100))
    return f"{number:.{decimals}f}"


def in_order(rows: Iterable[Row]) -> list[Row]:
    """By operation and what it is against, each in the order first seen."""
    rows = list(rows)
    operations = {row.operation: None for row in rows}
    againsts = {row.against: None for row in rows}
    places = {name: place for place, name in enumerate((*operations, *againsts))}
    return sorted(rows, key=lambda row: (places[row.operation], places[row.against]))


def setting() -> str:
    """What it was measured with; nothing that tells the machine."""
    return f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {found}" for name in _LIBRARIES if (found := _version(name)) is not None
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def page(rows: Sequence[Row], notes: Iterable[str], rounds: int) -> str:
    """The page ``docs/benchmarks.md``."""
    goals = in_order(row for row in rows if row.goal is not None)
    missed = sum(row.reached is False for row in goals)
    today = datetime.now(timezone.utc).date().isoformat()
    left_out = "".join(f"- {note}\n" for note in notes)
    return (
        f"""\
# Benchmarks

<!-- Written by "python -m benchmarks"; do not edit. -->

What the operations of kingdom_async cost beside those they stand in for. A ratio is ours
divided by theirs: less is better, and the goal is the most it may be. Of
{len(goals)} goals, {len(goals) - missed} are reached{_missed(missed)}.

![Ratio to goal by operation and backend](benchmarks.svg)

Measured on {today} with {setting()}; {rounds} rounds.
Your numbers will differ, the ratios less so: run `python -m benchmarks` to see them.

## How it is measured

- Each round gives every side its turn, in an order that is reversed from round to round. A
  ratio is the median of the ratios of the rounds, with their quartiles in brackets, so that
  what the machine does meanwhile hits both sides. *Best* is best round against best round.
- A turn is a fresh event loop that has run the same code before. The clock covers the work
  only, not the start of the loop. The garbage collector is on, as users have it.
- The rounds of a row are spread over several processes, since CPython specialises the same
  code better in one than in another. No process sees two backends or two operations. On
  trio, where asyncio's functions do not run, they are measured on a plain asyncio loop of
  the same process, turn by turn.
- What each side returns is checked. The functions called do nothing, so what is measured is
  the cost of calling them: the more your function does, the less all of this matters.
- "import and first task" is the time of a whole `python -c`, "memory" the highest point of
  traced memory above that of a list comprehension with the same results.

## Goals

{_markdown(goals)}
## For comparison

{_markdown(in_order(row for row in rows if row.goal is None))}
{left_out}""".rstrip()
        + "\n"
    )


def _missed(missed: int) -> str:
    if not missed:
        return ""
    return f", and {missed} {'is' if missed == 1 else 'are'} not (marked **NO**)"


def _markdown(rows: Iterable[Row]) -> str:
    lines: list[tuple[str, ...]] = [_HEAD, ("---",) * 3 + ("---:",) * 5 + ("---",)]
    lines += [tuple(cell.replace("NO", "**NO**") for cell in _cells(row)) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
