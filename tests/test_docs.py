"""What the documentation says is so: its programs run, and it names all there is."""

from __future__ import annotations

import doctest
import faulthandler
import gc
import inspect
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest

import kingdom_async as ka
from kingdom_async import cli
from support.backends import REAL, chosen
from support.projects import changed, is_project, run_project
from support.snippets import (
    MARKS,
    Block,
    blocks_of,
    is_file,
    matches,
    run_code,
    run_page,
    run_tests,
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

every_backend = pytest.mark.parametrize("backend", chosen(REAL))


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_frozen() -> None:
    """As a reader has it: Hypothesis, which a page uses, asks who refers to an object."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _run_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kingdom_async.run` chooses the backend of the test, as a reader would have it do."""
    if "backend" in request.fixturenames:
        monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", request.getfixturevalue("backend"))


# --- pages -------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param(blocks, id=str(page.relative_to(ROOT)))
        for page in PAGES
        if (blocks := blocks_of(page))
    ],
)
def test_a_page_does_what_it_says(blocks: list[Block], backend: str, tmp_path: Path) -> None:
    """Each block runs, prints what the page shows, and fails where the page says so."""
    run_page(blocks, backend, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.place)
        for page in PAGES
        for block in blocks_of(page)
        if "test file" in block.marks
    ],
)
def test_a_file_of_tests_passes(block: Block, tmp_path: Path) -> None:
    """A file of tests that a page shows passes as it stands."""
    run_tests(block, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_block_is_passed_over(page: Path) -> None:
    """Code in a page is a ``python`` block that the tests find, and marks are known ones."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^([ >]*)```(\S*)", text, re.MULTILINE)
    assert {name for _, name in fences} <= {"", "python", "text", "sh", "toml"}
    assert sum(name == "python" for _, name in fences) == len(blocks_of(page))
    marks = re.findall(r"^<!-- (.*) -->\n(?=<!--|```python)", text, re.MULTILINE)
    assert {mark for mark in marks if not is_file(mark)} <= MARKS


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 13), reason="tracebacks are those of Python 3.13")
@pytest.mark.parametrize("page", [page for page in PAGES if is_project(page)], ids=_name)
def test_a_project_does_what_its_page_says(page: Path, tmp_path: Path) -> None:
    """The files of the page, changed as it says, make pytest print what it shows."""
    pytest.importorskip("uvloop", reason="the page counts three backends")
    faulthandler.cancel_dump_traceback_later()  # each of its dozen commands has a limit
    assert run_project(page, tmp_path) == []


def test_blocks_show_the_sentence_of_the_error_they_make() -> None:
    """A block that fails or logs says in the page with what."""
    silent = [
        block.place
        for page in PAGES
        for block in blocks_of(page)
        if block.marks & {"fails", "logs"} and block.output is None
    ]
    assert not silent


def test_the_first_two_shell_blocks_of_the_readme_are_for_a_newcomer() -> None:
    """The first runs the demo, the second the tests; each makes its environment itself."""
    text = PAGES[0].read_text(encoding="utf-8")
    demo, tests = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[:2]
    assert "-m venv" in demo
    assert "'.[cli,uvloop]'" in demo
    assert "kingdom-async demo" in demo
    assert "-m venv" in tests
    assert "'.[test]'" in tests
    assert "-m pytest" in tests


def test_the_command_can_be_called_as_its_page_says() -> None:
    """Each line of the page is accepted by the command's own parser."""
    text = (DOCS / "command.md").read_text(encoding="utf-8")
    calls = re.findall(r"^kingdom-async (.*)$", text, re.MULTILINE)
    assert calls
    for call in calls:
        assert cli._parser().parse_args(shlex.split(call, comments=True))


# --- the reference and the site ----------------------------------------------------------


def test_the_reference_names_all_there_is_and_nothing_else() -> None:
    """Every public name is in the reference once: explained, or in the table of anyio's."""
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    ours = re.findall(r"^::: kingdom_async\.(\w+)$", text, re.MULTILINE)
    anyios = re.findall(r"^\| `(?!KINGDOM)(\w+)` \|", text, re.MULTILINE)
    assert sorted(ours + anyios) == sorted(ka.__all__)
    assert all(_is_ours(getattr(ka, name)) for name in ours)
    assert not any(_is_ours(getattr(ka, name)) for name in anyios)


def test_every_page_is_in_the_navigation() -> None:
    """A page nobody can find is no page."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    text = re.sub(r"```.*?```|`.*?`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


# --- the examples in docstrings ----------------------------------------------------------


def _is_ours(value: object) -> bool:
    return getattr(value, "__module__", "").startswith("kingdom_async")


def _documented() -> Iterator[tuple[str, object]]:
    for name in ka.__all__:
        value = getattr(ka, name)
        if not _is_ours(value):
            continue
        yield name, value
        if inspect.isclass(value):
            for attribute, member in inspect.getmembers(value):
                if isinstance(member, (FunctionType, property)) and attribute[0] != "_":
                    yield f"{name}.{attribute}", member


EXAMPLES = {
    name: found
    for name, value in _documented()
    if (found := doctest.DocTestParser().get_examples(inspect.getdoc(value) or ""))
}

#: What some examples leave to the reader.
BEFORE = {
    "Queue.batches": "queue = ka.Queue(10)\nqueue.put_nowait(1)\nqueue.close()\n",
}
AFTERWARDS = {
    "Queue": "await ka.gather(produce(), consume())",
    "environment": "async with lifespan(None):\n    pass",
}


@every_backend
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_in_a_docstring_works(name: str, backend: str) -> None:
    """It can be typed as it stands, given functions of the kind it names."""
    assert not any(example.want for example in EXAMPLES[name]), "show code, not output"
    code = "".join(example.source for example in EXAMPLES[name])
    source = f"{BEFORE.get(name, '')}{code}{AFTERWARDS.get(name, '')}\n"
    run_code(source, f"<example of {name}>", {"ka": ka, "print": _silent, **_stand_ins()})


@pytest.mark.parametrize(
    "name", [name for name, value in _documented() if inspect.isfunction(value)]
)
def test_every_public_function_has_a_docstring(name: str) -> None:
    """What can be called says what it does."""
    assert inspect.getdoc(dict(_documented())[name])


def _silent(*values: object) -> None:
    """In the place of print."""


def _stand_ins() -> dict[str, Any]:
    """The functions and values of a reader's own that the examples name."""

    async def answer(*args: object, **kwargs: object) -> str:
        await ka.checkpoint()
        return "answer"

    async def for_ever() -> None:
        await ka.sleep_forever()

    async def lines() -> AsyncIterator[str]:
        for line in ("one", "two"):
            await ka.checkpoint()
            yield line

    def query(sql: str) -> list[str]:
        return [sql]

    stop = ka.Event()
    stop.set()
    usual = ("call_github", "fetch", "handle", "insert", "load", "load_posts", "load_user")
    usual += ("main", "save", "serve", "warm_the_cache", "work")
    return dict.fromkeys(usual, answer) | {
        "DATABASE": ka.Limiter(5, name="database"),
        "asynccontextmanager": asynccontextmanager,
        "beat": for_ever,
        "client": SimpleNamespace(get=answer),
        "lines": lines,
        "os": os,
        "paths": [__file__] * 3,
        "query": query,
        "sql": "select 1",
        "stop": stop,
        "url": "https://a.example",
        "urls": ["https://a.example", "https://b.example"],
    }


# --- the harness itself ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "printed", "same"),
    [("a\nb", "a\nb\n", True), ("took … s", "took 0.1 s", True), ("a", "ab", False)],
)
def test_output_is_compared_as_a_whole(said: str, printed: str, same: bool) -> None:
    """Only ``…`` matches what it does not say."""
    assert matches(said, printed) is same


def test_a_file_of_a_page_grows() -> None:
    """Functions take the place of those of their name; a class with ``...`` keeps the rest."""
    before = "import os\n\n\nclass A:\n    x = 1\n\n    def f(self):\n        return 1\n"
    change = (
        "import os\nimport re\n\n\nclass A:\n    ...\n\n    @property\n    def f(self):\n"
        "        return 2\n\n    def g(self):\n        return 3\n\n\ndef h():\n    return 4\n"
    )
    after = (
        "import os\nimport re\n\n\nclass A:\n    x = 1\n\n    @property\n    def f(self):\n"
        "        return 2\n\n    def g(self):\n        return 3\n\n\ndef h():\n    return 4\n"
    )
    assert changed(before, change) == after
    assert changed(after, "def h():\n    return 5\n") == after.replace("4", "5")


def test_a_project_that_prints_something_else_is_found(tmp_path: Path) -> None:
    """What differs is told with its line."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- file: test_it.py -->\n```python\ndef test_it():\n    pass\n```\n\n"
        "```sh\npytest -q\n```\n\n```text\n2 passed in 0.01s\n```\n",
        encoding="utf-8",
    )
    (found,) = run_project(page, tmp_path)
    assert found.startswith("page.md:12: pytest -q prints\n.")
    assert "1 passed" in found


def test_a_page_that_says_something_else_is_found(tmp_path: Path) -> None:
    """A wrong output, a missing failure and an unsaid output each fail the page."""
    page = tmp_path / "page.md"
    for wrong in (
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "<!-- fails -->\n```python\nx = 1\n```\n\n```text\nValueError: x\n```\n",
        "```python\nprint(1)\n```\n",
    ):
        page.write_text(wrong, encoding="utf-8")
        with pytest.raises(AssertionError, match=r"page\.md:"):
            run_page(blocks_of(page), "asyncio", tmp_path)
