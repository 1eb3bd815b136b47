"""`no_leaks`: each kind is found, with its name and its line, and nothing is found beside."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

import kingdom_async as ka
from kingdom_async.testing.leaks import no_leaks
from kingdom_async.testing.leftovers.left import Leak, LeakError
from support.backends import asyncio_only

HERE = "test_no_leaks.py:"
DATABASE = ka.Limiter(3, name="database")

Plant = Callable[["Garden"], Awaitable[object]]
PLANTED: dict[str, tuple[Plant, tuple[str, str]]] = {}


class Garden:
    """Where things are planted, and what removes them after the block."""

    def __init__(self, group: Any, after: ExitStack) -> None:
        self.group = group
        self.after = after
        self.kept: list[Any] = []


@pytest.fixture
def after() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
        gc.collect()


def planted(kind: str, name: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLANTED[plant.__name__] = plant, (kind, name)  # type: ignore[attr-defined]
        return plant

    return register


async def nothing() -> None: ...


async def lines(closed: list[str] | None = None) -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await ka.checkpoint()


async def numbers() -> AsyncIterator[int]:
    yield 1
    yield 2


@planted("task", "wait_for_ever")
async def task(garden: Garden) -> None:
    async def wait_for_ever() -> None:
        await ka.sleep_forever()

    garden.group.start_soon(wait_for_ever)


@planted("task", "short")
async def task_that_takes_a_moment(garden: Garden) -> None:
    async def short() -> None:
        for _ in range(1000):
            await ka.checkpoint()

    garden.group.start_soon(short)


@planted("thread", "'stuck'")
async def thread(garden: Garden) -> None:
    event = threading.Event()
    garden.after.callback(event.set)
    threading.Thread(target=event.wait, name="stuck").start()


@planted("thread", "")
async def abandoned_call(garden: Garden) -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    garden.after.callback(may_end.set)

    def work() -> None:
        has_begun.set()
        may_end.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(partial(anyio.to_thread.run_sync, work, abandon_on_cancel=True))
        while not has_begun.is_set():
            await ka.checkpoint()
        group.cancel_scope.cancel()


@planted("pool", "ThreadPoolExecutor")
async def pool(garden: Garden) -> None:
    pool = ThreadPoolExecutor(1)
    garden.after.callback(pool.shutdown)
    await ka.offload(int, to=pool)


@planted("stream", "memory send stream")
async def memory_stream(garden: Garden) -> None:
    send, receive = anyio.create_memory_object_stream[int](1)
    garden.after.callback(send.close)
    receive.close()


@planted("stream", "memory receive stream")
async def dropped_stream(garden: Garden) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        send, receive = anyio.create_memory_object_stream[int](1)
        send.close()
        receive.itself = receive  # type: ignore[attr-defined]  # garbage in a cycle
        del receive
        gc.collect()


@planted("stream", "send stream of Queue 'jobs' 0/2")
async def stream_of_a_queue(garden: Garden) -> None:
    garden.kept.append(ka.Queue[int](2, name="jobs").send_stream)


@planted("queue", "Queue 'jobs' 1/2")
async def queue(garden: Garden) -> None:
    queue = ka.Queue[int](2, name="jobs")
    await queue.put(1)
    garden.kept.append(queue)


@planted("token", "of Limiter 'database'")
async def token_of_ours(garden: Garden) -> None:
    await DATABASE.acquire()


@planted("token", "of the default thread limiter")
async def token_of_threads(garden: Garden) -> None:
    await anyio.to_thread.current_default_thread_limiter().acquire_on_behalf_of("a token")


@planted("token", "of a limiter of 2")
async def token_of_anyio(garden: Garden) -> None:
    limiter = anyio.CapacityLimiter(2)
    limiter.acquire_on_behalf_of_nowait("a token")
    garden.kept.append(limiter)


@planted("coroutine", "nothing()")
async def coroutine_that_is_kept(garden: Garden) -> None:
    coroutine = nothing()
    garden.after.callback(coroutine.close)


@planted("generator", "lines()")
async def generator_that_is_kept(garden: Garden) -> None:
    generator = lines()
    async for _ in generator:
        break
    garden.kept.append(generator)


@planted("generator", "numbers()")
async def plain_generator_that_is_kept(garden: Garden) -> None:
    generator = numbers()
    await generator.__anext__()
    garden.kept.append(generator)


@planted("generator", "lines()")
async def generator_that_is_dropped(garden: Garden) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # trio's own
        async for _ in lines():
            break


@pytest.mark.parametrize("name", PLANTED)
async def test_each_kind_is_found(name: str, after: ExitStack) -> None:
    """One leak, of the right kind, with its name and the line that it came from."""
    plant, (kind, told) = PLANTED[name]
    async with anyio.create_task_group() as group:
        garden = Garden(group, after)
        with pytest.raises(LeakError) as caught:
            async with no_leaks(grace=0.05):
                await plant(garden)
        group.cancel_scope.cancel()
    await _tidy_up(garden)

    leaks = [leak for leak in caught.value.leaks if leak.kind == kind]
    assert len(leaks) == 1, caught.value
    assert told in leaks[0].name
    assert HERE in leaks[0].place
    assert {leak.kind for leak in caught.value.leaks} <= {kind, "thread", "token"}


async def _tidy_up(garden: Garden) -> None:
    default = anyio.to_thread.current_default_thread_limiter()
    for limiter, borrower in ((default, "a token"), (DATABASE, None)):
        try:
            if borrower is None:
                limiter.release()
            else:
                limiter.release_on_behalf_of(borrower)
        except RuntimeError:
            pass  # it was not this one's turn
    for kept in garden.kept:
        if isinstance(kept, ka.Queue):
            kept.drain()
        elif hasattr(kept, "aclose"):
            await kept.aclose()


async def test_a_coroutine_that_is_dropped_is_found_by_its_line() -> None:
    """Python's warning names the coroutine; here is the line that called it as well."""
    with pytest.raises(LeakError) as caught, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with no_leaks():
            nothing()
    assert [warning.filename for warning in warned] == [__file__]
    (leak,) = caught.value.leaks
    assert (leak.kind, leak.name) == ("coroutine", "nothing()")
    assert leak.place.startswith("dropped, called at test_no_leaks.py:")
    assert leak.place.endswith("in test_a_coroutine_that_is_dropped_is_found_by_its_line")


async def test_what_the_error_says() -> None:
    """It names what is left and what to write instead."""
    send, receive = None, None
    with pytest.raises(LeakError) as caught:
        async with no_leaks():
            send, receive = anyio.create_memory_object_stream[int](1)
            send.close()
    assert receive is not None
    receive.close()
    place = caught.value.leaks[0].place
    assert str(caught.value) == (
        "no_leaks(): 1 thing is left behind\n"
        f"  - stream memory receive stream, {place}\n"
        "stream: close it, or use it as 'async with'"
    )


async def test_nothing_is_found_where_all_is_over() -> None:
    """No alarm for what is closed, nor for worker threads and pools that stay by design."""
    async with no_leaks():
        await anyio.to_thread.run_sync(int)
        await ka.offload(int)
        await ka.offload_map(str, range(5), limit=2)
        await ka.amap(lambda _: nothing(), range(5), limit=2)
        async with DATABASE, ka.TaskGroup() as group:
            group.start_soon(nothing)
        async for _ in lines():
            pass
        async with aclosing(lines()) as generator:
            await generator.__anext__()
        send, receive = anyio.create_memory_object_stream[int](1)
        with send, receive:
            await send.send(1)
        with ThreadPoolExecutor(1) as executor:
            await ka.offload(int, to=executor)
        queue = ka.Queue[int](2)
        async with queue.send_stream as sender, queue.receive_stream:
            await sender.send(1)
            assert await queue.get() == 1
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


@asyncio_only
async def test_the_loops_own_pool_is_no_leak() -> None:
    """`asyncio.to_thread` starts it, and the loop shuts it down when it ends."""
    async with no_leaks():
        await asyncio.to_thread(int)


async def test_what_was_there_before_is_no_leak(after: ExitStack) -> None:
    """Tasks, threads, streams, tokens and generators of before may outlive the block."""
    event = threading.Event()
    after.callback(event.set)
    thread = threading.Thread(target=event.wait)
    thread.start()
    send, receive = anyio.create_memory_object_stream[int](1)
    generator, coroutine = lines(), nothing()
    await generator.__anext__()
    with send, receive:
        async with anyio.create_task_group() as group, DATABASE:
            group.start_soon(ka.sleep_forever)
            async with no_leaks():
                await send.send(1)
            group.cancel_scope.cancel()
    await generator.aclose()
    coroutine.close()


async def test_a_token_of_a_task_of_before_is_a_leak_once_that_has_ended() -> None:
    """A worker that is there may be at work; what one had that is not, nobody gives back."""
    go, end = ka.Event(), ka.Event()

    async def work() -> None:
        await go.wait()
        await DATABASE.acquire()
        await end.wait()

    async with ka.TaskGroup(errors="first") as group:
        task = group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        async with no_leaks():
            go.set()
            await anyio.wait_all_tasks_blocked()
        DATABASE.release_on_behalf_of(*DATABASE.statistics().borrowers)
        end.set()
        await task.wait()

        go = ka.Event()
        task = group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(LeakError, match=r"token of Limiter 'database', .* in work"):
            async with no_leaks(grace=0):
                go.set()
                await task.wait()
        DATABASE.release_on_behalf_of(*DATABASE.statistics().borrowers)


async def test_what_an_earlier_block_has_left_is_not_told_again(after: ExitStack) -> None:
    """A coroutine that is kept belongs to the block that made it."""
    coroutine = None
    with pytest.raises(LeakError):
        async with no_leaks():
            coroutine = nothing()
    async with no_leaks():
        pass
    assert coroutine is not None
    coroutine.close()


async def test_a_generator_that_is_dropped_with_nothing_to_clean_up_is_over() -> None:
    """It would do nothing when closed, so nothing is left undone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # trio warns all the same
        async with no_leaks():
            async for _ in numbers():
                break


async def test_a_thread_that_is_about_to_end_has_its_grace() -> None:
    """A thread that ends within the grace is no leak, and the block waits no longer."""
    event = threading.Event()
    async with no_leaks(grace=20):
        thread = threading.Thread(target=event.wait)
        thread.start()
        event.set()
    thread.join()


async def test_a_warning_that_the_block_looks_for_is_no_leak() -> None:
    """A test of a library may drop a coroutine on purpose."""
    async with no_leaks():
        with pytest.warns(RuntimeWarning, match="coroutine 'nothing' was never awaited$"):
            nothing()


async def test_a_call_left_in_a_worker_of_before_is_found(after: ExitStack) -> None:
    """trio's worker threads serve all runs; the thread was there, the call was not."""
    await anyio.to_thread.run_sync(int)  # now there is one that is idle
    with pytest.raises(LeakError) as caught:
        async with no_leaks(grace=0.05):
            await abandoned_call(Garden(None, after))
    assert "thread" in {leak.kind for leak in caught.value.leaks}


async def test_an_error_of_the_block_is_not_replaced() -> None:
    """What is left then is the error's doing."""
    stream = None
    with pytest.raises(KeyError):
        async with no_leaks():
            stream, other = anyio.create_memory_object_stream[int](1)
            other.close()
            raise KeyError
    assert stream is not None
    stream.close()


async def test_what_is_allowed_is_no_leak(after: ExitStack) -> None:
    """By its kind and its name, as a pattern."""
    async with anyio.create_task_group() as group:
        with pytest.raises(LeakError) as caught:
            async with no_leaks(grace=0, allow=["thread stuck*"]):
                await task(Garden(group, after))
        async with no_leaks(grace=0, allow=["task *wait_for_ever*"]):
            await task(Garden(group, after))
        group.cancel_scope.cancel()
    assert [leak.kind for leak in caught.value.leaks] == ["task"]


async def test_no_hook_stays_behind() -> None:
    """Nothing is watched once the last block is left."""

    def watched() -> list[object]:
        classes: list[Any] = [threading.Thread, ka.Queue, ThreadPoolExecutor]
        return [vars(owner).get(name) for owner in classes for name in ("__init__", "start")]

    before = watched()
    async with no_leaks(), no_leaks():
        assert watched() != before
    assert watched() == before


async def test_arguments() -> None:
    """A pattern alone would be taken for its letters."""
    with pytest.raises(TypeError, match=r"^allow takes a collection of patterns; write "):
        async with no_leaks(allow="task x"):
            pass
    with pytest.raises(ValueError, match=r"^grace must be 0 or more seconds, not -1; "):
        async with no_leaks(grace=-1):
            pass
    with pytest.raises(ValueError, match=r"^grace must be 0 or more seconds, not nan; "):
        async with no_leaks(grace=float("nan")):
            pass
    with pytest.raises(TypeError, match=r"^allow takes patterns, not 3; write allow="):
        async with no_leaks(allow=[3]):  # type: ignore[list-item]
            pass


def test_a_leak_says_what_it_is() -> None:
    """Kind, name and place."""
    leak = Leak("task", "'serve'", "started at app.py:3 in main")
    assert str(leak) == "task 'serve', started at app.py:3 in main"
