"""``KINGDOM_ASYNC_TRACE`` and ``KINGDOM_ASYNC_CONTROL``: whole programs traced."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace.client import connect
from kingdom_async.trace.control import sockets
from kingdom_async.trace.hub import hub
from support.backends import REAL, chosen
from support.control import runtime_folder

PROGRAM = """
import os, sys, time
import kingdom_async as ka

async def child():
    await ka.checkpoint()

async def main(kind):
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(child, name="child")
    if kind == "fails":
        raise KeyError("an error of the program's own")
    if kind == "waits":
        print("ready", flush=True)
        await ka.sleep_forever()
    if kind == "pools":
        print(await ka.offload(own_loop, to="process"))
    if kind == "nests":
        with ka.environment():
            await ka.checkpoint()
    if kind == "foreign":
        os.chdir("/")
    return kind

def own_loop():
    return ka.run(main, "inner")

if __name__ == "__main__":
    print(ka.run(main, sys.argv[1]))
    if sys.argv[1] == "twice":
        print(ka.run(main, sys.argv[1]))
"""


@pytest.fixture(params=chosen(REAL))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND", "TRACE", "CONTROL"):
        monkeypatch.delenv(f"KINGDOM_ASYNC_{name}", raising=False)


def run(
    folder: Path, kind: str, backend: str, trace: str, program: str = PROGRAM
) -> subprocess.CompletedProcess[str]:
    """The program, run to its end, with what it is to trace."""
    (folder / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, "program.py", kind],
        env={**os.environ, "KINGDOM_ASYNC_BACKEND": backend, "KINGDOM_ASYNC_TRACE": trace},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def said_by(done: subprocess.CompletedProcess[str]) -> str:
    """Its stderr, but for the lints of a slow machine, and where the recording is.

    And for what asyncio before 3.12.4 says of a worker that has ended.
    """
    noise = (
        r"^(kingdom_async: the recording is in |child process pid \d+ exit status already read"
        r"|Unknown child process pid"
        r"|Loop .* that handles pid \d+ is closed|[a-z-]+: (task|a callback) ).*\n"
    )
    return re.sub(noise, "", done.stderr, flags=re.MULTILINE)


@pytest.mark.parametrize("level", ["life", "steps"])
def test_the_program_is_recorded_from_its_first_task(
    level: str, tmp_path: Path, backend: str
) -> None:
    """Which is the one that runs what was given to run, and is no foreign one."""
    done = run(tmp_path, "works", backend, f"{level}:run.trace")
    assert (done.returncode, done.stdout, said_by(done)) == (0, "works\n", "")
    recording = trace.load(tmp_path / "run.trace")
    assert (recording.level, recording.backend) == (level, backend)
    assert recording.program == "program.py works"
    ours = [task for task in recording.tasks if not task.foreign]
    assert [task.name for task in ours] == ["main", "child"]
    main, child = ours
    assert (main.outcome, main.parent, child.parent) == ("ok", None, main.serial)
    assert child.place == "program.py:10 in main"
    assert bool(recording.steps) == (level == "steps")
    assert main.started is not None
    assert main.ended is not None


@pytest.mark.parametrize(
    ("path", "beginning"),
    [
        ("run.html", "<!doctype html>"),
        ("run.HTML", "<!doctype html>"),
        ("run.json", '{"traceevents"'),
        ("run", '{"format":"kingdom_async.trace/1"'),
        ("with:colon.trace", '{"format":"kingdom_async.trace/1"'),
    ],
)
def test_the_suffix_says_what_is_written(path: str, beginning: str, tmp_path: Path) -> None:
    """A page, events for Perfetto, or a recording."""
    assert said_by(run(tmp_path, "works", "asyncio", f"steps:{path}")) == ""
    text = (tmp_path / path).read_text()
    assert text.lower().startswith(beginning.lower())
    assert "child" in text


def test_nothing_is_written_where_no_path_is_given(tmp_path: Path, backend: str) -> None:
    """The recording is there for whoever looks while the program runs."""
    assert said_by(run(tmp_path, "works", backend, "steps")) == ""
    assert [each.name for each in tmp_path.iterdir()] == ["program.py"]


def test_a_program_that_fails_is_written_too(tmp_path: Path, backend: str) -> None:
    """And fails as it would have."""
    done = run(tmp_path, "fails", backend, "life:run.trace")
    assert done.returncode == 1
    assert done.stderr.endswith('KeyError: "an error of the program\'s own"\n')
    main = next(
        task for task in trace.load(tmp_path / "run.trace").tasks if task.name == "main"
    )
    assert (main.outcome, main.error) == ("error", "KeyError")


def test_a_program_that_is_interrupted_is_written_too(tmp_path: Path, backend: str) -> None:
    """By Ctrl-C, which cancels the main task on asyncio, and is raised in it on trio."""
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, "program.py", "waits"],
        env={
            **os.environ,
            "KINGDOM_ASYNC_BACKEND": backend,
            "KINGDOM_ASYNC_TRACE": "life:run.trace",
        },
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    main = next(
        task for task in trace.load(tmp_path / "run.trace").tasks if task.name == "main"
    )
    expected = ("error", "KeyboardInterrupt") if backend == "trio" else ("cancelled", None)
    assert (main.outcome, main.error) == expected


@pytest.mark.parametrize("path", ["nowhere/run.html", ".", "/proc/run.trace"])
def test_what_cannot_be_written_is_said_once(path: str, tmp_path: Path, backend: str) -> None:
    """And the program's result is what it was."""
    done = run(tmp_path, "works", backend, f"life:{path}")
    assert (done.returncode, done.stdout) == (0, "works\n")
    assert said_by(done).count("\n") == 1
    word = "could not" if path.startswith("/proc") else "cannot"
    assert said_by(done).startswith(f"the recording {word} be written to {path!r}: ")
    failed = run(tmp_path, "fails", backend, f"life:{path}")
    assert failed.stderr.endswith('KeyError: "an error of the program\'s own"\n')


def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    """As any other failure."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no full disk here")
    done = run(tmp_path, "works", "asyncio", "life:/dev/full")
    assert (done.returncode, done.stdout) == (0, "works\n")
    assert said_by(done).startswith(
        "the recording could not be written to '/dev/full': OSError: "
    )


@pytest.mark.slow
def test_a_worker_process_writes_a_file_of_its_own(tmp_path: Path, backend: str) -> None:
    """It has the same environment, and may run a loop itself."""
    done = run(tmp_path, "pools", backend, "life:run.trace")
    assert (done.stdout, said_by(done)) == ("inner\npools\n", "")
    names = sorted(each.name for each in tmp_path.glob("*.trace"))
    assert len(names) == 2
    assert trace.load(tmp_path / "run.trace").tasks[0].name == "main"
    worker = next(name for name in names if name != "run.trace")
    assert worker == f"run-{trace.load(tmp_path / worker).pid}.trace"


def test_a_worker_process_that_runs_no_loop_writes_nothing(
    tmp_path: Path, backend: str
) -> None:
    """As almost all do."""
    program = PROGRAM.replace('return ka.run(main, "inner")', "return 1")
    done = run(tmp_path, "pools", backend, "life:run.trace", program)
    assert said_by(done) == ""
    assert [each.name for each in tmp_path.glob("*.trace")] == ["run.trace"]
    recording = trace.load(tmp_path / "run.trace")
    assert any("offload(own_loop" in span.name for span in recording.spans)


def test_a_second_run_of_a_process_does_not_write_over_the_first(tmp_path: Path) -> None:
    """It is numbered."""
    assert said_by(run(tmp_path, "twice", "asyncio", "life:run.trace")) == ""
    assert sorted(e.name for e in tmp_path.glob("*.trace")) == ["run-2.trace", "run.trace"]


FORKS = """
import os
import kingdom_async as ka

here, there = os.pipe()
ended, end = os.pipe()

async def work(number):
    async with ka.TaskGroup() as group:
        group.start_soon(ka.checkpoint, name=f"work-{number}")
    os.write(there, b".")
    os.read(ended, 1)  # all of them end at a time

pids = []
for number in range(3):
    pid = os.fork()
    if not pid:
        os.close(end)
        ka.run(work, number)
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.read(here, 1)
os.close(end)
for pid in pids:
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_workers_write_a_file_each(tmp_path: Path) -> None:
    """As those of gunicorn; the first to end has the name, the others put their number in."""
    old = tmp_path / "run.trace"
    old.write_text("of the day before")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    assert said_by(run(tmp_path, "", "asyncio", "life:run.trace", FORKS)) == ""
    recordings = {path: trace.load(path) for path in tmp_path.glob("*.trace")}
    names = {task.name for each in recordings.values() for task in each.tasks}
    assert {f"work-{number}" for number in range(3)} <= names
    expected = {old, *(tmp_path / f"run-{each.pid}.trace" for each in recordings.values())}
    assert len(recordings) == 3
    assert set(recordings) < expected


def test_says_where_the_recording_is(tmp_path: Path) -> None:
    """In one line on stderr."""
    done = run(tmp_path, "works", "asyncio", "life:run.trace")
    assert "kingdom_async: the recording is in run.trace\n" in done.stderr
    done = run(tmp_path, "works", "asyncio", "life")
    assert "the recording is in" not in done.stderr


SAYS_EARLY = """
import pathlib, sys
import kingdom_async as ka

async def main():
    print("runs", file=sys.stderr)
    pathlib.Path("later").mkdir()

ka.run(main)
"""


def test_a_folder_that_is_not_there_is_told_of_before_the_run(tmp_path: Path) -> None:
    """Not hours later; and if the program makes it, the recording is written."""
    done = run(tmp_path, "", "asyncio", "life:later/run.trace", SAYS_EARLY)
    first, second, third = done.stderr.splitlines()
    assert first.startswith("the recording cannot be written to 'later/run.trace': there is no")
    assert second == "runs"
    assert third == f"kingdom_async: the recording is in {Path('later', 'run.trace')}"
    assert trace.load(tmp_path / "later" / "run.trace").tasks


def test_the_path_may_name_the_process(tmp_path: Path) -> None:
    """For programs that start others of their kind."""
    assert said_by(run(tmp_path, "works", "asyncio", "life:run-{pid}.trace")) == ""
    path = next(tmp_path.glob("*.trace"))
    assert path.name == f"run-{trace.load(path).pid}.trace"


def test_run_and_environment_together_record_once(tmp_path: Path, backend: str) -> None:
    """A program under run may have a lifespan that applies the environment too."""
    assert said_by(run(tmp_path, "nests", backend, "life:run.trace")) == ""
    assert [each.name for each in tmp_path.glob("*.trace")] == ["run.trace"]


async def test_environment_records_the_loop_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For as long as its block lasts."""

    async def child() -> None:
        await ka.checkpoint()

    with ka.environment(trace=f"steps:{tmp_path / 'block.trace'}"):
        async with ka.TaskGroup() as group:
            group.start_soon(child, name="inside")
    async with ka.TaskGroup() as group:
        group.start_soon(child, name="outside")
    assert hub.recorders == ()
    path = next(tmp_path.glob("block*.trace"))  # noqa: ASYNC240
    names = [task.name for task in trace.load(path).tasks if not task.foreign]
    assert names == ["inside"]


async def test_tracing_that_cannot_begin_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the program goes on without."""

    def fail(recording: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hub, "begin", fail)
    with ka.environment(trace="life"):
        await ka.checkpoint()
    assert [record.getMessage() for record in caplog.records] == [
        "tracing could not begin; the program goes on without"
    ]


@pytest.mark.slow
def test_the_demo_is_drawn(tmp_path: Path, backend: str) -> None:
    """``KINGDOM_ASYNC_TRACE=steps:out.html kingdom-async demo``."""
    for number in range(30):
        (tmp_path / f"module_{number}.py").write_text("def f(): ...\n")
    done = subprocess.run(
        [sys.executable, "-m", "kingdom_async.cli", "demo", "."],
        env={
            **os.environ,
            "KINGDOM_ASYNC_BACKEND": backend,
            "KINGDOM_ASYNC_TRACE": "steps:out.html",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, said_by(done)) == (0, "")
    page = (tmp_path / "out.html").read_text()
    for name in ("take", "survey.walk", "survey.parse", "offload(parse_all"):
        assert name in page
    assert [each.name for each in tmp_path.glob("*.html")] == ["out.html"]


# --- KINGDOM_ASYNC_CONTROL -----------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with runtime_folder() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        monkeypatch.setattr(sockets, "folders", lambda: [folder / "kingdom_async"])
        yield folder


@pytest.mark.skipif(not sockets.IS_SUPPORTED, reason="needs unix sockets")
def test_a_run_is_served_where_the_variable_says_so(
    runtime: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it lasts, and with it what the trace variable records."""

    async def main() -> str:
        tree: str = (await ka.offload(lambda: connect().tree()))["tree"]
        return tree

    monkeypatch.setenv("KINGDOM_ASYNC_CONTROL", "1")
    tree = ka.run(main, backend=backend, trace="life").splitlines()
    assert tree[0].startswith(f"{backend} · 1 task · life recorded for ")
    assert "main · waiting " in tree[1]
    assert "(foreign)" not in tree[1]
    assert list((runtime / "kingdom_async").iterdir()) == []


@pytest.mark.skipif(not sockets.IS_SUPPORTED, reason="needs unix sockets")
async def test_environment_serves_the_loop_that_runs(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a loop that somebody else started."""
    monkeypatch.setenv("KINGDOM_ASYNC_CONTROL", "1")
    with ka.environment():
        answer = await ka.offload(lambda: connect().status())
        assert answer["backend"] == ka.current_backend()
    assert list((runtime / "kingdom_async").iterdir()) == []


async def test_a_program_that_cannot_be_served_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once why."""
    monkeypatch.setenv("KINGDOM_ASYNC_CONTROL", "1")
    monkeypatch.setattr(sockets, "folders", list)
    with ka.environment():
        await ka.checkpoint()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "KINGDOM_ASYNC_CONTROL=1 has no effect: no safe folder for a control socket "
    )
    assert json.dumps(record.getMessage())  # one line
