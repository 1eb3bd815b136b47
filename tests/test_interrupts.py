"""Ctrl-C: a bare `KeyboardInterrupt` on every backend, and the second one at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

import kingdom_async as ka
from support.backends import REAL, chosen


@pytest.fixture(params=chosen(REAL))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _python_handles_interrupts() -> Any:
    """Each test starts with Python's own handler, and leaves it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


async def interrupted() -> None:
    ctrl_c()
    await ka.sleep_forever()


def run_interrupted(func: Any, backend: str) -> KeyboardInterrupt:
    with pytest.raises(KeyboardInterrupt) as caught:
        ka.run(func, backend=backend)
    assert type(caught.value) is KeyboardInterrupt
    return caught.value


def test_is_bare_from_the_main_task(backend: str) -> None:
    """Nothing is around it, and nothing is its cause."""
    assert run_interrupted(interrupted, backend).__cause__ is None


def test_is_bare_from_a_child(backend: str) -> None:
    """Not inside a group, however deep the task is."""

    async def main() -> None:
        async with ka.TaskGroup() as outer:
            outer.start_soon(ka.sleep_forever)
            async with ka.TaskGroup() as inner:
                inner.start_soon(interrupted)

    assert run_interrupted(main, backend).__cause__ is None


@pytest.mark.parametrize("errors", ["group", "first"])
def test_is_bare_when_a_child_raises_it_itself(backend: str, errors: Any) -> None:
    """Without any signal: it outranks the failures of the others."""

    async def fail() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with ka.TaskGroup(errors=errors) as group:
            group.start_soon(fail)
            await ka.sleep_forever()

    run_interrupted(main, backend)


def test_lets_the_program_clean_up(backend: str) -> None:
    """Shielded cleanup has run to its end in every task before it comes out."""
    cleaned: list[str] = []

    async def careful(name: str) -> None:
        try:
            await ka.sleep_forever()
        finally:
            with ka.shielded(10):
                await ka.checkpoint()
                cleaned.append(name)

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(careful, "child")
            group.start_soon(interrupted)
            await careful("body")

    run_interrupted(main, backend)
    assert sorted(cleaned) == ["body", "child"]


def test_an_error_in_cleanup_is_its_cause(backend: str) -> None:
    """The interrupt is what comes out, and the error is not lost."""
    boom = ValueError("boom")

    async def main() -> None:
        try:
            await interrupted()
        finally:
            raise boom

    assert run_interrupted(main, backend).__cause__ is boom


def test_an_error_in_the_cleanup_of_a_child_is_its_cause(backend: str) -> None:
    """Unwrapped where it is the only one."""
    boom = ValueError("boom")

    async def careless() -> None:
        try:
            await ka.sleep_forever()
        finally:
            raise boom

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(careless)
            await ka.checkpoint()
            await interrupted()

    assert run_interrupted(main, backend).__cause__ is boom


def test_several_errors_in_cleanup_are_its_cause_as_a_group(backend: str) -> None:
    """All of them, and no cancellation among them."""

    async def careless(error: Exception) -> None:
        try:
            await ka.sleep_forever()
        finally:
            raise error

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(careless, ValueError("one"))
            group.start_soon(careless, KeyError("two"))
            await ka.checkpoint()
            await interrupted()

    cause: Any = run_interrupted(main, backend).__cause__
    assert {type(error) for error in cause.exceptions} == {ValueError, KeyError}


def test_the_second_one_raises_at_once(backend: str) -> None:
    """Out of a cleanup that a shield protects and that never ends."""

    async def main() -> None:
        try:
            await interrupted()
        finally:
            with ka.shielded(1000):
                ctrl_c()
                await ka.sleep_forever()

    run_interrupted(main, backend)


def test_the_second_one_raises_at_once_from_anywhere(backend: str) -> None:
    """While every task waits, and the shield is in a child; and another run may follow."""
    waiting = threading.Event()

    def again() -> None:
        waiting.wait()
        os.kill(os.getpid(), signal.SIGINT)

    async def stubborn() -> None:
        try:
            await ka.sleep_forever()
        finally:
            with ka.shielded(1000):
                waiting.set()
                await ka.sleep_forever()

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(stubborn)
            await ka.checkpoint()
            await interrupted()

    thread = threading.Thread(target=again)
    thread.start()
    run_interrupted(main, backend)
    thread.join()
    assert ka.run(_backend, backend=backend) == backend


async def _backend() -> str:
    await ka.checkpoint()
    return ka.current_backend()


def test_one_that_the_program_swallows_is_swallowed(backend: str) -> None:
    """As in plain asyncio and trio: the program goes on, and the second one is final."""

    async def once() -> int:
        try:
            await interrupted()
        except BaseException:  # cancelled on asyncio, KeyboardInterrupt on trio
            return 7
        return 0

    async def twice() -> None:
        await once()
        await interrupted()

    assert ka.run(once, backend=backend) == 7
    run_interrupted(twice, backend)


def test_strikes_where_the_program_waits(backend: str) -> None:
    """Not between two lines of a task: what it has just taken from a queue would be lost."""
    kept: list[int] = []

    async def take(queue: ka.Queue[int]) -> None:
        item = await queue.get()
        ctrl_c()
        kept.append(item)

    async def main() -> None:
        queue = ka.Queue[int](1)
        async with ka.TaskGroup() as group:
            group.start_soon(take, queue)
            await queue.put(7)
            await ka.sleep_forever()

    run_interrupted(main, backend)
    assert kept == [7]


@pytest.mark.parametrize("left", [False, True], ids=["well", "with an error"])
def test_lets_the_loop_shut_down(backend: str, left: bool) -> None:
    """One that comes after the program has ended comes out when all is closed."""
    closed: list[str] = []

    async def items() -> Any:
        try:
            yield 1
        finally:
            ctrl_c()
            await ka.checkpoint() if backend != "trio" else None  # which allows no waiting
            closed.append("the generator")

    kept: list[Any] = []
    error = ValueError("the program's")

    async def main() -> None:
        kept.append(items())
        await anext(kept[0])
        if left:
            raise error

    raised = run_interrupted(main, backend)
    assert closed == ["the generator"]
    assert raised.__cause__ is (error if left else None)


def test_the_second_one_ends_a_task_that_never_waits(backend: str) -> None:
    """The first only asks; and a task that asks for nothing does not hear it."""
    turns: list[int] = []

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(spin)
            await ka.sleep_forever()

    async def spin() -> None:
        while len(turns) < 9:
            turns.append(1)
            if len(turns) in (3, 6):
                ctrl_c()

    run_interrupted(main, backend)
    assert len(turns) == 6


@pytest.mark.parametrize("backend", chosen(("asyncio", "asyncio+uvloop")))
def test_the_second_one_does_not_strike_where_locks_of_threads_are_taken(backend: str) -> None:
    """As in a queue.put(), which would keep the lock; it is raised by the loop, at once. The
    third one strikes anywhere, for the loop may not run any more."""
    reached: list[str] = []
    there: dict[str, Any] = {"__name__": "threading", "strike": signal.raise_signal}
    exec("def lock(reached):\n strike(2)\n reached.append('end')", there)

    async def main(times: int) -> None:
        ctrl_c()
        with suppress(asyncio.CancelledError):
            await ka.sleep_forever()
        for _ in range(times):
            there["lock"](reached)
        await ka.sleep_forever()

    run_interrupted(partial(main, 1), backend)
    assert reached == ["end"]
    run_interrupted(partial(main, 2), backend)
    assert reached == ["end", "end"]


@pytest.mark.parametrize("backend", chosen(("asyncio", "asyncio+uvloop")))
def test_leaves_no_thread_that_waits_for_work(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second may strike just where a thread is told to end; Python would wait for it."""
    from anyio._backends._asyncio import WorkerThread

    workers: list[WorkerThread] = []
    stop = WorkerThread.stop

    def struck(worker: WorkerThread, *args: Any) -> None:
        if worker not in workers:
            workers.append(worker)
            ctrl_c()
        stop(worker, *args)

    async def main() -> None:
        await ka.offload(int)
        await interrupted()

    monkeypatch.setattr(WorkerThread, "stop", struck)
    run_interrupted(main, backend)
    [worker] = workers
    worker.join(30)
    assert not worker.is_alive()


def test_leaves_a_handler_of_the_users_alone(backend: str) -> None:
    """A program that handles SIGINT itself before the run is not interrupted."""
    got: list[int] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        got.append(signum)

    async def main() -> str:
        ctrl_c()
        await ka.checkpoint()
        assert signal.getsignal(signal.SIGINT) is handler
        return "done"

    signal.signal(signal.SIGINT, handler)
    try:
        assert ka.run(main, backend=backend) == "done"
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert got == [signal.SIGINT]


def test_leaves_a_handler_that_the_program_set(backend: str) -> None:
    """Only its own handler is taken away at the end."""

    def handler(signum: int, frame: FrameType | None) -> None: ...

    async def main() -> None:
        signal.signal(signal.SIGINT, handler)

    ka.run(main, backend=backend)
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_gives_the_handler_back(backend: str, how: str) -> None:
    """However the run ends, Python's own handler is there again."""

    async def main() -> None:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        if how == "fails":
            raise ValueError

    with suppress(ValueError):
        ka.run(main, backend=backend)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_in_another_thread_leaves_signals_alone(backend: str) -> None:
    """Python gives signals to the main thread, which is not ours to disturb."""
    handlers: list[object] = []

    async def main() -> None:
        handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=lambda: ka.run(main, backend=backend))
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_is_bare_after_a_signal_receiver_has_closed(backend: str) -> None:
    """anyio's receiver leaves Python's default handler behind it on asyncio."""

    async def main() -> None:
        with ka.open_signal_receiver(signal.SIGINT) as signals:
            ctrl_c()
            async for signum in signals:
                assert signum == signal.SIGINT
                break
        await interrupted()

    assert run_interrupted(main, backend).__cause__ is None


def test_a_receiver_takes_the_interrupt(backend: str) -> None:
    """While it is open, Ctrl-C is a value, counted by nobody."""

    async def main() -> int:
        with ka.open_signal_receiver(signal.SIGINT) as signals:
            for _ in range(3):
                ctrl_c()
                async for _signum in signals:
                    break
        return 7

    assert ka.run(main, backend=backend) == 7


PROGRAM = textwrap.dedent("""
    import kingdom_async as ka

    async def main():
        try:
            print("working", flush=True)
            await ka.sleep_forever()
        finally:
            print("cleaning", flush=True)
            if {stubborn}:
                with ka.shielded(1000):
                    await ka.sleep_forever()

    if __name__ == "__main__":
        try:
            ka.run(main)
        except KeyboardInterrupt as error:
            print("interrupted", error.__cause__, flush=True)
""")


@pytest.mark.parametrize("stubborn", [False, True], ids=["once", "twice"])
def test_a_real_one(backend: str, stubborn: bool) -> None:
    """A process that gets SIGINT says nothing on stderr and ends as it likes."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(stubborn=stubborn)],
        env={**os.environ, "KINGDOM_ASYNC_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "cleaning\n"
        if stubborn:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted None\n"
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0
