"""What the package takes from inside other libraries: one test each, which names it.

When one fails, a new version of that library has moved it. `docs/design/decisions.md` says what
each is for; look there for what to do without it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from contextvars import ContextVar, copy_context

import anyio
import anyio.to_process
import anyio.to_thread
import pytest

import kingdom_async as ka
from kingdom_async._thread_calls import _CALL_BACKS
from support.backends import asyncio_only

variable: ContextVar[object] = ContextVar("variable")


@asyncio_only
@pytest.mark.skipif(sys.version_info < (3, 12), reason="not used before 3.12")
async def test_asyncio_get_running_loop() -> None:
    """`_backend.run_finder` calls asyncio._get_running_loop(): the loop, or None."""
    find = getattr(asyncio, "_get_running_loop", None)
    assert find is not None, "asyncio._get_running_loop is gone; see _backend.run_finder()"
    assert find() is asyncio.get_running_loop()
    assert await anyio.to_thread.run_sync(find) is None


@asyncio_only
@pytest.mark.skipif(sys.version_info < (3, 13), reason="not used before 3.13")
async def test_whether_a_cancellation_is_pending() -> None:
    """`_members.native_cancels` asks a task of asyncio for _must_cancel."""
    task = asyncio.current_task()
    assert task is not None
    assert getattr(task, "_must_cancel", None) is False, (
        "a task has no _must_cancel any more; see _members.native_cancels()"
    )
    task.cancel()
    assert task._must_cancel  # type: ignore[attr-defined]
    task.uncancel()


def test_the_mapping_inside_a_context() -> None:
    """`_crew` tells by gc.get_referents(copy_context())[0] whether a variable was set."""
    message = "a Context no longer refers to its mapping first; see _crew._work_until_touched()"
    before = gc.get_referents(copy_context())
    assert before, message
    assert gc.get_referents(copy_context())[0] is before[0], message
    token = variable.set(object())
    assert gc.get_referents(copy_context())[0] is not before[0], message
    variable.reset(token)


async def test_whose_coroutine_runs_what_a_thread_sends() -> None:
    """`_thread_calls` knows a call back by the module of its task's coroutine."""
    seen: list[str] = []

    async def call_back() -> None:
        coro = anyio.get_current_task().coro
        frame = getattr(coro, "cr_frame", None)
        assert frame is not None, "anyio's TaskInfo.coro has no frame; see _thread_calls"
        seen.append(frame.f_globals["__name__"])

    # On trio a thread that is waited for calls back in the task that waits for it.
    await anyio.to_thread.run_sync(ka.from_thread.run, call_back, abandon_on_cancel=True)
    assert set(seen) <= set(_CALL_BACKS), (
        f"from_thread.run() runs in a coroutine of {seen}; see _thread_calls._CALL_BACKS"
    )


async def test_in_which_task_a_thread_that_is_waited_for_calls_back() -> None:
    """The same; on trio that is the task which waits for the thread."""
    seen: list[tuple[int, str]] = []

    async def call_back() -> None:
        task = anyio.get_current_task()
        seen.append((task.id, task.coro.cr_frame.f_globals["__name__"]))

    await anyio.to_thread.run_sync(ka.from_thread.run, call_back)
    ((task_id, module),) = seen
    assert task_id == anyio.get_current_task().id or module in _CALL_BACKS, (
        f"from_thread.run() runs in a coroutine of {module}; see _thread_calls._CALL_BACKS"
    )


@asyncio_only
async def test_what_anyio_says_when_a_scope_cancels() -> None:
    """`_gather` finds the task cancelled from outside: others have "cancel scope" in theirs."""
    async with anyio.create_task_group() as group:
        handle = group.start_soon(anyio.sleep_forever)
        await ka.checkpoint()
        group.cancel_scope.cancel()
    with pytest.raises(anyio.TaskCancelled) as caught:
        _ = handle.return_value
    assert "cancel scope" in str(caught.value.__cause__), (
        "anyio's message for a cancelled scope has changed; see _gather._raise_if_cancelled()"
    )


def test_the_worker_process_in_anyios_frame() -> None:
    """`_offload._end_worker` finds the worker as the local `process` of to_process.run_sync."""
    code = anyio.to_process.run_sync.__code__
    assert "process" in {*code.co_varnames, *code.co_cellvars}, (
        "anyio.to_process.run_sync has no local `process` any more; see _offload._end_worker()"
    )


async def test_who_borrows_a_token_by_itself() -> None:
    """`_thread_calls.holds_token` looks for the task among limiter.statistics().borrowers."""
    limiter = anyio.CapacityLimiter(1)
    async with limiter:
        (borrower,) = limiter.statistics().borrowers
        assert id(borrower) == anyio.get_current_task().id, (
            "a borrower is no longer the native task; see _thread_calls.holds_token()"
        )


@asyncio_only
async def test_what_ends_a_worker_thread() -> None:
    """`_interrupts._stop_idle_threads` knows anyio's threads, and how to end them."""
    await ka.offload(int)
    worker, *_ = (t for t in threading.enumerate() if type(t).__name__ == "WorkerThread")
    for name in ("idle_workers", "loop", "stopping", "stop"):
        assert hasattr(worker, name), (
            f"anyio's WorkerThread has no {name}; see _interrupts._stop_idle_threads()"
        )
