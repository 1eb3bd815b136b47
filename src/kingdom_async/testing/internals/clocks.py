"""The private names that virtual time needs: of loops, timers and threads.

Rule: as in `features`: used nowhere else, and checked when first used.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import CodeType
from typing import TYPE_CHECKING, Any

from anyio import lowlevel

from .features import Gone, checks, wanted

if TYPE_CHECKING:
    import trio
    from trio.testing import MockClock

# --- the virtual clock on asyncio ------------------------------------------------------

ASYNCIO_CLOCK = "virtual time on asyncio"


def next_timer(loop: asyncio.AbstractEventLoop) -> float:
    """When the next timer of *loop* is due, by its clock; ``inf`` if none ever is."""
    held: Any = loop
    timers: list[asyncio.TimerHandle] = held._scheduled
    return timers[0].when() if timers else math.inf


def set_resolution(loop: asyncio.AbstractEventLoop, now: float) -> None:
    """Timers of the moment *now* count as due; ``now + resolution`` must be more than it."""
    loop._clock_resolution = max(1e-6, 4 * math.ulp(now))  # type: ignore[attr-defined]


def asyncio_threads_at_work(loop: asyncio.AbstractEventLoop) -> int:
    """The worker threads of anyio's that have not given back their result to *loop*."""
    from anyio._backends import _asyncio

    kept: dict[Any, Any] = lowlevel._run_vars.get(loop) or {}
    workers = kept.get(_asyncio._threadpool_workers)
    return len(workers) - len(kept[_asyncio._threadpool_idle_workers]) if workers else 0


def asyncio_threads_that_wait(tasks: set[asyncio.Task[Any]]) -> int:
    """How many worker threads wait for one of *tasks*, which they sent here themselves."""
    wrapper = _call_back_code()
    waiting = 0
    for task in tasks:
        coro: Any = task.get_coro()
        if getattr(coro, "cr_code", None) is wrapper and not task.done():
            frame = coro.cr_frame
            # None in threads that are not workers, and so not counted
            waiting += frame is not None and frame.f_locals.get("scope") is not None
    return waiting


def idle_worker_processes(loop: object) -> list[Any]:
    """The worker processes of anyio's that have nothing to do."""
    from anyio import to_process

    kept: dict[Any, Any] = lowlevel._run_vars.get(loop) or {}
    return [process for process, _ in kept.get(to_process._process_pool_idle_workers, ())]


def quiet_files(loop: object, selector_map: Any) -> set[int]:
    """The files that asyncio listens to for worker processes that have nothing to do."""
    files: set[int] = set()
    processes = idle_worker_processes(loop)
    for process in processes:
        for number in (0, 1, 2):
            pipe = process._transport.get_pipe_transport(number)
            file = None if pipe is None else pipe.get_extra_info("pipe")
            if file is not None and not file.closed:
                files.add(file.fileno())
    files &= {*selector_map}
    pids = {process.pid for process in processes}
    for key in selector_map.values() if pids else ():
        try:
            args = key.data[0]._args
        except (AttributeError, TypeError):  # no handle to call, or not for reading
            continue
        if args and isinstance(args[0], int) and args[0] in pids:  # it waits for the exit
            files.add(key.fd)
    return files


def children_in_threads(loop: object) -> int:
    """The child processes that asyncio waits for in threads; it has no file for them."""
    if sys.version_info >= (3, 12) and hasattr(os, "pidfd_open"):
        return 0
    threads = sum("waitpid-" in thread.name for thread in threading.enumerate())
    return threads and threads - len(idle_worker_processes(loop))


def _call_back_code() -> CodeType:
    """The code in which asyncio runs what a thread gave to ``from_thread.run()``."""
    from anyio._backends import _asyncio

    outer = _asyncio.AsyncIOBackend.run_async_from_thread.__code__
    for constant in outer.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == "task_wrapper":
            return constant
    raise Gone("AsyncIOBackend.run_async_from_thread.task_wrapper")


@checks(ASYNCIO_CLOCK)
def _check_asyncio_clock() -> None:
    from anyio import to_process
    from anyio._backends import _asyncio

    loop = asyncio.SelectorEventLoop()
    try:
        wanted(loop, "_scheduled", "_clock_resolution")
        loop.call_later(3600, print)
        if next_timer(loop) == math.inf:
            raise Gone("BaseEventLoop._scheduled")
    finally:
        loop.close()
    wanted(lowlevel, "_run_vars")
    wanted(_asyncio, "_threadpool_workers", "_threadpool_idle_workers")
    wanted(to_process, "_process_pool_idle_workers")
    if "scope" not in _call_back_code().co_freevars:
        raise Gone("AsyncIOBackend.run_async_from_thread.task_wrapper's scope")


# --- the virtual clock on trio ---------------------------------------------------------

TRIO_CLOCK = "virtual time on trio"


def steer(
    clock: MockClock, *, before_wait: Callable[[float], float], when_idle: Callable[[], None]
) -> None:
    """Let two functions decide when *clock*, which cannot be subclassed, jumps.

    Args:
        clock: Not started yet.
        before_wait: Called with the next deadline whenever no task can run; returns for how
            many real seconds nothing may happen before *when_idle* is called.
        when_idle: Nothing has happened for that long.
    """

    def deadline_to_sleep_time(deadline: float) -> float:
        if deadline <= clock.current_time():
            return 0
        threshold = before_wait(deadline)
        if threshold != clock.autojump_threshold:
            clock.autojump_threshold = threshold
        return _LONG

    clock.deadline_to_sleep_time = deadline_to_sleep_time  # type: ignore[method-assign]
    clock._autojump = when_idle  # type: ignore[method-assign]


def set_time(clock: MockClock, now: float) -> None:
    """Set *clock* to exactly *now*, which a jump by a difference may miss by a rounding."""
    clock._virtual_base = now


def next_trio_deadline() -> float:
    """When the next timer of the run is due; ``inf`` if none ever is."""
    from trio._core._run import GLOBAL_RUN_CONTEXT

    deadline: float = GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
    return deadline


#: Longer than trio ever waits at once.
_LONG = 999999999


def count_trio_threads(
    started: Callable[[], None], ended: Callable[[], None]
) -> Callable[[], None]:
    """Have *started* and *ended* called in the loop of this thread for each thread call.

    *ended* is called after the result has reached its task, or would have, if the task that
    asked has left. Calls of other loops pass by.

    Returns:
        What stops it.
    """
    import trio
    from trio import _threads

    threads: Any = _threads
    start: Any = threads.start_thread_soon
    token = trio.lowlevel.current_trio_token()

    def start_and_count(
        fn: Callable[[], Any], deliver: Callable[[Any], object], name: str | None = None
    ) -> Any:
        try:
            is_ours = trio.lowlevel.current_trio_token() is token
        except RuntimeError:
            is_ours = False
        if not is_ours:
            return start(fn, deliver, name)

        def deliver_and_tell(result: Any) -> None:
            try:
                deliver(result)
            finally:
                _unless_finished(token, ended)

        start(fn, deliver_and_tell, name)
        return started()

    threads.start_thread_soon = start_and_count

    def stop() -> None:
        if threads.start_thread_soon is start_and_count:
            threads.start_thread_soon = start

    return stop


def _unless_finished(token: trio.lowlevel.TrioToken, func: Callable[[], None]) -> None:
    import trio

    with suppress(trio.RunFinishedError):
        token.run_sync_soon(func)


def trio_threads_that_wait(coro: object, context: Any, codes: list[CodeType]) -> int:
    """How many counted threads wait for a task, by the codes of its await stack."""
    from sniffio import current_async_library_cvar
    from trio import _threads

    run: Any = _threads.Run
    waiting = sum(code is run.run.__code__ for code in codes)
    # In a task of its own if the thread may be abandoned. Only trio's own threads have the
    # variable in their context; others are not counted.
    is_sent = getattr(coro, "cr_code", None) is run.run_system.__code__
    return waiting + (is_sent and current_async_library_cvar in context)


@checks(TRIO_CLOCK)
def _check_trio_clock() -> None:
    import trio
    from trio import _threads
    from trio._core import _run
    from trio.testing import MockClock

    wanted(MockClock, "_autojump", "deadline_to_sleep_time")
    wanted(MockClock(), "_virtual_base")
    wanted(_run, "GLOBAL_RUN_CONTEXT", "Deadlines")
    wanted(_run.Deadlines, "next_deadline")
    wanted(_threads, "start_thread_soon", "Run")
    wanted(_threads.Run, "run", "run_system")
    if "start_thread_soon" not in trio.to_thread.run_sync.__code__.co_names:
        wrapped: Any = getattr(trio.to_thread.run_sync, "__wrapped__", None)
        if wrapped is None or "start_thread_soon" not in wrapped.__code__.co_names:
            raise Gone("trio._threads.start_thread_soon")


# --- process calls, on both ------------------------------------------------------------


def is_process_call(stack: list[Any]) -> bool:
    """True if a task with that stack of frames waits for a call in one of anyio's processes.

    Or for a program that it runs to its end. One that was only started may be a server.
    """
    from anyio import open_process, run_process, to_process

    trio: Any = sys.modules.get("trio")
    to_the_end = {run_process.__code__, asyncio.subprocess.Process.communicate.__code__}
    if trio is not None:
        to_the_end.add(trio.run_process.__code__)
    for number, frame in enumerate(stack):
        if frame.f_code in to_the_end:
            return True
        if frame.f_code is to_process.run_sync.__code__:
            inner = stack[number + 1].f_code if number + 1 < len(stack) else None
            return "process" in frame.f_locals or inner is open_process.__code__
    return False
