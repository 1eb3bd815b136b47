"""The commands about tracing: another process's tasks, and recordings.

Rule: a sentence on stderr and exit code 1 for what cannot be done; what a process said is
printed so that it cannot steer the terminal.
"""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kingdom_async import trace
from kingdom_async.trace.client import ControlError, connect
from kingdom_async.trace.control.files import problem, write
from kingdom_async.trace.views.texts import printable

_OUT = (
    "what to write; the suffix says which view: .html a timeline, .json events for Perfetto, "
    ".trace or none a recording"
)


def add_to(commands: Any) -> None:
    """Add ``trace`` and its own commands to the parser's."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "trace",
        help="look into a running process, record it, view a recording",
        description="Look into a process that runs with KINGDOM_ASYNC_CONTROL=1, record it, "
        "and view a recording.",
    )
    actions = parser.add_subparsers(title="commands", required=True)
    _add(actions, "tree", tree, "print the task tree")
    top = _add(actions, "top", _top, "watch the tasks")
    top.add_argument(
        "--interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="ask so often (default: %(default)s)",
    )
    on = _add(actions, "on", switch_on, "begin a recording, until off")
    _add_level(on, "life")
    off = _add(actions, "off", switch_off, "end that recording")
    off.add_argument("--out", type=Path, metavar="FILE", help=_OUT)
    record = _add(actions, "record", record_it, "record the next seconds")
    record.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="for how long (default: %(default)s)",
    )
    _add_level(record, "steps")
    record.add_argument(
        "--out", type=Path, metavar="FILE", help=f"{_OUT} (default: recording-PID.html)"
    )
    view = actions.add_parser(
        "view",
        help="draw a recording",
        description="Draw a recording as an HTML page, or as events for Perfetto.",
    )
    view.set_defaults(command=_reported(view_it))
    view.add_argument("file", type=Path, help="what recording.save() or --out has written")
    view.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page, .html, or events for Perfetto, .json (default: FILE with .html)",
    )
    view.add_argument(
        "--force", action="store_true", help="write over a page that is there already"
    )
    view.add_argument("--open", action="store_true", help="show it in a browser as well")


def _add(
    actions: Any, name: str, func: Callable[[argparse.Namespace], None], what: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}."
    )
    parser.set_defaults(command=_reported(func))
    parser.add_argument(
        "process",
        nargs="?",
        metavar="PID",
        help="the process (default: the only one that can be looked into)",
    )
    return parser


def _add_level(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--level",
        choices=("life", "steps"),
        default=default,
        help="life: when each task begins and ends; steps: who holds the loop as well "
        "(default: %(default)s)",
    )


def _reported(
    func: Callable[[argparse.Namespace], None],
) -> Callable[[argparse.Namespace], int]:
    """The same, giving an exit code."""

    def command(arguments: argparse.Namespace) -> int:
        try:
            func(arguments)
            sys.stdout.flush()
        except (ControlError, _Problem) as error:
            print(f"kingdom-async: {printable(str(error))}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # as in: kingdom-async trace tree | head
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for what is buffered
            return 0
        return 0

    return command


class _Problem(Exception):
    """Something that cannot be done; its text is for the user."""


# --- the commands --------------------------------------------------------------------------


def tree(arguments: argparse.Namespace) -> None:
    answer = connect(arguments.process).tree()
    print(printable(f"{blocked(answer['loop'])}{answer['tree']}"))


def switch_on(arguments: argparse.Namespace) -> None:
    control = connect(arguments.process)
    control.on(arguments.level)
    print(f"process {control.name}: recording, until kingdom-async trace off {control.name}")


def switch_off(arguments: argparse.Namespace) -> None:
    control = connect(arguments.process)
    if arguments.out is not None:
        _refuse(arguments.out)
    recording = control.off()
    seconds = recording.ended - recording.began
    print(
        f"process {control.name}: recorded {len(recording.tasks)} tasks in {seconds:.1f} s; "
        f"dropped: {recording.dropped}"
    )
    if arguments.out is not None:
        _write(recording, arguments.out)


def record_it(arguments: argparse.Namespace) -> None:
    control = connect(arguments.process)
    out: Path = arguments.out or Path(f"recording-{control.name}.html")
    _refuse(out)  # before the seconds are over
    if sys.stderr.isatty():
        print(f"recording process {control.name} for {arguments.seconds:g} s", file=sys.stderr)
    _write(control.record(arguments.seconds, arguments.level), out)


def view_it(arguments: argparse.Namespace) -> None:
    file: Path = arguments.file
    page: Path = arguments.out or file.with_suffix(".html")
    try:
        recording = trace.load(file)
    except OSError as error:
        raise _Problem(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _Problem(f"{file}: {error}") from None
    if page.exists() and page.samefile(file):
        raise _Problem(f"{file} is the recording itself; write the page elsewhere with --out")
    is_page = page.suffix.lower() in (".html", ".htm")
    if not is_page and (arguments.open or page.suffix.lower() != ".json"):
        raise _Problem(
            f"{page} should end in .html, since it is to be a page"
            + ("" if arguments.open else "; or in .json, for Perfetto")
        )
    _refuse(page)
    if page.exists() and not arguments.force:
        raise _Problem(
            f"{page} is there already; name another with --out, or write over it with --force"
        )
    _write(recording, page)
    if arguments.open and not webbrowser.open(page.resolve().as_uri()):
        raise _Problem(f"no browser was found; open {page} in one")


def _top(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.interval <= 60:
        raise _Problem(
            f"--interval must be more than 0 and at most 60 seconds, not {arguments.interval:g}"
        )
    control = connect(arguments.process)
    try:
        from .top import Top
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("textual", "rich"):
            raise
        raise _Problem(
            "trace top needs textual; run: pip install 'kingdom_async[cli]'"
        ) from None
    if not sys.stdout.isatty():
        raise _Problem("trace top needs a terminal; to print what there is, use trace tree")
    Top(control, interval=arguments.interval).run()


# --- files and texts -----------------------------------------------------------------------


def _refuse(out: Path) -> None:
    found = problem(out)
    if found is not None:
        raise _Problem(found)


def _write(recording: trace.Snapshot, out: Path) -> None:
    try:
        write(recording, out)
    except OSError as error:
        raise _Problem(f"{out} cannot be written: {error.strerror}") from None
    print(out)


def blocked(loop: Mapping[str, Any]) -> str:
    """What there is to say of a loop that does not answer, as lines; nothing if it does."""
    if loop["state"] != "blocked":
        return ""
    who = "" if loop["task"] is None else f" by task {loop['task']!r}"
    lines = [f"BLOCKED for at least {loop['seconds']:.1f} s{who}, at"]
    for line in loop["stack"]:
        place = f"{Path(line['path']).name}:{line['number']} in {line['function']}"
        lines.append(f"    {place}: {line['source']}".rstrip(": "))
    return "\n".join([*lines, "", ""])
