"""Blocking functions in threads, in processes, or wherever an executor runs them.

Rule: a call holds its token until the function has really ended, whatever became of the task
that asked for it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures import CancelledError as FutureCancelled
from contextlib import suppress
from functools import partial
from pickle import PicklingError
from signal import Signals
from traceback import walk_tb
from typing import Any, Literal, TypeAlias, TypeVar, cast

from anyio import (
    BrokenResourceError,
    BrokenWorkerProcess,
    CancelScope,
    CapacityLimiter,
    ClosedResourceError,
    EndOfStream,
    Event,
    IncompleteRead,
    RunFinishedError,
    get_cancelled_exc_class,
    get_current_task,
    to_process,
    to_thread,
)
from anyio.abc import Process
from anyio.lowlevel import checkpoint_if_cancelled, current_token

from . import _observe
from ._arguments import is_async, name_of, refuse_async_generator, refuse_coroutine, shown
from ._errors import OffloadError
from ._failures import log_failure
from ._limits import Limiter
from ._outside import executor_calls
from ._pickled import call_pickled, pickle_call, unpickle_outcome
from ._scopes import cancelled_natively
from ._thread_calls import ThreadCall, holds_token, refuse_awaitable, stopped_iteration
from ._tokens import SeenLimiter

if sys.version_info >= (3, 11):
    from typing import TypeVarTuple, Unpack
else:
    from typing_extensions import TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")

_PICKLE_FAILED = re.compile(
    r"(?i)can('t|not) (un)?pickle|can't get (local object|attribute)"
    r"|pickl(e|ing) error|could not (de)?serialize"
)

#: How anyio hears that a worker process is gone.
_IT_ENDED = (IncompleteRead, EndOfStream, BrokenResourceError, ClosedResourceError)

#: What asyncio says of a process of which it hears too late; a race before Python 3.12.
_UNKNOWN = 255

Where: TypeAlias = Literal["thread", "process"] | Executor


async def offload(
    func: Callable[[Unpack[Args]], T],
    *args: Unpack[Args],
    to: Where = "thread",
    limiter: CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,
) -> T:
    """Run the blocking ``func(*args)`` elsewhere while the event loop goes on.

    Cancelling waits for the function, and a result that arrives late is returned; in a thread
    the function may ask ``check_cancelled()`` and stop early. An executor call that has not
    started is withdrawn. A native cancellation (``asyncio.wait_for``, ``asyncio.timeout``,
    ``Task.cancel()``) cannot be held back and counts as abandoning. The failure of an
    abandoned call is logged.

    Threads get a copy of the caller's context variables and may call back with
    ``from_thread``. Processes and executors have neither. A process imports the program's main
    file again, so what starts the program must stand under ``if __name__ == "__main__":``.

    A thread that calls back into the loop (``from_thread.run``) and from there offloads again
    under the same exhausted limiter would wait for itself. That is detected where the call
    back itself awaits `offload`, and not where it starts other tasks that do. So would a task
    that holds the last token (``async with limiter:``), which is detected where the task
    itself awaits `offload`.

    Args:
        func: An ordinary function; *args* are its positional arguments.
        to: ``"thread"``, ``"process"``, or any `concurrent.futures.Executor` (a pool of
            loky's, the ``get_executor()`` of a dask client).
        limiter: A `Limiter`, or one of anyio's; its token is held until the function has
            ended, abandoned or not. Default: anyio's limiter for threads or processes.
            An executor has its own number of workers and takes none.
        abandon_on_cancel: True to let a cancelled caller go at once. A thread runs on; a
            process is killed.

    Returns:
        What the function returns.

    Raises:
        Exception: What the function raises.
        OffloadError: If it could not be sent there, or its outcome not brought back.
        LimiterDeadlock: If waiting for a token would never end.
        TypeError: If *func* is no ordinary function, or *limiter* no limiter.
        ValueError: If there is no such place, or an executor is given a *limiter*.

    Example:
        >>> rows = await ka.offload(query, "select 1", limiter=DATABASE)
    """
    refuse_coroutine("offload", func)
    if not callable(func):
        raise TypeError(
            f"offload() takes a function and its arguments, not {shown(func)}; write "
            "offload(query, 'select 1')"
        )
    refuse_async_generator("offload", func, "an ordinary function")
    if to == "thread":
        return await _seen(_in_thread(func, args, limiter, abandon_on_cancel), func)
    if inspect.iscoroutinefunction(func):
        raise is_async("offload", func, f"await {name_of(func)}(…)")
    if to == "process":
        return await _seen(_in_process(func, args, limiter, abandon_on_cancel), func)
    if not isinstance(to, Executor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(  # noqa: TRY004  # most often it is a string
            f"to must be 'thread', 'process' or a concurrent.futures.Executor, not {shown(to)}"
        )
    if limiter is not None:
        raise ValueError(
            "limiter= is for threads and processes; an executor has its own number of "
            "workers, so leave the limiter out, or write: async with limiter: await offload(…)"
        )
    return await _seen(_in_executor(to, func, args, abandon_on_cancel), func)


def _seen(call: Coroutine[Any, Any, T], func: Callable[..., object]) -> Coroutine[Any, Any, T]:
    """*call*, shown as a part of its task while somebody looks on."""
    observer = _observe.observer
    if observer is None:
        return call
    return _observe.timed(call, observer.called(f"offload({name_of(func)})"))


async def _in_thread(
    func: Callable[..., T],
    args: tuple[Any, ...],
    limiter: CapacityLimiter | None,
    abandon: bool,
) -> T:
    if limiter is None:
        name = "the default thread limiter"
        limiter = to_thread.current_default_thread_limiter()
    elif isinstance(limiter, Limiter):
        name = repr(limiter.name)
        limiter = limiter.current
    elif isinstance(limiter, CapacityLimiter):
        name = repr(limiter)
    else:
        raise _no_limiter(limiter)
    call = ThreadCall(func, args, limiter, name)
    try:
        return await to_thread.run_sync(
            call.run, abandon_on_cancel=abandon, limiter=cast("CapacityLimiter", call)
        )
    except get_cancelled_exc_class():
        call.abandon()
        raise
    finally:
        call.forget()


async def _in_process(
    func: Callable[..., T],
    args: tuple[Any, ...],
    limiter: CapacityLimiter | None,
    abandon: bool,
) -> T:
    if not (limiter is None or isinstance(limiter, CapacityLimiter)):
        raise _no_limiter(limiter)
    if limiter is not None and holds_token(limiter, get_current_task().id):
        name = repr(limiter.name if isinstance(limiter, Limiter) else limiter)
        raise OffloadError(
            f"offload({name_of(func)}, to='process'): this task holds a token of {name} "
            "already; leave out either limiter= or the 'async with' around the call"
        )
    payload = pickle_call(func, args, name_of(func))
    if _observe.observer is not None and not isinstance(limiter, Limiter):
        limiter = _seen_limiter(limiter)  # a Limiter tells by itself who waits for it
    try:
        outcome = await to_process.run_sync(
            call_pickled, payload, cancellable=abandon, limiter=limiter
        )
    except get_cancelled_exc_class() as error:
        await _end_worker(error)
        raise
    except BrokenWorkerProcess as error:
        how = _how_it_broke(await _end_worker(error), error.__cause__)
        raise OffloadError(f"offload({name_of(func)}, to='process'): {how}") from error
    return cast("T", unpickle_outcome(outcome, name_of(func)))


def _seen_limiter(limiter: CapacityLimiter | None) -> CapacityLimiter:
    if limiter is None:
        limiter = to_process.current_default_process_limiter()
        return cast("CapacityLimiter", SeenLimiter(limiter, "the default process limiter"))
    return cast("CapacityLimiter", SeenLimiter(limiter, repr(limiter)))


def _no_limiter(limiter: object) -> TypeError:
    return TypeError(
        f"offload(): limiter must be a Limiter, not {shown(limiter)}; make one for all calls, "
        "such as Limiter(5, name='database')"
    )


async def _end_worker(error: BaseException) -> int | None:
    """End the worker of a call that *error* cut off; its exit code if it had begun the call.

    anyio does so itself once the worker has started. One that is cut off in its start is
    forgotten, alive: only the traceback still leads to it.
    """
    call: object = None
    ended: int | None = None
    for frame, _ in walk_tb(error.__traceback__):
        worker = frame.f_locals.get("process")
        if frame.f_code is to_process.run_sync.__code__ and isinstance(worker, Process):
            call = frame.f_locals.get("request")
            with CancelScope(shield=True):
                with suppress(ProcessLookupError):
                    worker.kill()
                await worker.aclose()
            ended = worker.returncode
        elif call is not None and frame.f_locals.get("pickled_cmd") is call:
            return ended
    return None


def _how_it_broke(code: int | None, why: BaseException | None) -> str:
    if code is None:
        return (
            "the worker process broke. It imports the program's main file again: is what "
            "starts the program there under 'if __name__ == \"__main__\":'?"
        )
    if not isinstance(why, _IT_ENDED):  # and was killed by anyio
        return (
            "the worker process gave no answer that can be read; does the function, or a "
            "program that it starts, write to the standard output?"
        )
    said = f"exit code {code}" if code >= 0 else f"signal {-code}"
    with suppress(ValueError):
        said = Signals(-code).name
    if code == _UNKNOWN:
        said = "a code that is not known"
    memory = "; was memory short?" if code == -9 else ""
    return f"the worker process broke before it answered: it ended with {said}{memory}"


def _is_its_own(error: Exception) -> bool:
    """True if the worker of a process pool tells that the function itself has raised it."""
    told = error.__cause__
    return type(told).__name__ == "_RemoteTraceback" and " in _process_worker\n" in str(told)


async def _in_executor(
    executor: Executor, func: Callable[..., T], args: tuple[Any, ...], abandon: bool
) -> T:
    await checkpoint_if_cancelled()
    try:
        future = executor.submit(func, *args)
    except Exception as error:
        if (explained := _explained(executor, func, error)) is not None:
            raise explained from error
        raise
    done = Event()
    future.add_done_callback(waker(done))
    executor_calls.began(future, current_token().native_token)
    cancelled = get_cancelled_exc_class()
    try:
        try:
            await done.wait()
        except cancelled:
            if future.cancel() or abandon or cancelled_natively():
                raise
            with CancelScope(shield=True):
                await done.wait()
    except BaseException as error:
        executor_calls.ended(future)
        if isinstance(error, cancelled):
            future.add_done_callback(partial(_log_abandoned, name_of(func)))
        raise
    try:
        return refuse_awaitable(future.result(), func)
    except FutureCancelled as error:
        if not future.cancelled():
            raise  # by the function itself
        raise OffloadError(
            f"offload({name_of(func)}): the executor cancelled the call; it was shut down "
            "meanwhile"
        ) from error
    except Exception as error:
        if (explained := _explained(executor, func, error)) is not None:
            raise explained from error
        raise
    finally:
        executor_calls.ended(future)
        del future  # an error whose frames hold it is a reference cycle


def waker(event: Event) -> Callable[[object], None]:
    """A function that sets *event* from any thread, even after the run has ended."""
    token = current_token()

    def wake(_: object) -> None:
        with suppress(RunFinishedError):
            token.backend_class.run_sync_soon(event.set, (), token.native_token)

    return wake


def _log_abandoned(name: str, future: Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log_failure(error, "offload(%s) failed after it was abandoned", name)


def _explained(
    executor: Executor, func: Callable[..., object], error: Exception
) -> OffloadError | None:
    """The sentence for *error*, where it tells of the way there and back; None if not."""
    if isinstance(error, StopIteration):
        return stopped_iteration(func)
    if isinstance(executor, ThreadPoolExecutor):
        return None
    if isinstance(error, BrokenExecutor):
        return OffloadError(
            f"offload({name_of(func)}): the executor broke: a worker died, or the call or its "
            "outcome cannot be pickled; give a function from the top level of a module, and "
            "plain data"
        )
    if _is_its_own(error):
        return None
    if isinstance(error, PicklingError) or _PICKLE_FAILED.search(str(error)):
        return OffloadError(
            f"offload({name_of(func)}): the call or its outcome cannot be pickled ({error}); "
            "give a function from the top level of a module, and plain data"
        )
    return None
