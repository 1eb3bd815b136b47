"""Made-up programs for the virtual clock: timers in any order, and work outside of the loop.

`test_clock.py` runs some of them. For the figures of the documentation run all of them:
``python tests/testing/clock_runs.py 1000``.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio

import kingdom_async as ka
from kingdom_async.testing import run_virtual

BACKENDS = ("asyncio", "trio")

Log = list[tuple[float, str]]
Work = Callable[[random.Random], Awaitable[None]]


def timers(seed: int, backend: str) -> Log:
    """What a made-up program of timers does when, by virtual time."""
    log: Log = []
    run_virtual(_timers, random.Random(seed), log, backend=backend)
    return log


async def _timers(rng: random.Random, log: Log) -> None:
    async with ka.TaskGroup() as group:
        for number in range(rng.randint(2, 5)):
            # each with numbers of its own, so that it does not matter who runs first
            group.start_soon(_timer, f"task {number}", random.Random(rng.random()), log, 0)


async def _timer(name: str, rng: random.Random, log: Log, depth: int) -> None:
    for number in range(rng.randint(1, 4)):
        what = f"{name}.{number}"
        seconds = rng.choice((rng.random(), rng.uniform(1, 60), rng.uniform(3600, 1e6)))
        kind = rng.randrange(5)
        if kind == 0:
            await ka.sleep(seconds)
        elif kind == 1:
            await ka.sleep_until(ka.current_time() + seconds)
        elif kind == 2:
            with ka.move_on_after(seconds):
                await ka.sleep(rng.choice((0.5, 2)) * seconds)
        elif kind == 3:
            try:
                with ka.fail_after(seconds):
                    await ka.sleep_forever()
            except ka.DeadlineExceeded:
                what += " too late"
        elif depth < 2:
            with ka.move_on_after(seconds):
                async with ka.TaskGroup() as group:
                    for inner in "ab":
                        child = random.Random(rng.random())
                        group.start_soon(_timer, f"{what}{inner}", child, log, depth + 1)
        log.append((ka.current_time(), what))


async def a_day() -> int:
    """One virtual day of mixed timers; how many of them came."""
    passed = 0

    async def every(seconds: float) -> None:
        nonlocal passed
        while True:
            with ka.move_on_after(seconds * 2):
                await ka.sleep(seconds)
            passed += 1

    async with ka.TaskGroup() as group:
        for seconds in (60, 300, 900, 3600, 1234.5):
            group.start_soon(every, seconds)
        await ka.sleep(86400 + 1)
        group.cancel_scope.cancel()
    return passed


#: Virtual seconds: a wrong jump is one that makes any of these deadlines pass.
SOON = 0.001


def outside(seed: int, backend: str) -> None:
    """Work outside of the loop, each under a deadline that no virtual time may reach."""
    run_virtual(_outside, random.Random(seed), backend=backend)


async def _outside(rng: random.Random) -> None:
    kinds: list[Work] = [
        _thread,
        _thread_that_calls_back,
        _executor,
        _socket,
    ]
    if rng.random() < 0.1:  # they take long
        kinds = [_process, _thread]
    async with ka.TaskGroup() as group:
        for _ in range(rng.randint(1, 3)):
            group.start_soon(_in_no_time, rng.choice(kinds), random.Random(rng.random()))


async def _in_no_time(work: Work, rng: random.Random) -> None:
    begun = ka.current_time()
    with ka.fail_after(SOON):
        await work(rng)
    assert ka.current_time() == begun
    await ka.sleep(0)


def _busy(seconds: float) -> None:
    time.sleep(seconds)  # real time, in a thread


async def _thread(rng: random.Random) -> None:
    await ka.offload(_busy, rng.random() / 200, abandon_on_cancel=rng.random() < 0.5)


async def _thread_that_calls_back(rng: random.Random) -> None:
    work = [rng.random() / 400 for _ in range(2)]

    def call_back() -> None:
        _busy(work[0])
        ka.from_thread.run(ka.checkpoint)
        ka.from_thread.run_sync(ka.current_time)
        ka.from_thread.run(partial(ka.offload, _busy, work[1]))
        _busy(work[1])

    await ka.offload(call_back, abandon_on_cancel=rng.random() < 0.5)


async def _executor(rng: random.Random) -> None:
    with ThreadPoolExecutor(1) as executor:
        await ka.offload(_busy, rng.random() / 200, to=executor)


async def _process(rng: random.Random) -> None:
    assert await ka.offload(sum, [rng.randrange(9)] * 2, to="process") % 2 == 0


async def _socket(rng: random.Random) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (port,) = {each.extra(anyio.abc.SocketAttribute.local_port) for each in listener.listeners}

    async def answer(client: anyio.abc.SocketStream) -> None:
        async with client:
            for _ in range(3):
                await client.send(await client.receive())

    async with listener, ka.TaskGroup() as group:
        group.start_soon(listener.serve, answer)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for number in range(3):
                await stream.send(bytes([number]))
                assert await stream.receive() == bytes([number])
        group.cancel_scope.cancel()


def in_order(log: Log) -> Log:
    """*log* with what happens at the same moment in one order."""
    return sorted(log)


def _days(backend: str) -> str:
    """How long it takes, of ten, in processor time."""
    took: list[float] = []
    for _ in range(10):
        begun = time.process_time()
        run_virtual(a_day, backend=backend)
        took.append((time.process_time() - begun) * 1000)
    return f"a day of mixed timers on {backend}: {min(took):.0f} ms to {max(took):.0f} ms"


def main(count: int) -> None:
    for backend in BACKENDS:
        print(_days(backend))
    begun = time.perf_counter()
    for seed in range(count):
        logs = [timers(seed, backend) for backend in BACKENDS]
        assert [log for log in logs if log != in_order(log) and _ties(log) == 0] == []
        assert in_order(logs[0]) == in_order(logs[1]), f"timers, seed {seed}"
    took = time.perf_counter() - begun
    print(f"{count} programs of timers: same events at the same times; {took:.1f} s")
    for backend in BACKENDS:
        begun = time.perf_counter()
        for seed in range(count):
            outside(seed, backend)
        print(f"{count} runs on {backend}: no wrong jump; {time.perf_counter() - begun:.1f} s")


def _ties(log: Log) -> int:
    return len(log) - len({at for at, _ in log})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
