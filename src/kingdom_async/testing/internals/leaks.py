"""The private names that `no_leaks` needs: what is open, who borrows, which thread is idle.

Rule: as in `features`: used nowhere else, and checked when first used.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, process
from concurrent.futures import thread as pool_thread
from multiprocessing import queues
from types import FrameType
from typing import Any

import anyio
from anyio import create_memory_object_stream

from .features import Gone, checks, need, wanted

NO_LEAKS = "no_leaks"

#: Said by Python and uvloop of what the backends themselves leave open for a moment where a
#: child process is cancelled in its start or its end. No program can close that.
PROCESSES = re.compile(
    r"^subprocess \d+ is still running|^loop is closed|^unclosed \S+ <_io\.\w+ name=\d+ |"
    r"_Unix(ReadPipe|WritePipe|Subprocess)Transport|UVProcessTransport|(Read|Write)UnixTransport"
)
#: How what `cancel_everywhere` finds is told where it is no leak: a cancelled producer has put
#: what it has put, and worker processes have a task that stays until the end of the run.
STAYS = (
    "queue ",
    "task 'AnyIO process pool shutdown task'",
    "task 'anyio._backends._trio._shutdown_process_pool'",
)


def watch_unawaited(see: Callable[[Any], None]) -> Callable[[], None]:
    """Have *see* called with each coroutine of which Python warns that nobody awaited it.

    The warning stays as it would be without: it does not say where the coroutine was made.

    Returns:
        What stops it.
    """
    warn: Callable[[Any], None] = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]
    has_origins = sys.get_coroutine_origin_tracking_depth() > 0

    def warn_and_tell(coroutine: Any) -> None:
        see(coroutine)
        if has_origins:
            warn(coroutine)
            return
        text = f"coroutine {coroutine.__qualname__!r} was never awaited"
        warnings.warn(text, RuntimeWarning, stacklevel=2, source=coroutine)

    warnings._warn_unawaited_coroutine = warn_and_tell  # type: ignore[attr-defined]

    def stop() -> None:
        if warnings._warn_unawaited_coroutine is warn_and_tell:  # type: ignore[attr-defined]
            warnings._warn_unawaited_coroutine = warn  # type: ignore[attr-defined]

    return stop


def who_records_warnings() -> object:
    """What the warnings go to; another one where a test looks for them itself."""
    return warnings._showwarnmsg_impl  # type: ignore[attr-defined]


def is_expected(coroutine: Any, recorder: object) -> bool:
    """True if a test looks itself for the warning about *coroutine*, or has it ignored."""
    if who_records_warnings() is not recorder:
        return True
    text = f"coroutine '{coroutine.__qualname__}' was never awaited"
    for action, message, category, _, _ in warnings.filters:
        if issubclass(RuntimeWarning, category) and (message is None or message.match(text)):
            return action == "ignore"
    return False


def is_open(what: Any) -> bool:
    """True for a stream of anyio's, or one of ours, that was not closed; a queue as well."""
    return not what._closed


def channel_classes() -> list[Any]:
    """The ends of trio's memory channels, if trio is imported."""
    if "trio" not in sys.modules:
        return []
    import trio

    return [trio.MemorySendChannel, trio.MemoryReceiveChannel]


def is_channel(what: object) -> bool:
    return isinstance(what, (*channel_classes(),))


def channel_name(what: Any) -> str:
    return f"memory {'send' if hasattr(what, 'send') else 'receive'} channel"


def has_other_end(what: Any) -> Callable[[], bool]:
    """Says whether the other end of a channel is open, also when *what* is gone."""
    state = what._state
    counted = "open_receive_channels" if hasattr(what, "send") else "open_send_channels"
    return lambda: getattr(state, counted) > 0


def queue_of(view: Any) -> Any:
    """The queue behind a stream of ours."""
    return view._queue


def has_items(queue: Any) -> bool:
    return bool(getattr(queue, "_items", None))


def has_threads(pool: Any) -> bool:
    """True for a pool of ``concurrent.futures`` that has started some and was not shut down."""
    if isinstance(pool, ThreadPoolExecutor):
        return bool(pool._threads) and not pool._shutdown
    return bool(pool._processes) and not pool._shutdown_thread


def is_pool_of_loop(pool: object) -> bool:
    """True for the pool that an event loop has for itself."""
    referrers: list[Any] = gc.get_referrers(pool)
    for one in referrers:
        if isinstance(one, asyncio.AbstractEventLoop):
            return True
        if type(one) is dict and "_default_executor" in one:
            return True  # the attributes of a loop, before Python 3.11
    return False


def process_handles() -> list[Any]:
    """anyio's classes of processes, of what is imported."""
    from anyio._backends import _asyncio

    found: list[Any] = [_asyncio.Process]
    if "trio" in sys.modules:
        from anyio._backends import _trio

        found.append(_trio.Process)
    return found


def limiter_classes() -> list[Any]:
    """Those whose methods every borrowing of a token goes through, of what is imported."""
    from anyio._backends import _asyncio

    found: list[Any] = [_asyncio.CapacityLimiter]
    if "trio" in sys.modules:
        import trio

        found.append(trio.CapacityLimiter)
    return found


def is_service(task: Any) -> bool:
    """True for a task that the loop has for itself, for the whole run."""
    if hasattr(task, "get_coro"):  # asyncio
        from anyio._backends import _asyncio

        coro: Any = task.get_coro()
        ends_worker_processes = _asyncio._shutdown_process_pool_on_exit.__code__
        return getattr(coro, "cr_code", None) is ends_worker_processes
    nursery: Any = getattr(task, "parent_nursery", None)  # trio: a child of its first task
    return nursery is not None and nursery.parent_task.parent_nursery is None


def native_limiter(limiter: Any) -> object:
    """What counts the tokens of a limiter of anyio's: on trio that is trio's own."""
    return getattr(limiter, "_CapacityLimiter__original", limiter)


def is_idle(thread: threading.Thread, stack: list[FrameType]) -> bool:
    """True for the thread of a pool that stays alive while it waits for work, as it does now.

    Args:
        thread: Of any kind.
        stack: Its frames.
    """
    from anyio._backends import _asyncio

    if isinstance(thread, _asyncio.WorkerThread):
        return thread.stopping or thread in thread.idle_workers
    if type(thread).__name__ == "_ExecutorManagerThread":  # loky has one of its own
        return True
    for frame in stack:
        name = frame.f_code.co_name
        if name == "_worker" and _runs_pool(frame):  # of concurrent.futures, or of distributed
            return frame.f_locals.get("work_item") is frame.f_locals.get("task") is None
        if name == "_feed" and frame.f_code.co_filename.endswith("queues.py"):
            return True  # it serves a pool of processes
        if name == "_work":
            return thread in _idle_on_trio()
    return False


def child_waited_for(stack: list[FrameType]) -> int | None:
    """The number of the process that a thread of asyncio's waits for, before Python 3.12."""
    for frame in stack:
        if frame.f_code.co_name == "_do_waitpid":
            pid: int | None = frame.f_locals.get("expected_pid")
            return pid
    return None


def _runs_pool(frame: FrameType) -> bool:
    return "work_queue" in frame.f_code.co_varnames


def idle_workers() -> set[threading.Thread]:
    """The worker threads of anyio and trio that this loop may yet give something to do."""
    from anyio._backends import _asyncio

    try:
        idle: set[threading.Thread] = {*_asyncio._threadpool_idle_workers.get()}
    except (LookupError, anyio.NoEventLoopError):
        idle = set()
    return idle | _idle_on_trio()


def _idle_on_trio() -> set[threading.Thread]:
    if "trio" not in sys.modules:
        return set()
    from trio._core._thread_cache import THREAD_CACHE

    return {worker._thread for worker in [*THREAD_CACHE._idle_workers]}


@checks(NO_LEAKS)
def _check_names() -> None:
    wanted(warnings, "_warn_unawaited_coroutine", "_showwarnmsg_impl")
    with ThreadPoolExecutor(1) as pool:
        wanted(pool, "_threads", "_shutdown")
    wanted(ProcessPoolExecutor, "shutdown")
    send, receive = create_memory_object_stream[int](1)
    with send, receive:
        for stream in (send, receive):
            wanted(stream, "_closed", "__post_init__", "__del__")
    _check_channels()
    _check_pools()
    for handle in process_handles():
        wanted(handle, "aclose", "pid")
    for limiter in limiter_classes():
        wanted(
            limiter,
            "acquire_on_behalf_of_nowait",
            "acquire_on_behalf_of",
            "release_on_behalf_of",
        )


def _check_channels() -> None:
    for channel in channel_classes():
        wanted(channel, "__attrs_post_init__")
    if "trio" in sys.modules:
        import trio

        send, receive = trio.open_memory_channel[int](1)
        for end in (send, receive):
            wanted(end, "_closed", "_state")
        wanted(send._state, "open_send_channels", "open_receive_channels")


def _check_pools() -> None:
    from anyio._backends import _asyncio

    worker: Any = _asyncio.WorkerThread
    if not {"idle_workers", "stopping"} <= {*worker.__init__.__code__.co_names}:
        raise Gone("anyio's WorkerThread.idle_workers")
    if "work_item" not in pool_thread._worker.__code__.co_varnames:
        raise Gone("concurrent.futures.thread._worker's work_item")
    wanted(process, "_ExecutorManagerThread")
    wanted(queues.Queue, "_feed")
    wanted(_asyncio, "_threadpool_idle_workers", "_shutdown_process_pool_on_exit")
    if sys.platform != "win32":
        from asyncio import unix_events

        names = "_UnixReadPipeTransport", "_UnixWritePipeTransport", "_UnixSubprocessTransport"
        wanted(unix_events, *names)
    if "trio" in sys.modules:
        from trio._core import _thread_cache

        wanted(_thread_cache.THREAD_CACHE, "_idle_workers")
        wanted(_thread_cache.WorkerThread, "_thread")
        from anyio._backends import _trio

        wanted(_trio, "_shutdown_process_pool")


def check_leaks() -> None:
    """Make sure that all of these are there.

    Raises:
        FeatureOff: If one is gone.
    """
    need(NO_LEAKS)
