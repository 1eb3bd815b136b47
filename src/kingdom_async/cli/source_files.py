"""Python files: which there are, and what is in one.

Rule: plain blocking functions, which run in threads and processes and know nothing of it.
"""

from __future__ import annotations

import ast
import os
import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SKIPPED = ("__pycache__", "site-packages", "node_modules")


@dataclass(frozen=True)
class Module:
    """What is in one file."""

    path: Path
    lines: int = 0
    functions: int = 0
    async_functions: int = 0
    #: "12: invalid syntax", or None.
    syntax_error: str | None = None


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The Python files right in *folder*, and the folders in it, each sorted by name."""
    files: list[Path] = []
    folders: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                files.append(Path(entry.path))
            elif entry.is_dir(follow_symlinks=False) and not _is_skipped(entry.name):
                folders.append(Path(entry.path))
    return files, folders


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED


def parse_all(sources: list[tuple[Path, bytes]]) -> list[Module]:
    """What is in each of the files, given with their contents; runs in a worker process."""
    # On a terminal Ctrl-C hits every process; what becomes of this one, its parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd code in the files, not in ours
        return [parse(path, content) for path, content in sources]


def parse(path: Path, content: bytes) -> Module:
    """What is in one file. What cannot be parsed is named, and its lines count all the same."""
    lines = content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    try:
        tree = ast.parse(content, filename=str(path))
    except SyntaxError as error:
        return Module(path, lines, syntax_error=f"{error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; far too nested
        return Module(path, lines, syntax_error=f"1: {error}")
    kinds = Counter(map(type, _statements(tree)))
    return Module(path, lines, kinds[ast.FunctionDef], kinds[ast.AsyncFunctionDef])


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """What stands in a block, at any depth; ast.walk visits ten times as many nodes."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, block, ())
