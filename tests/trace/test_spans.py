"""Named parts of tasks, wherever they begin and however they end."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal

import anyio
import anyio.to_process
import anyio.to_thread
import pytest

import kingdom_async as ka
from kingdom_async import _observe, trace
from support.backends import REAL, asyncio_only, chosen
from support.threads import Held
from support.turns import settle

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])


def told(recording: trace.Recording) -> list[tuple[str, str | None, str, str | None]]:
    names = {task.serial: task.name.split(".")[-1] for task in recording.tasks}
    return [
        (span.name, None if span.task is None else names[span.task], span.outcome, span.error)
        for span in recording.spans
    ]


async def in_a_task(func: Any, name: str = "task") -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(func, name=name)


@levels
async def test_nested_and_across_awaits(level: Level) -> None:
    """Spans inside one another are of the same task, in the order in which they begin."""

    async def work() -> None:
        with trace.span("outer"):
            await settle(3)
            with trace.span("inner"):
                await settle(3)

    with trace.recording(level) as recording:
        await in_a_task(work)
    assert told(recording) == [("outer", "task", "ok", None), ("inner", "task", "ok", None)]
    outer, inner = recording.spans
    assert outer.end is not None
    assert inner.end is not None
    assert outer.start <= inner.start <= inner.end <= outer.end


@levels
async def test_side_by_side(level: Level) -> None:
    """Spans of tasks that run at the same time are each its own task's."""

    async def work(name: str) -> None:
        with trace.span(name):
            await settle(3)

    with trace.recording(level) as recording:
        async with ka.TaskGroup() as group:
            for name in "abc":
                group.start_soon(work, name, name=name)
    assert sorted(told(recording)) == [(name, name, "ok", None) for name in "abc"]


@levels
async def test_cancelled_and_failed(level: Level) -> None:
    """How a span ended is told as of a task; the error passes through unchanged."""
    fault = ValueError("no")

    async def cancelled() -> None:
        with anyio.CancelScope() as scope:
            with trace.span("cancelled"):
                scope.cancel()
                await anyio.lowlevel.checkpoint()

    async def failed() -> None:
        with trace.span("failed"):
            raise fault

    with trace.recording(level) as recording:
        await in_a_task(cancelled)
        with pytest.raises(ValueError, match="no") as caught:
            await in_a_task(failed)
    assert caught.value is fault
    assert told(recording) == [
        ("cancelled", "task", "cancelled", None),
        ("failed", "task", "error", "ValueError"),
    ]


@levels
async def test_in_functions_that_are_not_async(level: Level) -> None:
    """A block in a plain function belongs to the task that calls it."""

    def parse() -> int:
        with trace.span("parsing"):
            return 1

    async def work() -> None:
        parse()

    with trace.recording(level) as recording:
        await in_a_task(work)
    assert told(recording) == [("parsing", "task", "ok", None)]


@levels
async def test_outside_any_task(level: Level) -> None:
    """A callback's span is no task's; one in another thread is of no loop, and not recorded."""

    def callback() -> None:
        with trace.span("callback"):
            pass
        with pytest.raises(ValueError, match="no"), trace.span("fails"):
            raise ValueError("no")

    def elsewhere() -> None:
        with trace.span("elsewhere"):
            pass

    with trace.recording(level) as recording:
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(callback)
            await settle()
            expected = [
                ("callback", None, "ok", None),
                ("fails", None, "error", "ValueError"),
            ]
        else:
            expected = []
        await anyio.to_thread.run_sync(elsewhere)
    assert told(recording) == expected


@pytest.mark.parametrize("backend", chosen(REAL))
def test_where_no_loop_runs(backend: str) -> None:
    """Before, after and without a run a span is nothing, and harms nothing."""
    with trace.recording() as recording:
        with trace.span("before"):
            pass
        ka.run(settle, backend=backend)
        with trace.span("after"):
            pass
    with trace.span("without"):
        pass
    assert {span.name for span in recording.spans} <= {"after"}


@levels
async def test_tracing_that_begins_or_ends_within(level: Level) -> None:
    """A span is recorded if it began while tracing was on; it may end whenever it likes."""
    with trace.span("before"), trace.recording(level) as recording:
        late = trace.span("late")
        late.__enter__()
    late.__exit__(None, None, None)
    with trace.recording(level) as other:
        pass
    assert [(span.name, span.outcome, span.end) for span in recording.spans] == [
        ("late", "running", None)
    ]
    assert not other.spans


async def test_two_recordings() -> None:
    """Each has the span, from when it was on."""
    with (
        trace.recording() as one,
        trace.span("first"),
        trace.recording("steps") as other,
        trace.span("second"),
    ):
        pass
    assert [span.name for span in one.spans] == ["first", "second"]
    assert [span.name for span in other.spans] == ["second"]


async def test_a_span_that_is_used_again() -> None:
    """The same object may be entered again, inside itself too."""
    span = trace.span("again")
    with trace.recording() as recording:
        with span, span:
            pass
        with span:
            pass
    assert [each.outcome for each in recording.spans] == ["ok"] * 3


async def test_one_span_in_many_tasks() -> None:
    """An object that several tasks are in at once ends for each when that one leaves."""
    span = trace.span("shared")
    leave = [anyio.Event(), anyio.Event()]

    async def work(number: int) -> None:
        with span:
            await leave[number].wait()
            if number == 0:
                raise ValueError

    with trace.recording() as recording, pytest.raises(ValueError, match=r"^$"):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(work, 0, name="first")
            await settle()
            group.start_soon(work, 1, name="second")
            await settle()
            leave[0].set()
    assert told(recording) == [
        ("shared", "first", "error", "ValueError"),
        ("shared", "second", "cancelled", None),
    ]


@levels
async def test_one_span_in_a_task_that_was_in_it_before(level: Level) -> None:
    """Who entered it before the recording began ends nobody else's."""
    span = trace.span("shared")
    leave = [anyio.Event(), anyio.Event()]

    async def work(number: int) -> None:
        with span:
            await leave[number].wait()

    async with ka.TaskGroup() as group:
        group.start_soon(work, 0, name="early")
        await settle()
        with trace.recording(level) as recording:
            group.start_soon(work, 1, name="late")
            await settle()
            leave[0].set()
            await settle()
            assert [each.outcome for each in recording.spans] == ["running"]
            leave[1].set()
            await settle()
    assert told(recording) == [("shared", "late", "ok", None)]


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no name")

    __repr__ = __str__


async def test_a_name_that_is_none() -> None:
    """Whatever the name is, the block runs as it does untraced."""
    ran = []
    for name in (Unspeakable(), None, 7):
        with trace.recording(), trace.span(name):  # type: ignore[arg-type]
            ran.append(name)
    assert len(ran) == 3


@levels
async def test_instrument_task(level: Level) -> None:
    """Each call is a span, with the function's own name or the one that is given."""

    class Client:
        @trace.instrument_task
        async def load(self, url: str) -> str:
            await settle(2)
            return url

        @trace.instrument_task("saving")
        async def save(self) -> None:
            raise OSError("full")

    async def work() -> None:
        client = Client()
        assert await client.load("a") == "a"
        with pytest.raises(OSError, match="full"):
            await client.save()
        with anyio.move_on_after(0):
            await client.load("b")

    with trace.recording(level) as recording:
        await in_a_task(work)
    load = "test_instrument_task.<locals>.Client.load"
    assert told(recording) == [
        (load, "task", "ok", None),
        ("saving", "task", "error", "OSError"),
        (load, "task", "cancelled", None),
    ]


@asyncio_only
@levels
async def test_in_a_task_of_others(level: Level) -> None:
    """A task that plain asyncio starts, as a server does for a request, has its spans too."""

    async def request() -> None:
        with trace.span("query"):
            await ka.offload(int)

    with trace.recording(level) as recording:
        await asyncio.create_task(request(), name="request")
    names = {task.serial: task.name for task in recording.tasks}
    spans = [(span.name, names[span.task]) for span in recording.spans if span.task is not None]
    assert spans == [("query", "request"), ("offload(int)", "request")]


async def test_an_instrumented_task_of_its_own() -> None:
    """Started as a task, it is a span inside that task, and the task keeps its name."""

    @trace.instrument_task("part")
    async def job(number: int) -> int:
        return number

    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            handle = group.start_soon(job, 7)
    assert handle.return_value == 7
    assert handle.name.endswith("job")
    assert told(recording) == [("part", "job", "ok", None)]


async def test_a_call_that_is_never_awaited() -> None:
    """No span is left open by a coroutine that is closed."""

    @trace.instrument_task
    async def job() -> None: ...

    with trace.recording() as recording:
        job().close()
    assert not recording.spans


def test_what_a_decorated_function_is() -> None:
    """It keeps its signature, name and docstring, and counts as an async function."""

    async def load(url: str, *, retries: int = 3) -> bytes:
        """Load it."""
        return b""

    for made in (trace.instrument_task(load), trace.instrument_task("other")(load)):
        assert inspect.iscoroutinefunction(made)
        assert inspect.signature(made) == inspect.signature(load)
        assert (made.__name__, made.__qualname__, made.__doc__) == (
            load.__name__,
            load.__qualname__,
            load.__doc__,
        )
        assert inspect.unwrap(made) is load
    assert _observe.observer is None


async def test_partials_and_static_methods() -> None:
    """A partial is named for its function."""

    async def load(url: str) -> str:
        return url

    with trace.recording() as recording:
        assert await trace.instrument_task(functools.partial(load, "a"))() == "a"
    assert [span.name for span in recording.spans] == [load.__qualname__]


@pytest.mark.parametrize("name", [None, "name"])
def test_a_function_that_is_not_async(name: str | None) -> None:
    """The error says what to write instead."""

    def plain() -> None: ...

    async def generator() -> AsyncIterator[int]:
        yield 1

    decorate: Any = trace.instrument_task if name is None else trace.instrument_task(name)
    for func in (plain, generator, 7):
        with pytest.raises(TypeError) as caught:
            decorate(func)
        assert str(caught.value) == (
            f"instrument_task() takes an async function, not {func!r}; "
            "for a block of code write: with trace.span(name):"
        )


# --- waiting for a token, inside a call that runs elsewhere --------------------------------


async def one_waits(recording: trace.Recording, limiter: Any) -> trace.Span:
    """The span of a call that waits while another one has the only token."""
    held = Held()
    async with ka.TaskGroup() as group:
        group.start_soon(partial(ka.offload, held, limiter=limiter), name="first")
        await held.until_started()
        group.start_soon(partial(ka.offload, len, "", limiter=limiter), name="second")
        await settle()
        open_spans = [span[:3] for span in told(recording)]
        held.let_go()
    wait = recording.spans[-1]
    assert open_spans == [
        ("offload(Held)", "first", "running"),
        ("offload(len)", "second", "running"),
        (wait.name, "second", "running"),
    ]
    return wait


@levels
async def test_a_call_waits_for_a_token(level: Level) -> None:
    """The wait is a span inside the call's, with the name of the limiter."""
    with trace.recording(level) as recording:
        wait = await one_waits(recording, ka.Limiter(1, name="database"))
    call = recording.spans[1]
    assert (wait.name, wait.outcome, wait.task) == ("waits for 'database'", "ok", call.task)
    assert wait.end is not None
    assert call.end is not None
    assert call.start <= wait.start < wait.end <= call.end


@levels
@pytest.mark.parametrize("how", ["block", "anyio's call"])
async def test_a_task_waits_for_a_token(level: Level, how: str) -> None:
    """Whoever borrows of a limiter: the wait is one span of the task, with its name."""
    limiter = ka.Limiter(1, name="database")

    async def wants() -> None:
        if how == "block":
            async with limiter:
                pass
        else:
            await anyio.to_thread.run_sync(int, limiter=limiter)

    with trace.recording(level) as recording:
        async with ka.TaskGroup() as group, limiter:
            group.start_soon(wants, name="wants")
            await settle()
            assert told(recording) == [("waits for 'database'", "wants", "running", None)]
    assert told(recording) == [("waits for 'database'", "wants", "ok", None)]


async def test_a_call_waits_for_a_limiter_without_a_name() -> None:
    """It is called by its type."""
    with trace.recording() as recording:
        wait = await one_waits(recording, anyio.CapacityLimiter(1))
    assert wait.name == "waits for a CapacityLimiter"


async def test_a_call_waits_for_the_default_limiter() -> None:
    """It is called what it is."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 1
    try:
        with trace.recording() as recording:
            wait = await one_waits(recording, None)
    finally:
        limiter.total_tokens = before
    assert wait.name == "waits for the default thread limiter"


@pytest.mark.parametrize("to", ["thread", "process"])
async def test_a_wait_for_a_token_is_cancelled(to: Literal["thread", "process"]) -> None:
    """It ends as the call around it does."""
    limiter = ka.Limiter(1, name="database")
    with trace.recording() as recording:
        async with ka.TaskGroup() as group, limiter:
            handle = group.start_soon(partial(ka.offload, len, "", limiter=limiter, to=to))
            await settle()
            handle.cancel()
    assert [(span.name, span.outcome) for span in recording.spans] == [
        ("offload(len)", "cancelled"),
        ("waits for 'database'", "cancelled"),
    ]
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("is_default", [False, True], ids=["named", "default"])
async def test_a_call_in_a_process_waits_for_a_token(is_default: bool) -> None:
    """As one in a thread; and the token comes back."""
    limiter: anyio.CapacityLimiter = ka.Limiter(1, name="cores")
    if is_default:
        limiter = anyio.to_process.current_default_process_limiter()
        limiter.total_tokens = 1
    given = None if is_default else limiter
    with trace.recording() as recording:
        async with ka.TaskGroup(errors="first") as group, limiter:
            call = partial(ka.offload, len, "abc", limiter=given, to="process")
            handle = group.start_soon(call)
            await settle()
            assert recording.spans[-1].outcome == "running"
        assert handle.return_value == 3
        assert await ka.offload(len, "", limiter=given, to="process") == 0
    named = "the default process limiter" if is_default else "'cores'"
    assert [(span.name, span.outcome) for span in recording.spans] == [
        ("offload(len)", "ok"),
        (f"waits for {named}", "ok"),
        ("offload(len)", "ok"),
    ]
    assert limiter.borrowed_tokens == 0


async def test_a_token_that_is_free_is_not_waited_for() -> None:
    """A call that goes on at once has no such span."""
    limiter = ka.Limiter(1, name="database")
    with trace.recording() as recording:
        for _ in range(2):
            await ka.offload(len, "", limiter=limiter)
    assert [span.name for span in recording.spans] == ["offload(len)"] * 2
