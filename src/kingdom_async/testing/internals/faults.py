"""Every private name that `cancel_everywhere` needs: of trio's order, tasks and handles.

Rule: as in `features`: used nowhere else, and checked when first used.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from anyio import TaskHandle
from anyio.from_thread import BlockingPortal

from .features import Gone, checks, need, wanted

if TYPE_CHECKING:
    from trio.lowlevel import Task as TrioTask

CANCEL_EVERYWHERE = "cancel_everywhere"
ON_TRIO = "cancel_everywhere on trio"


@contextmanager
def trio_in_order(seed: int) -> Generator[None, None, None]:
    """Runs of trio take their tasks in an order that *seed* decides, and nothing else."""
    from trio._core import _run

    run: Any = _run
    state, was = run._r.getstate(), run._ALLOW_DETERMINISTIC_SCHEDULING
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = was
        run._r.setstate(state)


def run_in_place(
    task: TrioTask, wrap: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]
) -> None:
    """Have trio run what *wrap* returns for the coroutine of *task*, which was just made."""
    task.coro = wrap(task.coro)  # type: ignore[assignment]


def interrupt(task: TrioTask, error: BaseException) -> bool:
    """Have what a parked task of trio's waits for raise *error*; False if it cannot."""
    if task._abort_func is None:
        return False

    def raise_it(*_: object) -> NoReturn:
        raise error

    task._attempt_abort(raise_it)
    return task._next_send_fn is not None


_RUN_CORO: CodeType | None = getattr(getattr(TaskHandle, "_run_coro", None), "__code__", None)


def handle_of(coro: Any) -> TaskHandle[Any] | None:
    """The handle of a task in one of anyio's groups, by the coroutine that the group runs."""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None)
        if frame is None:
            return None
        if frame.f_code is _RUN_CORO:
            handle: TaskHandle[Any] | None = frame.f_locals.get("self")
            return handle
        coro = coro.cr_await
    return None


_CALL_FUNC: CodeType | None = getattr(
    getattr(BlockingPortal, "_call_func", None), "__code__", None
)


def answer_of_portal(stack: Iterable[FrameType]) -> Future[Any] | None:
    """Where the task of a `BlockingPortal` puts what its call has come to."""
    for frame in stack:
        if frame.f_code is _CALL_FUNC:
            answer: Future[Any] | None = frame.f_locals.get("future")
            return answer
    return None


def cancel_handle(handle: TaskHandle[Any], reason: str) -> None:
    """As `TaskHandle.cancel`, which takes no reason."""
    handle._cancel_scope.cancel(reason)


def semaphore_value(semaphore: Any) -> int | None:
    """How many may still acquire it; None for what is no semaphore."""
    value = getattr(semaphore, "value", None)
    if value is None and hasattr(semaphore, "_bound_value"):
        value = semaphore._value
    if value is None and type(semaphore).__name__ == "Semaphore":
        value = getattr(semaphore, "_value", None)
    return value if isinstance(value, int) else None


def semaphore_most(semaphore: Any) -> int | None:
    """How many may acquire it where nobody has; None where it does not know."""
    most = getattr(semaphore, "max_value", None)
    return getattr(semaphore, "_bound_value", None) if most is None else most


def constructor_of(factory: Any) -> Callable[..., Any] | None:
    """What an eager factory of asyncio's makes its tasks with; None for any other.

    anyio's groups call it themselves, so that their tasks begin in the usual way.
    """
    eager: Any = getattr(asyncio, "eager_task_factory", None)  # Python 3.12
    if eager is None or getattr(factory, "__code__", None) is not eager.__code__:
        return None
    constructor: Callable[..., Any] = factory.__closure__[0].cell_contents
    return constructor


def keep_for_ever(one: object) -> None:
    """Never free *one*: a coroutine that goes on whatever is thrown in would then, too."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


def open_all_shields() -> None:
    """A run does not end: what it waits for behind shields is cancelled with the rest."""
    trio: Any = sys.modules.get("trio")
    of_trio: tuple[type, ...] = () if trio is None else (trio.CancelScope,)
    for one in gc.get_objects():
        if isinstance(one, (anyio.CancelScope, *of_trio)):
            scope: Any = one
            with suppress(RuntimeError):  # it may be left over from a loop that is gone
                if scope.shield:
                    scope.shield = False


@checks(CANCEL_EVERYWHERE)
def _check_names() -> None:
    if _RUN_CORO is None or "self" not in _RUN_CORO.co_varnames:
        raise Gone("TaskHandle._run_coro's self")

    if _CALL_FUNC is None or "future" not in _CALL_FUNC.co_varnames:
        raise Gone("BlockingPortal._call_func's future")
    wanted(TaskHandle, "_cancel_scope")
    eager = getattr(asyncio, "eager_task_factory", None)
    if eager is not None and constructor_of(eager) is not asyncio.Task:
        raise Gone("asyncio.eager_task_factory's constructor")


@checks(ON_TRIO)
def _check_trios_names() -> None:
    import trio
    from trio._core import _run

    wanted(_run, "_r", "_ALLOW_DETERMINISTIC_SCHEDULING")
    wanted(trio.lowlevel.Task, "coro", "_abort_func", "_attempt_abort", "_next_send_fn")


def check_faults(backend: str) -> None:
    """Make sure that all of these are there.

    Raises:
        FeatureOff: If one is gone.
    """
    need(CANCEL_EVERYWHERE)
    if backend == "trio":
        need(ON_TRIO)
