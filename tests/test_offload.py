"""`offload` in threads: outcomes, context, misuse, and loops that others started."""

from __future__ import annotations

import asyncio
import functools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
import sniffio
import trio

import kingdom_async as ka
from support.backends import asyncio_only
from support.threads import Held

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def add(left: int, right: int) -> int:
    return left + right


async def test_runs_in_a_thread_and_returns_the_result() -> None:
    """The function gets its arguments in another thread, and its result comes back."""

    def where(left: int, right: int) -> tuple[int, int]:
        return left + right, threading.get_ident()

    total, thread = await ka.offload(where, 2, 3)
    assert total == 5
    assert thread != threading.get_ident()


async def test_the_loop_goes_on_meanwhile() -> None:
    """Other tasks run while the function blocks its thread."""
    held = Held("done")
    async with ka.TaskGroup() as group:
        call = group.start_soon(ka.offload, held)
        await held.until_started()
        held.let_go()
    assert call.return_value == "done"


async def test_raises_what_the_function_raises() -> None:
    """An error of the function comes back as the very object that was raised."""
    error = LookupError("no such row")

    def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        await ka.offload(fail)
    assert caught.value is error
    assert caught.value.__cause__ is None


async def test_a_pickling_error_of_the_function_is_its_own() -> None:
    """Only what goes wrong on the way is explained; a thread has no such way."""

    def fail() -> None:
        raise TypeError("cannot pickle this")

    with pytest.raises(TypeError, match=r"^cannot pickle this$"):
        await ka.offload(fail)


async def test_context_variables_go_to_the_thread_and_do_not_come_back() -> None:
    """The thread sees a copy of the caller's context variables."""
    variable.set("caller's")

    def look() -> str:
        before = variable.get()
        variable.set("thread's")
        return before

    assert await ka.offload(look) == "caller's"
    assert variable.get() == "caller's"


async def test_the_thread_may_call_back() -> None:
    """from_thread works in the function, with the thread's context variables."""

    async def look() -> str:
        await ka.checkpoint()
        return f"{sniffio.current_async_library()} {variable.get()}"

    def call_back() -> tuple[str, int]:
        variable.set("thread's")
        return ka.from_thread.run(look), ka.from_thread.run_sync(threading.get_ident)

    assert await ka.offload(call_back) == (
        f"{sniffio.current_async_library()} thread's",
        threading.get_ident(),
    )


async def test_is_a_checkpoint() -> None:
    """A cancelled caller does not get as far as the thread."""
    held = Held()
    with ka.CancelScope() as scope:
        scope.cancel()
        await ka.offload(held)
    assert scope.cancelled_caught
    assert held.started == 0


async def test_stop_iteration_gets_a_sentence() -> None:
    """A StopIteration, which would end the awaiting coroutine, becomes an OffloadError."""
    sentence = (
        "offload(next): it raised StopIteration, which cannot pass through an await; catch it "
        "in the function, or give next() a default"
    )
    with pytest.raises(ka.OffloadError, match=f"^{re.escape(sentence)}$") as caught:
        await ka.offload(next, iter(()))
    assert isinstance(caught.value.__cause__, StopIteration)


# --- misuse --------------------------------------------------------------------------


async def fetch() -> None:
    pass


@pytest.mark.parametrize("to", ["thread", "process", "executor"])
async def test_an_async_function_is_refused(to: Any, executor: Executor) -> None:
    """An async function is refused wherever it was to be sent, and never left un-awaited."""
    sentence = "offload() runs ordinary functions, and fetch is async; write await fetch(…)"
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(fetch, to=executor if to == "executor" else to)


@pytest.mark.parametrize("to", ["thread", "executor"])
async def test_a_lambda_that_returns_a_coroutine_is_refused(
    to: Any, executor: Executor
) -> None:
    """The coroutine that nobody would await is closed and explained."""
    sentence = r"offload\(\) runs ordinary functions, and .*<lambda> is async; write await .*"
    with pytest.raises(TypeError, match=f"^{sentence}$"):
        await ka.offload(lambda: fetch(), to=executor if to == "executor" else to)


async def test_a_coroutine_in_place_of_the_function_is_refused() -> None:
    """offload(fetch()) is explained, and the coroutine closed."""
    sentence = (
        "offload() takes the function and its arguments: "
        "write offload(fetch, …), not offload(fetch(…))"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(fetch())  # type: ignore[arg-type]


async def test_what_cannot_be_called_is_refused() -> None:
    """offload(add(1, 2)) is explained."""
    sentence = (
        "offload() takes a function and its arguments, not 3; write offload(query, 'select 1')"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(add(1, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("to", ["threads", 8, None])
async def test_an_unknown_place_is_refused(to: Any) -> None:
    """`to` is one of three things, and the error says which."""
    sentence = f"to must be 'thread', 'process' or a concurrent.futures.Executor, not {to!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(add, 1, 2, to=to)


async def test_an_executor_takes_no_limiter(executor: Executor) -> None:
    """A limiter beside an executor would say nothing about its workers; it is refused."""
    sentence = (
        "limiter= is for threads and processes; an executor has its own number of workers, so "
        "leave the limiter out, or write: async with limiter: await offload(…)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        await ka.offload(add, 1, 2, to=executor, limiter=ka.Limiter(1, name="one"))


async def test_a_partial_and_a_method_are_functions() -> None:
    """Anything callable will do."""
    assert await ka.offload(functools.partial(add, 1), 2) == 3
    assert await ka.offload("a,b".split, ",") == ["a", "b"]


# --- KeyboardInterrupt and SystemExit ------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_exits_raised_in_a_thread_come_out_of_the_run(
    backend: str, kind: type[BaseException]
) -> None:
    """What ends the program ends it from a thread as well."""

    def leave() -> None:
        raise kind("from the thread")

    async def main() -> None:
        await ka.offload(leave)

    with pytest.raises(kind, match="from the thread"):
        anyio.run(main, backend=backend)


# --- loops that somebody else started ------------------------------------------------


async def everything() -> None:
    limiter = ka.Limiter(2, name="two")
    assert await ka.offload(add, 1, 2, limiter=limiter) == 3
    assert await ka.offload_map(str, range(100), limit=2) == list(map(str, range(100)))
    with ThreadPoolExecutor(1) as executor:
        assert await ka.offload(add, 1, 2, to=executor) == 3
        assert await ka.offload_map(str, range(9), limit=2, to=executor) == list("012345678")
    assert limiter.borrowed_tokens == 0


def test_works_under_asyncio_run() -> None:
    """No loop of ours, no anyio.run: threads and executors are reached all the same."""
    asyncio.run(everything())


def test_works_under_trio_run() -> None:
    """The same under trio's own run."""
    trio.run(everything)


@asyncio_only
async def test_works_in_a_task_that_anyio_does_not_know() -> None:
    """A task that asyncio.create_task made may offload."""
    await asyncio.create_task(everything())


LEAVES_A_THREAD = """
import asyncio, logging, sys, threading
import anyio
import kingdom_async as ka

logging.basicConfig(format="%(message)s")
inside, go, logged = threading.Event(), threading.Event(), threading.Event()

class Logged(logging.Handler):
    def emit(self, record):
        logged.set()

logging.getLogger().addHandler(Logged())

def block():
    inside.set()
    go.wait(30)
    raise ValueError("too late")

async def main():
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload(block, abandon_on_cancel=True))
        await anyio.to_thread.run_sync(inside.wait, 30)
        group.cancel()

if sys.argv[1] == "asyncio.run":
    asyncio.run(main())
else:
    ka.run(main, backend=sys.argv[1])
print("run ended")
go.set()
logged.wait(30)
print("thread ended")
"""


@pytest.mark.parametrize("backend", ["asyncio", "asyncio+uvloop", "trio", "asyncio.run"])
def test_a_run_may_end_before_an_abandoned_thread(backend: str) -> None:
    """The thread ends in peace: no traceback but the one logged, and no hang at exit."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEAVES_A_THREAD, backend],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["run ended", "thread ended"]
    logged = done.stderr.splitlines()
    assert logged[0] == "offload(block) failed after it was abandoned"
    assert logged[-1] == "ValueError: too late"
    assert done.stderr.count("Traceback") == 1
