"""The private names that `no_leaks` needs: what is open, who borrows, which thread waits for work.

Rule: as `_internals`, of which this is a part: used nowhere else, and checked when first used.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import cache
from types import CodeType
from typing import Any

from anyio import create_memory_object_stream

from ._internals import _check, _wanted, need

NO_LEAKS = "no_leaks"


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
        warn(coroutine if has_origins else _Anonymous(coroutine.__qualname__, None))

    warnings._warn_unawaited_coroutine = warn_and_tell  # type: ignore[attr-defined]

    def stop() -> None:
        if warnings._warn_unawaited_coroutine is warn_and_tell:  # type: ignore[attr-defined]
            warnings._warn_unawaited_coroutine = warn  # type: ignore[attr-defined]

    return stop


class _Anonymous:
    """A coroutine, as far as the warning about it goes."""

    def __init__(self, name: str, origin: None) -> None:
        self.__qualname__ = name
        self.cr_origin = origin


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
    for one in gc.get_referrers(pool):
        if isinstance(one, asyncio.AbstractEventLoop):
            return True
        if isinstance(one, dict) and one.get("_default_executor") is pool:
            return True  # the attributes of a loop, before Python 3.11
    return False


def limiter_classes() -> list[Any]:
    """Those whose methods every borrowing of a token goes through, of what is imported."""
    from anyio._backends import _asyncio

    found: list[Any] = [_asyncio.CapacityLimiter]
    if "trio" in sys.modules:
        import trio

        found.append(trio.CapacityLimiter)
    return found


def native_limiter(limiter: Any) -> object:
    """What counts the tokens of a limiter of anyio's: on trio that is trio's own."""
    return getattr(limiter, "_CapacityLimiter__original", limiter)


def idle_codes() -> set[CodeType]:
    """The functions that worker threads of pools are in while they wait for work."""
    return _idle_codes("trio" in sys.modules)


@cache
def _idle_codes(has_trio: bool) -> set[CodeType]:
    from concurrent.futures import process, thread
    from multiprocessing import queues

    from anyio._backends import _asyncio

    found: list[Any] = [
        thread._worker,  # type: ignore[attr-defined]
        process._ExecutorManagerThread.run,  # type: ignore[attr-defined]
        process._ExecutorManagerThread.wait_result_broken_or_wakeup,  # type: ignore[attr-defined]
        queues.Queue._feed,  # type: ignore[attr-defined]
        _asyncio.WorkerThread.run,
    ]
    if has_trio:
        from trio._core import _thread_cache

        found.append(_thread_cache.WorkerThread._work)
    return {function.__code__ for function in found}


@_check(NO_LEAKS)
def _check_no_leaks() -> None:
    _wanted(warnings, "_warn_unawaited_coroutine", "_showwarnmsg_impl")
    with ThreadPoolExecutor(1) as pool:
        _wanted(pool, "_threads", "_shutdown")
    _wanted(ProcessPoolExecutor, "shutdown")
    with closing(create_memory_object_stream[int](1)[0]) as stream:
        _wanted(stream, "_closed", "__post_init__", "__del__")
    idle_codes()
    for limiter in limiter_classes():
        _wanted(
            limiter,
            "acquire_on_behalf_of_nowait",
            "acquire_on_behalf_of",
            "release_on_behalf_of",
        )


def check() -> None:
    """Make sure that all of these are there.

    Raises:
        FeatureOff: If one is gone.
    """
    need(NO_LEAKS)
