"""`amap`: order, limits, errors, rate, misuse. What it shares with `imap`: test_bulk_*."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from support.backends import virtual_time
from support.turns import settle


class Rendezvous:
    """Lets tasks pass in parties of so many; fewer wait for ever."""

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self.here = 0
        self.open = ka.Event()

    async def meet(self) -> None:
        self.here += 1
        mine = self.open
        if self.here == self.parties:
            self.here, self.open = 0, ka.Event()
            mine.set()
        await mine.wait()


class Counter:
    """How many are inside at once, now and at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        self.now -= 1


async def double(number: int) -> int:
    return 2 * number


# --- order and limits ----------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 64, 1000, None])
async def test_gives_one_result_per_item_in_order(limit: int | None) -> None:
    """As many results as items and in their order, whatever the limit."""
    for size in (0, 1, 2, 3, 4, 63, 64, 65, 300):
        assert await ka.amap(double, range(size), limit=limit) == [2 * n for n in range(size)]


async def test_results_keep_the_order_of_the_items_however_they_end() -> None:
    """The last item may be done first."""
    done = [ka.Event() for _ in range(20)]
    ended = []

    async def after_the_next(number: int) -> int:
        if number + 1 < len(done):
            await done[number + 1].wait()
        ended.append(number)
        done[number].set()
        return number

    assert await ka.amap(after_the_next, range(20)) == [*range(20)]
    assert ended == [*reversed(range(20))]


async def test_is_a_superset_of_anyios() -> None:
    """What works with anyio.amap works with ours, with the same result."""
    items = {"a": 1, "b": 2, "c": 3}

    async def upper(key: str) -> str:
        await ka.checkpoint()
        return key.upper()

    assert await ka.amap(upper, items) == await anyio.amap(upper, items) == ["A", "B", "C"]


async def test_func_may_return_any_awaitable() -> None:
    """Not only coroutines: whatever can be awaited."""

    class Later:
        def __await__(self) -> Any:
            yield from ka.checkpoint().__await__()
            return 7

    assert await ka.amap(lambda _: Later(), range(3), limit=2) == [7, 7, 7]


@pytest.mark.parametrize("limit", [1, 2, 7, 40])
async def test_the_limit_is_never_exceeded_and_really_reached(limit: int) -> None:
    """Items that wait run as many at a time as the limit says, and never one more."""
    rendezvous, inside = Rendezvous(limit), Counter()

    async def meet(_: int) -> None:
        with inside:
            await rendezvous.meet()

    await ka.amap(meet, range(limit * 5), limit=limit)
    assert inside.most == limit


async def test_without_a_limit_all_items_run_at_the_same_time() -> None:
    """A hundred items that all wait for each other do not hang."""
    rendezvous = Rendezvous(100)
    await ka.amap(lambda _: rendezvous.meet(), range(100))
    assert rendezvous.here == 0


@pytest.mark.parametrize("ready", [1, 63, 64, 65, 500])
@pytest.mark.parametrize("limit", [4, None])
async def test_items_that_wait_run_together_after_items_that_do_not(
    ready: int, limit: int | None
) -> None:
    """How the call began says nothing about how it goes on."""
    rendezvous = Rendezvous(4)

    async def meet_later(number: int) -> int:
        if number >= ready:
            await rendezvous.meet()
        return number

    items = range(ready + 8)
    assert await ka.amap(meet_later, items, limit=limit) == [*items]


async def test_nothing_but_the_results_is_kept() -> None:
    """Items are forgotten as soon as they are done."""

    class Item:
        pass

    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def items() -> Any:
        for _ in range(500):
            item = Item()
            alive.add(item)
            yield item

    async def look(_: Item) -> None:
        nonlocal most
        await ka.checkpoint()
        most = max(most, len(alive))

    await ka.amap(look, items(), limit=5)
    gc.collect()
    assert most <= 8  # those in work, and the one that the generator's frame still names
    assert not alive


async def test_an_empty_call_is_a_checkpoint() -> None:
    """An already cancelled caller is stopped, even with nothing to do."""
    with ka.CancelScope() as scope:
        scope.cancel()
        await ka.amap(double, [])
    assert scope.cancelled_caught


async def test_other_tasks_have_ended_when_it_returns() -> None:
    """No worker outlives the call."""
    before = anyio.get_running_tasks()
    await ka.amap(lambda _: ka.checkpoint(), range(50), limit=5)
    assert {task.id for task in anyio.get_running_tasks()} == {task.id for task in before}


# --- failures ------------------------------------------------------------------------


async def test_the_first_failure_is_raised_itself_and_the_others_cancelled() -> None:
    """``except KeyError`` works, and nothing of the call goes on behind it."""
    cancelled = []

    async def work(number: int) -> None:
        if number == 3:
            await settle()
            raise KeyError("three")
        try:
            await ka.sleep_forever()
        finally:
            cancelled.append(number)

    with pytest.raises(KeyError) as caught:
        await ka.amap(work, range(5))
    assert caught.value.args == ("three",)
    assert sorted(cancelled) == [0, 1, 2, 4]


async def test_two_failures_at_once_are_both_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second one is a note on the first, and logged."""
    go = ka.Event()

    async def fail(number: int) -> None:
        if number == 2:
            await settle()
            go.set()
            await ka.sleep_forever()
        await go.wait()
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^[01]") as caught:
        await ka.amap(fail, range(3))
    first = caught.value.args[0]
    mapping, also = caught.value.__notes__
    assert mapping == f"while mapping item {first}: {first}"
    assert also.startswith(f"also failed: task '{_name(fail)}[")  # any worker's, on trio
    assert also.endswith(f"]': ValueError({1 - first})")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def _name(func: Callable[..., object]) -> str:
    return f"amap({func.__qualname__})"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr today")


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ("http://example.org", "'http://example.org'"),
        ("x" * 500, f"'{'x' * 37}...{'x' * 38}'"),
        (Unprintable(), "<Unprintable instance at 0x"),
    ],
    ids=["short", "long", "broken"],
)
@pytest.mark.parametrize("limit", [2, None])
async def test_a_note_names_the_item_that_failed(
    item: object, shown: str, limit: int | None
) -> None:
    """Its number and its repr, cut short, whatever the repr does."""
    items = [object()] * 17 + [item]

    async def fail(this: object) -> None:
        await ka.checkpoint()
        if this is item:
            raise OSError("broken")

    with pytest.raises(OSError, match=r"^broken") as caught:
        await ka.amap(fail, items, limit=limit)
    [note] = caught.value.__notes__
    assert note.startswith(f"while mapping item 17: {shown}")
    assert len(note) < 130


async def test_on_error_gives_the_result_of_what_failed() -> None:
    """It is called with the item and the exception; the others are undisturbed."""

    async def invert(number: int) -> float:
        await ka.checkpoint()
        return 1 / number

    def describe(item: int, error: Exception) -> str:
        return f"{item}: {type(error).__name__}"

    results = await ka.amap(invert, [1, 0, 2], limit=2, on_error=describe)
    assert results == [1.0, "0: ZeroDivisionError", 0.5]


async def test_error_result_keeps_what_failed_beside_what_succeeded() -> None:
    """``on_error=ErrorResult`` is data: the item and what it raised."""
    error = LookupError("gone")

    async def fetch(name: str) -> str:
        if name == "b":
            raise error
        return name

    results = await ka.amap(fetch, "abc", on_error=ka.ErrorResult)
    assert results == ["a", ka.ErrorResult("b", error), "c"]
    assert not hasattr(error, "__notes__")


async def test_on_error_that_raises_fails_the_call() -> None:
    """Its error is what the item failed with, from the item's own one."""
    inner = ValueError("inner")

    async def fail(_: int) -> None:
        raise inner

    def refuse(item: int, error: Exception) -> None:
        raise RuntimeError(f"refused {item}")

    with pytest.raises(RuntimeError, match=r"^refused 0") as caught:
        await ka.amap(fail, range(1), on_error=refuse)
    assert caught.value.__context__ is inner
    assert caught.value.__notes__ == ["while mapping item 0: 0"]


async def test_on_error_is_not_asked_about_a_cancellation() -> None:
    """A caller that is cancelled is, and no value takes the place of that."""
    asked = []

    def ask(item: int, error: Exception) -> None:
        asked.append(item)

    with ka.CancelScope() as scope:

        async def cancel(number: int) -> None:
            scope.cancel()
            await ka.sleep_forever()

        await ka.amap(cancel, range(3), limit=2, on_error=ask)
    assert scope.cancelled_caught
    assert not asked


class _Stop(BaseException):
    pass


async def test_on_error_is_not_asked_about_a_base_exception() -> None:
    """What is no ``Exception`` ends the call."""

    async def stop(_: int) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        await ka.amap(stop, range(3), on_error=lambda item, error: None)


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_an_item_comes_out(
    fatal: type[BaseException], anyio_backend: Any
) -> None:
    """KeyboardInterrupt and SystemExit end the program, not only the item."""
    name, options = anyio_backend

    async def interrupt(number: int) -> None:
        await ka.checkpoint()
        if number == 3:
            raise fatal
        await ka.sleep_forever()

    async def main() -> None:
        await ka.amap(interrupt, range(5), on_error=lambda item, error: None)

    with pytest.raises(fatal):
        anyio.run(main, backend=name, backend_options=options)


# --- rate ----------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("limit", [1, 3, None])
async def test_rate_spaces_the_starts(limit: int | None) -> None:
    """So many items start a second; the limit has no part in it while they are quick."""
    begin = ka.current_time()

    async def when(_: int) -> float:
        return ka.current_time() - begin

    times = await ka.amap(when, range(8), limit=limit, rate=4)
    assert sorted(times) == pytest.approx([n / 4 for n in range(8)])


@virtual_time
async def test_rate_and_limit_hold_together() -> None:
    """Slow items: the limit is what holds the starts back."""
    begin = ka.current_time()

    async def when(_: int) -> float:
        started = ka.current_time() - begin
        await ka.sleep(1)
        return started

    times = await ka.amap(when, range(6), limit=2, rate=4)
    assert times == pytest.approx([0, 0.25, 1, 1.25, 2, 2.25])


@virtual_time
async def test_a_rate_limit_is_shared_between_calls() -> None:
    """Two calls with one RateLimit start together no more than one would."""
    begin, rate, times = ka.current_time(), ka.RateLimit(2), []

    async def note(_: int) -> None:
        times.append(ka.current_time() - begin)

    await ka.gather(*(ka.amap(note, range(3), limit=3, rate=rate) for _ in range(2)))
    assert times == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])


@virtual_time
async def test_an_item_that_waits_for_its_turn_can_be_cancelled() -> None:
    """A timeout around the call ends the waiting for the rate."""
    started = []

    async def note(number: int) -> None:
        started.append(number)

    with ka.move_on_after(2.5) as scope:
        await ka.amap(note, range(9), limit=4, rate=1)
    assert scope.cancelled_caught
    assert len(started) == 3


# --- misuse --------------------------------------------------------------------------


async def fetch(item: int) -> int:
    return item


def add_one(item: int) -> int:
    return item + 1


async def _numbers() -> Any:
    yield 1


_MISUSE: list[tuple[Callable[[], Awaitable[Any]], type[Exception], str]] = [
    (
        lambda: ka.amap(fetch(1), [1]),  # type: ignore[arg-type]
        TypeError,
        "amap() takes the function and items: write amap(fetch, …), not amap(fetch(…))",
    ),
    (
        lambda: ka.amap(fetch, 3),  # type: ignore[arg-type]
        TypeError,
        (
            "amap(): items must be iterable, not 3; give a list, a generator, or an async "
            "generator"
        ),
    ),
    (
        lambda: ka.amap(fetch, _numbers),  # type: ignore[arg-type]
        TypeError,
        "amap(): items must be iterable, not the function _numbers; call it",
    ),
    (
        lambda: ka.amap(fetch, [1], limit=0),
        ValueError,
        "amap(): limit must be 1 or more, not 0; leave it out for no limit",
    ),
    (
        lambda: ka.amap(fetch, [1], limit=True),
        TypeError,
        "amap(): limit must be a whole number, not True; leave it out for no limit",
    ),
    (
        lambda: ka.amap(fetch, [1], limit="3"),  # type: ignore[arg-type]
        TypeError,
        "amap(): limit must be a whole number, not '3'; leave it out for no limit",
    ),
    (
        lambda: ka.amap(fetch, [1], limit=2.0),  # type: ignore[arg-type]
        TypeError,
        "amap(): limit must be a whole number, not 2.0; leave it out for no limit",
    ),
    (
        lambda: ka.amap(fetch, _numbers()),
        ValueError,
        (
            "amap() over an async iterable needs a limit, or all of it would be pulled at "
            "once; write amap(func, items, limit=10)"
        ),
    ),
    (
        lambda: ka.amap(fetch, [1], rate=0),
        ValueError,
        (
            "per_second must be more than 0 and finite, not 0; "
            "for no limit leave the RateLimit out"
        ),
    ),
    (
        lambda: ka.amap(fetch, [1], rate="10"),  # type: ignore[arg-type]
        TypeError,
        (
            "amap(): rate must be a number of starts a second or a RateLimit, not '10'; "
            "leave it out for no limit"
        ),
    ),
    (
        lambda: ka.amap(fetch, [1], rate=True),
        TypeError,
        (
            "amap(): rate must be a number of starts a second or a RateLimit, not True; "
            "leave it out for no limit"
        ),
    ),
    (
        lambda: ka.amap(add_one, [1]),  # type: ignore[arg-type]
        TypeError,
        (
            "amap(add_one) takes an async function, and this one returned 2; "
            "for a blocking function use offload_map()"
        ),
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "sentence"), _MISUSE, ids=[str(n) for n in range(len(_MISUSE))]
)
async def test_wrong_use_gets_a_sentence(
    call: Callable[[], Awaitable[Any]], kind: type[Exception], sentence: str
) -> None:
    """What was called, with what, and what to write instead."""
    with pytest.raises(kind) as caught:
        await call()
    assert str(caught.value) == sentence


async def test_a_coroutine_as_items_is_refused_and_closed() -> None:
    """``amap(fetch, list_urls())`` where list_urls is async: await it first."""

    async def urls() -> list[str]:
        return []

    coro = urls()
    with pytest.raises(TypeError) as caught:
        await ka.amap(fetch, coro)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "amap(): items must be iterable, not the coroutine "
        "test_a_coroutine_as_items_is_refused_and_closed.<locals>.urls; "
        "await it first: the items are what it returns"
    )


async def test_a_type_error_of_the_items_own_is_left_alone() -> None:
    """The sentence about async functions is for those that are not."""

    async def broken(item: int) -> int:
        return item + None  # type: ignore[operator]

    with pytest.raises(TypeError, match=r"^unsupported operand type"):
        await ka.amap(broken, [1])


async def test_asyncio_futures_are_awaited_too() -> None:
    """A plain asyncio task made by func is an awaitable like any other."""
    if ka.current_backend() == "trio":
        pytest.skip("asyncio's own futures")
    loop = asyncio.get_running_loop()
    numbers = count()

    def soon(_: int) -> asyncio.Future[int]:
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(future.set_result, next(numbers))
        return future

    assert await ka.amap(soon, range(5), limit=2) == [*range(5)]
