"""`offload_map`: order, sources, chunks, limits, and errors."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.to_thread
import pytest

import kingdom_async as ka
from kingdom_async import _chunks
from support import elsewhere
from support.threads import Held

LATE = 30.0  # seconds

variable: ContextVar[str] = ContextVar("mapped", default="unset")


async def aiter_of(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await ka.checkpoint()
        yield item


@pytest.fixture(params=["list", "range", "generator", "async generator"])
def source(request: pytest.FixtureRequest) -> Any:
    """A function that makes a source of the numbers up to a count."""
    return {
        "list": lambda count: list(range(count)),
        "range": range,
        "generator": lambda count: (number for number in range(count)),
        "async generator": lambda count: aiter_of(range(count)),
    }[request.param]


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
@pytest.mark.parametrize("limit", [1, 3])
async def test_results_are_in_order(source: Any, limit: int, chunksize: int | None) -> None:
    """A place is fixed when the item is pulled, whichever thread takes how many."""
    results = await ka.offload_map(str, source(150), limit=limit, chunksize=chunksize)
    assert results == [str(number) for number in range(150)]


@pytest.mark.parametrize("count", [0, 3])
async def test_no_more_workers_than_items(source: Any, count: int) -> None:
    """A high limit costs nothing where there are few items, known beforehand or not."""
    before = len(anyio.get_running_tasks())
    most = before

    def look() -> None:
        nonlocal most
        most = max(most, len(anyio.get_running_tasks()))

    def func(number: int) -> int:
        ka.from_thread.run_sync(look)
        return number

    async with ka.TaskGroup() as group:
        call = group.start_soon(lambda: ka.offload_map(func, source(count), limit=300))
        for _ in range(100):
            await ka.checkpoint()
            look()
    assert call.return_value == list(range(count))
    assert most <= before + count + 5


async def test_nothing_to_do(source: Any) -> None:
    """No items, no results; and the call is a checkpoint all the same."""
    assert await ka.offload_map(str, source(0), limit=4) == []
    with ka.CancelScope() as scope:
        scope.cancel()
        await ka.offload_map(str, [], limit=4)
    assert scope.cancelled_caught


async def test_runs_off_the_loop_with_the_callers_context_variables() -> None:
    """Threads see the caller's context variables."""
    variable.set("caller's")

    def look(_: int) -> tuple[str, bool]:
        return variable.get(), threading.get_ident() == loop

    loop = threading.get_ident()
    assert await ka.offload_map(look, range(3), limit=1) == [("caller's", False)] * 3


# --- how many at once ----------------------------------------------------------------


async def test_never_more_threads_than_the_limit(source: Any) -> None:
    """Three at a time, of whatever the source has."""
    held = Held()
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload_map(held, source(20), limit=3, chunksize=1))
        await held.until_started(3)
        await anyio.wait_all_tasks_blocked()
        assert held.started == 3
        held.let_go()
    assert (held.started, held.most) == (20, 3)


async def test_the_default_limiter_is_left_alone() -> None:
    """It has threads of its own, and starves no other call."""
    default = anyio.to_thread.current_default_thread_limiter()
    default.total_tokens = 1
    held = Held()
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload_map(held, range(4), limit=4))
        await held.until_started(4)
        assert default.borrowed_tokens == 0
        assert await ka.offload(str, 7) == "7"
        held.let_go()


async def test_works_while_the_default_limiter_is_exhausted() -> None:
    """Nor is it starved by others."""
    default = anyio.to_thread.current_default_thread_limiter()
    default.total_tokens = 1
    held = Held()
    async with ka.TaskGroup() as group:
        group.start_soon(ka.offload, held)
        await held.until_started()
        results = await ka.offload_map(str, (n for n in range(3)), limit=2)
        held.let_go()
    assert results == ["0", "1", "2"]


# --- the source ----------------------------------------------------------------------


class Watched(Iterator[int]):
    """A source that says who advanced it, and if two did at once."""

    def __init__(self, count: int) -> None:
        self.threads: set[int] = set()
        self.pulled = 0
        self._count = count
        self._busy = threading.Lock()

    def __next__(self) -> int:
        assert self._busy.acquire(blocking=False), "two advance the source at once"
        try:
            self.threads.add(threading.get_ident())
            if self.pulled == self._count:
                raise StopIteration
            self.pulled += 1
            time.sleep(0)  # let go of the interpreter, so that another thread may come in
            return self.pulled
        finally:
            self._busy.release()


@pytest.mark.parametrize("to", ["threads", "executor"])
async def test_a_sync_source_is_advanced_by_one_thread_at_a_time(to: str) -> None:
    """Never by two, and never by the loop's thread, for it may wait."""
    items = Watched(3000)
    with ThreadPoolExecutor(2) as executor:
        where: Any = executor if to == "executor" else "thread"
        results = await ka.offload_map(str, items, to=where, limit=4)
    assert results == [str(number) for number in range(1, 3001)]
    assert threading.get_ident() not in items.threads


async def test_a_source_is_pulled_lazily() -> None:
    """While the function works on an item, no more is pulled than is in work."""
    items = Watched(100)
    held = Held()
    async with ka.TaskGroup() as group:
        group.start_soon(lambda: ka.offload_map(held, items, limit=2, chunksize=3))
        await held.until_started(2)
        await anyio.wait_all_tasks_blocked()
        assert items.pulled == 6
        held.let_go()
    assert items.pulled == 100


@pytest.mark.parametrize("to", ["threads", "executor"])
async def test_a_slow_source_gets_its_items_worked_off(
    to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that are there are not held back until a chunk is full."""
    now = 0.0
    done: list[int] = []
    ahead: list[int] = []

    def slow() -> Iterator[int]:
        nonlocal now
        for number in range(200):
            now += 1  # second
            ahead.append(number - len(done))
            yield number

    monkeypatch.setattr(_chunks, "perf_counter", lambda: now)
    with ThreadPoolExecutor(1) as executor:
        where: Any = executor if to == "executor" else "thread"
        await ka.offload_map(done.append, slow(), to=where, limit=1)
    assert done == list(range(200))
    assert max(ahead) == 0


@pytest.mark.parametrize("to", ["threads", "executor"])
async def test_a_failing_source_fails_the_call(to: str) -> None:
    """Its error is raised as it is, and it is not advanced any more."""
    error = OSError("no more to read")
    pulled: list[int] = []

    def failing() -> Iterator[int]:
        for number in range(10):
            pulled.append(number)
            yield number
        raise error

    with ThreadPoolExecutor(1) as executor:
        where: Any = executor if to == "executor" else "thread"
        with pytest.raises(OSError, match="no more to read") as caught:
            await ka.offload_map(str, failing(), to=where, limit=3)
    assert caught.value is error
    assert pulled == list(range(10))


async def test_a_failing_async_source_fails_the_call() -> None:
    """The same for an async one."""

    async def failing() -> AsyncIterator[int]:
        yield 1
        raise OSError("no more to read")

    with pytest.raises(OSError, match="no more to read"):
        await ka.offload_map(str, failing(), limit=3)


async def test_an_async_source_is_closed_where_it_was_pulled() -> None:
    """An async generator that was not exhausted is closed before the call fails."""
    closed: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                yield number
        finally:
            await ka.checkpoint()
            closed.append("closed")

    with pytest.raises(ZeroDivisionError):
        await ka.offload_map(lambda number: 1 // (5 - number), endless(), limit=2)
    assert closed == ["closed"]


@pytest.mark.parametrize("to", ["threads", "executor"])
async def test_an_endless_source_ends_with_the_first_failure(to: str) -> None:
    """The failing item stops all workers, and so the source."""
    items = Watched(-1)  # never reaches its end
    with ThreadPoolExecutor(2) as executor:
        where: Any = executor if to == "executor" else "thread"
        with pytest.raises(ZeroDivisionError):
            await ka.offload_map(lambda number: 1 // (5000 - number), items, to=where, limit=2)
    assert items.pulled >= 5000


# --- chunks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [
        (1, 0.0001, 2),
        (64, 0.0009, 128),
        (1024, 0.0, 1024),
        (64, 0.002, 64),
        (64, 0.005, 16),
        (2, 9.0, 1),
        (1, 9.0, 1),
    ],
)
def test_chunks_fit_the_function(size: int, seconds: float, expected: int) -> None:
    """Tiny functions get ever larger chunks, slow ones a chunk of one."""
    assert _chunks.fitted(size, seconds, 0.001) == expected


@pytest.mark.parametrize(("seconds", "largest"), [(0.0, 1024), (1.0, 1)])
async def test_the_size_of_chunks_follows_the_clock(
    seconds: float, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured in the worker: a slow function is never given a second item at a time."""
    now = 0.0
    sizes: list[int] = []

    def work(item: int) -> int:
        nonlocal now
        now += seconds
        return item

    class Executor(ThreadPoolExecutor):
        def submit(self, chunk: Any, /, *args: Any, **kwargs: Any) -> Any:
            sizes.append(len(chunk._items))
            return super().submit(chunk, *args, **kwargs)

    monkeypatch.setattr(_chunks, "perf_counter", lambda: now)
    with Executor(1) as executor:
        count = 5000 if largest > 1 else 5
        assert await ka.offload_map(work, range(count), to=executor, limit=1) == [*range(count)]
    assert max(sizes) == largest
    assert sizes[:2] == [1, min(2, largest)]


async def test_chunksize_is_honoured() -> None:
    """Five at a time, and what is left."""
    sizes: list[int] = []

    class Executor(ThreadPoolExecutor):
        def submit(self, chunk: Any, /, *args: Any, **kwargs: Any) -> Any:
            sizes.append(len(chunk._items))
            return super().submit(chunk, *args, **kwargs)

    with Executor(1) as executor:
        for items in (range(12), iter(range(12)), aiter_of(range(12))):
            sizes.clear()
            await ka.offload_map(str, items, to=executor, limit=1, chunksize=5)
            assert sizes[:3] == [5, 5, 2]


# --- errors --------------------------------------------------------------------------


async def test_a_source_that_failed_is_not_advanced_again() -> None:
    """Not by a thread that was at work meanwhile, and looks for its next item."""
    failed = threading.Event()
    calls = 0

    class Source:
        def __iter__(self) -> Source:
            return self

        def __next__(self) -> int:
            nonlocal calls
            calls += 1
            if calls == 2:
                failed.set()
                raise LookupError("no more rows")
            return calls

    def work(number: int) -> None:
        assert failed.wait(20)

    with pytest.raises(LookupError, match="no more rows"):
        await ka.offload_map(work, Source(), limit=2)
    assert calls == 2


async def test_the_failing_item_is_named(source: Any) -> None:
    """The error is the function's own, with a note that says which item."""

    def work(number: int) -> int:
        if number == 41:
            raise LookupError("no such row")
        return number

    with pytest.raises(LookupError) as caught:
        await ka.offload_map(work, source(100), limit=1)
    assert str(caught.value) == "no such row"
    assert caught.value.__notes__ == ["while mapping item 41: 41"]


async def test_a_long_item_is_cut_short_in_the_note() -> None:
    """A note is read by people."""
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await ka.offload_map(int, ["x" * 10_000], limit=1)
    assert len(caught.value.__notes__[0]) < 200


async def test_the_value_of_on_error_takes_the_place(source: Any) -> None:
    """It is called on the loop's thread, with the item and the error."""
    threads: set[int] = set()

    def on_error(item: int, error: Exception) -> str:
        threads.add(threading.get_ident())
        return f"{item}: {error}"

    def work(number: int) -> int:
        if number % 10 == 3:
            raise ValueError("unlucky")
        return number

    results = await ka.offload_map(work, source(30), limit=2, on_error=on_error)
    assert results == [
        f"{number}: unlucky" if number % 10 == 3 else number for number in range(30)
    ]
    assert threads == {threading.get_ident()}


async def test_error_result_keeps_item_and_error() -> None:
    """The ready-made value for on_error."""
    _, failed = await ka.offload_map(int, ["1", "one"], limit=1, on_error=ka.ErrorResult)
    assert isinstance(failed, ka.ErrorResult)
    assert failed.item == "one"


async def test_a_failing_on_error_fails_the_call(source: Any) -> None:
    """What it raises is raised, with a note that names the item."""

    def on_error(item: int, error: Exception) -> str:
        raise RuntimeError("not that one") from error

    with pytest.raises(RuntimeError, match="not that one") as caught:
        await ka.offload_map(lambda number: 1 // number, source(3), limit=1, on_error=on_error)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.__notes__ == ["while mapping item 0: 0"]


async def test_a_failing_on_error_hides_nothing(source: Any) -> None:
    """The error of the item is the context of what on_error raised; nobody takes more items."""
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        raise LookupError(number)

    def on_error(item: int, error: Exception) -> str:
        raise RuntimeError("not that one")

    with pytest.raises(RuntimeError, match="not that one") as caught:
        await ka.offload_map(fail, source(30), limit=1, chunksize=1, on_error=on_error)
    assert isinstance(caught.value.__context__, LookupError)
    assert begun == [0]


async def test_an_error_that_on_error_raises_again() -> None:
    """The error of the item itself is raised, with its note, once."""

    def on_error(item: str, error: Exception) -> str:
        raise error

    with pytest.raises(ValueError, match="invalid literal") as caught:
        await ka.offload_map(int, ["1", "one"], limit=1, on_error=on_error)
    assert caught.value.__notes__ == ["while mapping item 1: 'one'"]
    assert caught.value.__context__ is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("to", ["threads", "executor"])
def test_on_error_is_for_exceptions_only(backend: str, to: str) -> None:
    """What is to end the program is no value."""

    def leave(_: int) -> None:
        raise SystemExit("the end")

    async def call() -> None:
        with ThreadPoolExecutor(1) as executor:
            where: Any = executor if to == "executor" else "thread"
            await ka.offload_map(leave, [1], to=where, limit=1, on_error=lambda *_: None)

    with pytest.raises(SystemExit, match="the end"):
        anyio.run(call, backend=backend)


@pytest.mark.parametrize("handled", [False, True])
async def test_stop_iteration_gets_a_sentence(source: Any, handled: bool) -> None:
    """A StopIteration of the function neither ends the source nor gets lost."""

    def stop(_: int) -> None:
        raise StopIteration

    sentence = (
        r"offload\(.*\.stop\): it raised StopIteration, which cannot pass through an await; "
        "catch it in the function, or give next\\(\\) a default"
    )
    if handled:
        (error,) = await ka.offload_map(
            stop, source(1), limit=1, on_error=lambda _, error: error
        )
        assert isinstance(error, ka.OffloadError)
        assert re.fullmatch(sentence, str(error))
    else:
        with pytest.raises(ka.OffloadError) as caught:
            await ka.offload_map(stop, source(1), limit=1)
        assert re.fullmatch(sentence, str(caught.value))


async def test_other_threads_stop_at_the_first_failure() -> None:
    """They see it before they take their next item."""
    called: list[int] = []
    both = threading.Barrier(2)
    cancelled = ka.get_cancelled_exc_class()

    def work(number: int) -> None:
        called.append(number)
        both.wait(LATE)
        if number == 0:
            raise ValueError("first")
        with suppress(cancelled):
            ka.from_thread.run(ka.sleep_forever)  # until the failure has reached the loop

    with pytest.raises(ValueError, match="first"):
        await ka.offload_map(work, range(100), limit=2, chunksize=1)
    assert sorted(called) == [0, 1]


# --- misuse --------------------------------------------------------------------------


async def fetch(_: int) -> None:
    pass


async def test_an_async_function_is_refused() -> None:
    """amap() is the one for it."""
    sentence = (
        "offload_map() runs ordinary functions, and fetch is async; "
        "write await amap(fetch, items)"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        await ka.offload_map(fetch, [1], limit=1)


@pytest.mark.parametrize("to", ["threads", "executor"])
async def test_a_lambda_that_returns_a_coroutine_is_refused(source: Any, to: str) -> None:
    """Found out with the first item; the coroutine is closed."""
    sentence = r"offload\(\) runs ordinary functions, and .*<lambda> is async; write await .*"
    with ThreadPoolExecutor(1) as executor:
        where: Any = executor if to == "executor" else "thread"
        with pytest.raises(TypeError) as caught:
            await ka.offload_map(lambda item: fetch(item), source(2), to=where, limit=1)
    assert re.fullmatch(sentence, str(caught.value))


async def test_a_coroutine_in_place_of_the_function_is_refused() -> None:
    """offload_map(fetch(), …) is explained."""
    with pytest.raises(
        TypeError, match=re.escape("offload_map() takes the function and items:")
    ):
        await ka.offload_map(fetch(1), [1], limit=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["limit", "chunksize"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
async def test_counts_are_checked(option: str, value: Any) -> None:
    """A limit or a chunk of nothing would wait for ever."""
    options: Any = {"limit": 1, option: value}
    with pytest.raises((ValueError, TypeError), match=re.escape(f"offload_map(): {option}")):
        await ka.offload_map(str, [1], **options)


async def test_what_is_no_source_is_refused() -> None:
    """A number has no items."""
    with pytest.raises(TypeError, match=re.escape("offload_map(): items must be iterable")):
        await ka.offload_map(str, 7, limit=1)  # type: ignore[arg-type]


# --- processes -----------------------------------------------------------------------


async def test_in_processes() -> None:
    """Chunks go over and come back; errors that cannot are told, and the item named."""
    results = await ka.offload_map(elsewhere.half, range(30, 130), to="process", limit=1)
    assert results == [number // 2 for number in range(30, 130)]

    results = await ka.offload_map(
        elsewhere.half,
        (number for number in range(12, 25)),
        to="process",
        limit=1,
        chunksize=4,
        on_error=lambda item, error: (item, type(error).__name__),
    )
    assert [result for result in results if isinstance(result, tuple)] == [
        (13, "ValueError"),
        (17, "OffloadError"),
        (19, "OffloadError"),
        (23, "OffloadError"),
    ]
    with pytest.raises(ValueError, match="bad luck") as caught:
        await ka.offload_map(elsewhere.half, [13], to="process", limit=1)
    *_, note = caught.value.__notes__
    assert note == "while mapping item 0: 13"


async def test_what_processes_cannot_take_gets_a_sentence() -> None:
    """The sentence names the function that was given, and the note the items."""
    with pytest.raises(ka.OffloadError) as caught:
        await ka.offload_map(lambda item: item, [1, 2], to="process", limit=1, chunksize=2)
    assert re.fullmatch(
        r"offload\(.*<lambda>, to='process'\): the call cannot be pickled \(.*\); give a "
        "function from the top level of a module, and plain data",
        str(caught.value),
    )
    assert caught.value.__notes__ == ["while mapping items 0 to 1"]
    with pytest.raises(ka.OffloadError) as caught:
        items = [1, 2, 3, 4, 5, lambda: None]
        await ka.offload_map(repr, items, to="process", limit=1, chunksize=3)
    assert caught.value.__notes__ == ["while mapping items 3 to 5"]
