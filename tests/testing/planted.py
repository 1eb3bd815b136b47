"""Bugs that only a cancellation at the wrong moment shows, and what mends each.

Each function of `BUGS` gives two scenes: one with the bug, one without.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, NamedTuple

import anyio
import trio

import kingdom_async as ka

#: Seconds. uvloop has no virtual time.
SHORT = 0.01


class Scene(NamedTuple):
    """A body, and how to look at it."""

    body: Callable[[], Awaitable[object]]
    options: dict[str, Any]


class Bug(NamedTuple):
    """Two scenes, and what is said of the first."""

    planted: Scene
    mended: Scene
    said: str


def _scene(body: Callable[[], Awaitable[object]], **options: Any) -> Scene:
    return Scene(body, options)


def _nothing_lost(state: SimpleNamespace) -> Callable[[], None]:
    def nothing_lost() -> None:
        there = sorted(state.handled + state.left)
        assert there == state.put, f"put {state.put}, found {there}"

    return nothing_lost


def lost_item(mended: bool) -> Scene:
    """An item is taken, and handled only after a wait."""
    state = SimpleNamespace(put=[], handled=[], left=[])

    async def handle(item: int) -> None:
        await ka.checkpoint()
        state.handled.append(item)

    async def consume(queue: ka.Queue[int]) -> None:
        for _ in range(3):
            item = await queue.get()
            if mended:
                with anyio.CancelScope(shield=True):
                    await handle(item)
            else:
                await handle(item)

    async def body() -> None:
        state.put, state.handled, state.left = [0, 1, 2], [], []
        queue = ka.Queue[int](5)
        for item in state.put:
            queue.put_nowait(item)
        try:
            async with ka.TaskGroup() as group:
                group.start_soon(consume, queue)
        finally:
            state.left = queue.drain()

    return _scene(body, check=_nothing_lost(state))


def kept_lock(mended: bool) -> Scene:
    """A lock is acquired and released, with a wait between, and no finally."""
    state = SimpleNamespace()

    async def body() -> None:
        state.lock = ka.Lock()
        if mended:
            async with state.lock:
                await ka.checkpoint()
            return
        await state.lock.acquire()
        await ka.checkpoint()
        state.lock.release()

    return _scene(body, watch=[lambda: state.lock])


def kept_semaphore(mended: bool) -> Scene:
    """The same with a semaphore that was there before."""
    semaphore = anyio.Semaphore(2)

    async def body() -> None:
        if mended:
            async with semaphore:
                await ka.checkpoint()
            return
        await semaphore.acquire()
        await ka.checkpoint()
        semaphore.release()

    return _scene(body, watch=[semaphore])


def kept_condition(mended: bool) -> Scene:
    """A condition is left acquired by the task that waits on it."""
    state = SimpleNamespace()

    async def body() -> None:
        state.condition = condition = ka.Condition()
        await condition.acquire()
        if not mended:
            await ka.checkpoint()
            condition.release()
            return
        try:
            await ka.checkpoint()
        finally:
            condition.release()

    return _scene(body, watch=[lambda: [state.condition]])


def kept_token(mended: bool) -> Scene:
    """A token of a limiter is borrowed on behalf of a job, and not given back."""

    async def body() -> None:
        limiter, job = ka.CapacityLimiter(3), object()
        await limiter.acquire_on_behalf_of(job)
        try:
            await ka.sleep(SHORT)
        except BaseException:
            if mended:
                limiter.release_on_behalf_of(job)
            raise
        limiter.release_on_behalf_of(job)

    return _scene(body, grace=0.2)


LIMITER = ka.Limiter(2, name="jobs")


def kept_token_of_a_limiter_per_run(mended: bool) -> Scene:
    """The same with a limiter at module level, which is watched."""

    async def body() -> None:
        await LIMITER.acquire()
        try:
            await ka.sleep(SHORT)
        except BaseException:
            if mended:
                LIMITER.release()
            raise
        LIMITER.release()

    return _scene(body, watch=[LIMITER], grace=0.2)


def unshielded_cleanup(mended: bool) -> Scene:
    """The cleanup waits, and so is cancelled as well."""
    open_now: list[str] = []

    async def close() -> None:
        await ka.checkpoint()  # says goodbye
        open_now.remove("connection")

    async def body() -> None:
        open_now[:] = ["connection"]
        try:
            await ka.sleep(SHORT)
        finally:
            if mended:
                with ka.shielded(5):
                    await close()
            else:
                await close()

    def all_closed() -> None:
        assert not open_now, "still open: connection"

    return _scene(body, check=all_closed)


def unclosed_stream(mended: bool) -> Scene:
    """A pair of streams is closed at the end, unless there is none."""

    async def body() -> None:
        send, receive = anyio.create_memory_object_stream[int](1)
        if mended:
            async with send, receive:
                await send.send(1)
                await receive.receive()
            return
        await send.send(1)
        await receive.receive()
        send.close()
        receive.close()

    return _scene(body)


def orphan_task(mended: bool) -> Scene:
    """A task is started outside every group, and stopped unless the starter is cancelled."""

    async def work(stop: anyio.Event) -> None:
        with anyio.CancelScope(shield=True):
            await stop.wait()

    async def body() -> None:
        stop = anyio.Event()
        if mended:
            async with ka.TaskGroup() as group:
                group.start_soon(stop.wait)
                await ka.checkpoint()
                stop.set()
            return
        if ka.current_backend() == "trio":
            trio.lowlevel.spawn_system_task(work, stop)
        else:
            keep.append(asyncio.create_task(work(stop)))
        await ka.checkpoint()
        stop.set()

    keep: list[object] = []
    return _scene(body)


def swallowed(mended: bool) -> Scene:
    """Whatever is raised is logged, and that was all."""

    async def body() -> None:
        try:
            await ka.sleep(SHORT)
        except BaseException:
            if mended:
                raise

    return _scene(body)


def swallowed_in_a_child(mended: bool) -> Scene:
    """The same in a task of a group, which itself is cancelled in good order."""

    async def child() -> None:
        try:
            await ka.sleep(SHORT)
        except BaseException:
            if mended:
                raise

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(child, name="child")
            await ka.sleep(2 * SHORT)

    return _scene(body)


def swallowed_for_ever(mended: bool) -> Scene:
    """A worker that must not die, and so cannot be stopped."""

    caught = Exception if mended else BaseException

    async def worker(done: list[int]) -> None:
        while len(done) < 5:
            try:
                await ka.sleep(SHORT)
                done.append(1)
            except caught:
                continue

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(worker, [])

    return _scene(body)


def turned_into_an_error(mended: bool) -> Scene:
    """A cancellation is taken for a failure of the call."""
    caught = Exception if mended else BaseException

    async def body() -> None:
        try:
            await ka.sleep(SHORT)
        except caught as error:
            raise RuntimeError("the call failed") from error

    return _scene(body)


def half_done(mended: bool) -> Scene:
    """Money has left one account, and not reached the other."""
    accounts = {"a": 10, "b": 0}

    async def body() -> None:
        accounts.update(a=10, b=0)
        await ka.checkpoint()
        if mended:
            await ka.checkpoint()
            accounts["a"] -= 5
            accounts["b"] += 5
            return
        accounts["a"] -= 5
        await ka.checkpoint()
        accounts["b"] += 5

    def sums_up() -> None:
        assert sum(accounts.values()) == 10, f"{accounts} should sum up to 10"

    return _scene(body, check=sums_up)


def failing_cleanup(mended: bool) -> Scene:
    """The finally uses what there is only after the first wait."""

    async def connect() -> list[str]:
        await ka.checkpoint()
        return ["connection"]

    async def body() -> None:
        if mended:
            connection = await connect()
            try:
                await ka.checkpoint()
            finally:
                connection.clear()
            return
        try:
            connection = await connect()
            await ka.checkpoint()
        finally:
            connection.clear()

    return _scene(body)


def unawaited_coroutine(mended: bool) -> Scene:
    """A coroutine is made first and awaited later."""

    async def load() -> None:
        await ka.checkpoint()

    async def body() -> None:
        if mended:
            await ka.checkpoint()
            await load()
            return
        coro = load()
        await ka.checkpoint()
        await coro

    return _scene(body)


def generator_left_open(mended: bool) -> Scene:
    """The loop over an async generator is left, and its finally comes whenever it comes."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(1)

    closed: list[int] = []

    async def body() -> None:
        if mended:
            async with aclosing(numbers()) as source:  # type: ignore[type-var]
                async for _ in source:
                    await ka.checkpoint()
            return
        async for _ in numbers():
            await ka.checkpoint()

    return _scene(body)


def thread_left(mended: bool) -> Scene:
    """A thread is told to stop at the end only."""

    async def body() -> None:
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, args=(0.5,), name="poller")
        thread.start()
        try:
            await ka.checkpoint()
        except BaseException:
            if mended:
                stop.set()
                thread.join()
            raise
        stop.set()
        thread.join()

    return _scene(body, grace=0.05)


def pool_left(mended: bool) -> Scene:
    """An executor is shut down at the end only."""
    pools: list[ThreadPoolExecutor] = []

    async def body() -> None:
        pool = ThreadPoolExecutor(1)
        pools.append(pool)  # one that nobody has is shut down by the garbage collector
        try:
            await ka.offload(int, to=pool)
            await ka.checkpoint()
        except BaseException:
            if mended:
                pool.shutdown()
            raise
        pool.shutdown()

    return _scene(body, grace=0.05)


def nobody_closes(mended: bool) -> Scene:
    """One task is cancelled alone, and the other waits for it for ever."""

    async def produce(queue: ka.Queue[int]) -> None:
        if mended:
            with queue.producing():
                await queue.put(1)
                await ka.checkpoint()
            return
        await queue.put(1)
        await ka.checkpoint()
        queue.close()

    async def body() -> None:
        async with ka.Queue[int](1) as queue, ka.TaskGroup() as group:
            group.start_soon(produce, queue, name="producer")
            async for _ in queue:
                pass

    # uvloop has no virtual time, on which a deadlock is seen at once
    return _scene(body, task="producer", patience=0.3)


def counted_for_ever(mended: bool) -> Scene:
    """How many are at work is counted up before the wait, and down after it."""
    at_work: list[int] = []

    async def request() -> None:
        at_work.append(1)
        if not mended:
            await ka.sleep(SHORT)
            at_work.pop()
            return
        try:
            await ka.sleep(SHORT)
        finally:
            at_work.pop()

    async def body() -> None:
        at_work.clear()
        await ka.gather(request(), request())

    def none_at_work() -> None:
        assert not at_work, f"{len(at_work)} at work"

    return _scene(body, check=none_at_work)


def not_given_back_after_an_error(mended: bool) -> Scene:
    """A connection is given back after success and after a cancellation."""
    pool = ["connection"]

    async def body() -> None:
        pool[:] = ["connection"]
        connection = pool.pop()
        try:
            await ka.sleep(SHORT)
        except ka.get_cancelled_exc_class():
            pool.append(connection)
            raise
        except Exception:
            if mended:
                pool.append(connection)
            raise
        pool.append(connection)

    def given_back() -> None:
        assert pool, "the pool is empty"

    return _scene(body, check=given_back, mode="error")


def saved_twice(mended: bool) -> Scene:
    """After an error it is tried again, although the first attempt had been counted."""
    saved: list[int] = []

    async def save() -> None:
        if mended:
            await ka.sleep(SHORT)
            saved.append(1)
            return
        saved.append(1)
        await ka.sleep(SHORT)

    async def body() -> None:
        saved.clear()
        try:
            await save()
        except Exception:
            await save()

    def saved_once() -> None:
        assert len(saved) <= 1, f"saved {len(saved)} times"

    return _scene(body, check=saved_once, mode="error")


def shield_trusted(mended: bool) -> Scene:
    """A shield stops scopes; `Task.cancel()` it does not stop."""
    written: list[str] = []

    async def body() -> None:
        written.clear()
        with anyio.CancelScope(shield=True):
            if mended:
                await ka.checkpoint()
                written.extend(["head", "tail"])
                return
            written.append("head")
            await ka.checkpoint()
            written.append("tail")

    def whole() -> None:
        assert len(written) in (0, 2), f"written: {written}"

    return _scene(body, check=whole, mode="native")


def cleanup_cancelled_again(mended: bool) -> Scene:
    """The cleanup itself is cut short by a second cancellation, which goes through shields."""
    rows: list[str] = []

    async def body() -> None:
        rows[:] = ["a", "b"]
        try:
            await ka.sleep(SHORT)
        finally:
            if mended:
                rows.clear()
            else:
                with anyio.CancelScope(shield=True):
                    while rows:
                        rows.pop()
                        await ka.checkpoint()

    def all_or_none() -> None:
        assert len(rows) != 1, "one row is left"

    return _scene(body, check=all_or_none, mode="twice")


_FOUND_BY_CHECK = {
    lost_item: r"AssertionError: put \[0, 1, 2\], found \[.*\]",
    unshielded_cleanup: "AssertionError: still open: connection",
    half_done: "AssertionError: {'a': 5, 'b': 0} should sum up to 10",
    counted_for_ever: r"AssertionError: \d at work",
    not_given_back_after_an_error: "AssertionError: the pool is empty",
    saved_twice: "AssertionError: saved 2 times",
    shield_trusted: r"AssertionError: written: \['head'\]",
    cleanup_cancelled_again: "AssertionError: one row is left",
}

BUGS: dict[Callable[[bool], Scene], str] = {
    **_FOUND_BY_CHECK,
    kept_lock: r"held after the run: .*\(locked\)",
    kept_semaphore: r"held after the run: .*\(value \d\)",
    kept_condition: r"held after the run: .*\(locked\)",
    kept_token: "left behind: token of a limiter of 3, borrowed at",
    kept_token_of_a_limiter_per_run: r"held after the run: .*\(borrowed tokens: 1\)",
    unclosed_stream: "left behind: stream memory send stream",
    orphan_task: "left behind: task .*waits at planted.py",
    swallowed: "swallowed: task .*, and returned all the same",
    swallowed_in_a_child: "swallowed: task 'child' was cancelled, and returned all the same",
    swallowed_for_ever: "swallowed again and again: it was cancelled, and goes on for ever",
    turned_into_an_error: "RuntimeError: the call failed",
    failing_cleanup: "UnboundLocalError",
    unawaited_coroutine: "left behind: coroutine .*load",
    generator_left_open: "left behind: generator .*numbers",
    thread_left: "left behind: thread 'poller'",
    pool_left: "left behind: pool ThreadPoolExecutor",
    nobody_closes: "deadlock|hung",
}

#: Which do not show on trio: it has no Task.cancel().
ASYNCIO_ONLY = {shield_trusted, cleanup_cancelled_again}
