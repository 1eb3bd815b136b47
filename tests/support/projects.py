"""A page of the documentation that is a project of the reader's: files, and what pytest says.

Rule: the reader's files are made from the page alone. A block after ``<!-- file: NAME -->``
becomes that file; where there is one of that name, functions and classes in the block take the
place of those of the same name, and the rest is added. A class that begins with ``...`` changes
only what it names. A shell block that begins with ``pytest`` is run there, and the ``text``
block after it must be what it prints, times excepted, where ``…`` stands for what is left out.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .snippets import NO_OTHER_PLUGINS, OUR_PLUGINS, matches

_FENCE = re.compile(r"^```(\w*)$")
_MARK = re.compile(r"<!-- file: ([\w.]+) -->")
_TIME = re.compile(r"\b\d+\.\d+s\b( \([\d:]+\))?")
_STUCK = 120  # seconds
#: Variables of who runs this suite: where pytest finds CI, it prints every line in full.
_NOT_THEIRS = ("KINGDOM", "PYTEST", "COV_", "CI", "BUILD_NUMBER", "FORCE_COLOR")
_ENVIRONMENT = {**NO_OTHER_PLUGINS, "COLUMNS": "80", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    line: int
    language: str
    text: str
    #: The file it is about, or None.
    file: str | None


def fences_of(page: Path) -> list[Fence]:
    lines = page.read_text(encoding="utf-8").split("\n")
    found: list[Fence] = []
    number = 0
    while number < len(lines):
        if opening := _FENCE.fullmatch(lines[number]):
            end = lines.index("```", number + 1)
            mark = _MARK.fullmatch(lines[number - 1])
            text = "\n".join(lines[number + 1 : end])
            found.append(Fence(number + 2, opening[1], text, mark[1] if mark else None))
            number = end
        number += 1
    return found


def is_project(page: Path) -> bool:
    return _MARK.search(page.read_text(encoding="utf-8")) is not None


def run_project(page: Path, folder: Path) -> list[str]:
    """Do what the page tells its reader to do; what differs from it is returned."""
    differs: list[str] = []
    fences = fences_of(page)
    for fence, after in zip(fences, [*fences[1:], None], strict=True):
        if fence.file is not None:
            path = folder / fence.file
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            path.write_text(changed(before, fence.text), encoding="utf-8")
        elif fence.language == "sh" and fence.text.startswith("pytest"):
            printed = _pytest(fence.text, folder)
            assert after is not None
            assert after.language == "text", f"{page.name}:{fence.line}: it shows no output"
            if not matches(_TIME.sub("…", after.text), _TIME.sub("…", printed)):
                differs.append(f"{page.name}:{after.line}: {fence.text} prints\n{printed}")
    return differs


def _pytest(command: str, folder: Path) -> str:
    pytest, *options = shlex.split(command)
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(_NOT_THEIRS)
    }
    done = subprocess.run(
        [sys.executable, "-m", pytest, *OUR_PLUGINS, *options],
        capture_output=True,
        text=True,
        timeout=_STUCK,
        cwd=folder,
        env={**env, **_ENVIRONMENT},
        check=False,
    )
    return done.stdout + done.stderr


# --- files that grow ---------------------------------------------------------------------


def changed(before: str, change: str) -> str:
    """The file *before*, with what *change* says put in its place."""
    if not before:
        return change + "\n"
    lines = before.split("\n")
    for part in ast.parse(change).body:
        text = _source(change, part)
        if isinstance(part, (ast.Import, ast.ImportFrom)):
            last = [each for each in ast.parse("\n".join(lines)).body if _is_import(each)][-1]
            lines[last.end_lineno : last.end_lineno] = [] if text in lines else [text]
            continue
        old = _named(ast.parse("\n".join(lines)).body, part)
        if old is None:
            while lines and not lines[-1]:
                lines.pop()
            lines += ["", "", *text.split("\n"), ""]
        elif isinstance(part, ast.ClassDef) and _is_partial(part):
            assert isinstance(old, ast.ClassDef)
            for member in part.body[1:]:
                _put_member(lines, part.name, member, _source(change, member))
        else:
            lines[_start(old) : old.end_lineno] = text.split("\n")
    return "\n".join(lines)


def _put_member(lines: list[str], name: str, member: ast.stmt, text: str) -> None:
    owner = next(
        each
        for each in ast.parse("\n".join(lines)).body
        if isinstance(each, ast.ClassDef) and each.name == name
    )
    old = _named(owner.body, member)
    if old is None:
        lines[owner.end_lineno : owner.end_lineno] = ["", *text.split("\n")]
    else:
        lines[_start(old) : old.end_lineno] = text.split("\n")


def _named(body: list[ast.stmt], like: ast.stmt) -> ast.stmt | None:
    name = getattr(like, "name", None)
    return next((each for each in body if name and getattr(each, "name", None) == name), None)


def _is_import(part: ast.stmt) -> bool:
    return isinstance(part, (ast.Import, ast.ImportFrom))


def _is_partial(part: ast.ClassDef) -> bool:
    first = part.body[0]
    return isinstance(first, ast.Expr) and getattr(first.value, "value", None) is ...


def _start(part: ast.stmt) -> int:
    """The index of its first line, decorators included."""
    decorators = getattr(part, "decorator_list", [])
    return min([part.lineno, *(each.lineno for each in decorators)]) - 1


def _source(text: str, part: ast.stmt) -> str:
    return "\n".join(text.split("\n")[_start(part) : part.end_lineno])
