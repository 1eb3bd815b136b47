"""`imap`: the consumer's side. What it shares with `amap` is in test_bulk_*."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from support.backends import virtual_time
from support.turns import settle

orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])


async def same(item: Any) -> Any:
    return item


async def invert(number: int) -> float:
    return 1 / number


# --- order and limits ----------------------------------------------------------------


@orders
@pytest.mark.parametrize("limit", [1, 2, 3, 64, 1000])
async def test_gives_one_result_per_item(limit: int, ordered: bool) -> None:
    """As many results as items, whatever the limit, and then the end, again and again."""
    for size in (0, 1, 2, 63, 64, 65, 300):
        async with ka.imap(same, range(size), limit=limit, ordered=ordered) as results:
            got = [result async for result in results]
            assert [result async for result in results] == []
        assert (got if ordered else sorted(got)) == [*range(size)]


async def test_results_come_in_the_order_of_the_items() -> None:
    """However long each of them takes."""

    async def later_first(number: int) -> int:
        await settle(20 - 2 * (number % 10))
        return number

    async with ka.imap(later_first, range(50), limit=10) as results:
        assert [result async for result in results] == [*range(50)]


async def test_unordered_results_come_as_they_are_done() -> None:
    """A slow item holds up no other."""
    release = ka.Event()

    async def work(number: int) -> int:
        if number == 0:
            await release.wait()
        return number

    got = []
    async with ka.imap(work, range(10), limit=2, ordered=False) as results:
        async for result in results:
            got.append(result)
            if len(got) == 9:
                release.set()
    assert got == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


async def test_a_slow_item_holds_up_an_ordered_window() -> None:
    """The others go on as far as the window, and no farther."""
    release = ka.Event()
    started = []

    async def work(number: int) -> int:
        started.append(number)
        if number == 0:
            await release.wait()
        return number

    async with ka.imap(work, range(100), limit=3) as results:
        await settle()
        assert sorted(started) == [*range(6)]
        release.set()
        assert [result async for result in results] == [*range(100)]


@orders
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_the_limit_is_never_exceeded_and_really_reached(
    limit: int, ordered: bool
) -> None:
    """Items that wait run as many at a time as the limit says, and never one more."""
    here: list[ka.Event] = []
    most = 0

    async def meet(number: int) -> int:
        nonlocal most
        mine = ka.Event()
        here.append(mine)
        most = max(most, len(here))
        if len(here) == limit:
            for event in here:
                event.set()
            here.clear()
        await mine.wait()
        return number

    async with ka.imap(meet, range(6 * limit), limit=limit, ordered=ordered) as results:
        got = [result async for result in results]
    assert sorted(got) == [*range(6 * limit)]
    assert most == limit


async def test_a_waiting_consumer_leaves_no_room_unused() -> None:
    """An item may wait for another one that the window has room for."""
    started = [ka.Event() for _ in range(40)]

    async def wait_for_the_third_next(number: int) -> int:
        started[number].set()
        if number % 5 == 3:
            await started[number + 3].wait()
        return number

    async with ka.imap(wait_for_the_third_next, range(37), limit=2) as results:
        assert [result async for result in results] == [*range(37)]


async def test_all_workers_go_on_when_half_the_window_is_free() -> None:
    """Not one of them alone, while the body is busy with a result."""
    inside = most = 0

    async def work(number: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await settle(5)
        inside -= 1
        return number

    async with ka.imap(work, range(100), limit=4) as results:
        await settle(60)
        most = 0
        for _ in range(4):
            await anext(results)
        await settle(60)
        assert most == 4


@orders
async def test_memory_stays_flat(ordered: bool) -> None:
    """Over 200 000 items at most 2 x limit results are alive, and one just replaced."""
    alive = most = 0

    class Result:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    async def work(number: int) -> Result:
        if number % 1000 == 0:
            await ka.checkpoint()
        return Result()

    limit, size = 8, 200_000
    async with ka.imap(work, range(size), limit=limit, ordered=ordered) as results:
        async for result in results:
            del result
    gc.collect()
    assert alive == 0
    assert most <= 2 * limit + 1


@orders
async def test_an_idle_call_keeps_no_result_but_those_to_be_consumed(ordered: bool) -> None:
    """What was consumed is free as soon as the consumer lets go of it."""

    class Result:
        pass

    alive: weakref.WeakSet[Result] = weakref.WeakSet()

    async def work(_: int) -> Result:
        result = Result()
        alive.add(result)
        return result

    async def items() -> AsyncIterator[int]:
        for number in range(10):
            yield number
        await ka.sleep_forever()

    async with ka.imap(work, items(), limit=4, ordered=ordered) as results:
        for _ in range(10):
            await anext(results)
        await settle()
        gc.collect()
        assert not alive


# --- the consumer --------------------------------------------------------------------


@orders
async def test_the_consumer_gets_the_results_before_the_gap_and_then_the_error(
    ordered: bool,
) -> None:
    """With a note that names the item; after it the iteration is over."""
    got = []
    async with ka.imap(invert, [4, 2, 1, 0, 5, 8], limit=1, ordered=ordered) as results:
        with pytest.raises(ZeroDivisionError) as caught:
            async for result in results:
                got.append(result)
        assert [result async for result in results] == []
    assert got == [0.25, 0.5, 1.0]
    assert caught.value.__notes__ == ["while mapping item 3: 0"]


async def test_nothing_comes_after_the_error_that_was_raised() -> None:
    """Nor is anything waited for: results behind the gap are dropped."""

    async def zero_last(number: int) -> float:
        if number == 0:
            await settle()
        return 1 / number

    async with ka.imap(zero_last, [0, 5, 8], limit=3) as results:
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        with ka.fail_after(5), pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_results_before_the_gap_are_waited_for() -> None:
    """An item that failed early does not cancel those before it."""

    async def work(number: int) -> int:
        if number == 3:
            raise LookupError("three")
        await settle()
        return number

    got = []
    async with ka.imap(work, range(8), limit=4) as results:
        with pytest.raises(LookupError, match=r"^three"):
            async for result in results:
                got.append(result)
    assert got == [0, 1, 2]


async def test_no_item_is_started_after_a_failure() -> None:
    """What was not pulled by then never is."""
    started = []

    async def work(number: int) -> None:
        started.append(number)
        await ka.checkpoint()
        if number == 2:
            raise LookupError("two")
        await settle()

    async with ka.imap(work, range(100), limit=3) as results:
        with pytest.raises(LookupError, match=r"^two"):
            async for _ in results:
                pass
    assert sorted(started) == [0, 1, 2]


async def test_the_body_is_not_cancelled_by_an_item_that_fails() -> None:
    """It learns of it where it iterates, and may go on."""
    async with ka.imap(invert, [0], limit=2) as results:
        await settle()
        with ka.move_on_after(60) as scope:
            await ka.checkpoint()
        assert not scope.cancelled_caught
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        await ka.checkpoint()


async def test_an_error_that_leaves_the_block_is_itself() -> None:
    """No group around it, where the body does not catch it."""
    with pytest.raises(ZeroDivisionError) as caught:
        async with ka.imap(invert, [1, 0, 1], limit=2) as results:
            async for _ in results:
                pass
    assert caught.value.__notes__ == ["while mapping item 1: 0"]


async def test_the_bodys_own_error_comes_out_as_itself() -> None:
    """And the items in work are cancelled and have ended by then."""
    ended = []

    async def work(number: int) -> None:
        try:
            await ka.sleep_forever()
        finally:
            ended.append(number)

    error = LookupError("body")
    with pytest.raises(LookupError) as caught:
        async with ka.imap(work, range(9), limit=3):
            await settle()
            raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert sorted(ended) == [0, 1, 2]


@orders
async def test_leaving_early_cancels_the_rest_and_waits_for_its_end(ordered: bool) -> None:
    """After the block nothing of the call runs any more."""
    ended = []

    async def work(number: int) -> int:
        if number < 2:
            return number
        try:
            await ka.sleep_forever()
        finally:
            with ka.shielded(60):
                await settle()
            ended.append(number)
        return number

    async with ka.imap(work, range(99), limit=3, ordered=ordered) as results:
        async for result in results:
            if result == 1:
                break
        await settle()
    assert sorted(ended) == [2, 3, 4]


async def test_errors_that_nobody_consumed_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those that were there when the block was left, and those that came of leaving it."""

    async def work(number: int) -> int:
        if number == 1:
            await settle()
            raise LookupError("one")
        if number == 2:
            try:
                await ka.sleep_forever()
            finally:
                raise LookupError("two")
        return number

    async with ka.imap(work, range(9), limit=3) as results:
        await settle(60)
        assert await anext(results) == 0
    assert [record.getMessage() for record in caplog.records] == [
        (
            "imap(test_errors_that_nobody_consumed_are_logged.<locals>.work): "
            "an error that nobody consumed"
        )
    ] * 2
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert sorted(str(error) for error in errors) == ["one", "two"]


async def test_an_error_that_was_consumed_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who caught it has seen it."""
    async with ka.imap(invert, [0], limit=1) as results:
        with pytest.raises(ZeroDivisionError):
            await anext(results)
    assert not caplog.records


@orders
async def test_on_error_gives_the_result_of_what_failed(ordered: bool) -> None:
    """No gap, then: the consumer gets a value in the item's place."""
    items = [1, 0, 2]
    async with ka.imap(
        invert, items, limit=1, ordered=ordered, on_error=ka.ErrorResult
    ) as results:
        one, failed, half = [result async for result in results]
    assert (one, half) == (1.0, 0.5)
    assert isinstance(failed, ka.ErrorResult)
    assert failed.item == 0
    assert type(failed.exception) is ZeroDivisionError


async def test_on_error_that_raises_reaches_the_consumer() -> None:
    """As what the item failed with."""

    def refuse(item: int, error: Exception) -> None:
        raise RuntimeError("refused") from error

    async with ka.imap(invert, [1, 0], limit=1, on_error=refuse) as results:
        assert await anext(results) == 1.0
        with pytest.raises(RuntimeError, match=r"^refused") as caught:
            await anext(results)
    assert caught.value.__notes__ == ["while mapping item 1: 0"]


async def test_a_cancelled_wait_for_a_result_has_taken_none() -> None:
    """The consumer may give up waiting and come back."""
    release = ka.Event()

    async def work(number: int) -> int:
        if number == 1:
            await release.wait()
        return number

    async with ka.imap(work, range(4), limit=2) as results:
        assert await anext(results) == 0
        for _ in range(3):
            with ka.CancelScope() as scope:
                scope.cancel()
                await anext(results)
            assert scope.cancelled_caught
        release.set()
        assert [result async for result in results] == [1, 2, 3]


async def test_results_that_are_there_are_given_64_at_a_time() -> None:
    """The consumer gives way after so many, where no worker does so any more."""
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            turns += 1
            await ka.checkpoint()

    async with ka.imap(same, range(640), limit=640) as results, ka.TaskGroup() as group:
        await settle()  # all of them are there now
        group.start_soon(watch, daemon=True)
        await settle(2)
        turns = 0
        assert [result async for result in results] == [*range(640)]
        assert 9 <= turns <= 30


async def test_a_consumer_that_never_waits_lets_others_run() -> None:
    """It gives way once in 64 results, and sees a cancellation there."""
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            turns += 1
            await ka.checkpoint()

    async with ka.TaskGroup() as group:
        group.start_soon(watch, daemon=True)
        async with ka.imap(same, range(6400), limit=1000) as results:
            async for _ in results:
                pass
    assert turns >= 90

    got = 0
    with ka.CancelScope() as scope:
        async with ka.imap(same, range(6400), limit=1000) as results:
            async for _ in results:
                got += 1
                if got == 500:
                    scope.cancel()
    assert scope.cancelled_caught
    assert 500 <= got < 564


@virtual_time
async def test_rate_spaces_the_starts() -> None:
    """So many items start a second."""
    begin = ka.current_time()

    async def when(_: int) -> float:
        return ka.current_time() - begin

    async with ka.imap(when, range(8), limit=3, rate=4) as results:
        times = [time async for time in results]
    assert sorted(times) == pytest.approx([n / 4 for n in range(8)])


class _Stop(BaseException):
    pass


async def test_a_base_exception_in_an_item_ends_the_block() -> None:
    """What is no ``Exception`` does not wait for the consumer."""

    async def stop(number: int) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        async with ka.imap(stop, range(3), limit=2):
            await ka.sleep_forever()


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_an_item_comes_out(
    fatal: type[BaseException], anyio_backend: Any
) -> None:
    """KeyboardInterrupt and SystemExit end the program, whatever the consumer does."""
    name, options = anyio_backend

    async def interrupt(number: int) -> None:
        await ka.checkpoint()
        if number == 3:
            raise fatal

    async def main() -> None:
        async with ka.imap(interrupt, range(5), limit=2) as results:
            async for _ in results:
                pass
            await ka.sleep_forever()

    with pytest.raises(fatal):
        anyio.run(main, backend=name, backend_options=options)


# --- misuse --------------------------------------------------------------------------


async def test_iterating_without_entering_gets_a_sentence() -> None:
    """It has to be entered, so that what it started can be ended."""
    results: Any = ka.imap(same, [1], limit=1)
    with pytest.raises(TypeError) as caught:
        async for _ in results:
            pass
    assert str(caught.value) == (
        "imap(same) must be entered first; use: async with imap(...) as results"
    )


async def test_it_can_be_entered_once() -> None:
    """A second call makes a second one."""
    results = ka.imap(same, [1], limit=1)
    async with results:
        pass
    with pytest.raises(RuntimeError) as caught:
        async with results:
            pass
    assert str(caught.value) == "imap(same) can be entered once; call imap() again"


async def test_two_tasks_cannot_iterate_at_once() -> None:
    """Results are handed to one consumer; share them through a Queue."""

    async def wait(_: int) -> None:
        await ka.sleep_forever()

    async def consume(results: AsyncIterator[Any]) -> None:
        async for _ in results:
            pass

    async with (
        ka.TaskGroup(errors="first") as group,
        ka.imap(wait, [1], limit=1) as results,
    ):
        group.start_soon(consume, results)
        await settle()
        with pytest.raises(RuntimeError) as caught:
            await anext(results)
        assert str(caught.value) == (
            "imap(test_two_tasks_cannot_iterate_at_once.<locals>.wait): "
            "one task at a time may iterate over it"
        )
        group.cancel()


@pytest.mark.parametrize("consumed", [0, 1, 3])
async def test_iterating_after_the_block_gets_a_sentence(consumed: int) -> None:
    """It neither hangs nor looks as if there were no more results."""
    async with ka.imap(same, range(3), limit=2) as results:
        for _ in range(consumed):
            await anext(results)
    with pytest.raises(RuntimeError) as caught:
        await anext(results)
    assert str(caught.value) == "imap(same) was left: iterate over it inside its block"


async def test_a_consumer_in_another_task_is_told_that_the_block_was_left() -> None:
    """It does not wait for ever."""

    async def wait(_: int) -> None:
        await ka.sleep_forever()

    async def consume(results: AsyncIterator[Any]) -> None:
        with pytest.raises(RuntimeError, match=r" was left: iterate over it inside its block$"):
            await anext(results)

    async with ka.TaskGroup() as group, ka.imap(wait, [1], limit=1) as results:
        group.start_soon(consume, results)
        await settle()


async def _numbers() -> AsyncIterator[int]:
    yield 1


def add_one(item: int) -> int:
    return item + 1


_COUNT = "at most so many items are in work at once"


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (
            lambda: ka.imap(same(1), [1], limit=1),  # type: ignore[call-overload]
            TypeError,
            "imap() takes the function and items: write imap(same, …), not imap(same(…))",
        ),
        (
            lambda: ka.imap(same, 3, limit=1),  # type: ignore[call-overload]
            TypeError,
            (
                "imap(): items must be iterable, not 3; give a list, a generator, or an async "
                "generator"
            ),
        ),
        (
            lambda: ka.imap(same, [1], limit=0),
            ValueError,
            f"imap(): limit must be 1 or more, not 0; {_COUNT}",
        ),
        (
            lambda: ka.imap(same, [1], limit=None),  # type: ignore[call-overload]
            TypeError,
            f"imap(): limit must be a whole number, not None; {_COUNT}",
        ),
        (
            lambda: ka.imap(same, [1], limit=True),
            TypeError,
            f"imap(): limit must be a whole number, not True; {_COUNT}",
        ),
        (
            lambda: ka.imap(same, [1], limit="3"),  # type: ignore[call-overload]
            TypeError,
            f"imap(): limit must be a whole number, not '3'; {_COUNT}",
        ),
        (
            lambda: ka.imap(same, [1], limit=1, rate="1"),  # type: ignore[call-overload]
            TypeError,
            (
                "imap(): rate must be a number of starts a second or a RateLimit, not '1'; "
                "leave it out for no limit"
            ),
        ),
    ],
    ids=[str(number) for number in range(7)],
)
async def test_wrong_use_gets_a_sentence(
    call: Callable[[], Any], kind: type[Exception], sentence: str
) -> None:
    """At the call itself: what was called, with what, and what to write instead."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


async def test_a_func_that_is_not_async_gets_a_sentence() -> None:
    """Where the first result would be."""
    async with ka.imap(add_one, [1], limit=1) as results:  # type: ignore[arg-type]
        with pytest.raises(TypeError) as caught:
            await anext(results)
    assert str(caught.value) == (
        "imap(add_one) takes an async function, and this one returned 2; "
        "for a blocking function use offload_map()"
    )


async def test_an_imap_that_is_never_entered_starts_nothing() -> None:
    """And leaves nothing that could warn."""
    pulled = []
    ka.imap(same, (pulled.append(n) for n in range(3)), limit=1)
    await settle()
    gc.collect()
    assert not pulled
