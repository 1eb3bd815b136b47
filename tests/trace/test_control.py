"""The control socket: what another process is told, and how little it can do."""

# ruff: noqa: ASYNC240  # files of the test
from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace.client import Control, ControlError, connect, serving
from kingdom_async.trace.control import reach, sockets
from kingdom_async.trace.control import server as served
from kingdom_async.trace.control.answers import Answers
from kingdom_async.trace.hub import hub
from support.backends import REAL, chosen
from support.control import ask, ask_raw, connected, only_folder, read_all, runtime_folder

pytestmark = pytest.mark.skipif(not sockets.IS_SUPPORTED, reason="needs unix sockets")
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else"
)
needs_peer = pytest.mark.skipif(
    not hasattr(socket, "SO_PEERCRED"), reason="the system does not say who a peer is"
)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets are; nothing but the folder is there afterwards."""
    with runtime_folder() as runtime:
        place = only_folder(monkeypatch, runtime)
        yield place
        assert our_threads() == []
        assert hub.recorders == ()


def control_at(path: Path) -> Control:
    return Control(path.stem, path)


async def elsewhere(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call *func* in another thread, while the loop runs."""
    return await ka.offload(lambda: func(*args, **options))


def our_threads() -> list[str]:
    """The server's and its clients'."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("kingdom_async c")]


def wait_for_clients() -> None:
    """Until no client is served any more."""
    for thread in threading.enumerate():
        if thread.name == "kingdom_async client":
            thread.join(20)
            assert not thread.is_alive()


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


# --- the socket ----------------------------------------------------------------------------


async def test_only_this_user_can_reach_the_socket(folder: Path) -> None:
    """A folder of mode 0700, in it a socket of mode 0600, named after the process."""
    with trace.serve_control() as path:
        assert path == folder / f"{os.getpid()}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_nothing_is_left_behind(folder: Path) -> None:
    """No file, no thread, no file descriptor; however often."""
    await elsewhere(int)  # a worker thread, which stays
    files = open_files()
    for _ in range(20):
        with trace.serve_control() as path:
            await elsewhere(ask, path, do="tree")
    assert list(folder.iterdir()) == []
    assert our_threads() == []
    assert open_files() == files


async def test_a_loop_that_is_served_already_is_served_once(folder: Path) -> None:
    """As where the environment asks for it, and the program does too."""
    with trace.serve_control() as path:
        with trace.serve_control() as again:
            assert again == path
            assert len(list(folder.iterdir())) == 1
        assert await elsewhere(ask, path, do="status")


@pytest.mark.parametrize("backend", chosen(REAL))
def test_two_loops_of_a_process_have_two_sockets(backend: str, folder: Path) -> None:
    """The second is named with a number more."""

    async def inner() -> None:
        with trace.serve_control() as second:
            assert second.name == f"{os.getpid()}-2.sock"
            found = await elsewhere(serving)
            assert [each.name for each in found] == [f"{os.getpid()}-2", str(os.getpid())]
            with pytest.raises(ControlError, match="say which process:"):
                await elsewhere(connect)

    async def outer() -> None:
        with trace.serve_control():
            await elsewhere(ka.run, inner, backend=backend)

    ka.run(outer, backend=backend)


def test_needs_a_loop() -> None:
    """It says where to enter it."""
    with (
        pytest.raises(RuntimeError, match=r"^serve_control\(\) where no event loop runs; "),
        trace.serve_control(),
    ):
        pytest.fail("entered")


async def test_explains_that_a_platform_has_no_unix_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sentence."""
    monkeypatch.setattr(served, "IS_SUPPORTED", False)
    sentence = r"^serve_control\(\): switching from another process needs unix sockets"
    with pytest.raises(RuntimeError, match=sentence), trace.serve_control():
        pytest.fail("entered")


async def test_removes_what_dead_processes_left(folder: Path) -> None:
    """A socket that nobody listens to, also one that has our own number."""
    folder.mkdir(mode=0o700)
    for name in ("4194399", str(os.getpid())):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / f"{name}.sock"))
    (folder / "notes.txt").touch()
    with trace.serve_control() as path:
        assert {each.name for each in folder.iterdir()} == {path.name, "notes.txt"}
        assert await elsewhere(ask, path, do="status")
    (folder / "notes.txt").unlink()


async def test_a_socket_that_lives_is_left_alone(folder: Path) -> None:
    """Of another container, say, in which another process has our number."""
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(folder / f"{os.getpid()}.sock"))
        theirs.listen()
        with trace.serve_control() as path:
            assert path.name == f"{os.getpid()}-2.sock"
        assert (folder / f"{os.getpid()}.sock").exists()


async def test_does_not_remove_what_has_taken_its_place(folder: Path) -> None:
    """The file at its path is removed only if it is still its own."""
    with trace.serve_control() as path:
        path.unlink()
        path.touch()
    assert path.exists()


@pytest.mark.parametrize("trouble", ["symlink", "file", "open", "theirs"])
async def test_refuses_a_folder_that_may_be_somebody_elses(trouble: str, folder: Path) -> None:
    """It is named with what is wrong with it, and nobody is asked there either."""
    if trouble == "symlink":
        (folder.parent / "real").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "real")
        what = "is a symbolic link"
    elif trouble == "file":
        folder.touch()
        what = "is no folder"
    else:
        folder.mkdir()
        folder.chmod(0o755)
        what = "is open to other users"
        if trouble == "theirs":
            if os.geteuid() != 0:
                pytest.skip("only root can give a folder away")
            os.chown(folder, 12345, 12345)
            what = "belongs to another user"
    with pytest.raises(OSError, match="no safe folder for a control socket ") as caught:
        trace.serve_control().__enter__()
    assert f"{folder} {what}" in str(caught.value)
    assert sockets.names(folder) == {}


def test_where_sockets_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the runtime folder, else in a folder of the user's own among the temporary ones."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert sockets.folders()[0] == Path("/run/user/1/kingdom_async")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "not/absolute")
    user = os.geteuid()
    assert sockets.folders()[0] == Path(f"/run/user/{user}/kingdom_async")
    assert Path(f"/tmp/kingdom_async-{user}") in sockets.folders()


# --- who asks ------------------------------------------------------------------------------

MALFORMED = "a request is one line of JSON, "


@pytest.mark.parametrize(
    ("request_line", "error"),
    [
        (b"\n", MALFORMED),
        (b"hello\n", MALFORMED),
        (b"\xff\xfe\0\n", MALFORMED),
        (b"[1]\n", MALFORMED),
        (b"[" * 4000 + b"\n", MALFORMED),
        (b"GET / HTTP/1.1\r\n\r\n", MALFORMED),
        (b'{"do":"tree"}\n', "this process speaks version 1 of the protocol, not None; "),
        (
            b'{"version":2,"do":"tree"}\n',
            "this process speaks version 1 of the protocol, not 2",
        ),
        (b'{"version":1}\n', "do must be one of status, tree, top, on, off, record, not None"),
        (b'{"version":1,"do":["tree"]}\n', "do must be one of "),
        (b'{"version":1,"do":"close"}\n', "do must be one of "),
        (b'{"version":1,"do":"tree","depth":1}\n', "tree has no option 'depth'"),
        (b'{"version":1,"do":"top","limit":0}\n', "limit must be 1 to 1000 rows, not 0"),
        (b'{"version":1,"do":"top","limit":true}\n', "limit must be 1 to 1000 rows, not True"),
        (b'{"version":1,"do":"top","sort":[]}\n', "sort must be the name of a column, not []"),
        (
            b'{"version":1,"do":"top","sort":"x"}\n',
            "sort must be the name of a column, not 'x'",
        ),
        (b'{"version":1,"do":"on","level":"all"}\n', "level must be life or steps, not 'all'"),
        (b'{"version":1,"do":"on","level":{}}\n', "level must be life or steps, not {}"),
        (b'{"version":1,"do":"off"}\n', "nothing was begun with kingdom-async trace on"),
        (b'{"version":1,"do":"record","seconds":-1}\n', "seconds must be more than 0 and "),
        (b'{"version":1,"do":"record","seconds":NaN}\n', "seconds must be more than 0 and "),
        (b'{"version":1,"do":"record","seconds":"5"}\n', "seconds must be more than 0 and "),
        (b'{"version":1,"do":"record","seconds":1e9}\n', "seconds must be more than 0 and "),
        (b"x" * 5000, "a request has at most 4096 bytes"),
        (b" " * 1_000_000 + b"\n", "a request has at most 4096 bytes"),
    ],
)
def test_what_is_no_request_gets_one_line(request_line: bytes, error: str) -> None:
    """And the next one is served as if nothing had been."""

    async def main() -> None:
        with trace.serve_control() as path:
            line = await elsewhere(ask_raw, path, request_line)
            assert line.count(b"\n") == 1
            answer = json.loads(line)
            assert answer.keys() == {"version", "error"}
            assert answer["error"].startswith(error)
            assert "answer" in await elsewhere(ask, path, do="status")

    ka.run(main)


@pytest.mark.parametrize("sent", [b"", b'{"version":1'])
async def test_a_client_that_stops_midway_is_told(sent: bytes) -> None:
    """Nothing waits for the rest."""
    with trace.serve_control() as path:
        line = await elsewhere(ask_raw, path, sent, end=True)
        assert json.loads(line)["error"].startswith(MALFORMED)


async def test_who_closes_only_his_writing_side_is_answered() -> None:
    """As netcat does."""
    with trace.serve_control() as path:
        request = b'{"version":1,"do":"record","seconds":0.01}\n'
        line = await elsewhere(ask_raw, path, request, end=True)
        assert json.loads(line)["answer"]["recording"]["format"] == "kingdom_async.trace/1"


async def test_who_is_slow_to_ask_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not buy more time; others are served meanwhile."""
    monkeypatch.setattr(served, "_TIME_TO_ASK", 0.2)
    with trace.serve_control() as path:

        def dawdle() -> tuple[bytes, float]:
            started = time.monotonic()
            with connected(path) as client:
                client.sendall(b"{")
                assert "answer" in ask(path, do="status")
                while time.monotonic() < started + 15:
                    try:
                        client.sendall(b" ")
                    except OSError:
                        break
                    time.sleep(0.01)
                return read_all(client), time.monotonic() - started

        said, seconds = await elsewhere(dawdle)
        assert said == b""
        assert seconds < 10


async def test_who_is_slow_to_take_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody reads is given up."""
    monkeypatch.setattr(served, "_TIME_TO_TAKE", 0.2)
    monkeypatch.setattr(Answers, "status", lambda self: {"long": "x" * 10_000_000})
    with trace.serve_control() as path:

        def take_nothing() -> None:
            with connected(path) as client:
                client.sendall(b'{"version":1,"do":"status"}\n')
                assert client.recv(1) == b"{"  # it has begun
                wait_for_clients()

        await elsewhere(take_nothing)


async def test_there_are_never_more_than_a_few_clients() -> None:
    """One too many is told so; once others have left, there is room again."""
    with trace.serve_control() as path:

        def crowd() -> None:
            with ExitStack() as stack:
                for _ in range(served.MOST_CLIENTS):
                    stack.enter_context(connected(path))
                while "answer" in (answer := ask(path, do="status")):
                    pass  # one of them is not served yet
                assert answer["error"] == "8 others are served; try again"
                names = [each.name for each in threading.enumerate()]
                assert names.count("kingdom_async client") <= served.MOST_CLIENTS + 1
            wait_for_clients()
            assert "answer" in ask(path, do="status")

        await elsewhere(crowd)


async def test_idle_clients_do_not_keep_the_program_from_ending() -> None:
    """They are let go at once."""
    started = time.monotonic()
    with ExitStack() as stack, trace.serve_control() as path:
        for _ in range(3):
            stack.enter_context(await elsewhere(connected, path))
    assert time.monotonic() - started < served._FAREWELL


@needs_root
@needs_peer
async def test_another_user_gets_nothing(folder: Path) -> None:
    """Not even where the modes would let him in: the system says whose process it is."""
    program = textwrap.dedent("""
        import os, socket, sys
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(sys.argv[1])
            client.sendall(b'{"version":1,"do":"tree"}\\n')
            print(client.recv(100))
        except OSError as error:
            print(type(error).__name__)
    """)

    def as_nobody(path: Path) -> str:
        arguments = [sys.executable, "-c", program, str(path)]
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout

    with trace.serve_control() as path:
        assert await elsewhere(as_nobody, path) == "PermissionError\n"
        for each in (folder.parent, folder, path):
            each.chmod(0o777)
        assert await elsewhere(as_nobody, path) in (
            "b''\n",
            "BrokenPipeError\n",
            "ConnectionResetError\n",
        )
        folder.chmod(0o700)


@needs_peer
async def test_who_is_not_this_user_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without being root: the program takes itself for another."""
    with trace.serve_control() as path:
        monkeypatch.setattr(served, "is_same_user", lambda client: False)
        assert await elsewhere(ask_raw, path, b'{"version":1,"do":"tree"}\n') == b""
        monkeypatch.undo()
        assert "answer" in await elsewhere(ask, path, do="tree")


# --- what is answered ----------------------------------------------------------------------


async def test_tells_the_tree() -> None:
    """The same as `trace.tree`, from outside."""
    async with ka.TaskGroup() as group:
        group.start_soon(ka.sleep_forever, name="sleeper")
        with trace.serve_control() as path:
            control = control_at(path)
            answer = await elsewhere(control.tree)
            assert answer["loop"]["state"] == "runs"
            assert answer["loop"]["lag"] > 0
            assert "nothing is recorded" in answer["tree"]
            assert "sleeper · " in answer["tree"]
        group.cancel_scope.cancel()


async def test_tells_what_runs_there() -> None:
    """Process, program, backend, and what is recorded."""
    with trace.serve_control() as path:
        control = control_at(path)
        status = await elsewhere(control.status)
        assert status["pid"] == os.getpid()
        assert status["backend"] == ka.current_backend()
        assert status["level"] is None
        with trace.recording("steps") as recording:
            status = await elsewhere(control.status)
            assert status["level"] == "steps"
            assert status["recorded"] > 0
            assert status["switched_on"] is None
            assert [type(lag) for lag in recording.lags] == [trace.Lag]


async def test_a_row_says_whether_an_age_is_known() -> None:
    """As a tree does: a task from before the recording is at least as old as that."""
    async with ka.TaskGroup() as group:
        group.start_soon(ka.sleep_forever, name="early")
        await ka.offload(int)
        with trace.recording():
            group.start_soon(ka.sleep_forever, name="late")
            await ka.offload(int)
            with trace.serve_control() as path:
                answer = await elsewhere(control_at(path).top)
                tree = await elsewhere(control_at(path).tree)
            said = {row["name"]: (row["early"], row["foreign"]) for row in answer["rows"]}
            assert said["early"] == (True, True)
            assert said["late"] == (False, False)
            assert "early (from before the recording) · waiting · at least " in tree["tree"]
        group.cancel()


async def test_tells_the_live_tasks_as_rows() -> None:
    """Sorted and cut short there; one of them in full, with its stack and its steps."""

    async def wait(number: int) -> None:
        await ka.checkpoint()
        with trace.span("waiting"):
            await ka.sleep_forever()

    with trace.recording("steps"):
        async with ka.TaskGroup() as group:
            for number in range(30):
                group.start_soon(wait, number, name=f"wait-{number:02}")
            await ka.offload(int)
            with trace.serve_control() as path:
                control = control_at(path)
                answer = await elsewhere(
                    control.top, sort="name", descending=False, filter="WAIT-", limit=7
                )
                assert [row["name"] for row in answer["rows"]] == [
                    f"wait-{number:02}" for number in range(7)
                ]
                assert (answer["tasks"] >= 31, answer["matching"]) == (True, 30)
                row = answer["rows"][3]
                assert row["state"] == "waiting"
                assert row["age"] > 0
                assert row["idle"] > 0
                assert row["steps"] >= 1
                assert row["spans"] == ["waiting"]
                assert row["waits"].startswith("test_control.py:")
                assert row["source"] == "await ka.sleep_forever()"
                assert row["warning"] is None
                assert answer["task"] is None

                answer = await elsewhere(control.top, task=row["ident"])
                task = answer["task"]
                assert task["name"] == "wait-03"
                assert task["stack"][-1]["function"] == "wait"
                assert task["stack"][-1]["source"] == "await ka.sleep_forever()"
                assert task["spans"][0]["name"] == "waiting"
                assert sum(task["histogram"]) >= 1
                assert task["group"].startswith("TaskGroup at test_control.py:")
            group.cancel_scope.cancel()


@pytest.mark.parametrize("column", ["name", "state", "age", "busy", "steps", "idle", "waits"])
async def test_every_column_can_be_sorted_by(column: str) -> None:
    """With and without a recording, up and down."""
    with trace.serve_control() as path:
        control = control_at(path)
        for level in (None, "life", "steps"):
            with ExitStack() as stack:
                if level is not None:
                    stack.enter_context(trace.recording(level))  # type: ignore[arg-type]
                for descending in (True, False):
                    answer = await elsewhere(control.top, sort=column, descending=descending)
                    assert answer["rows"]


async def test_tasks_with_lints_come_first() -> None:
    """Above all others, whatever their age."""

    async def hold() -> None:
        time.sleep(0.02)  # noqa: ASYNC251  # a step that is too long
        await ka.sleep_forever()

    with trace.recording("steps", thresholds=trace.Thresholds(long_step=0.01)):
        async with ka.TaskGroup() as group:
            group.start_soon(ka.sleep_forever, name="good")
            group.start_soon(hold, name="bad")
            await ka.offload(int)
            with trace.serve_control() as path:
                answer = await elsewhere(control_at(path).top)
                # On a busy machine another task may have been held up, and have one too.
                warned = [row for row in answer["rows"] if row["warning"]]
                assert answer["rows"][: len(warned)] == warned
                assert ("bad", "long-step") in [(row["name"], row["warning"]) for row in warned]
                assert {lint["kind"] for lint in answer["lints"]} == {"long-step"}
                assert any("task 'bad'" in lint["message"] for lint in answer["lints"])
            group.cancel_scope.cancel()


@pytest.mark.slow
async def test_ten_thousand_tasks_are_told_of_in_a_few_rows() -> None:
    """The answer stays small."""
    with trace.recording():
        async with ka.TaskGroup() as group:
            for _ in range(10_000):
                group.start_soon(ka.sleep_forever)
            await ka.sleep(0)
            with trace.serve_control() as path:
                line = await elsewhere(ask_raw, path, b'{"version":1,"do":"top"}\n')
                answer = json.loads(line)["answer"]
                assert answer["tasks"] >= 10_001
                assert len(answer["rows"]) == 200
                assert len(line) < 200_000
            group.cancel_scope.cancel()


async def test_an_answer_that_fails_is_told_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line; the next one is served."""

    def fail(self: object) -> None:
        raise ZeroDivisionError("no\nway")

    with trace.serve_control() as path:
        monkeypatch.setattr(Answers, "tree", fail)
        error = (await elsewhere(ask, path, do="tree"))["error"]
        assert error == "could not answer: ZeroDivisionError: no\nway"
        assert "answer" in await elsewhere(ask, path, do="status")


# --- recording -----------------------------------------------------------------------------


async def test_switches_a_recording_on_and_off() -> None:
    """With every hook that it needs, put in and taken out inside the loop."""

    async def work() -> None:
        await ka.checkpoint()

    with trace.serve_control() as path:
        control = control_at(path)
        await elsewhere(control.on, "steps")
        assert (await elsewhere(control.status))["switched_on"] == "steps"
        with pytest.raises(ControlError, match="recording is on already, with level steps; "):
            await elsewhere(control.on)
        async with ka.TaskGroup() as group:
            group.start_soon(work, name="worker")
        recording = await elsewhere(control.off)
        assert hub.recorders == ()
        worker = next(task for task in recording.tasks if task.name == "worker")
        assert worker.outcome == "ok"
        assert any(step.task == worker.serial for step in recording.steps)
        with pytest.raises(
            ControlError, match=r"nothing was begun with kingdom-async trace on$"
        ):
            await elsewhere(control.off)


async def test_the_programs_own_recordings_are_not_touched() -> None:
    """What is switched off is what was switched on from outside."""
    with trace.serve_control() as path:
        control = control_at(path)
        trace.start()
        await elsewhere(control.on)
        with pytest.raises(RuntimeError, match="the program's recording is on"):
            trace.start()
        await elsewhere(control.off)
        with pytest.raises(ControlError, match="what the program itself records goes on"):
            await elsewhere(control.off)
        assert trace.stop().tasks


async def test_records_the_next_seconds() -> None:
    """The loop goes on meanwhile, and everything of it is in the answer."""
    with trace.serve_control() as path:
        control = control_at(path)

        async def work() -> None:
            await ka.checkpoint()

        async def go_on(task_status: ka.TaskStatus[None]) -> None:
            while not hub.recorders:
                await ka.sleep(0.001)
            for _ in range(300):
                async with ka.TaskGroup() as inner:
                    inner.start_soon(work, name="worker")
            task_status.started()

        async with ka.TaskGroup() as group:
            handle = group.start_soon(elsewhere, control.record, 0.5, "steps")
            await group.start(lambda task_status: go_on(task_status))
        recording = handle.return_value
        assert recording.level == "steps"
        assert sum(task.name == "worker" for task in recording.tasks) == 300
        assert len(recording.steps) >= 300


async def test_a_recording_that_nobody_waits_for_is_ended() -> None:
    """The client has gone, and so do the hooks."""
    with trace.serve_control() as path:

        def leave() -> None:
            with connected(path) as client:
                client.sendall(b'{"version":1,"do":"record","seconds":600}\n')
                while not hub.recorders:
                    time.sleep(0.001)
            wait_for_clients()

        await elsewhere(leave)
        assert hub.recorders == ()


async def test_what_was_switched_on_ends_with_the_block() -> None:
    """And so do its hooks."""
    with trace.serve_control() as path:
        await elsewhere(control_at(path).on, "steps")
        assert len(hub.recorders) == 1
    assert hub.recorders == ()


@pytest.mark.parametrize("backend", chosen(REAL))
def test_who_records_when_the_program_ends_gets_what_there_is(backend: str) -> None:
    """The end does not wait for the seconds to be over."""
    answers: list[Any] = []

    async def main() -> None:
        with trace.serve_control() as path:
            thread = threading.Thread(
                target=lambda: answers.append(control_at(path).record(600, "life"))
            )
            thread.start()
            while not hub.recorders:
                await ka.sleep(0.001)
            threads.append(thread)

    threads: list[threading.Thread] = []
    started = time.monotonic()
    ka.run(main, backend=backend)
    threads[0].join(20)
    assert time.monotonic() - started < 15
    assert any(task.name.endswith("main") for task in answers[0].tasks)


@pytest.mark.parametrize("backend", chosen(REAL))
def test_the_block_may_be_left_after_the_loop_has_ended(backend: str, folder: Path) -> None:
    """Meanwhile everybody is told that it has; then nothing is left."""
    stack = ExitStack()

    async def main() -> Path:
        path = stack.enter_context(trace.serve_control())
        await elsewhere(control_at(path).on, "steps")
        return path

    with stack:
        path = ka.run(main, backend=backend)
        control = control_at(path)
        assert control.status()["loop"] == {"state": "ended"}
        for call in (control.tree, control.top, control.on, lambda: control.record(1)):
            with pytest.raises(ControlError, match=r": (the loop has ended|recording is on)"):
                call()
        assert control.off().tasks
    assert list(folder.iterdir()) == []


async def test_a_recording_that_cannot_begin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it stays."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no way")

    monkeypatch.setattr(hub, "begin", fail)
    with trace.serve_control() as path:
        with pytest.raises(ControlError, match="it failed there: ZeroDivisionError: no way"):
            await elsewhere(control_at(path).on)
        monkeypatch.undo()
        assert "answer" in await elsewhere(ask, path, do="status")
    assert hub.recorders == ()


# --- a loop that is blocked ----------------------------------------------------------------


def crunch(until: threading.Event) -> None:
    assert until.wait(20)


async def test_a_blocked_loop_is_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the task and the line that block it; what needs the loop is refused, for good."""
    monkeypatch.setattr(reach, "_LONGER_PATIENCE", 0.2)
    release = threading.Event()
    answers: dict[str, Any] = {}

    def look(path: Path) -> None:
        control = control_at(path)
        try:
            while (answers.update(tree=control.tree()) or answers["tree"])["loop"][
                "state"
            ] != "blocked":
                pass
            answers["top"] = control.top()
            for name, call in (("on", control.on), ("record", lambda: control.record(1))):
                try:
                    call()
                except ControlError as error:
                    answers[name] = str(error)
        finally:
            release.set()

    async def blocker() -> None:
        await ka.checkpoint()
        crunch(release)

    with trace.serve_control() as path:
        thread = threading.Thread(target=look, args=(path,))
        thread.start()
        async with ka.TaskGroup() as group:
            group.start_soon(blocker, name="blocker")
        await elsewhere(thread.join)
        await ka.offload(int)
        assert hub.recorders == ()  # what was refused does not begin afterwards

    blocked = answers["tree"]["loop"]
    assert blocked["task"] == "blocker"
    assert blocked["seconds"] > 0
    functions = [line["function"] for line in blocked["stack"]]
    assert functions[-2:] == ["blocker", "crunch"]
    assert blocked["stack"][-1]["source"] == "assert until.wait(20)"
    assert "blocker · running" in answers["tree"]["tree"]
    assert answers["top"]["rows"][0]["name"] == "blocker"
    assert answers["top"]["rows"][0]["warning"] == "blocked-loop"
    for name in ("on", "record"):
        assert "the loop is blocked by task 'blocker' at test_control.py:" in answers[name]
        assert answers[name].endswith("; nothing can be switched until it runs again")


@pytest.mark.parametrize("is_watched", [False, True])
async def test_a_recording_from_outside_tells_what_blocks_the_loop(
    is_watched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """On uvloop a foreign task has no steps; once, and the program's log has its own only."""

    def block() -> None:
        until = time.monotonic() + 30
        while not any(lint.kind == "blocked-loop" for lint in hub.recorders[0].store.lints):
            assert time.monotonic() < until
            time.sleep(0.01)

    async def theirs() -> None:
        await ka.checkpoint()
        block()

    with trace.serve_control() as path, ExitStack() as stack:
        if is_watched:
            stack.enter_context(trace.watchdog(0.05))
        control = control_at(path)
        await elsewhere(control.on, "steps")
        async with anyio.create_task_group() as group:
            group.start_soon(theirs, name="theirs")
        while not hub.recorders[0].store.lags:  # the ping is answered when its turn comes
            await ka.sleep(0.001)
        recording = await elsewhere(control.off)
    (lint,) = [lint for lint in recording.lints if lint.kind == "blocked-loop"]
    assert lint.place is not None
    assert lint.place.endswith(" in block")
    assert recording.lags
    logged = [each for each in caplog.messages if "has held the loop for" in each]
    assert ("blocked-loop" in str(logged)) == is_watched
    assert "kingdom_async.trace" not in {each.name for each in threading.enumerate()}


async def test_a_recording_that_a_blocked_loop_cannot_end_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what there is by then; its hooks go as soon as the loop runs again."""
    monkeypatch.setattr(reach, "_LONGER_PATIENCE", 0.2)
    release = threading.Event()
    recordings: list[Any] = []

    def record(path: Path) -> None:
        try:
            recordings.append(control_at(path).record(0.1, "steps"))
        finally:
            release.set()

    with trace.serve_control() as path:
        thread = threading.Thread(target=record, args=(path,))
        thread.start()
        while not hub.recorders:
            await ka.sleep(0.001)
        crunch(release)
        await elsewhere(thread.join)
        await ka.offload(int)
        assert hub.recorders == ()
    assert recordings[0].tasks


# --- forks ---------------------------------------------------------------------------------

FORKS = """
import os, sys, time, warnings
import kingdom_async as ka
from kingdom_async import trace
warnings.simplefilter("ignore")

async def main():
    with trace.serve_control() as path:
        child = os.fork()
        if child == 0:
            os.write(1, f"exists {path.exists()}\\n".encode())
            sys.stdin.readline()      # the parent is dead by now
            os._exit(0)
        os.write(1, f"child {child} {path}\\n".encode())
        await ka.offload(os.kill, os.getpid(), 9)

async def stay():
    with trace.serve_control() as path:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os.write(1, f"still {path.exists()}\\n".encode())
            return
    os.write(1, f"left {path.exists()}\\n".encode())
    os._exit(0)

ka.run({"main": main, "stay": stay}[sys.argv[1]], backend=sys.argv[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_fork_neither_serves_nor_removes_the_socket(backend: str, folder: Path) -> None:
    """It leaves the block without touching its parent's socket."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, "stay", backend],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert sorted(done.stdout.split("\n")) == ["", "left True", "still True"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", chosen(REAL))
def test_nobody_listens_once_the_parent_of_a_fork_is_dead(backend: str, folder: Path) -> None:
    """The fork does not hold the socket open, so that nobody waits for it in vain."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, "main", backend],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        lines = sorted([parent.stdout.readline(), parent.stdout.readline()])
        path = Path(lines[0].split()[2])
        parent.wait(20)
        assert lines[1] == "exists True\n"
        assert path.exists()
        assert not sockets.answers(path)
        assert serving() == []
        parent.stdin.close()
        parent.stdout.read()
