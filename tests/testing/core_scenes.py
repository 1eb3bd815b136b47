"""Each public primitive at work, to be cancelled everywhere.

Each function of `SCENES` gives a body and how to look at it. What a body keeps score of is new
in each run; `check` compares the scores.
"""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import kingdom_async as ka

if TYPE_CHECKING:
    import anyio

#: Seconds. uvloop has no virtual time.
SHORT = 0.002


class Scene(NamedTuple):
    """A body, and how to look at it."""

    body: Callable[[], Awaitable[object]]
    options: dict[str, Any]


MODES = ("once", "twice", "native", "error")
#: What is not asked of a scene: an error where it says there is none; a shield that holds
#: against what goes through shields; a process for each point, which takes long.
NOT_ASKED = {
    "amap_with_errors": {"error"},
    "gather_with_exceptions": {"error"},
    "shielded": {"error", "native", "twice"},
    "offload_to_a_process": {"error", "native", "twice"},
}

SCENES: dict[str, Callable[[], Scene]] = {}
#: Those whose threads make steps come and go.
THREADED: set[str] = set()


def scene(make: Callable[[], Scene]) -> Callable[[], Scene]:
    SCENES[make.__name__] = make
    return make


def threaded(make: Callable[[], Scene]) -> Callable[[], Scene]:
    THREADED.add(make.__name__)
    return scene(make)


def _scene(body: Callable[[], Awaitable[object]], **options: Any) -> Scene:
    return Scene(body, options)


async def turns(number: int, value: int = 0) -> int:
    for _ in range(number):
        await ka.checkpoint()
    return value


async def naps(number: int, value: int = 0) -> int:
    for _ in range(number):
        await ka.sleep(SHORT)
    return value


async def fails(number: int) -> int:
    await turns(number)
    raise LookupError(number)


class Running:
    """Which tasks are inside: none may be when the body is over."""

    def __init__(self) -> None:
        self.now = 0

    async def __call__(self, number: int, value: int = 0) -> int:
        self.now += 1
        try:
            return await turns(number, value)
        finally:
            self.now -= 1

    def none_left(self) -> None:
        now, self.now = self.now, 0
        assert not now, f"{now} inside"


# --- task groups -----------------------------------------------------------------------


@scene
def task_group() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.TaskGroup() as group:
            for number in range(4):
                group.start_soon(work, number)
            handle = group.create_task(work(3))
            await ka.checkpoint()
        assert handle.return_value == 0

    return _scene(body, check=work.none_left)


@scene
def daemons() -> Scene:
    work = Running()

    async def beat() -> None:
        work.now += 1
        try:
            while True:
                await ka.sleep(SHORT)
        finally:
            work.now -= 1

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(beat, daemon=True)
            group.start_soon(beat, daemon=True)
            group.start_soon(work, 4)
            await ka.checkpoint()

    return _scene(body, check=work.none_left)


@scene
def group_with_first() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(work, 5)
            group.start_soon(work, 2, daemon=True)
            await work(3)

    return _scene(body, check=work.none_left)


@scene
def group_with_first_that_fails() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(work, 9)
            group.start_soon(fails, 3)
            group.start_soon(work, 9, daemon=True)

    return _scene(body, check=work.none_left, raises=LookupError)


@scene
def group_that_fails() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(work, 9)
            group.start_soon(fails, 3)

    return _scene(body, check=work.none_left, raises=LookupError)


@scene
def groups_in_groups() -> Scene:
    work = Running()

    async def inner() -> None:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(work, 2)
            group.start_soon(work, 4, daemon=True)

    async def body() -> None:
        async with ka.TaskGroup() as outer:
            outer.start_soon(inner)
            outer.start_soon(inner, daemon=True)
            await inner()

    return _scene(body, check=work.none_left)


@scene
def group_cancelled_from_inside() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(work, 20)
            await turns(3)
            group.cancel("enough")

    return _scene(body, check=work.none_left)


@scene
def start() -> Scene:
    work = Running()

    async def serve(
        before: int, after: int, *, task_status: ka.TaskStatus[int] = ka.TASK_STATUS_IGNORED
    ) -> int:
        await work(before)
        task_status.started(before)
        return await work(after, after)

    async def body() -> None:
        async with ka.TaskGroup() as group:
            assert await group.start(serve, 2, 3) == 2
            handle = await group.start(serve, 1, 2, return_handle=True)
            await group.start(serve, 0, 50, daemon=True)
        assert handle.return_value == 2

    return _scene(body, check=work.none_left)


@scene
def start_that_fails() -> Scene:
    async def serve(*, task_status: ka.TaskStatus[None]) -> None:
        await fails(2)

    async def body() -> None:
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(turns, 5)
            await group.start(serve)

    return _scene(body, raises=LookupError)


@scene
def handles() -> Scene:
    async def body() -> None:
        async with ka.TaskGroup() as group:
            quick = group.start_soon(turns, 2, 7)
            slow = group.start_soon(turns, 30)
            assert await quick == 7
            slow.cancel()
            await slow.wait()

    return _scene(body)


# --- gather, races ---------------------------------------------------------------------


@scene
def gather() -> Scene:
    work = Running()

    async def body() -> None:
        assert await ka.gather(work(3, 1), work(1, 2), work(0, 3)) == (1, 2, 3)

    return _scene(body, check=work.none_left)


@scene
def gather_with_exceptions() -> Scene:
    work = Running()

    async def body() -> None:
        first, second = await ka.gather(work(4, 1), fails(2), return_exceptions=True)
        assert first == 1
        assert isinstance(second, LookupError)

    return _scene(body, check=work.none_left)


@scene
def gather_that_fails() -> Scene:
    work = Running()

    async def body() -> None:
        await ka.gather(work(9), fails(2), work(3))

    return _scene(body, check=work.none_left, raises=LookupError)


class Connections:
    """Each one that was opened is closed, or is the caller's."""

    def __init__(self) -> None:
        self.open: list[int] = []

    async def connect(self, number: int, value: int) -> int:
        await turns(number)
        self.open.append(value)
        return value

    def discard(self, value: int) -> None:
        self.open.remove(value)

    def all_closed(self) -> None:
        left, self.open = self.open, []
        assert not left, f"still open: {left}"


@scene
def first_success() -> Scene:
    made = Connections()

    async def body() -> None:
        won = await ka.first_success(
            made.connect(5, 1), made.connect(2, 2), made.connect(2, 3), discard=made.discard
        )
        made.discard(won)

    return _scene(body, check=made.all_closed)


@scene
def first_success_with_stagger() -> Scene:
    made = Connections()

    async def slow(value: int) -> int:
        await ka.sleep(3 * SHORT)
        return await made.connect(1, value)

    async def body() -> None:
        won = await ka.first_success(
            slow(1), fails(2), slow(2), slow(3), stagger=SHORT, discard=made.discard
        )
        made.discard(won)

    return _scene(body, check=made.all_closed)


@scene
def first_success_of_none() -> Scene:
    async def body() -> None:
        await ka.first_success(fails(3), fails(1), stagger=SHORT)

    return _scene(body, raises=LookupError)


@scene
def first_finished() -> Scene:
    made = Connections()

    async def body() -> None:
        stop = ka.Event()

        async def wait() -> int:
            await stop.wait()
            return await made.connect(0, 9)

        async def work() -> int:
            await turns(2)
            stop.set()
            return await made.connect(0, 1)

        made.discard(await ka.first_finished(work(), wait(), discard=made.discard))

    return _scene(body, check=made.all_closed)


# --- bulk work -------------------------------------------------------------------------


async def numbers(number: int) -> AsyncIterator[int]:
    for one in range(number):
        await ka.checkpoint()
        yield one


@scene
def amap() -> Scene:
    work = Running()

    async def item(number: int) -> int:
        return await work(number % 3, number)

    async def body() -> None:
        assert await ka.amap(item, range(8), limit=3) == [*range(8)]

    return _scene(body, check=work.none_left)


@scene
def amap_without_limit() -> Scene:
    work = Running()

    async def body() -> None:
        await ka.amap(work, range(5))

    return _scene(body, check=work.none_left)


@scene
def amap_of_an_async_source() -> Scene:
    work = Running()

    async def body() -> None:
        await ka.amap(work, numbers(5), limit=2)

    return _scene(body, check=work.none_left)


@scene
def amap_with_errors() -> Scene:
    async def item(number: int) -> int:
        return await (fails(1) if number % 2 else turns(1, number))

    async def body() -> None:
        found = await ka.amap(item, range(6), limit=2, on_error=ka.ErrorResult)
        assert found[::2] == [0, 2, 4]

    return _scene(body)


@scene
def amap_that_fails() -> Scene:
    work = Running()

    async def item(number: int) -> int:
        return await (fails(1) if number == 3 else work(2))

    async def body() -> None:
        await ka.amap(item, range(6), limit=2)

    return _scene(body, check=work.none_left, raises=LookupError)


@scene
def amap_with_rate() -> Scene:
    work = Running()

    async def body() -> None:
        await ka.amap(work, range(4), limit=2, rate=1 / SHORT)

    return _scene(body, check=work.none_left)


@scene
def imap() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.imap(work, range(6), limit=2) as results:
            async for _ in results:
                await ka.checkpoint()

    return _scene(body, check=work.none_left)


@scene
def imap_unordered_async_source() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.imap(work, numbers(5), limit=2, ordered=False) as results:
            async for _ in results:
                pass

    return _scene(body, check=work.none_left)


@scene
def imap_left_early() -> Scene:
    work = Running()

    async def body() -> None:
        async with ka.imap(work, numbers(9), limit=3) as results:
            async for _ in results:
                break

    return _scene(body, check=work.none_left)


# --- limits ----------------------------------------------------------------------------

RATE = ka.RateLimit(1 / SHORT, burst=2)
LIMITER = ka.Limiter(2, name="two")


@scene
def rate_limit() -> Scene:
    async def request() -> None:
        async with RATE:
            await ka.checkpoint()

    async def body() -> None:
        await ka.gather(*(request() for _ in range(4)))

    return _scene(body)


@scene
def limiter() -> Scene:
    work = Running()

    async def request() -> None:
        async with LIMITER:
            await work(2)
            assert work.now <= 2

    async def body() -> None:
        await ka.gather(*(request() for _ in range(4)))

    return _scene(body, check=work.none_left, watch=[LIMITER])


# --- time ------------------------------------------------------------------------------


@scene
def fail_after() -> Scene:
    async def body() -> None:
        with ka.fail_after(10):
            await turns(3)
        try:
            with ka.fail_after(SHORT, reason="too slow"):
                await ka.sleep_forever()
        except ka.DeadlineExceeded:
            await ka.checkpoint()

    return _scene(body)


@scene
def move_on_after() -> Scene:
    async def body() -> None:
        with ka.move_on_after(SHORT) as scope:
            await ka.sleep_forever()
        assert scope.cancelled_caught
        with ka.move_on_after(10):
            await turns(2)

    return _scene(body)


@scene
def with_timeout() -> Scene:
    async def body() -> None:
        assert await ka.with_timeout(10, turns(3, 7), default=None) == 7
        assert await ka.with_timeout(SHORT, ka.sleep_forever(), default=None) is None

    return _scene(body)


@scene
def shielded() -> Scene:
    """What is inside is all done, or was not begun."""
    steps: list[int] = []

    async def body() -> None:
        steps.clear()
        try:
            await turns(2)
        finally:
            with ka.shielded(10):
                steps.append(1)
                await turns(2)
                steps.append(2)

    def whole() -> None:
        assert steps == [1, 2], steps

    return _scene(body, check=whole)


# --- queues ----------------------------------------------------------------------------


class Ledger:
    """Items in = items out + left + dropped, none twice, and per producer in order."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.put: list[tuple[int, int]] = []
        self.got: list[tuple[int, int]] = []
        self.left: list[tuple[int, int]] = []
        self.dropped = 0
        self.is_over = False

    def close(self, queue: ka.Queue[tuple[int, int]]) -> None:
        self.left = queue.drain()
        counts = queue.statistics()
        self.dropped = counts.dropped + counts.abandoned
        self.is_over = True

    def balanced(self) -> None:
        if not self.is_over:
            return
        found = self.got + self.left
        assert len(set(found)) == len(found), f"doubled: {found}"
        assert set(found) <= set(self.put), f"put {self.put}, found {found}"
        lost = len(self.put) - len(found)
        assert lost == self.dropped, f"put {self.put}, found {found}, dropped {self.dropped}"
        for producer in (0, 1):
            order = [number for who, number in found if who == producer]
            assert order == sorted(order), f"out of order: {found}"


def queue_scene(
    produce: Callable[[ka.Queue[Any], Ledger, int], Awaitable[None]],
    consume: Callable[[ka.Queue[Any], Ledger], Awaitable[None]],
    *,
    maxsize: float = 1,
    overflow: Any = "wait",
) -> Scene:
    ledger = Ledger()

    async def one(queue: ka.Queue[Any], producer: int) -> None:
        with queue.producing():
            await produce(queue, ledger, producer)

    async def body() -> None:
        ledger.clear()
        queue = ka.Queue[Any](maxsize, overflow=overflow)
        try:
            async with ka.TaskGroup() as group:
                group.start_soon(one, queue, 0, name="producer")
                group.start_soon(one, queue, 1, name="producer")
                group.start_soon(consume, queue, ledger, name="consumer")
        finally:
            ledger.close(queue)

    return _scene(body, check=ledger.balanced)


async def put_some(queue: ka.Queue[Any], ledger: Ledger, producer: int) -> None:
    for number in range(4):
        await ka.checkpoint()
        # What is under way counts only if it is found: a cancelled put has not put.
        await queue.put((producer, number))
        ledger.put.append((producer, number))


async def iterate(queue: ka.Queue[Any], ledger: Ledger) -> None:
    async for item in queue:
        ledger.got.append(item)


async def get_each(queue: ka.Queue[Any], ledger: Ledger) -> None:
    try:
        while True:
            ledger.got.append(await queue.get())
            queue.task_done()
    except ka.QueueClosed:
        pass


@scene
def queue() -> Scene:
    return queue_scene(put_some, iterate)


@scene
def queue_with_room() -> Scene:
    return queue_scene(put_some, get_each, maxsize=3)


@scene
def queue_without_end() -> Scene:
    return queue_scene(put_some, get_each, maxsize=math.inf)


@scene
def queue_that_drops_new() -> Scene:
    async def slow(queue: ka.Queue[Any], ledger: Ledger) -> None:
        async for item in queue:
            ledger.got.append(item)
            await turns(2)

    return queue_scene(put_some, slow, overflow="drop_new")


@scene
def queue_that_drops_old() -> Scene:
    async def slow(queue: ka.Queue[Any], ledger: Ledger) -> None:
        async for item in queue:
            ledger.got.append(item)
            await turns(2)

    return queue_scene(put_some, slow, overflow="drop_old")


@scene
def queue_that_raises() -> Scene:
    async def put(queue: ka.Queue[Any], ledger: Ledger, producer: int) -> None:
        for number in range(4):
            await ka.checkpoint()
            try:
                await queue.put((producer, number))
            except ka.QueueFull:
                continue
            ledger.put.append((producer, number))

    return queue_scene(put, iterate, overflow="error")


@scene
def queue_in_batches() -> Scene:
    async def consume(queue: ka.Queue[Any], ledger: Ledger) -> None:
        async for batch in queue.batches(3, linger=SHORT):
            ledger.got.extend(batch)

    return queue_scene(put_some, consume, maxsize=4)


@scene
def queue_get_batch() -> Scene:
    async def consume(queue: ka.Queue[Any], ledger: Ledger) -> None:
        try:
            while True:
                ledger.got.extend(await queue.get_batch(2, linger=SHORT))
        except ka.QueueClosed:
            pass

    return queue_scene(put_some, consume, maxsize=2)


@scene
def queue_streams() -> Scene:
    ledger = Ledger()

    async def produce(queue: ka.Queue[Any]) -> None:
        async with queue.send_stream as stream:
            for number in range(6):
                await stream.send((0, number))
                ledger.put.append((0, number))

    async def consume(queue: ka.Queue[Any]) -> None:
        async with queue.receive_stream as stream:
            async for item in stream:
                ledger.got.append(item)
                await ka.checkpoint()

    async def body() -> None:
        ledger.clear()
        queue = ka.Queue[Any](1)
        try:
            async with ka.TaskGroup() as group:
                group.start_soon(produce, queue, name="producer")
                group.start_soon(consume, queue, name="consumer")
        finally:
            ledger.close(queue)

    # once the receiving end is closed, what is sent is an error
    return _scene(body, check=ledger.balanced, raises=ka.BrokenResourceError)


@scene
def queue_join() -> Scene:
    async def body() -> None:
        queue = ka.Queue[int](2)

        async def consume() -> None:
            async for _ in queue:
                await ka.checkpoint()
                queue.task_done()

        async with ka.TaskGroup() as group:
            group.start_soon(consume, daemon=True)
            for number in range(4):
                await queue.put(number)
            await queue.join()
        queue.drain()

    return _scene(body)


@scene
def queue_as_a_block() -> Scene:
    async def body() -> None:
        async with ka.Queue[int](1) as queue, ka.TaskGroup() as group:

            async def produce() -> None:
                with queue.producing():
                    for number in range(3):
                        await queue.put(number)

            group.start_soon(produce)
            async for _ in queue:
                await ka.checkpoint()

    return _scene(body)


# --- elsewhere -------------------------------------------------------------------------


class Counted:
    """A function for threads; none may be in it when the body is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0

    def __call__(self, value: int = 0) -> int:
        with self._lock:
            self.inside += 1
        try:
            return value
        finally:
            with self._lock:
                self.inside -= 1

    def none_inside(self) -> None:
        assert not self.inside


@threaded
def offload() -> Scene:
    func = Counted()

    async def body() -> None:
        assert await ka.offload(func, 1) == 1
        await ka.gather(*(ka.offload(func, limiter=LIMITER) for _ in range(3)))
        await ka.offload(func, abandon_on_cancel=True)

    return _scene(body, check=func.none_inside, watch=[LIMITER])


@threaded
def offload_back_and_forth() -> Scene:
    async def back(value: int) -> int:
        await ka.checkpoint()
        return value

    def there() -> int:
        return ka.from_thread.run(back, 3)

    async def body() -> None:
        assert await ka.offload(there) == 3

    return _scene(body)


@threaded
def offload_to_an_executor() -> Scene:
    func = Counted()

    async def body() -> None:
        with ThreadPoolExecutor(2) as pool:
            await ka.gather(*(ka.offload(func, to=pool) for _ in range(3)))

    return _scene(body, check=func.none_inside)


@threaded
def offload_map() -> Scene:
    func = Counted()

    async def body() -> None:
        assert await ka.offload_map(func, range(30), limit=2) == [*range(30)]
        await ka.checkpoint()

    return _scene(body, check=func.none_inside)


@threaded
def offload_map_to_an_executor() -> Scene:
    func = Counted()

    async def body() -> None:
        with ThreadPoolExecutor(2) as pool:
            await ka.offload_map(func, range(9), to=pool, limit=2, chunksize=3)

    return _scene(body, check=func.none_inside)


@threaded
def offload_to_a_process() -> Scene:
    async def body() -> None:
        await ka.checkpoint()
        assert await ka.offload(abs, -3, to="process") == 3

    return _scene(body)


# --- together --------------------------------------------------------------------------


@scene
def a_service() -> Scene:
    """Requests, a queue between, a limit, a timeout and a lock."""
    work = Running()
    state: dict[str, Any] = {}

    async def fetch(number: int) -> int:
        with ka.fail_after(10):
            async with LIMITER:
                return await work(2, number)

    async def write(queue: ka.Queue[int], lock: anyio.Lock, written: list[int]) -> None:
        async for item in queue:
            async with lock:
                written.append(item)
                await ka.checkpoint()

    async def body() -> None:
        lock = state["lock"] = ka.Lock()
        written: list[int] = []
        async with ka.Queue[int](2) as queue, ka.TaskGroup(errors="first") as group:
            group.start_soon(write, queue, lock, written)
            group.start_soon(write, queue, lock, written)
            with queue.producing():
                async with ka.imap(fetch, range(5), limit=3) as results:
                    async for result in results:
                        await queue.put(result)
        assert sorted(written) == [*range(5)]

    return _scene(body, check=work.none_left, watch=[LIMITER, lambda: state["lock"]])
