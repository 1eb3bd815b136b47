"""`offload(to="process")`: what goes over, what comes back, and what cannot."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_process
import pytest
from anyio.abc import Process

import kingdom_async as ka
from support import elsewhere
from support.backends import REAL, asyncio_only, chosen
from support.threads import in_a_thread, tokens_back


async def test_runs_in_another_process_without_context_variables() -> None:
    """The function runs elsewhere, and sees none of the caller's context variables."""
    elsewhere.variable.set("caller's")
    process, value = await ka.offload(elsewhere.process_and_variable, to="process")
    assert process != os.getpid()
    assert value == "unset"
    assert await ka.offload(elsewhere.add, 2, 3, to="process") == 5


async def test_raises_what_the_function_raises() -> None:
    """The error comes back as its own type, with the traceback from there as a note."""
    with pytest.raises(LookupError) as caught:
        await ka.offload(elsewhere.fail, "no such row", to="process")
    assert str(caught.value) == "no such row"
    (note,) = caught.value.__notes__
    assert note.startswith("In the worker process:\nTraceback (most recent call last):\n")
    assert "in fail\n" in note

    with pytest.raises(SystemExit) as exited:
        await ka.offload(elsewhere.leave, to="process")
    assert exited.value.args == ("from elsewhere",)


PLAIN = "give a function from the top level of a module, and plain data"
TRACEBACK = r"\nTraceback \(most recent call last\):\n[\s\S]*in {}\n[\s\S]*"

SENTENCES = {
    elsewhere.stop: re.escape(
        "offload(stop): it raised StopIteration, which cannot pass through an await; catch it "
        "in the function, or give next() a default"
    ),
    elsewhere.lock: (
        r"offload\(lock, to='process'\): its result <unlocked _thread.lock object at .*> "
        r"cannot be pickled \(cannot pickle '_thread.lock' object\); return plain data"
    ),
    elsewhere.return_treacherous: re.escape(
        "offload(return_treacherous, to='process'): its result came back as bytes that cannot "
        "be unpickled (not today); return plain data"
    ),
    elsewhere.raise_unpicklable: (
        r"offload\(raise_unpicklable, to='process'\): it raised Unpicklable\('holds a lock'\), "
        r"which cannot be pickled \(cannot pickle '_thread.lock' object\)\."
        + TRACEBACK.format("raise_unpicklable")
    ),
    elsewhere.raise_one_way: (
        r"offload\(raise_one_way, to='process'\): it raised OneWay\('one way'\), "
        r"which cannot be pickled \(.* missing 1 required positional argument: 'text'\)\."
        + TRACEBACK.format("raise_one_way")
    ),
}


async def test_outcomes_that_cannot_come_back_get_a_sentence() -> None:
    """What the function did is told, and why it cannot be handed over."""
    for func, sentence in SENTENCES.items():
        with pytest.raises(ka.OffloadError) as caught:
            await ka.offload(func, to="process")
        assert re.fullmatch(sentence, str(caught.value))

    with pytest.raises(TypeError) as refused:
        await ka.offload(elsewhere.returns_coroutine, to="process")
    assert str(refused.value) == (
        "offload() runs ordinary functions, and returns_coroutine is async; "
        "write await returns_coroutine(…)"
    )


@pytest.mark.parametrize(
    ("name", "call"),
    [("<lambda>", (lambda: 1,)), ("add", (elsewhere.add, 1, elsewhere.lock()))],
    ids=["function", "arguments"],
)
async def test_a_call_that_cannot_be_pickled_gets_a_sentence(name: str, call: Any) -> None:
    """A lambda or a lock cannot go over; the error says what can."""
    with pytest.raises(ka.OffloadError) as caught:
        await ka.offload(*call, to="process")
    assert re.fullmatch(
        rf"offload\({name}, to='process'\): the call cannot be pickled \(.*\); {PLAIN}",
        str(caught.value),
    )


async def test_a_worker_that_dies_is_reported_and_replaced() -> None:
    """A crash is an OffloadError; the next call gets a new process."""
    limiter = ka.Limiter(1, name="one")
    with pytest.raises(ka.OffloadError, match=r"^offload\(die, to='process'\): the worker "):
        await ka.offload(elsewhere.die, to="process", limiter=limiter)
    assert await ka.offload(elsewhere.add, 1, 2, to="process", limiter=limiter) == 3
    assert limiter.borrowed_tokens == 0


class Gates:
    """Two named pipes, which tell that a worker has begun, and let it go on."""

    def __init__(self, folder: Path) -> None:
        self.paths = str(folder / "begun"), str(folder / "go")
        for path in self.paths:
            os.mkfifo(path)

    async def begun(self) -> None:
        await in_a_thread(lambda: open(self.paths[0]).close())

    async def let_go(self) -> None:
        await in_a_thread(lambda: open(self.paths[1], "w").close())


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


async def test_cancelling_waits_and_returns_the_late_result(gates: Gates) -> None:
    """As with a thread: the cancelled caller gets the result, then is cancelled."""
    results: list[str] = []
    limiter = ka.Limiter(1, name="one")
    with ka.CancelScope() as scope:
        async with ka.TaskGroup() as group:

            async def cancel() -> None:
                await gates.begun()
                scope.cancel()
                with ka.CancelScope(shield=True):
                    await gates.let_go()

            group.start_soon(cancel)
            results.append(
                await ka.offload(
                    elsewhere.pass_gates, *gates.paths, to="process", limiter=limiter
                )
            )
            await ka.checkpoint()
            results.append("went on")
    assert results == ["late"]
    assert limiter.borrowed_tokens == 0


async def test_an_abandoned_process_is_killed(gates: Gates) -> None:
    """The caller need not wait, and the token comes back, for the process is gone."""
    limiter = ka.Limiter(1, name="one")
    async with ka.TaskGroup() as group:
        group.start_soon(
            lambda: ka.offload(
                elsewhere.pass_gates,
                *gates.paths,
                to="process",
                limiter=limiter,
                abandon_on_cancel=True,
            )
        )
        await gates.begun()
        group.cancel()
    assert limiter.borrowed_tokens == 0
    assert await ka.offload(elsewhere.add, 1, 2, to="process", limiter=limiter) == 3


@asyncio_only
async def test_a_natively_cancelled_process_is_killed(gates: Gates) -> None:
    """Task.cancel() goes through the shield: it counts as abandoning."""
    limiter = ka.Limiter(1, name="one")
    task = asyncio.ensure_future(
        ka.offload(elsewhere.pass_gates, *gates.paths, to="process", limiter=limiter)
    )
    await gates.begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await tokens_back(limiter)
    assert await ka.offload(elsewhere.add, 1, 2, to="process", limiter=limiter) == 3


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    opened = Opened(anyio.to_process.open_process)
    monkeypatch.setattr(anyio.to_process, "open_process", opened)
    return opened


class Opened(list[Process]):
    """The worker processes that were opened; and what to do when one is."""

    def __init__(self, open_process: Any) -> None:
        self.then: Callable[[], object] = list
        self._open = open_process

    async def __call__(self, *args: Any, **options: Any) -> Process:
        process: Process = await self._open(*args, **options)
        self.append(process)
        self.then()
        return process


async def test_a_worker_that_is_cancelled_while_it_starts_is_ended(opened: Opened) -> None:
    """No process outlives its call, however early the cancellation."""
    limiter = ka.Limiter(1, name="one")
    with ka.CancelScope() as scope:
        opened.then = scope.cancel
        await ka.offload(elsewhere.add, 1, 2, to="process", limiter=limiter)
    assert scope.cancelled_caught
    (worker,) = opened
    assert worker.returncode is not None
    assert limiter.borrowed_tokens == 0


@asyncio_only
async def test_a_worker_that_is_natively_cancelled_while_it_starts_is_ended(
    opened: Opened,
) -> None:
    """At whatever turn of its start."""
    limiter = ka.Limiter(1, name="one")
    for turns in (0, 1, 3):
        opening = ka.Event()
        opened.then = opening.set
        call = ka.offload(elsewhere.add, 1, 2, to="process", limiter=limiter)
        task = asyncio.ensure_future(call)
        await opening.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limiter.borrowed_tokens == 0
    assert len(opened) == 3
    assert all(worker.returncode is not None for worker in opened)


# --- the program's main file ---------------------------------------------------------

NO_GUARD = """
import sys
import kingdom_async as ka

def work(number):
    return number + 1

async def main():
    print(await ka.offload(work, 1, to="process"))

ka.run(main, backend=sys.argv[1])
"""

WITH_GUARD = """
import dataclasses, sys
import kingdom_async as ka

@dataclasses.dataclass
class Row:
    number: int

class NoRow(Exception):
    pass

def work(number):
    if number == 2:
        raise NoRow(number)
    return Row(number)

async def main():
    print(await ka.offload(work, 1, to="process") == Row(1))
    try:
        await ka.offload(work, 2, to="process")
    except NoRow as error:
        print(error)
    print(await ka.offload_map(work, [3, 4], to="process", limit=1) == [Row(3), Row(4)])

if __name__ == "__main__":
    def hidden(): ...
    ka.run(main, backend=sys.argv[1])

    async def missing():
        try:
            await ka.offload(hidden, to="process")
        except ka.OffloadError as error:
            print(error)
    ka.run(missing, backend=sys.argv[1])
"""

SENTENCE = (
    "offload(work, to='process'): the worker process broke. It imports the program's main "
    "file again: is what starts the program there under 'if __name__ == \"__main__\":'?"
)


def run_script(script: str, backend: str, path: Path) -> subprocess.CompletedProcess[str]:
    path.write_text(script)
    return subprocess.run(
        [sys.executable, str(path), backend],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_missing_guard_gets_a_sentence(backend: str, tmp_path: Path) -> None:
    """A main file that starts the program when imported neither hangs nor multiplies."""
    done = run_script(NO_GUARD, backend, tmp_path / "program.py")
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"kingdom_async.OffloadError: {SENTENCE}" in done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_the_main_file_defines_goes_over_and_comes_back(
    backend: str, tmp_path: Path
) -> None:
    """Functions, classes and errors of the main file; not what stands under its guard."""
    done = run_script(WITH_GUARD, backend, tmp_path / "program.py")
    assert "Traceback" not in done.stderr
    *lines, missing = done.stdout.splitlines()
    assert lines == ["True", "2", "True"]
    assert re.fullmatch(
        r"offload\(hidden, to='process'\): the call cannot be found there \(.*\); define the "
        r"function at the top level of a module, and outside of 'if __name__ == \"__main__\":'",
        missing,
    )


RUNS_THERE = """
import sys
import kingdom_async as ka

async def add(one, other):
    return one + other

def work(number):
    return ka.run(add, number, 1)

async def main():
    print(await ka.offload(work, 1, to="process"))

if __name__ == "__main__":
    ka.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_function_of_the_main_file_may_have_a_run_of_its_own(
    backend: str, tmp_path: Path
) -> None:
    """What is refused in a worker is to start the program again, not to run something."""
    done = run_script(RUNS_THERE, backend, tmp_path / "program.py")
    assert (done.stdout, done.stderr) == ("2\n", "")


async def test_an_error_from_a_worker_is_gone_with_its_last_reference() -> None:
    """No frame of ours holds it, so that nothing is left for the garbage collector."""
    await ka.offload(abs, -1, to="process")  # anyio's frames hold what the start raised
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            await ka.offload(int, "gone", to="process")
        left = [thing for thing in gc.get_objects() if isinstance(thing, ValueError)]
        assert [error for error in left if "gone" in str(error)] == []
    finally:
        gc.enable()


def end_this_process(how: str) -> None:
    if how == "by itself":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("by itself", "exit code 3"),
        ("SIGTERM", "SIGTERM"),
        ("SIGKILL", "SIGKILL; was memory short?"),
    ],
)
async def test_a_worker_that_ends_in_the_call_is_told_of(how: str, said: str) -> None:
    """Whatever ends it, the error says how; the next call has a new worker."""
    assert await ka.offload(abs, -1, to="process") == 1
    with pytest.raises(ka.OffloadError) as caught:
        await ka.offload(end_this_process, how, to="process")
    ways = [said, "a code that is not known"] if sys.version_info < (3, 12) else [said]
    assert str(caught.value) in [
        "offload(end_this_process, to='process'): the worker process broke before it "
        f"answered: it ended with {way}"
        for way in ways
    ]
    assert await ka.offload(abs, -1, to="process") == 1


def write_to_standard_output() -> None:
    os.write(1, b"hello\n")


async def test_a_worker_whose_answer_cannot_be_read_is_told_of() -> None:
    """Its standard output is the way back; that anyio kills it then is not what went wrong."""
    with pytest.raises(ka.OffloadError, match="no answer that can be read; does the function"):
        await ka.offload(write_to_standard_output, to="process")


async def test_an_exit_in_the_function_leaves_the_worker_to_the_next_call() -> None:
    """SystemExit comes back as any error does, and the next call is served."""
    with pytest.raises(SystemExit) as caught:
        await ka.offload(sys.exit, 3, to="process")
    assert caught.value.code == 3
    assert await ka.offload(abs, -1, to="process") == 1


# --- Ctrl-C, which a terminal sends to every process ----------------------------------

STOPS_CLEANLY = """
import signal
import kingdom_async as ka

async def main():
    await ka.offload(abs, -1, to="process")
    with ka.open_signal_receiver(signal.SIGINT) as signals:
        print("ready", flush=True)
        async for _ in signals:
            break
    for number in range(2, 5):
        print(await ka.offload(abs, -number, to="process"))

if __name__ == "__main__":
    ka.run(main)
"""

IS_INTERRUPTED = """
import sys
import time
import kingdom_async as ka

def stay(gate):
    open(gate, "w").close()
    time.sleep(60)

async def main():
    await ka.offload(abs, -1, to="process")
    print("ready", flush=True)
    await ka.offload(stay, sys.argv[1], to="process")

if __name__ == "__main__":
    try:
        ka.run(main)
    except KeyboardInterrupt:
        print("interrupted")
"""


def interrupted(program: str, backend: str, folder: Path) -> tuple[int, str, str]:
    """Run *program*, and send SIGINT to it and all its processes when it is ready."""
    path, gate = folder / "program.py", folder / "gate"
    path.write_text(program)
    os.mkfifo(gate)
    with subprocess.Popen(
        [sys.executable, str(path), str(gate)],
        env={**os.environ, "KINGDOM_ASYNC_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if "gate" in program:
            gate.read_bytes()  # which the function opens when it runs
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    # asyncio before 3.12.4 may say so of a worker that ended before it was killed.
    noise = r"(child process pid \d+ exit status already read|Unknown child process pid).*\n"
    err = re.sub(noise, "", err)
    return process.returncode, out, err


@pytest.mark.parametrize("backend", chosen(REAL))
def test_ctrl_c_while_a_worker_waits(backend: str, tmp_path: Path) -> None:
    """A program that handles it itself goes on; each later call gets its own answer."""
    assert interrupted(STOPS_CLEANLY, backend, tmp_path) == (0, "2\n3\n4\n", "")


@pytest.mark.parametrize("backend", chosen(REAL))
def test_ctrl_c_while_a_worker_works(backend: str, tmp_path: Path) -> None:
    """The program ends at once, and the worker prints no traceback."""
    assert interrupted(IS_INTERRUPTED, backend, tmp_path) == (0, "interrupted\n", "")


async def test_a_function_may_ignore_ctrl_c() -> None:
    """What a function does with SIGINT is left as it is, from call to call."""
    await ka.offload(signal.signal, signal.SIGINT, signal.SIG_IGN, to="process")
    for _ in range(2):
        assert await ka.offload(elsewhere.interrupted, to="process") is False


async def test_an_interrupted_function_raises_its_interrupt() -> None:
    """While it runs, SIGINT interrupts it, in each call anew."""
    for _ in range(2):
        assert await ka.offload(elsewhere.interrupted, to="process") is True
