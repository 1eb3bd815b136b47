"""The command ``kingdom-async``.

Rule: it is a program like any other, and uses nothing of the package but its public names.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from . import trace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: all is well; 1: time ran out, or a process cannot be asked; 2: it was called wrongly;
    130: Ctrl-C.
    """
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.command(arguments)
    except KeyboardInterrupt:
        # Pipes to worker processes complain when they are collected after their loop.
        sys.unraisablehook = lambda _: None
        print("kingdom-async: interrupted", file=sys.stderr)
        return 130
    return code


def _demo(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    try:
        from . import demo
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "rich":
            raise
        parser.error("the command needs rich; run: pip install 'kingdom_async[cli]'")
    try:
        return demo.main(arguments.path, arguments.backend, arguments.timeout)
    except demo.UsageError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kingdom-async", description="Structured concurrency, at work on real input."
    )
    commands = parser.add_subparsers(title="commands", required=True)
    demo = commands.add_parser(
        "demo",
        help="survey a folder of Python files",
        description="Read all Python files of a folder in threads and parse them in processes, "
        "through bounded queues, under a deadline; then say what is in them.",
    )
    demo.set_defaults(command=partial(_demo, parser))
    demo.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        help="the folder (default: the standard library of this Python)",
    )
    demo.add_argument(
        "--backend",
        help="asyncio, asyncio+uvloop or trio (default: $KINGDOM_ASYNC_BACKEND, else asyncio)",
    )
    demo.add_argument(
        "--timeout",
        type=float,
        default=120,
        metavar="SECONDS",
        help="report what was found until then (default: %(default)s)",
    )
    trace.add_to(commands)
    return parser
