"""What does a program pay for being traced, and what for other tracers?

Each round runs the same program on every side, with a tracer around it; the tracer is
switched on before and off after, and that is paid for too: 0.2 ms, so a program is to run for
a tenth of a second or more. What tracers have to say is said to nobody, since writing to a
terminal would be measured otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any, TypeAlias

import sniffio

import kingdom_async as ka
from kingdom_async import trace

from ..comparison import ASYNCIO, EVERY, TRIO, Comparison, Goal, Run, Side

logging.getLogger("kingdom_async.trace").setLevel(logging.CRITICAL)

_AT_ONCE = 1000

Tracer: TypeAlias = Callable[[], AbstractContextManager[object]]


# --- the programs ---------------------------------------------------------------------


async def spawning(times: int) -> int:
    """Groups that start a thousand tasks each, which end at once.

    Not one group: the garbage collector would pass over all tasks once or twice, and whether
    it does so once more is decided by a handful of objects.
    """

    async def work() -> None:
        pass

    for started in range(0, times, _AT_ONCE):
        async with ka.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, times - started)):
                group.start_soon(work)
    return times


async def switching(times: int) -> int:
    """Two tasks that give way to each other, with the loop's own checkpoint."""
    checkpoint: Callable[[], Awaitable[object]]
    if sniffio.current_async_library() == "trio":
        import trio

        checkpoint = trio.lowlevel.checkpoint
    else:

        def checkpoint() -> Awaitable[None]:
            return asyncio.sleep(0)

    async def work() -> None:
        for _ in range(times // 2):
            await checkpoint()

    async with ka.TaskGroup() as group:
        group.start_soon(work)
        group.start_soon(work)
    return times


async def streaming(times: int) -> int:
    """A producer and a consumer with a queue between them."""
    queue: ka.Queue[int] = ka.Queue(100)
    taken = 0

    async def produce() -> None:
        with queue.producing():
            for item in range(times):
                await queue.put(item)

    async with ka.TaskGroup() as group:
        group.start_soon(produce)
        async for _ in queue:
            taken += 1
    return taken


# --- the tracers ----------------------------------------------------------------------


def life() -> AbstractContextManager[object]:
    return trace.recording("life")


def steps() -> AbstractContextManager[object]:
    return trace.recording("steps")


@contextmanager
def off_again() -> Iterator[None]:
    """Tracing was on once, and is off."""
    trace.start("steps")
    trace.stop()
    yield


def watchdog() -> AbstractContextManager[object]:
    return trace.watchdog(0.5)


@contextmanager
def asyncio_debug() -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 1e9  # it would log each that is slow
    try:
        yield
    finally:
        loop.set_debug(False)


@contextmanager
def five_hooks() -> Iterator[None]:
    """A tracer as trio's documentation shows them: a method for each event, a list."""
    import trio

    events: list[tuple[str, float, str]] = []

    class Tracer(trio.abc.Instrument):
        def task_spawned(self, task: Any) -> None:
            events.append(("spawned", perf_counter(), task.name))

        def task_scheduled(self, task: Any) -> None:
            events.append(("scheduled", perf_counter(), task.name))

        def before_task_step(self, task: Any) -> None:
            events.append(("step", perf_counter(), task.name))

        def after_task_step(self, task: Any) -> None:
            events.append(("stepped", perf_counter(), task.name))

        def task_exited(self, task: Any) -> None:
            events.append(("exited", perf_counter(), task.name))

    tracer = Tracer()
    trio.lowlevel.add_instrument(tracer)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(tracer)


@contextmanager
def viztraced() -> Iterator[None]:
    import viztracer

    tracer = viztracer.VizTracer(log_async=True, verbose=0)
    tracer.start()
    try:
        yield
    finally:
        tracer.stop()
        tracer.clear()


def aiomonitored() -> AbstractContextManager[object]:
    import aiomonitor

    return aiomonitor.start_monitor(
        asyncio.get_running_loop(),
        hook_task_factory=True,
        port=0,
        webui_port=0,
        console_enabled=False,
    )


#: Their name, what switches them on, the loops they know, and what has to be installed.
PEERS: tuple[tuple[str, Tracer, Mapping[str, str], str | None], ...] = (
    ("asyncio's debug mode", asyncio_debug, ASYNCIO, None),
    ("a tracer with five hooks", five_hooks, TRIO, None),
    ("viztracer", viztraced, EVERY, "viztracer"),
    # Its task factory does not take what uvloop passes.
    ("aiomonitor", aiomonitored, {"asyncio": "asyncio"}, "aiomonitor"),
)


# --- the comparisons ------------------------------------------------------------------


def traced(program: Run, tracer: Tracer) -> Run:
    async def run(times: int) -> object:
        with tracer():
            return await program(times)

    return run


def comparison(name: str, program: Run, tracer: Tracer, goal: Goal, times: int) -> Comparison:
    return Comparison(
        name,
        Side("ours", traced(program, tracer)),
        (Side("untraced", traced(program, nullcontext), goal),),
        times=times,
        outcome=lambda times: times // 2 * 2,
    )


def beside_others(name: str, program: Run, tracer: Tracer) -> Comparison:
    others = (
        Side(peer, traced(program, peers), loops=loops, needs=needs)
        for peer, peers, loops, needs in PEERS
    )
    return Comparison(
        name,
        Side("ours", traced(program, tracer)),
        tuple(others),
        times=4_000,
        outcome=lambda times: times // 2 * 2,
    )


COMPARISONS = (
    comparison("trace off again, switching", switching, off_again, 1.02, 240_000),
    comparison("trace life, spawning", spawning, life, 1.15, 10_000),
    comparison("trace life, switching", switching, life, 1.05, 240_000),
    comparison("trace life, a stream", streaming, life, 1.03, 300_000),
    comparison(
        "trace steps, switching",
        switching,
        steps,
        {"asyncio": 1.22, "asyncio+uvloop": 1.40, "trio": 1.28},
        240_000,
    ),
    comparison("trace steps, a stream", streaming, steps, None, 300_000),
    comparison("watchdog, switching", switching, watchdog, 1.03, 240_000),
    comparison("watchdog, a stream", streaming, watchdog, 1.03, 300_000),
    beside_others("trace life, other tracers", spawning, life),
    beside_others("trace steps, other tracers", switching, steps),
)
