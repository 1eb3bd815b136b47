"""The pages of the documentation as programs.

Rule: the ``python`` blocks of a page are one program. They run in order in one namespace; a
block with a bare ``await`` runs inside ``kingdom_async.run``. What a block prints must be what
the ``text`` block right after it says, where ``…`` stands for whatever varies.

An HTML comment right before a block marks it:

- ``<!-- fails -->``: it raises, and the ``text`` block ends with the error and its notes.
- ``<!-- logs -->``: it logs, and the ``text`` block ends with what is logged.
- ``<!-- asyncio only -->``: it is left out on trio.
- ``<!-- script -->``: a program of its own, run by a new Python.
- ``<!-- test file -->``: a file of tests, run by a new pytest.
- ``<!-- file: NAME -->``: a file of the reader's project, see `support.projects`.
"""

from __future__ import annotations

import ast
import inspect
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import kingdom_async as ka

#: What is logged where a step takes long because somebody else has the processor.
_OF_A_BUSY_MACHINE = ("long-step:", "blocked-loop:")
MARKS = frozenset({"fails", "logs", "asyncio only", "script", "test file"})

#: pytest imports every plugin that is installed, which takes a second; these are enough.
OUR_PLUGINS = ("-p", "anyio", "-p", "kingdom_async", "-p", "no:cacheprovider")
NO_OTHER_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

_COMMENT = re.compile(r"<!-- (.*) -->")
_STUCK = 60  # seconds; a program of its own that takes longer hangs


def is_file(mark: str) -> bool:
    """True if a block with it is a file of the reader's project."""
    return mark.startswith("file: ")


@dataclass(frozen=True)
class Block:
    """A ``python`` block of a page."""

    page: Path
    #: Of its first line of code.
    line: int
    code: str
    #: The text block after it, or None.
    output: str | None
    marks: frozenset[str]

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The ``python`` blocks of *page*, in order."""
    lines = page.read_text(encoding="utf-8").split("\n")
    blocks: list[Block] = []
    for number, line in enumerate(lines):
        if line == "```python":
            end = lines.index("```", number)
            comments = (_COMMENT.fullmatch(lines[number - back]) for back in (1, 2, 3))
            marks = frozenset(comment[1] for comment in comments if comment)
            marks = frozenset(mark for mark in marks if mark in MARKS or is_file(mark))
            code = "\n".join(lines[number + 1 : end])
            blocks.append(Block(page, number + 2, code, _text_after(lines, end), marks))
    return blocks


def _text_after(lines: list[str], end: int) -> str | None:
    start = end + 1
    while start < len(lines) and not lines[start]:
        start += 1
    if start == len(lines) or lines[start] != "```text":
        return None
    return "\n".join(lines[start + 1 : lines.index("```", start)])


def run_page(blocks: list[Block], backend: str, folder: Path) -> None:
    """Run the blocks of one page and compare what they print with what the page says."""
    module = ModuleType("page")
    for block in blocks:
        if "asyncio only" in block.marks and backend == "trio":
            continue
        if "test file" in block.marks:
            continue  # it says itself where it runs, so it runs once: see run_tests()
        if any(map(is_file, block.marks)):
            continue
        if "script" in block.marks:
            printed = _run_script(block, folder)
        else:
            printed = _run_here(block, module.__dict__)
        if block.output is not None:
            assert matches(block.output, printed), (
                f"{block.place} prints\n{printed}\nand the page says\n{block.output}"
            )
        else:
            assert not printed, f"{block.place} prints what the page does not show:\n{printed}"


def run_code(source: str, where: str, namespace: dict[str, Any]) -> None:
    """Run *source*, inside `kingdom_async.run` where it has a bare ``await``."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, where, "exec", flags=flags, dont_inherit=True)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, namespace)
        return

    async def block() -> None:
        await eval(code, namespace)

    ka.run(block)


def matches(said: str, printed: str) -> bool:
    """True if *printed* is what is *said*, ``…`` being anything."""
    pattern = ".*".join(map(re.escape, said.strip().split("…")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def _run_here(block: Block, namespace: dict[str, Any]) -> str:
    printed = io.StringIO()
    source = "\n" * (block.line - 1) + block.code  # so that tracebacks name lines of the page
    with redirect_stdout(printed), _logged() as records:
        try:
            run_code(source, str(block.page), namespace)
        except Exception as error:
            if "fails" not in block.marks:
                raise
            print(_told(error))
        else:
            assert "fails" not in block.marks, f"{block.place} does not fail"
    if "logs" in block.marks:
        printed.writelines(f"{record.levelname}: {record.getMessage()}\n" for record in records)
    else:
        messages = [record.getMessage() for record in records]
        unexpected = [text for text in messages if not text.startswith(_OF_A_BUSY_MACHINE)]
        assert not unexpected, f"{block.place} logs {unexpected}"
    return printed.getvalue()


def _told(error: Exception) -> str:
    """What the last lines of a traceback say."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


@contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    """What the package logs in the block."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("kingdom_async")
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


def _run_script(block: Block, folder: Path) -> str:
    return _run_alone(block, folder / "program.py", [])


def run_tests(block: Block, folder: Path) -> None:
    """Run a block that is a file of tests; it fails if one of them does."""
    pytest = ["-m", "pytest", "-q", "--rootdir", str(folder), *OUR_PLUGINS]
    _run_alone(block, folder / "test_page.py", pytest, NO_OTHER_PLUGINS)


def _run_alone(
    block: Block, path: Path, options: Sequence[str], env: Mapping[str, str] | None = None
) -> str:
    path.write_text(block.code + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *options, str(path)],
        capture_output=True,
        text=True,
        timeout=_STUCK,
        cwd=path.parent,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
    return done.stdout
