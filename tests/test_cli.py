"""The command: a real job, done with the public API."""

from __future__ import annotations

import ast
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kingdom_async
from kingdom_async.cli import main
from support.backends import REAL, chosen


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINGDOM_ASYNC_BACKEND", raising=False)


@pytest.fixture(params=chosen(REAL))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of each kind that the demo must get along with."""
    (tmp_path / "one.py").write_text(
        "class A:\n    def f(self):\n        def g(): ...\n    async def h(self): ...\n"
    )
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "two.py").write_text(
        "try:\n    pass\nexcept A:\n    def f(): ...\nelse:\n    async def g(): ..."
    )
    (tmp_path / "empty.py").touch()
    (tmp_path / "broken.py").write_text("a = 1\ndef (:\n")
    (tmp_path / "latin.py").write_bytes(b"a = 'caf\xe9'\n")
    (tmp_path / "null.py").write_bytes(b"a = 1\0\n")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.py").mkdir()
    for skipped in (".git", "__pycache__", "site-packages"):
        (tmp_path / skipped).mkdir()
        (tmp_path / skipped / "not_ours.py").write_text("def f(): ...\n")
    (tmp_path / "readme.txt").write_text("def f(): ...\n")
    return tmp_path


def test_surveys_a_folder(
    folder: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts are exact; what cannot be parsed or read is named, and is not fatal."""
    assert main(["demo", str(folder), "--backend", backend]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert [line.split(None, 1) for line in lines[1:7]] == [
        ["6", "files"],
        ["14", "lines"],
        ["3", "functions"],
        ["2", "async functions"],
        ["3", "syntax errors"],
        ["2", "unreadable"],
    ]
    assert lines[0] == str(folder)
    largest = lines.index("Largest modules")
    assert lines[largest + 1].split() == ["6", "deep/er/two.py"]
    errors = lines.index("Syntax errors")
    assert lines[errors + 1] == "broken.py:2: invalid syntax"
    assert lines[errors + 2].startswith("latin.py:1: ")
    assert lines[errors + 3].startswith("null.py:1: source code ")
    unreadable = lines.index("Unreadable")
    assert lines[unreadable + 1 : unreadable + 3] == [
        "dangling.py: No such file or directory",
        "folder.py: Is a directory",
    ]
    assert re.fullmatch(
        rf"\d+\.\d\d s on {re.escape(backend)}, [\d,]+ files/s; queue peak [1-6] of 500",
        lines[-1],
    )


def test_surveys_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to say about it, and nothing wrong with it."""
    assert main(["demo", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "         0  files" in out
    assert "Largest" not in out


def test_reports_what_was_found_by_the_deadline(
    folder: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report all the same, a sentence, and exit code 1."""
    assert main(["demo", str(folder), "--backend", backend, "--timeout", "1e-9"]) == 1
    captured = capsys.readouterr()
    assert "         0  files" in captured.out
    assert captured.err == (
        "Not done after 1e-09 s; the report is of what was found until then. "
        "A larger --timeout finds the rest.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is no folder; give one that holds Python files"),
        ([".", "--timeout", "0"], "--timeout must be more than 0 seconds, not 0"),
        ([".", "--backend", "tokio"], "backend='tokio' is no backend; use one of "),
    ],
)
def test_explains_a_wrong_call(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence on stderr, and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", *arguments])
    assert caught.value.code == 2
    assert f"kingdom-async: error: {sentence}" in capsys.readouterr().err


def test_explains_a_bad_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting in the environment is refused as one in the call is."""
    monkeypatch.setenv("KINGDOM_ASYNC_THREADS", "many")
    with pytest.raises(SystemExit):
        main(["demo", "."])
    sentence = "kingdom-async: error: KINGDOM_ASYNC_THREADS='many' is no number of threads;"
    assert sentence in capsys.readouterr().err


def test_explains_that_rich_is_missing() -> None:
    """The extra is named."""
    program = (
        "import sys; sys.modules['rich'] = None\n"
        "from kingdom_async.cli import main; main(['demo'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith(
        "error: the command needs rich; run: pip install 'kingdom_async[cli]'\n"
    )


def test_keeps_quiet_about_workers_that_have_ended(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio before 3.12.4 warns of those that anyio has waited for; of nothing else."""
    assert main(["demo", str(folder), "--backend", "asyncio"]) == 0
    caplog.clear()
    logger = logging.getLogger("asyncio")
    logger.warning("child process pid %d exit status already read:  will report 255", 1)
    logger.warning("Unknown child process pid %d, will report returncode 255", 1)
    logger.warning("Loop %r that handles pid %r is closed", None, 1)
    try:
        raise BrokenPipeError
    except BrokenPipeError as error:
        logger.error("Future exception was never retrieved", exc_info=error)  # noqa: TRY400
    logger.warning("something else")
    assert caplog.messages == ["something else"]


def test_runs_as_a_module(folder: Path, backend: str) -> None:
    """Worker processes import the main file again without starting it; the variable counts."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "kingdom_async.cli", "demo", str(folder)],
        env={**os.environ, "KINGDOM_ASYNC_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f" s on {backend}, " in done.stdout


def test_ends_at_once_on_ctrl_c(backend: str) -> None:
    """In the middle of the standard library, on a terminal, all processes hit: code 130."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kingdom_async.cli", "demo", "--backend", backend],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = _read_until(ours, rb"parsing.*/[1-9]\d*")
        os.killpg(process.pid, signal.SIGINT)
        said += _read_until(ours, None)
        os.close(ours)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 130
    assert said.decode().splitlines()[-1].endswith("kingdom-async: interrupted")
    assert b"Traceback" not in said


def _read_until(terminal: int, pattern: bytes | None) -> bytes:
    """What is written to the terminal, until *pattern* is there or it is closed."""
    said = b""
    while pattern is None or not re.search(pattern, re.sub(rb"\x1b\[[\d;]*m", b"", said)):
        try:
            said += os.read(terminal, 4096)
        except OSError:  # closed on the other side
            break
    return said


def test_uses_the_public_api_only() -> None:
    """It is the example of the library: what it can do, anybody can."""
    for file in (Path(kingdom_async.__file__).parent / "cli").glob("*.py"):
        tree = ast.parse(file.read_text())
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "ka"
        }
        assert used <= set(kingdom_async.__all__)
        allowed = r"cli|trace\.(client|control\.files|views\.texts)"
        pattern = rf"from (\.\.|kingdom_async\.(?!{allowed}))"
        assert not re.search(pattern, file.read_text())
