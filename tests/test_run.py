"""`run`: one loop, chosen by argument, environment or default, and every mistake explained."""

from __future__ import annotations

import asyncio
import re
import runpy
import threading
from collections.abc import AsyncIterator
from contextvars import Context
from pathlib import Path
from time import perf_counter

import anyio
import pytest
from anyio.to_thread import current_default_thread_limiter

import kingdom_async as ka
from kingdom_async import _backend
from kingdom_async._trio_clock import InterruptibleClock
from kingdom_async.testing import explore
from support.backends import REAL, asyncio_only, chosen

NAMES = "asyncio, asyncio+uvloop, trio"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND", "TRACE", "WATCHDOG", "CONTROL", "THREADS"):
        monkeypatch.delenv(f"KINGDOM_ASYNC_{name}", raising=False)


@pytest.fixture(params=chosen(REAL))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def which() -> str:
    await ka.checkpoint()
    return ka.current_backend()


async def never() -> None:
    pytest.fail("the loop was started")


# --- the call --------------------------------------------------------------------------


def test_gives_the_arguments_and_returns_the_result(backend: str) -> None:
    """What the function returns is what run returns."""

    async def add(a: int, b: int) -> tuple[int, str]:
        await ka.checkpoint()
        return a + b, ka.current_backend()

    assert ka.run(add, 1, 2, backend=backend) == (3, backend)


def test_raises_what_the_function_raises(backend: str) -> None:
    """An error comes out as the same object, with nothing around it."""
    boom = ValueError("boom")

    async def main() -> None:
        await ka.checkpoint()
        raise boom

    with pytest.raises(ValueError, match="boom") as caught:
        ka.run(main, backend=backend)
    assert caught.value is boom


def test_raises_a_group_as_it_is(backend: str) -> None:
    """A group without an interrupt in it is none."""
    boom = ValueError("boom")

    async def main() -> None:
        async with ka.TaskGroup():
            raise boom

    with pytest.raises(BaseException) as caught:  # noqa: PT011  # its type is the question
        ka.run(main, backend=backend)
    assert type(caught.value).__name__ == "ExceptionGroup"
    assert getattr(caught.value, "exceptions", None) == (boom,)


def test_runs_one_after_the_other_share_nothing(backend: str) -> None:
    """A second run on the same backend starts afresh."""
    assert ka.run(which, backend=backend) == ka.run(which, backend=backend) == backend


def test_works_in_any_thread(backend: str) -> None:
    """A thread that is not the main one may run a loop of its own."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ka.run(which, backend=backend)))
    thread.start()
    thread.join()
    assert answers == [backend]


async def test_works_in_a_thread_of_another_run() -> None:
    """A blocking function in a thread may run a loop, whatever runs outside."""
    assert await ka.offload(ka.run, which) == "asyncio"


def test_a_coroutine_is_explained_and_closed() -> None:
    """run(main()) says what to write, and leaves no coroutine that was never awaited."""
    with pytest.raises(
        TypeError, match=re.escape("run() takes the async function: pass never, not never()")
    ):
        ka.run(never())  # type: ignore[arg-type]  # the mistake in question


def test_an_async_generator_is_explained() -> None:
    """A generator function is no async function."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    name = "test_an_async_generator_is_explained.<locals>.numbers"
    sentence = (
        f"run() takes an async function, and {name} is an async generator; iterate over it "
        f"where you need its items: async for item in {name}(…)"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.run(numbers)  # type: ignore[arg-type]  # the mistake in question


def test_what_cannot_be_called_is_explained() -> None:
    """So is anything that is no function at all."""
    with pytest.raises(
        TypeError, match=re.escape("run() takes an async function and its arguments, not 5")
    ):
        ka.run(5)  # type: ignore[arg-type]  # the mistake in question


def test_a_blocking_function_is_explained(backend: str) -> None:
    """A function that returns something other than an awaitable is named with its answer."""

    def blocking() -> int:
        return 5

    sentence = (
        "run() takes an async function, and test_a_blocking_function_is_explained.<locals>."
        "blocking returned 5; define it with async def, or call it without run()"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.run(blocking, backend=backend)  # type: ignore[arg-type]  # the mistake in question


async def test_a_nested_run_is_explained() -> None:
    """Inside a loop, whoever started it, run says that one awaits."""
    library = ka.current_backend().split("+")[0]
    with pytest.raises(
        RuntimeError,
        match=re.escape(
            f"run(never) inside a running {library} loop; you are in async code already: "
            "await it, as in await never(…)"
        ),
    ):
        ka.run(never)


@asyncio_only
@pytest.mark.parametrize("inner", chosen(REAL))
async def test_a_nested_run_in_a_callback_is_explained(inner: str) -> None:
    """No task runs there, but a loop does, which a second one would hold up."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def callback() -> None:
        try:
            ka.run(never, backend=inner)
        except RuntimeError as error:
            answer.set_result(f"{ka.current_backend()}: {error}")

    loop.call_soon(callback, context=Context())  # as under a loop that plain asyncio runs
    assert (await answer).startswith(
        f"{ka.current_backend()}: run(never) inside a running asyncio loop; "
    )


def test_a_worker_process_does_not_start_the_program_again(tmp_path: Path) -> None:
    """Without the __main__ guard, what a worker process would do again is explained."""
    program = tmp_path / "program.py"
    program.write_text("import kingdom_async as ka\nka.run(ka.checkpoint)\n")
    with pytest.raises(
        ka.OffloadError,
        match=re.escape(
            "run() was called while a worker process imported the main file; put what "
            "starts the program under: if __name__ == '__main__':"
        ),
    ):
        runpy.run_path(str(program), run_name="__mp_main__")


# --- which backend ---------------------------------------------------------------------


def test_the_default_is_asyncio() -> None:
    """Without argument and variable."""
    assert ka.run(which) == "asyncio"


@pytest.mark.parametrize("name", REAL)
def test_the_variable_beats_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KINGDOM_ASYNC_BACKEND chooses where the program does not."""
    monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", name)
    assert ka.run(which) == name


@pytest.mark.parametrize("name", REAL)
def test_the_argument_beats_the_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a variable that is wrong: it is not asked."""
    monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", "tokio")
    assert ka.run(which, backend=name) == name


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells and CI systems mean it."""
    for name in ("BACKEND", "TRACE", "WATCHDOG", "CONTROL", "THREADS"):
        monkeypatch.setenv(f"KINGDOM_ASYNC_{name}", "")
    assert ka.run(which) == "asyncio"


def test_an_unknown_backend_argument_is_named() -> None:
    """With the valid ones, and those that are installed, before the loop starts."""
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"backend='tokio' is no backend; use one of {NAMES} "
            f"(installed here: {', '.join(REAL)})"
        ),
    ):
        ka.run(never, backend="tokio")


def test_an_unknown_backend_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with the name of the variable."""
    monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", "Trio")
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"KINGDOM_ASYNC_BACKEND='Trio' is no backend; use one of {NAMES} "
            f"(installed here: {', '.join(REAL)})"
        ),
    ):
        ka.run(never)


def test_a_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it, and what could be used instead."""
    monkeypatch.setattr(_backend, "find_spec", lambda name: None if name == "uvloop" else name)
    monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", "asyncio+uvloop")
    with pytest.raises(
        ImportError,
        match=re.escape(
            "KINGDOM_ASYNC_BACKEND='asyncio+uvloop' needs uvloop, which is not installed; "
            "run: pip install uvloop, or use one of asyncio, trio"
        ),
    ):
        ka.run(never)
    with pytest.raises(ValueError, match=re.escape("(installed here: asyncio, trio)")):
        ka.run(never, backend="tokio")


def test_current_backend_outside_of_any_loop_is_explained() -> None:
    """In plain code."""
    with pytest.raises(
        RuntimeError,
        match=re.escape(
            "current_backend() called where no event loop runs; call it from inside an async "
            "function"
        ),
    ):
        ka.current_backend()


async def test_current_backend_in_a_thread_is_explained() -> None:
    """A thread of the program runs no loop."""
    with pytest.raises(RuntimeError, match=r"^current_backend\(\) called where no event loop"):
        await ka.offload(ka.current_backend)


def test_current_backend_knows_a_loop_made_from_uvloops() -> None:
    """A subclass of uvloop's loop, which is what `explore` runs on, is still uvloop."""
    if "asyncio+uvloop" not in REAL:
        pytest.skip("has no uvloop")

    async def in_a_callback() -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: answer.set_result(ka.current_backend()), context=Context())
        return await answer

    for asked in (which, in_a_callback):
        outcomes = explore(asked, seeds=1, backend="asyncio+uvloop").outcomes
        assert [*outcomes] == ["'asyncio+uvloop'"]


async def test_current_backend_answers_anywhere_inside() -> None:
    """In child tasks and in call-backs from threads."""
    here = ka.current_backend()

    async def child() -> str:
        return ka.current_backend()

    assert await ka.gather(child(), which()) == (here, here)
    assert await ka.offload(ka.from_thread.run, which) == here
    assert await ka.offload(ka.from_thread.run_sync, ka.current_backend) == here


# --- the other variables ---------------------------------------------------------------

BAD_TRACE = (
    " is no level of tracing; use one of off, life, steps, the last two with ':path' for a "
    "recording"
)
BAD_TIME = " is no time; use seconds, such as 0.5, or off"
BAD_SWITCH = " is no switch; use 1 for on, 0 for off"
BAD_THREADS = " is no number of threads; use 1 or more, such as 40"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("TRACE", "on", BAD_TRACE),
        ("TRACE", "off:here", BAD_TRACE),
        ("TRACE", "LIFE", BAD_TRACE),
        ("TRACE", "steps:", BAD_TRACE),
        ("WATCHDOG", "soon", BAD_TIME),
        ("WATCHDOG", "0", BAD_TIME),
        ("WATCHDOG", "-1", BAD_TIME),
        ("WATCHDOG", "nan", BAD_TIME),
        ("WATCHDOG", "inf", BAD_TIME),
        ("CONTROL", "yes", BAD_SWITCH),
        ("CONTROL", "2", BAD_SWITCH),
        ("THREADS", "0", BAD_THREADS),
        ("THREADS", "-3", BAD_THREADS),
        ("THREADS", "2.5", BAD_THREADS),
        ("THREADS", "many", BAD_THREADS),
    ],
)
def test_a_bad_value_is_named(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variable, value and what is valid, before the loop starts."""
    monkeypatch.setenv(f"KINGDOM_ASYNC_{name}", value)
    expected = f"KINGDOM_ASYNC_{name}={value!r}{sentence}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        ka.run(never)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACE", "off"),
        ("TRACE", "life"),
        ("TRACE", "steps"),
        ("TRACE", "life:recording:1"),
        ("WATCHDOG", "off"),
        ("WATCHDOG", "0.5"),
        ("WATCHDOG", "2"),
        ("CONTROL", "0"),
        ("CONTROL", "1"),
        ("THREADS", "1"),
    ],
)
def test_a_good_value_is_taken(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv(f"KINGDOM_ASYNC_{name}", value)
    assert ka.run(which) == "asyncio"


def test_the_trace_argument_beats_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad argument is named as the argument; a bad variable is then not asked."""
    monkeypatch.setenv("KINGDOM_ASYNC_TRACE", "nonsense")
    assert ka.run(which, trace="life") == "asyncio"
    with pytest.raises(ValueError, match=re.escape(f"trace='all'{BAD_TRACE}")):
        ka.run(never, trace="all")


@pytest.mark.parametrize(("value", "tokens"), [(None, 40), ("7", 7)])
def test_threads_are_the_tokens_of_the_default_limiter(
    value: str | None, tokens: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the variable is not set, it is anyio's 40."""
    if value is not None:
        monkeypatch.setenv("KINGDOM_ASYNC_THREADS", value)

    async def main() -> float:
        return current_default_thread_limiter().total_tokens

    assert ka.run(main, backend=backend) == tokens
    assert anyio.run(main) == 40


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("KINGDOM_ASYNC_BACKENDS", "KINGDOM_ASYNC_BACKEND"),
        ("KINGDOM_ASYNC_TREADS", "KINGDOM_ASYNC_THREADS"),
        ("KINGDOM_ASYNC_WATCH_DOG", "KINGDOM_ASYNC_WATCHDOG"),
        ("KINGDOM_ASYNC_TRACING", "KINGDOM_ASYNC_TRACE"),
    ],
)
def test_a_misspelt_variable_is_warned_about(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest name there is, at the line that called run."""
    monkeypatch.setenv(name, "1")
    sentence = (
        f"{name} is no variable of kingdom_async and has no effect; did you mean {nearest}?"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(sentence)}$") as warned:
        assert ka.run(which) == "asyncio"
    assert [warning.filename for warning in warned] == [__file__]


def test_the_clock_of_a_run_on_trio_goes_on_as_any_other() -> None:
    """It shows seconds, which pass, and a deadline is as far away as it is ahead of them."""
    clock = InterruptibleClock()
    began, now = clock.current_time(), perf_counter()
    while perf_counter() < now + 0.001:
        pass
    assert 0.001 <= clock.current_time() - began <= 60
    assert 3540 <= clock.deadline_to_sleep_time(clock.current_time() + 3600) <= 3600
