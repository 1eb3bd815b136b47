"""``kingdom-async trace``: another process looked into, recorded, and drawn."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from kingdom_async import trace
from kingdom_async.cli import main
from kingdom_async.trace import client
from kingdom_async.trace.control import sockets
from support.backends import REAL, chosen
from support.control import only_folder, running, runtime_folder
from support.made_up_snapshots import random_snapshot

pytestmark = pytest.mark.skipif(not sockets.IS_SUPPORTED, reason="needs unix sockets")

SERVICE = """
import sys, time
import kingdom_async as ka

async def tick():
    while True:
        await ka.sleep(0.01)

def crunch():
    print("ready", flush=True)
    sys.stdin.readline()

async def serve(kind):
    async with ka.TaskGroup() as group:
        for number in range(3):
            group.start_soon(tick, name=f"ticker-{number}")
        await ka.sleep(0.05)
        if kind == "blocks":
            crunch()
        print("ready", flush=True)
        if kind == "evil":
            group.start_soon(tick, name="\\x1b]0;evil\\x07\\udc80")
        await ka.offload(sys.stdin.readline, abandon_on_cancel=True)
        group.cancel()

ka.run(serve, sys.argv[1])
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The runtime folder; the command's own files go elsewhere."""
    monkeypatch.chdir(tmp_path)
    with runtime_folder() as runtime:
        only_folder(monkeypatch, runtime)
        yield runtime


@pytest.fixture(params=chosen(REAL))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def pid(folder: Path, backend: str) -> Iterator[int]:
    """A process that serves, on each backend."""
    with running(
        SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1", KINGDOM_ASYNC_BACKEND=backend
    ) as process:
        yield process.pid


Out = pytest.CaptureFixture[str]


def test_prints_the_tree(pid: int, backend: str, capsys: Out) -> None:
    """Of the only process that can be looked into, or of the one that is named."""
    for arguments in ([], [str(pid)]):
        assert main(["trace", "tree", *arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"{backend} · 4 tasks · nothing is recorded")
        tickers = [line for line in lines if "ticker-" in line]
        assert len(tickers) == 3
        assert "service.py:7 in tick: await ka.sleep(0.01)" in tickers[0]


def test_a_pipe_that_is_closed_early_is_fine(pid: int) -> None:
    """As in: kingdom-async trace tree | head -1."""
    command = f"{sys.executable} -m kingdom_async.cli trace tree {pid} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_records_between_on_and_off(pid: int, tmp_path: Path, capsys: Out) -> None:
    """The second recording at a time is refused; what was recorded is told and written."""
    assert main(["trace", "on", "--level", "steps"]) == 0
    said = f"process {pid}: recording, until kingdom-async trace off {pid}\n"
    assert capsys.readouterr().out == said
    assert main(["trace", "on"]) == 1
    assert capsys.readouterr().err == (
        f"kingdom-async: process {pid}: recording is on already, with level steps; "
        "switch it off first\n"
    )
    assert main(["trace", "off", "--out", "between.recording"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(
        rf"process {pid}: recorded \d+ tasks in \d+\.\d s; dropped: nothing\n"
        r"between.recording\n",
        out,
    )
    recording = trace.load(tmp_path / "between.recording")
    assert (recording.pid, recording.level) == (pid, "steps")
    assert sum(task.name.startswith("ticker-") for task in recording.tasks) == 3
    assert main(["trace", "off"]) == 1
    assert "nothing was begun with kingdom-async trace on\n" in capsys.readouterr().err


@pytest.mark.parametrize("out", [None, "run.html", "run.json", "run.trace"])
def test_records_the_next_seconds(
    pid: int, out: str | None, tmp_path: Path, capsys: Out
) -> None:
    """The suffix says what is written; without a name it is a page named after the process."""
    arguments = ["trace", "record", str(pid), "--seconds", "0.3"]
    assert main([*arguments, *([] if out is None else ["--out", out])]) == 0
    written = out or f"recording-{pid}.html"
    assert capsys.readouterr().out == f"{written}\n"
    text = (tmp_path / written).read_text()
    if written.endswith(".html"):
        assert text.lower().startswith("<!doctype html>")
    elif written.endswith(".json"):
        assert any("ticker-0" in str(event) for event in json.loads(text)["traceEvents"])
    else:
        recording = trace.load(written)
        ticker = next(task for task in recording.tasks if task.name == "ticker-1")
        assert ticker.outcome == "running"
        assert recording.ended - recording.began >= 0.3


def test_tells_what_blocks_the_loop(folder: Path, backend: str, capsys: Out) -> None:
    """First of all, and the tree of the blocked program behind it."""
    with running(
        SERVICE, folder, "blocks", KINGDOM_ASYNC_CONTROL="1", KINGDOM_ASYNC_BACKEND=backend
    ) as process:
        assert main(["trace", "tree"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert re.fullmatch(r"BLOCKED for at least \d\.\d s by task '.*serve', at", lines[0])
        assert lines[1:4] == [
            "    service.py:19 in serve: crunch()",
            "    service.py:11 in crunch: sys.stdin.readline()",
            "",
        ]
        assert lines[4].startswith(f"{backend} · 4 tasks")
        assert main(["trace", "record", "--seconds", "1"]) == 1
        err = capsys.readouterr().err
        assert f"process {process.pid}: the loop is blocked by task " in err
        assert "at service.py:11 in crunch; nothing can be switched until" in err


def test_a_name_cannot_steer_the_terminal(folder: Path, capsys: Out) -> None:
    """What does not print is written out."""
    with running(SERVICE, folder, "evil", KINGDOM_ASYNC_CONTROL="1"):
        name = r"\x1b]0;evil\x07\udc80"
        while True:
            assert main(["trace", "tree"]) == 0
            if name in (out := capsys.readouterr().out):
                break
        assert "\x1b" not in out


# --- who cannot be asked -------------------------------------------------------------------


def test_says_that_nobody_serves(folder: Path, capsys: Out) -> None:
    """And how to change that."""
    assert main(["trace", "tree"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: no process of yours can be looked into; start it with "
        "KINGDOM_ASYNC_CONTROL=1, or call trace.serve_control() in it\n"
    )


def test_says_that_a_process_does_not_serve(folder: Path, capsys: Out) -> None:
    """And how to change that."""
    with running(SERVICE, folder, "serves") as process:
        assert main(["trace", "record", str(process.pid)]) == 1
        assert capsys.readouterr().err == (
            f"kingdom-async: process {process.pid} cannot be looked into; start it with "
            "KINGDOM_ASYNC_CONTROL=1, or call trace.serve_control() in it\n"
        )


@pytest.mark.parametrize("process", ["4194399", "99999999999999999999", "4194399-2"])
def test_says_that_there_is_no_such_process(process: str, folder: Path, capsys: Out) -> None:
    """Its number is repeated."""
    assert main(["trace", "tree", process]) == 1
    number = process.partition("-")[0]
    assert capsys.readouterr().err == f"kingdom-async: there is no process {number}\n"


def test_says_that_a_name_is_no_number(folder: Path, capsys: Out) -> None:
    """It takes no names of programs."""
    assert main(["trace", "tree", "service.py"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: 'service.py' is no number of a process; give one such as 1234\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it for somebody else")
def test_says_that_a_process_is_another_users(folder: Path, capsys: Out) -> None:
    """Only that user can look into it."""
    with subprocess.Popen(["sleep", "60"], user=65534) as theirs:
        assert main(["trace", "tree", str(theirs.pid)]) == 1
        theirs.kill()
    assert capsys.readouterr().err == (
        f"kingdom-async: process {theirs.pid} belongs to another user; "
        "only that user can look into it\n"
    )


def test_asks_which_of_several_processes(folder: Path, capsys: Out) -> None:
    """Each with its number, its backend and its command line."""
    with (
        running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1") as one,
        running(
            SERVICE,
            folder,
            "serves",
            "--twice",
            KINGDOM_ASYNC_CONTROL="1",
            KINGDOM_ASYNC_BACKEND="trio",
        ) as two,
    ):
        assert main(["trace", "tree"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "kingdom-async: say which process:"
        assert sorted(lines[1:]) == sorted(
            [
                f"  {one.pid}  asyncio  service.py serves",
                f"  {two.pid}  trio  service.py serves --twice",
            ]
        )
        assert main(["trace", "tree", str(two.pid)]) == 0


def test_a_killed_process_is_no_longer_listed(folder: Path, capsys: Out) -> None:
    """Its socket stays behind, and nobody listens to it."""
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1") as process:
        pass
    assert list((folder / "kingdom_async").iterdir())
    assert main(["trace", "tree"]) == 1
    assert "no process of yours" in capsys.readouterr().err
    assert main(["trace", "tree", str(process.pid)]) == 1
    assert "there is no process" in capsys.readouterr().err


def test_a_process_that_ends_meanwhile(folder: Path, capsys: Out) -> None:
    """Killed while it is asked: a sentence, at once."""
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1") as process:
        arguments = [sys.executable, "-m", "kingdom_async.cli", "trace", "record"]
        with subprocess.Popen(
            [*arguments, "--seconds", "60", "--out", "never"],
            stderr=subprocess.PIPE,
            text=True,
        ) as recorder:
            control = client.connect(process.pid)
            while control.status()["level"] is None:
                pass
            process.kill()
            assert recorder.stderr is not None
            said = recorder.stderr.read()
    assert recorder.returncode == 1
    assert said == f"kingdom-async: process {process.pid} ended before it answered\n"
    assert not Path("never").exists()


def test_a_process_that_is_stopped_is_not_waited_for_forever(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    """It says how long it has waited."""
    import signal

    monkeypatch.setattr(client.Control._ask, "__defaults__", (0.3,))
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1") as process:
        os.kill(process.pid, signal.SIGSTOP)
        assert main(["trace", "tree"]) == 1
        assert capsys.readouterr().err == (
            f"kingdom-async: process {process.pid} did not answer within 0.3 s: it is stopped, "
            "or in C code that lets no other thread run, such as a regular expression that "
            f"explodes; py-spy dump --pid {process.pid} can tell where\n"
        )


# --- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        (".", ". is a folder; give the name of a file in it"),
        ("nowhere/run.html", "there is no folder nowhere to write run.html into"),
    ],
)
def test_says_before_recording_that_it_cannot_be_written(
    out: str, sentence: str, folder: Path, capsys: Out
) -> None:
    """The seconds are not wasted."""
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1"):
        assert main(["trace", "record", "--seconds", "60", "--out", out]) == 1
        assert capsys.readouterr().err == f"kingdom-async: {sentence}\n"


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.trace"
    random_snapshot(1).save(path)
    return path


def test_draws_a_recording(recording: Path, capsys: Out) -> None:
    """Next to it, and the path is printed."""
    assert main(["trace", "view", str(recording)]) == 0
    page = recording.with_suffix(".html")
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text().lower().startswith("<!doctype html>")


def test_draws_where_it_is_told_to_and_opens_it(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    """The browser is given the page's address."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert main(["trace", "view", "run.trace", "--out", "page.html", "--open"]) == 0
    assert opened == [(recording.parent / "page.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert main(["trace", "view", "run.trace", "--open"]) == 1
    err = capsys.readouterr().err
    assert err == "kingdom-async: no browser was found; open run.html in one\n"


def test_draws_for_perfetto(recording: Path, capsys: Out) -> None:
    """With a name in .json."""
    assert main(["trace", "view", "run.trace", "--out", "run.json"]) == 0
    assert "traceEvents" in json.loads(Path("run.json").read_text())


def test_a_page_that_is_there_is_not_written_over(recording: Path, capsys: Out) -> None:
    """It may be another recording's; --force says that it may go."""
    page = Path("run.html")
    page.write_text("of somebody else")
    assert main(["trace", "view", "run.trace"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: run.html is there already; name another with --out, or write over it "
        "with --force\n"
    )
    assert page.read_text() == "of somebody else"
    assert main(["trace", "view", "run.trace", "--force"]) == 0
    assert page.read_text() != "of somebody else"


@pytest.mark.parametrize("action", ["off", "record"])
def test_a_name_that_no_view_has_is_refused(action: str, folder: Path, capsys: Out) -> None:
    """Nobody would find a recording in it."""
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1"):
        assert main(["trace", action, "--out", "h.pdf"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: h.pdf: no view of a recording is a .pdf file; write .html for a "
        "timeline, .json for Perfetto, .trace for the recording itself\n"
    )


def test_seconds_that_are_no_number(folder: Path, capsys: Out) -> None:
    """A sentence about them, and not about the process."""
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1"):
        assert main(["trace", "record", "--seconds", "nan"]) == 1
    assert "seconds must be a number such as 5, not nan\n" in capsys.readouterr().err


def changed(where: tuple[str | int, ...], value: object) -> bytes:
    """A recording with one thing in it that should not be."""
    data = json.loads(random_snapshot(1).to_json())
    inside = data
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed(("tasks", 0, 2), 5), "(name is 5)"),
        (changed(("tasks", 0, 5), "x"), "(spawned is 'x')"),
        (changed(("tasks", 0, 0), {"a": 1}), "(serial is {'a': 1})"),
        (changed(("tasks", 0, 0), True), "(serial is True)"),
        (changed(("tasks", 0, 5), 10**400), "(spawned is 1000"),
        (changed(("began",), float("nan")), "(began is nan)"),
        (changed(("ended",), float("inf")), "(ended is inf)"),
        (changed(("program",), 7), "(program is 7)"),
        (changed(("steps",), [[5, "y", 0]]), "(end is 'y')"),
        (changed(("tasks",), None), "("),
        (b"[" * 200_000, "(too deep)"),
    ],
)
def test_says_what_is_wrong_in_a_recording(
    content: bytes, reason: str, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in it."""
    monkeypatch.chdir(tmp_path)
    Path("run.trace").write_bytes(content)
    assert main(["trace", "view", "run.trace"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("kingdom-async: run.trace: this is no recording of kingdom_async (")
    assert reason in said


def test_says_that_a_recording_is_cut_off(recording: Path, capsys: Out) -> None:
    """As of a program that was killed while it wrote."""
    recording.write_text(recording.read_text()[:2000])
    assert main(["trace", "view", "run.trace"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: run.trace: this recording is cut off; its end is missing\n"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "run.txt cannot be read: No such file or directory"),
        (b"hello", "run.txt: this is no recording of kingdom_async ("),
        (b"\xff\xfe\0", "run.txt: "),
        (b'{"traceEvents": []}', "run.txt: this is no recording of kingdom_async ("),
    ],
)
def test_says_that_a_file_is_no_recording(
    content: bytes | None,
    sentence: str,
    tmp_path: Path,
    capsys: Out,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what one is made with."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("run.txt").write_bytes(content)
    assert main(["trace", "view", "run.txt"]) == 1
    assert capsys.readouterr().err.startswith(f"kingdom-async: {sentence}")
    assert not Path("run.html").exists()


def test_a_page_must_look_like_one(recording: Path, capsys: Out) -> None:
    """A recording is never written over."""
    recording.rename("run.html")
    assert main(["trace", "view", "run.html"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: run.html is the recording itself; write the page elsewhere with --out\n"
    )
    Path("run.html").rename("run.trace")
    assert main(["trace", "view", "run.trace", "--out", "run.txt"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: run.txt should end in .html, since it is to be a page; or in .json, "
        "for Perfetto\n"
    )
    assert main(["trace", "view", "run.trace", "--out", "run.json", "--open"]) == 1
    assert "should end in .html, since it is to be a page\n" in capsys.readouterr().err
    trace.load(recording)


def test_explains_that_textual_is_missing(folder: Path) -> None:
    """The extra is named; the other commands need nothing."""
    program = (
        "import sys; sys.modules['textual'] = None; sys.modules['rich'] = None\n"
        "from kingdom_async.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(action: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", program, "trace", action]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1"):
        done = run("top")
        assert done.returncode == 1
        assert done.stderr == (
            "kingdom-async: trace top needs textual; run: pip install 'kingdom_async[cli]'\n"
        )
        assert run("tree").returncode == 0


def test_top_needs_a_terminal(folder: Path) -> None:
    """Into a file or a pipe it would write control characters, and without an end."""
    with running(SERVICE, folder, "serves", KINGDOM_ASYNC_CONTROL="1"):
        program = "import sys; from kingdom_async.cli import main; sys.exit(main())"
        arguments = [sys.executable, "-c", program, "trace", "top"]
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "trace top needs a terminal; to print what there is, use trace tree" in done.stderr


def test_refuses_an_interval_that_cannot_be(folder: Path, capsys: Out) -> None:
    """A sentence."""
    assert main(["trace", "top", "--interval", "0"]) == 1
    assert capsys.readouterr().err == (
        "kingdom-async: --interval must be more than 0 and at most 60 seconds, not 0\n"
    )
