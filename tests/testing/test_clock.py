"""Virtual time: it jumps when only time can wake the program, and at no other moment."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

import kingdom_async as ka
from kingdom_async.testing import Deadlock, FeatureOff, run_virtual
from kingdom_async.testing.internals import features
from support.backends import chosen

from .clock_runs import a_day, in_order, outside, timers

BACKENDS = chosen(("asyncio", "trio"))
on_both = pytest.mark.parametrize("backend", BACKENDS)


@on_both
def test_it_starts_at_0_and_jumps_to_the_very_moment(backend: str) -> None:
    """And returns what the function returns."""

    async def main(seconds: float) -> list[float]:
        seen = [ka.current_time()]
        for _ in range(3):
            await ka.sleep(seconds)
            seen.append(ka.current_time())
        return seen

    assert run_virtual(main, 0.1, backend=backend) == [0.0, 0.1, 0.2, 0.2 + 0.1]


@on_both
@pytest.mark.parametrize("years", [1, 10_000])
def test_years_pass_in_no_time(backend: str, years: int) -> None:
    """However late it is: a timer of now is due now."""

    async def main() -> float:
        for _ in range(20):
            await ka.sleep(years * 365 * 86400 / 20)
            with ka.move_on_after(0.25) as scope:
                await ka.sleep_forever()
            assert scope.cancelled_caught
        return ka.current_time()

    begun = time.perf_counter()
    assert run_virtual(main, backend=backend) == pytest.approx(years * 365 * 86400 + 5)
    assert time.perf_counter() - begun < 10


@on_both
def test_a_day_of_mixed_timers(backend: str) -> None:
    """The promise is 0.1 s on an idle machine; this one may be busy."""
    begun = time.perf_counter()
    assert run_virtual(a_day, backend=backend) == 1440 + 288 + 96 + 24 + 69
    assert time.perf_counter() - begun < 2


@pytest.mark.skipif(len(BACKENDS) < 2, reason="it compares the two")
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_both_backends_agree(first: int) -> None:
    """The same events at the same times; what happens at one moment is in no order."""
    for seed in range(first, first + 20):
        on_asyncio, on_trio = (timers(seed, backend) for backend in BACKENDS)
        assert in_order(on_asyncio) == in_order(on_trio), f"seed {seed}"
        for log in (on_asyncio, on_trio):
            assert [at for at, _ in log] == sorted(at for at, _ in log)


@on_both
@pytest.mark.parametrize("first", range(0, 40, 10))
def test_no_wrong_jump(backend: str, first: int) -> None:
    """While threads, processes, calls back, executors and sockets are at work."""
    for seed in range(first, first + 10):
        outside(seed, backend)


@on_both
def test_a_thread_that_waits_for_the_loop_holds_nothing_up(backend: str) -> None:
    """Time passes in what a thread calls back; not while the thread itself works."""

    def call_back() -> float:
        ka.from_thread.run(ka.sleep, 3600)
        begun = ka.from_thread.run_sync(ka.current_time)
        time.sleep(0.02)
        assert ka.from_thread.run_sync(ka.current_time) == begun
        ka.from_thread.run(ka.sleep, 3600)
        return begun

    async def main(abandon: bool) -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(ka.sleep, 5000)
            with ka.fail_after(7201):
                assert await ka.offload(call_back, abandon_on_cancel=abandon) == 3600
        assert ka.current_time() == 7200

    for abandon in (False, True):
        run_virtual(main, abandon, backend=backend)


@on_both
def test_waiting_for_a_token_is_not_being_out(backend: str) -> None:
    """The task that holds it may wait for time."""

    async def main() -> float:
        limiter = anyio.CapacityLimiter(1)

        async def hold() -> None:
            async with limiter:
                await ka.sleep(60)

        async with ka.TaskGroup() as group:
            group.start_soon(hold)
            await ka.checkpoint()
            await ka.checkpoint()
            await ka.offload(int, limiter=limiter)
        return ka.current_time()

    assert run_virtual(main, backend=backend) == 60


@on_both
def test_an_abandoned_thread_is_out_until_it_ends(backend: str) -> None:
    """Its token, and what it does, may still matter to others."""
    free = threading.Event()

    async def main() -> None:
        begun = ka.current_time()
        with ka.CancelScope() as scope:
            async with ka.TaskGroup() as group:
                group.start_soon(stuck)
                while not started.is_set():
                    await ka.checkpoint()
                scope.cancel()
        threading.Timer(0.05, free.set).start()
        await ka.sleep(1)
        assert free.is_set()
        assert ka.current_time() - begun == 1

    started = threading.Event()

    async def stuck() -> None:
        await anyio.to_thread.run_sync(wait, abandon_on_cancel=True)

    def wait() -> None:
        started.set()
        free.wait(30)

    run_virtual(main, backend=backend)


def test_calls_in_executors_of_the_loop() -> None:
    """asyncio.to_thread() and run_in_executor(), a default of one's own too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ka.fail_after(0.001):
            await asyncio.to_thread(time.sleep, 0.02)
        with ThreadPoolExecutor(1) as pool, ka.fail_after(0.001):
            await loop.run_in_executor(pool, time.sleep, 0.02)
        loop.set_default_executor(ThreadPoolExecutor(1))
        with ka.fail_after(0.001):
            await loop.run_in_executor(None, time.sleep, 0.02)
        assert loop.time() == 0
        await ka.sleep(0.5)
        assert loop.time() == 0.5

    run_virtual(main, backend="asyncio")


@on_both
def test_a_socket_has_its_grace(backend: str) -> None:
    """A peer outside of the program may take so long in real time, and no longer."""

    async def main(late: float) -> bool:
        ours, theirs = await _pair()
        with ours, theirs:
            timer = threading.Timer(late, theirs.send, [b"1"])
            timer.start()
            with ka.move_on_after(60) as scope:
                await anyio.wait_readable(ours)
            timer.join()
        return not scope.cancelled_caught

    assert run_virtual(main, 0.01, backend=backend, grace=2.0)
    assert not run_virtual(main, 0.3, backend=backend, grace=0.01)


async def _pair() -> Any:
    import socket

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


@on_both
def test_a_deadlock_is_named_with_the_task_tree(backend: str) -> None:
    """Within a second; cleanup runs as after any cancellation."""
    cleaned: list[str] = []

    async def waits_in_vain() -> None:
        try:
            await ka.Event().wait()
        finally:
            cleaned.append("up")

    async def main() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(waits_in_vain)

    begun = time.perf_counter()
    with pytest.raises(Deadlock) as caught:
        run_virtual(main, backend=backend)
    assert time.perf_counter() - begun < 1
    text = str(caught.value)
    assert text.startswith(
        "deadlock: every task waits, and nothing is left that could wake one: no timer, no "
        f"call in a thread or process, no socket.\n{backend} · 2 tasks"
    )
    assert "waits_in_vain · waiting · test_clock.py:" in text
    assert cleaned == ["up"]


@on_both
def test_a_deadlock_behind_a_shield(backend: str) -> None:
    """It ends all the same."""

    async def main() -> None:
        with ka.CancelScope(shield=True):
            await ka.sleep_forever()

    with pytest.raises(Deadlock):
        run_virtual(main, backend=backend)


@on_both
def test_a_deadlock_in_a_scope_that_is_cancelled(backend: str) -> None:
    """The cancellation of the program's own does not hide it."""

    async def main() -> None:
        with ka.move_on_after(1):
            try:
                await ka.sleep_forever()
            finally:
                with ka.CancelScope(shield=True):
                    await ka.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(main, backend=backend)


@pytest.mark.parametrize("backend", chosen(("trio",)))
def test_a_deadlock_behind_a_shield_of_trios_own(backend: str) -> None:
    """Which anyio knows nothing of."""

    async def main() -> None:
        with trio.CancelScope(shield=True):
            await trio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(main, backend=backend)


@on_both
def test_what_is_due_at_once_comes_in_one_order(backend: str) -> None:
    """In that of the loop, and the same in each run: no test fails now and then for it."""

    async def main() -> list[int]:
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            await ka.sleep(1)
            woken.append(number)

        async with ka.TaskGroup() as group:
            for number in range(6):
                group.start_soon(sleeper, number)
        return woken

    kept: list[list[object]] = []  # what is made after them has other addresses
    orders: set[tuple[int, ...]] = set()
    for _ in range(10):
        orders.add((*run_virtual(main, backend=backend),))
        kept.append([object() for _ in range(1000)])
    assert len(orders) == 1
    if backend == "asyncio":
        assert orders == {(0, 1, 2, 3, 4, 5)}


@on_both
def test_a_program_that_polls_has_real_time_after_a_while(
    backend: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would never end: the clock stands still while a task can run."""
    monkeypatch.setattr("kingdom_async.testing.clocks.idle._LONG", 0.1)

    async def main() -> None:
        async with ka.TaskGroup() as group:
            done = group.start_soon(ka.sleep, 0.05)
            with ka.fail_after(3600):  # which is as far off as it is in reality
                while done.status is not ka.TaskHandle.Status.FINISHED:
                    await ka.checkpoint()

    with caplog.at_level(logging.WARNING, "kingdom_async.testing"):
        run_virtual(main, backend=backend)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == (
        "virtual time stands still for 0.1 s of real time: its tasks never wait; from here on "
        "it is as fast as real time"
    )


@on_both
def test_it_stands_still_for_a_program_that_is_run_to_its_end(backend: str) -> None:
    """As for a call in one of anyio's processes."""

    async def main() -> float:
        with ka.fail_after(5):
            await anyio.run_process([sys.executable, "-c", "import time; time.sleep(0.1)"])
        return ka.current_time()

    assert run_virtual(main, backend=backend) == 0


@on_both
def test_a_child_that_is_waited_for_is_no_deadlock(backend: str) -> None:
    """Also where no pipe leads to it; before Python 3.12 asyncio has a thread that waits."""

    async def main() -> int:
        code = "import time; time.sleep(0.6)"  # longer than it takes to call it a deadlock
        none = {"stdin": None, "stdout": None, "stderr": None}
        async with await anyio.open_process([sys.executable, "-c", code], **none) as process:
            return await process.wait()

    assert run_virtual(main, backend=backend) == 0


@on_both
def test_a_thread_may_wake_the_program(backend: str) -> None:
    """What comes from outside within half a second is no deadlock; so with signals."""

    async def main() -> None:
        event, token = ka.Event(), anyio.lowlevel.current_token()
        wake = (token.backend_class.run_sync_soon, (event.set, (), token.native_token))
        threading.Timer(0.05, *wake).start()
        await event.wait()
        if threading.current_thread() is threading.main_thread():
            with ka.open_signal_receiver(signal.SIGUSR1) as signals:
                threading.Timer(0.05, signal.raise_signal, [signal.SIGUSR1]).start()
                async for _ in signals:
                    break

    run_virtual(main, backend=backend)


@on_both
def test_standing_still_for_long_is_logged(
    backend: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with what is waited for."""
    monkeypatch.setattr("kingdom_async.testing.clocks.idle._LONG", 0.02)
    with caplog.at_level(logging.WARNING, "kingdom_async.testing"):
        run_virtual(ka.offload, time.sleep, 0.2, backend=backend)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == (
        "virtual time stands still for 0.02 s of real time: the program waits for a call in a "
        "thread, process or executor"
    )


def test_what_it_refuses() -> None:
    """Each with what to write instead."""

    async def main() -> None: ...

    coro = main()
    with pytest.raises(TypeError, match=r"pass main, not main\(\)"):
        run_virtual(coro)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"not 5; write run_virtual\(main\)"):
        run_virtual(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="returned 0; define it with async def"):
        run_virtual(int, backend="asyncio")  # type: ignore[type-var]
    with pytest.raises(ValueError, match="grace must be 0 or more seconds, not -1"):
        run_virtual(main, grace=-1)
    with pytest.raises(ValueError, match="has no virtual time: uvloop waits inside libuv"):
        run_virtual(main, backend="asyncio+uvloop")


async def test_not_inside_of_a_loop() -> None:
    """There is a fixture for that."""

    async def main() -> None: ...

    with pytest.raises(RuntimeError, match=r"run_virtual\(.*main\) inside a running .* loop"):
        run_virtual(main)


@on_both
def test_errors_come_through(backend: str) -> None:
    """As from run(): of the program, and a KeyboardInterrupt."""

    async def fail(error: BaseException) -> None:
        await ka.sleep(1)
        raise error

    for error in (LookupError("x"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            run_virtual(fail, error, backend=backend)


def test_a_private_name_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feature is off, and says which name."""
    monkeypatch.setattr(features, "_found", {})
    monkeypatch.delattr("anyio._backends._asyncio._threadpool_idle_workers")
    with pytest.raises(
        FeatureOff,
        match=r"virtual time on asyncio is off: .*\._threadpool_idle_workers is not there any ",
    ):
        run_virtual(ka.checkpoint, backend="asyncio")
    run_virtual(ka.checkpoint, backend="trio")


@on_both
def test_threads_of_other_runs_are_their_own(backend: str) -> None:
    """A second program on virtual time, in a thread of the first, holds only itself up."""

    async def inner() -> float:
        await ka.sleep(86400)
        return ka.current_time()

    async def main() -> None:
        assert await ka.offload(run_virtual, inner) == 86400
        assert ka.current_time() == 0

    if sys.version_info < (3, 12):
        pytest.skip("child watchers of older Pythons want the main thread")
    run_virtual(main, backend=backend)
