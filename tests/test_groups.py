"""TaskGroup: what it has in common with anyio's, and daemons."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import re
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup as AnyTaskGroup
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from kingdom_async._members import _Unfinished
from support.backends import asyncio_only
from support.errors import shape
from support.turns import settle

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

BOTH = pytest.mark.parametrize("errors", ["group", "first"])


async def fail(error: BaseException) -> None:
    raise error


# --- the same as anyio's ------------------------------------------------------------------


async def nothing_goes_wrong(group: AnyTaskGroup) -> None:
    group.start_soon(checkpoint)


async def a_child_fails(group: AnyTaskGroup) -> None:
    group.start_soon(fail, ValueError("child"))
    await anyio.sleep_forever()


async def the_body_fails(group: AnyTaskGroup) -> None:
    group.start_soon(anyio.sleep_forever)
    raise ValueError("body")


async def two_children_fail(group: AnyTaskGroup) -> None:
    group.start_soon(fail, ValueError("one"))
    group.start_soon(fail, KeyError("two"))


async def a_cleanup_fails(group: AnyTaskGroup) -> None:
    async def clean_up() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    group.start_soon(clean_up)
    await anyio.wait_all_tasks_blocked()
    raise ValueError("body")


async def cancelled_by_hand(group: AnyTaskGroup) -> None:
    group.start_soon(anyio.sleep_forever)
    group.cancel()
    await anyio.sleep_forever()


async def cancelled_with_a_failing_cleanup(group: AnyTaskGroup) -> None:
    try:
        group.cancel_scope.cancel()
        await anyio.sleep_forever()
    finally:
        raise ValueError("cleanup")


async def a_nested_group_fails(group: AnyTaskGroup) -> None:
    async with anyio.create_task_group() as inner:
        inner.start_soon(fail, ValueError("inner"))
        await anyio.sleep_forever()


async def a_group_is_raised(group: AnyTaskGroup) -> None:
    raise ExceptionGroup("mine", [ValueError("a"), ExceptionGroup("deeper", [KeyError("b")])])


async def a_task_does_not_start(group: AnyTaskGroup) -> None:
    async def early(*, task_status: TaskStatus[None]) -> None:
        raise ValueError("early")

    await group.start(early)


async def a_task_never_says_started(group: AnyTaskGroup) -> None:
    async def silent(*, task_status: TaskStatus[None]) -> None:
        await checkpoint()

    await group.start(silent)


async def a_started_task_fails(group: AnyTaskGroup) -> None:
    async def late(*, task_status: TaskStatus[int]) -> None:
        task_status.started(1)
        raise ValueError("late")

    await group.start(late)
    await anyio.sleep_forever()


class Unusual(BaseException):
    pass


async def a_base_exception(group: AnyTaskGroup) -> None:
    group.start_soon(fail, Unusual("unusual"))
    await anyio.sleep_forever()


async def a_handle_is_cancelled(group: AnyTaskGroup) -> None:
    handle = group.start_soon(anyio.sleep_forever)
    await checkpoint()
    handle.cancel()


PROGRAMS = [
    nothing_goes_wrong,
    a_child_fails,
    the_body_fails,
    two_children_fail,
    a_cleanup_fails,
    cancelled_by_hand,
    cancelled_with_a_failing_cleanup,
    a_nested_group_fails,
    a_group_is_raised,
    a_task_does_not_start,
    a_task_never_says_started,
    a_started_task_fails,
    a_base_exception,
    a_handle_is_cancelled,
]


async def outcome(
    program: Callable[[AnyTaskGroup], Awaitable[None]], group: AnyTaskGroup
) -> tuple[object, bool, bool]:
    error: BaseException | None = None
    try:
        async with group:
            await program(group)
    except BaseException as caught:
        error = caught
    scope = group.cancel_scope
    return shape(error), scope.cancel_called, scope.cancelled_caught


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_with_group_errors_it_ends_as_the_group_of_anyio_does(program: Any) -> None:
    """errors="group" is anyio's behaviour: the same error, the same state of the scope."""
    ours = await outcome(program, ka.TaskGroup())
    theirs = await outcome(program, anyio.create_task_group())
    assert ours == theirs


@BOTH
async def test_is_a_task_group_of_anyio(errors: Any) -> None:
    """isinstance() says what it is, and the handles are anyio's own."""
    async with ka.TaskGroup(errors=errors) as group:
        handle = group.start_soon(checkpoint)
    assert isinstance(group, AnyTaskGroup)
    assert isinstance(handle, anyio.TaskHandle)


async def answer(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.send((await stream.receive()).upper())


@BOTH
async def test_anyio_functions_take_it(errors: Any) -> None:
    """A listener of anyio serves its connections in our group."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        ka.TaskGroup(errors=errors) as group,
    ):
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        group.start_soon(lambda: listener.serve(answer, task_group=group), daemon=True)
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            await client.send(b"hello")
            assert await client.receive() == b"HELLO"


@BOTH
async def test_handles_give_values_and_are_named(errors: Any) -> None:
    """Each way to start a task gives a handle with the value and a name that tells."""

    async def double(number: int) -> int:
        await checkpoint()
        return 2 * number

    async with ka.TaskGroup(errors=errors) as group:
        soon = group.start_soon(double, 1)
        named = group.start_soon(double, 2, name="four")
        made = group.create_task(double(3))
        made_named = group.create_task(double(4), name="eight")
    handles = (soon, named, made, made_named)
    assert [handle.return_value for handle in handles] == [2, 4, 6, 8]
    default = f"{__name__}.{double.__qualname__}"
    assert [handle.name for handle in handles] == [default, "four", default, "eight"]


@BOTH
async def test_a_task_is_named_for_the_function_that_was_given(errors: Any) -> None:
    """Not for the coroutine that it returned, which another function may have made."""

    class Serve:
        async def __call__(self) -> None:
            pass

    def wrapper() -> Coroutine[Any, Any, None]:
        return checkpoint()

    async with ka.TaskGroup(errors=errors) as group:
        for func, told in (
            (Serve(), Serve),
            (wrapper, wrapper),
            (functools.partial(wrapper), wrapper),
        ):
            assert group.start_soon(func).name == f"{__name__}.{told.__qualname__}"


@BOTH
async def test_start_gives_the_start_value_or_the_handle(errors: Any) -> None:
    """start() returns what started() was given; the handle has that and the result."""

    async def serve(port: int, *, task_status: TaskStatus[int]) -> str:
        task_status.started(port)
        await checkpoint()
        return "served"

    async with ka.TaskGroup(errors=errors) as group:
        assert await group.start(serve, 80) == 80
        handle = await group.start(serve, 81, name="second", return_handle=True)
    assert (handle.start_value, handle.return_value, handle.name) == (81, "served", "second")
    assert handle.coro.__qualname__ == serve.__qualname__


@BOTH
async def test_a_task_gets_the_context_given(errors: Any) -> None:
    """It runs in a copy of context=, and without it, in a copy of the caller's."""
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)

    async def read() -> int:
        before = number.get()
        number.set(99)
        return before

    elsewhere = contextvars.copy_context()
    elsewhere.run(number.set, 1)
    number.set(2)
    async with ka.TaskGroup(errors=errors) as group:
        given = group.create_task(read(), context=elsewhere)
        copied = group.create_task(read())
    assert (given.return_value, copied.return_value) == (1, 2)
    assert (elsewhere[number], number.get()) == (1, 2)


@asyncio_only  # trio shuffles those whose turn it is
@BOTH
async def test_an_empty_block_gives_way(errors: Any) -> None:
    """Leaving a group is a turn for the others, also where there is nothing to wait for."""
    ran: list[int] = []

    async def other() -> None:
        ran.append(1)

    async with anyio.create_task_group() as others:
        others.start_soon(other)
        async with ka.TaskGroup(errors=errors):
            pass
        assert ran == [1]


@BOTH
async def test_cancel_ends_all_tasks_without_an_error(errors: Any) -> None:
    """cancel() ends body and tasks, and the block is left in peace."""
    async with ka.TaskGroup(errors=errors) as group:
        handle = group.start_soon(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        group.cancel("enough")
        await anyio.sleep_forever()
    assert group.cancel_scope.cancelled_caught
    assert handle.status is ka.TaskHandle.Status.CANCELLED


@BOTH
async def test_an_outside_cancellation_passes(errors: Any) -> None:
    """A cancelled scope around the group ends it, and the scope knows."""
    with anyio.CancelScope() as scope:
        async with ka.TaskGroup(errors=errors) as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


@BOTH
@pytest.mark.parametrize("tasks", [0, 2])
async def test_a_block_whose_work_is_done_is_left_in_peace(errors: Any, tasks: int) -> None:
    """A cancellation from outside that finds nothing to wait for waits for the next line."""
    done = False
    with anyio.CancelScope() as scope:
        async with ka.TaskGroup(errors=errors) as group:
            handles = [group.start_soon(checkpoint) for _ in range(tasks)]
            for handle in handles:
                await handle
            scope.cancel()
        done = True
    assert done
    assert not scope.cancelled_caught


# --- daemons ------------------------------------------------------------------------------


@BOTH
async def test_a_daemon_does_not_keep_the_group_open(errors: Any) -> None:
    """The block is left though its daemon would run for ever, and the daemon has ended."""
    cleaned: list[str] = []

    async def beat() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(1):
                await checkpoint()
            cleaned.append("beat")

    async with ka.TaskGroup(errors=errors) as group:
        handle = group.start_soon(beat, daemon=True)
        await anyio.wait_all_tasks_blocked()
    assert cleaned == ["beat"]
    assert handle.status is ka.TaskHandle.Status.CANCELLED
    assert not group.cancel_scope.cancel_called


@BOTH
async def test_daemons_run_until_the_last_ordinary_task_is_done(errors: Any) -> None:
    """Neither the end of the body nor of one task ends a daemon, but that of all of them."""
    log: list[str] = []
    gate = anyio.Event()

    async def beat() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("daemon")

    async def last() -> None:
        await gate.wait()
        await checkpoint()
        log.append("last task")

    async def first() -> None:
        group.start_soon(last)
        log.append("first task")

    async with anyio.create_task_group() as outer, ka.TaskGroup(errors=errors) as group:
        group.start_soon(beat, daemon=True)
        group.create_task(beat(), daemon=True)
        group.start_soon(first)

        async def open_the_gate() -> None:
            await anyio.wait_all_tasks_blocked()
            log.append("all wait")
            gate.set()

        outer.start_soon(open_the_gate)
    assert log == ["first task", "all wait", "last task", "daemon", "daemon"]


@BOTH
async def test_daemons_are_cancelled_together(errors: Any) -> None:
    """No daemon is left running while another one cleans up."""
    cancelled: list[int] = []
    all_cancelled = anyio.Event()

    async def beat(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(number)
            if len(cancelled) == 3:
                all_cancelled.set()
            with ka.shielded(60):
                await all_cancelled.wait()

    async with ka.TaskGroup(errors=errors) as group:
        for number in range(3):
            group.start_soon(beat, number, daemon=True)
        await anyio.wait_all_tasks_blocked()
    assert sorted(cancelled) == [0, 1, 2]


@BOTH
@pytest.mark.parametrize("where", ["body", "task", "daemon"])
async def test_a_failure_cancels_daemons_at_once(errors: Any, where: str) -> None:
    """A failed group waits for no ordinary task before it cancels its daemons."""
    log: list[str] = []
    daemon_gone = anyio.Event()

    async def beat() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("daemon")
            daemon_gone.set()

    async def slow_to_end() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with ka.shielded(60):
                await daemon_gone.wait()
            log.append("task")

    with pytest.raises((ValueError, ExceptionGroup)):
        async with ka.TaskGroup(errors=errors) as group:
            group.start_soon(beat, daemon=True)
            group.start_soon(slow_to_end)
            await anyio.wait_all_tasks_blocked()
            if where == "body":
                raise ValueError
            group.start_soon(fail, ValueError(), daemon=where == "daemon")
    assert log == ["daemon", "task"]


@BOTH
async def test_a_daemon_started_by_a_task_after_the_body_lives_as_long_as_tasks_do(
    errors: Any,
) -> None:
    """The first daemon may come when the body has ended, and is not cut short for it."""
    log: list[str] = []

    async def beat() -> None:
        log.append("daemon starts")
        try:
            await anyio.sleep_forever()
        finally:
            log.append("daemon ends")

    async def work() -> None:
        await anyio.wait_all_tasks_blocked()
        group.start_soon(beat, daemon=True)
        await anyio.wait_all_tasks_blocked()
        log.append("work ends")

    async with ka.TaskGroup(errors=errors) as group:
        group.start_soon(work)
    assert log == ["daemon starts", "work ends", "daemon ends"]


@BOTH
async def test_a_group_ends_its_own_daemons_only(errors: Any) -> None:
    """Those of the group around it, of the same task, live on."""
    log: list[str] = []

    async def beat(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(name)

    async with ka.TaskGroup(errors=errors) as outer:
        outer.start_soon(beat, "outer", daemon=True)
        async with ka.TaskGroup(errors=errors) as inner:
            inner.start_soon(beat, "inner", daemon=True)
            await settle()
        await settle()
        assert log == ["inner"]
    assert log == ["inner", "outer"]


@BOTH
async def test_a_task_that_starts_up_keeps_daemons_alive(errors: Any) -> None:
    """Also where a task of another group starts it: it may need them to come up."""
    log: list[str] = []
    may_start = anyio.Event()

    async def pool() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("pool ends")

    async def serve(*, task_status: TaskStatus[None]) -> None:
        await may_start.wait()
        task_status.started()
        await settle()
        log.append("server ends")

    async with anyio.create_task_group() as outer, ka.TaskGroup(errors=errors) as group:
        group.start_soon(pool, daemon=True)
        outer.start_soon(group.start, serve)
        await settle()
        outer.start_soon(_after_a_while, may_start)
    assert log == ["server ends", "pool ends"]


async def _after_a_while(event: anyio.Event) -> None:
    await settle()
    event.set()


@pytest.mark.parametrize("ends", ["cancelled", "fails"])
@BOTH
async def test_daemons_end_where_nothing_comes_up(errors: Any, ends: str) -> None:
    """A start that is cancelled, or fails, keeps nobody waiting."""

    async def serve(*, task_status: TaskStatus[None]) -> None:
        await settle()
        if ends == "fails":
            raise LookupError
        await anyio.sleep_forever()

    async def start(group: ka.TaskGroup) -> None:
        with anyio.CancelScope() as scope, contextlib.suppress(LookupError):
            outer.start_soon(_cancel_after_a_while, scope)
            await group.start(serve)

    async with anyio.create_task_group() as outer, ka.TaskGroup(errors=errors) as group:
        group.start_soon(anyio.sleep_forever, daemon=True)
        outer.start_soon(start, group)
        await checkpoint()


async def _cancel_after_a_while(scope: anyio.CancelScope) -> None:
    await settle()
    await settle()
    scope.cancel()


@BOTH
async def test_a_daemon_started_while_daemons_are_cancelled_is_cancelled_too(
    errors: Any,
) -> None:
    """A daemon that starts another one as it ends does not keep the group open."""
    ended: list[int] = []

    async def hydra(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(number)
            if number < 3:
                group.start_soon(hydra, number + 1, daemon=True)

    async with ka.TaskGroup(errors=errors) as group:
        group.start_soon(hydra, 1, daemon=True)
        await anyio.wait_all_tasks_blocked()
    assert ended == [1, 2, 3]


@BOTH
async def test_a_task_started_while_daemons_are_cancelled_is_waited_for(errors: Any) -> None:
    """An ordinary task is never cancelled for the daemons' sake."""
    done: list[str] = []

    async def farewell() -> None:
        await anyio.wait_all_tasks_blocked()
        done.append("farewell")

    async def beat() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            group.start_soon(farewell)

    async with ka.TaskGroup(errors=errors) as group:
        group.start_soon(beat, daemon=True)
        await anyio.wait_all_tasks_blocked()
    assert done == ["farewell"]


@BOTH
async def test_a_failing_daemon_fails_the_group(errors: Any) -> None:
    """A daemon is a task: its failure ends the others and is raised."""
    with pytest.raises((ValueError, ExceptionGroup)) as caught:
        async with ka.TaskGroup(errors=errors) as group:
            group.start_soon(anyio.sleep_forever)
            group.start_soon(fail, ValueError("daemon"), daemon=True)
    expected = (ValueError, "daemon")
    assert shape(caught.value) == (
        expected if errors == "first" else (ExceptionGroup, expected)
    )


@BOTH
async def test_a_daemon_that_fails_as_it_is_cancelled_fails_the_group(errors: Any) -> None:
    """The cleanup of a daemon is no place where an error can hide."""

    async def beat() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    with pytest.raises((ValueError, ExceptionGroup)) as caught:
        async with ka.TaskGroup(errors=errors) as group:
            group.start_soon(beat, daemon=True)
            await anyio.wait_all_tasks_blocked()
    expected = (ValueError, "cleanup")
    assert shape(caught.value) == (
        expected if errors == "first" else (ExceptionGroup, expected)
    )


@BOTH
async def test_a_daemon_can_be_started_with_start(errors: Any) -> None:
    """start(daemon=True) waits for started(), and then the task is a daemon."""

    async def serve(*, task_status: TaskStatus[int]) -> None:
        task_status.started(80)
        await anyio.sleep_forever()

    async with ka.TaskGroup(errors=errors) as group:
        assert await group.start(serve, daemon=True) == 80
        handle = await group.start(serve, daemon=True, return_handle=True)
    assert handle.status is ka.TaskHandle.Status.CANCELLED


@BOTH
async def test_a_daemon_that_has_ended_is_of_no_account(errors: Any) -> None:
    """A daemon may end by itself; its value stays."""

    async def once() -> str:
        return "done"

    async with ka.TaskGroup(errors=errors) as group:
        handle = group.start_soon(once, daemon=True)
        await anyio.wait_all_tasks_blocked()
    assert handle.return_value == "done"


# --- misuse -------------------------------------------------------------------------------


async def fetch(number: int) -> int:
    return number


def blocking() -> int:
    return 3


async def test_start_soon_of_a_coroutine_gets_a_sentence() -> None:
    """start_soon(fetch(1)) says what to write, and closes the coroutine."""
    coro = fetch(1)
    async with ka.TaskGroup() as group:
        with pytest.raises(
            TypeError,
            match=re.escape(
                "start_soon() takes the function and its arguments: "
                "write start_soon(fetch, …), not start_soon(fetch(…))"
            )
            + "$",
        ):
            group.start_soon(coro)  # type: ignore[arg-type]
    assert coro.cr_frame is None


async def test_start_of_a_coroutine_gets_a_sentence() -> None:
    """As does start(fetch(1))."""
    coro = fetch(1)
    async with ka.TaskGroup() as group:
        with pytest.raises(
            TypeError,
            match=re.escape(
                "start() takes the function and its arguments: "
                "write start(fetch, …), not start(fetch(…))"
            )
            + "$",
        ):
            await group.start(coro)  # type: ignore[arg-type]
    assert coro.cr_frame is None


@pytest.mark.parametrize("call", ["start_soon", "start"])
async def test_a_function_that_is_not_async_gets_a_sentence(call: str) -> None:
    """A blocking function is pointed to offload."""

    def blocking(**kwargs: object) -> int:
        return 3

    name = f"{__name__}.{blocking.__qualname__}"
    async with ka.TaskGroup() as group:
        with pytest.raises(
            TypeError,
            match=re.escape(
                f"{call}() takes an async function; {name}() returned 3, which is no "
                f"coroutine; for a blocking function write {call}(offload, {name}, …)"
            )
            + "$",
        ):
            if call == "start":
                await group.start(blocking)  # type: ignore[arg-type]
            else:
                group.start_soon(blocking)  # type: ignore[arg-type]


async def test_create_task_of_a_function_gets_a_sentence() -> None:
    """create_task(fetch) says what to write."""
    async with ka.TaskGroup() as group:
        with pytest.raises(
            TypeError,
            match=re.escape(
                "create_task() takes a coroutine, not the function fetch; "
                "write create_task(fetch(…)) or start_soon(fetch, …)"
            )
            + "$",
        ):
            group.create_task(fetch)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["start_soon", "start"])
async def test_what_is_no_function_gets_a_sentence(call: str) -> None:
    """start_soon(None) says what it takes."""
    async with ka.TaskGroup() as group:
        with pytest.raises(
            TypeError,
            match=re.escape(
                f"{call}() takes an async function and its arguments, not None; "
                f"write {call}(fetch, 1)"
            )
            + "$",
        ):
            if call == "start":
                await group.start(None)  # type: ignore[arg-type]
            else:
                group.start_soon(None)  # type: ignore[arg-type]


class Called:
    def __call__(self) -> int:
        return 3


async def listen() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("func", "sentence"),
    [
        (
            listen,
            (
                "{listen}() returned the async generator listen, which is no coroutine; "
                "iterate over it in an async function, and start that"
            ),
        ),
        (
            Called(),
            (
                "{Called}() returned 3, which is no coroutine; "
                "for a blocking function write start_soon(offload, {Called}, …)"
            ),
        ),
        (
            functools.partial(max, 1, 2),
            (
                "builtins.max() returned 2, which is no coroutine; "
                "for a blocking function write start_soon(offload, builtins.max, …)"
            ),
        ),
    ],
    ids=["async generator", "object", "partial"],
)
async def test_sentences_name_functions_and_show_no_addresses(func: Any, sentence: str) -> None:
    """Whatever can be called has a name."""
    names = {name: f"{__name__}.{name}" for name in ("listen", "Called")}
    sentence = f"start_soon() takes an async function; {sentence.format(**names)}"
    async with ka.TaskGroup() as group:
        with pytest.raises(TypeError, match=re.escape(sentence) + "$"):
            group.start_soon(func)


async def test_a_plain_with_gets_a_sentence() -> None:
    """On every Python: 3.10 would say no more than AttributeError."""
    group: Any = ka.TaskGroup()
    sentence = "a TaskGroup is entered with async with: write async with TaskGroup() as group:"
    with pytest.raises(TypeError, match=re.escape(sentence) + "$"), group:
        pass
    assert not isinstance(group, contextlib.AbstractContextManager)


async def test_an_error_of_the_call_itself_is_left_alone() -> None:
    """Wrong arguments are reported by Python, in its own words."""
    async with ka.TaskGroup() as group:
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            group.start_soon(fetch)  # type: ignore[arg-type]


async def test_unknown_errors_are_refused() -> None:
    """errors= has two values, and the message names them."""
    with pytest.raises(
        ValueError, match=re.escape("errors must be 'group' or 'first', not 'all'") + "$"
    ):
        ka.TaskGroup(errors="all")  # type: ignore[arg-type]


async def test_a_group_that_is_not_open_starts_nothing_and_closes_the_coroutine() -> None:
    """Before and after its block a group refuses tasks, without a never-awaited warning."""
    group = ka.TaskGroup()
    coros = [fetch(1), fetch(2)]
    sentence = r"^This task group is not active; no new tasks can be started\.$"
    with pytest.raises(RuntimeError, match=sentence):
        group.create_task(coros[0])
    async with group:
        pass
    with pytest.raises(RuntimeError, match=sentence):
        group.create_task(coros[1])
    with pytest.raises(RuntimeError, match=sentence):
        group.start_soon(fetch, 3)
    with pytest.raises(RuntimeError, match=sentence):
        await group.start(fetch, 4)
    assert [coro.cr_frame for coro in coros] == [None, None]


# --- what a group keeps -------------------------------------------------------------------


async def test_a_group_of_many_does_not_look_through_them_at_each_start() -> None:
    """So that a start costs the same, however many tasks live."""
    looks = 0

    class Handle:
        @property
        def status(self) -> ka.TaskHandle.Status:
            nonlocal looks
            looks += 1
            return ka.TaskHandle.Status.PENDING

    handles: Any = _Unfinished()
    for _ in range(1000):
        handles.add(Handle())
    assert len(handles.handles) == 1000
    assert looks < 2 * 1000


@BOTH
@pytest.mark.parametrize("daemon", [False, True])
async def test_finished_tasks_are_not_hoarded(errors: Any, daemon: bool) -> None:
    """A group that starts tasks for years keeps no more of them than are running."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    async with ka.TaskGroup(errors=errors) as group:
        for _ in range(500):
            alive.add(group.start_soon(checkpoint, daemon=daemon))
            await checkpoint()
            await checkpoint()
        gc.collect()
        assert len(alive) < 100
