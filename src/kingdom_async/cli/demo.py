"""The demo: a survey, its progress, and its report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from heapq import nlargest
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import kingdom_async as ka

from .survey import Survey, take

LARGEST = 10


class UsageError(Exception):
    """The command was called in a way that cannot work."""


def main(folder: Path, backend: str | None, timeout: float) -> int:
    """Survey *folder*, print the report, and return the exit code."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give one that holds Python files")
    if not timeout > 0:
        raise UsageError(f"--timeout must be more than 0 seconds, not {timeout:g}")
    survey = Survey(folder)
    # For good: a thread that has waited for a process may speak when the loop is closed.
    logging.getLogger("asyncio").addFilter(_is_news)
    with shown(survey) as show:
        try:
            ka.run(take, survey, timeout, show, backend=backend)
        except (ValueError, ImportError) as error:
            if survey.backend:  # the loop ran: not a matter of settings
                raise
            raise UsageError(str(error)) from error
    report(survey, Console(soft_wrap=True, highlight=False))
    if survey.timed_out:
        Console(stderr=True, soft_wrap=True).print(
            f"Not done after {timeout:g} s; the report is of what was found until then. "
            "A larger --timeout finds the rest."
        )
    return 1 if survey.timed_out else 0


#: What asyncio says, before Python 3.12.4, of a worker process whose end anyio saw first.
_NOISE = (
    "child process pid %d exit status already read",
    "Unknown child process pid %d",
    "Loop %r that handles pid %r is closed",
)


def _is_news(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], BrokenPipeError):
        return False  # Ctrl-C has ended a worker process that was about to be told something
    return not str(record.msg).startswith(_NOISE)


@contextmanager
def shown(survey: Survey) -> Generator[Callable[[], None] | None]:
    """Progress on stderr, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"parsing, on {survey.backend or 'a loop'}", total=None)
        yield lambda: progress.update(
            bar,
            description=f"parsing, on {survey.backend}",
            completed=len(survey.modules) + len(survey.unreadable),
            total=survey.found,
        )


def report(survey: Survey, console: Console) -> None:
    """Print what was found."""
    modules = survey.modules
    console.print(str(survey.folder), style="bold", markup=False)
    for number, what in (
        (len(modules), "files"),
        (sum(module.lines for module in modules), "lines"),
        (sum(module.functions for module in modules), "functions"),
        (sum(module.async_functions for module in modules), "async functions"),
        (sum(module.syntax_error is not None for module in modules), "syntax errors"),
        (len(survey.unreadable), "unreadable"),
    ):
        console.print(f"{number:10,}  {what}")

    if modules:
        console.print("\n[bold]Largest modules[/bold]")
    for module in nlargest(LARGEST, modules, key=lambda module: module.lines):
        console.print(f"{module.lines:10,}  {_name(module.path, survey)}", markup=False)
    broken = sorted((m for m in modules if m.syntax_error), key=lambda module: module.path)
    if broken:
        console.print("\n[bold]Syntax errors[/bold]")
    for module in broken:
        console.print(f"{_name(module.path, survey)}:{module.syntax_error}", markup=False)
    if survey.unreadable:
        console.print("\n[bold]Unreadable[/bold]")
    for path, error in sorted(survey.unreadable, key=lambda pair: pair[0]):
        reason = getattr(error, "strerror", None) or error
        console.print(f"{_name(path, survey)}: {reason}", markup=False)

    speed = len(modules) / survey.seconds
    console.print(
        f"\n{survey.seconds:.2f} s on {survey.backend}, {speed:,.0f} files/s; "
        f"queue peak {survey.peak} of {survey.room}"
    )


def _name(path: Path, survey: Survey) -> str:
    return str(path.relative_to(survey.folder))
