"""Items of one call do not notice each other, although few tasks serve them all."""

from __future__ import annotations

import decimal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import kingdom_async as ka
from support.backends import virtual_time
from support.turns import settle

Bulk = Callable[..., Awaitable[list[Any]]]


async def by_amap(func: Any, items: Any, **options: Any) -> list[Any]:
    return await ka.amap(func, items, **options)


async def by_imap(func: Any, items: Any, **options: Any) -> list[Any]:
    async with ka.imap(func, items, **options) as results:
        return [result async for result in results]


async def over_async_items(func: Any, items: Any, **options: Any) -> list[Any]:
    async def source() -> AsyncIterator[Any]:
        for item in items:
            yield item

    return await ka.amap(func, source(), **options)


ways = pytest.mark.parametrize(
    "bulk", [by_amap, by_imap, over_async_items], ids=["amap", "imap", "async items"]
)
limits = pytest.mark.parametrize("limit", [1, 3, 50])


# --- context variables ---------------------------------------------------------------


class Equal:
    """Equal to every other one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 7


class Incomparable:
    """Cannot be asked whether it equals anything."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


@ways
@limits
@pytest.mark.parametrize("inherited", [True, False], ids=["inherited", "unset"])
@pytest.mark.parametrize("make", [Equal, Incomparable])
async def test_what_an_item_sets_is_not_seen_by_the_next(
    bulk: Bulk, limit: int, inherited: bool, make: Callable[[], Any]
) -> None:
    """Whatever the values are: equal ones are told apart, and none is asked."""
    variable: ContextVar[Any] = ContextVar("variable")
    outside = make()
    if inherited:
        variable.set(outside)

    async def work(number: int) -> tuple[bool, bool]:
        before = variable.get(None)
        mine = make()
        if number % 3:
            variable.set(mine)
        if number > 9:
            await ka.checkpoint()
        after = variable.get(None)
        expected = outside if inherited else None
        return before is expected, after is (mine if number % 3 else expected)

    assert await bulk(work, range(20), limit=limit) == [(True, True)] * 20
    assert variable.get(None) is (outside if inherited else None)


@ways
@limits
async def test_a_variable_of_an_item_that_failed_is_not_seen_either(
    bulk: Bulk, limit: int
) -> None:
    """The failure of an item does not let its variables through."""
    variable = ContextVar("variable", default=-1)

    async def work(number: int) -> int:
        assert variable.get() == -1
        variable.set(number)
        raise LookupError(number)

    results = await bulk(work, range(10), limit=limit, on_error=lambda item, _: item)
    assert results == [*range(10)]


@ways
async def test_set_and_reset_is_no_change(bulk: Bulk) -> None:
    """Items that tidy up behind themselves need no fresh worker: one task serves them."""
    variable: ContextVar[int] = ContextVar("variable")
    tasks = set()

    async def work(number: int) -> None:
        tasks.add(anyio.get_current_task().id)
        assert variable.get(None) is None
        token = variable.set(number)
        await ka.checkpoint()
        variable.reset(token)

    await bulk(work, range(50), limit=1)
    assert len(tasks) == 1


@ways
@limits
async def test_the_callers_variables_are_seen(bulk: Bulk, limit: int) -> None:
    """As they were when the call began."""
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("caller's")

    async def work(number: int) -> str:
        seen = variable.get()
        variable.set("item's")
        return seen

    assert await bulk(work, range(9), limit=limit) == ["caller's"] * 9
    assert variable.get() == "caller's"


@ways
async def test_a_variable_of_somebody_elses_is_kept_apart_too(bulk: Bulk) -> None:
    """The context of Decimal is one: it sets a variable that the item knows nothing of."""

    async def work(number: int) -> int:
        precision = decimal.getcontext().prec
        decimal.setcontext(decimal.Context(prec=precision + number + 1))
        return precision

    usual = decimal.getcontext().prec
    assert await bulk(work, range(9), limit=2) == [usual] * 9


@ways
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_the_limit_holds_and_is_reached_where_every_item_sets_a_variable(
    bulk: Bulk, limit: int
) -> None:
    """A worker that makes room for a fresh one is replaced, and by one only."""
    variable: ContextVar[int] = ContextVar("variable")
    inside = most = 0

    async def work(number: int) -> int:
        nonlocal inside, most
        variable.set(number)
        inside += 1
        most = max(most, inside)
        if number >= 20:
            while number < 60 and most < limit:  # never, if the limit is not reached
                await ka.checkpoint()
        await ka.checkpoint()
        inside -= 1
        return number

    assert await bulk(work, range(60), limit=limit) == [*range(60)]
    assert most == limit


@ways
@pytest.mark.parametrize("limit", [2, 5])
async def test_the_limit_is_reached_after_quick_items_that_set_a_variable(
    bulk: Bulk, limit: int
) -> None:
    """However many workers were replaced before, as many items as allowed run together."""
    variable: ContextVar[int] = ContextVar("variable")
    here = 0
    complete = ka.Event()

    async def work(number: int) -> None:
        nonlocal here
        variable.set(number)
        if number >= 3:
            here += 1
            if here == limit:
                complete.set()
            await complete.wait()

    await bulk(work, range(3 + limit), limit=limit)
    assert here == limit


# --- cancel scopes -------------------------------------------------------------------


@ways
@limits
async def test_a_cancel_scope_of_an_item_is_its_own(bulk: Bulk, limit: int) -> None:
    """An item that its own scope cuts off does not touch the next."""

    async def work(number: int) -> str:
        if number % 2:
            with ka.move_on_after(0) as scope:
                await ka.sleep_forever()
            assert scope.cancelled_caught
            return "cut off"
        await ka.checkpoint()
        return "done"

    assert await bulk(work, range(10), limit=limit) == ["done", "cut off"] * 5


@ways
@limits
async def test_a_timeout_of_an_item_is_a_failure_of_that_item(bulk: Bulk, limit: int) -> None:
    """``fail_after`` inside an item raises there, and the others go on."""

    async def work(number: int) -> int:
        if number % 2:
            with ka.fail_after(0):
                await ka.sleep_forever()
        await ka.checkpoint()
        return number

    results = await bulk(work, range(8), limit=limit, on_error=lambda item, _: -item)
    assert results == [0, -1, 2, -3, 4, -5, 6, -7]


@ways
@limits
async def test_a_task_group_of_an_item_is_its_own(bulk: Bulk, limit: int) -> None:
    """An item may start tasks, and cancel them."""

    async def work(number: int) -> int:
        async with ka.TaskGroup() as group:
            group.start_soon(ka.sleep_forever)
            await ka.checkpoint()
            group.cancel()
        return number

    assert await bulk(work, range(10), limit=limit) == [*range(10)]


@ways
async def test_a_call_inside_an_item_is_its_own(bulk: Bulk) -> None:
    """Bulk calls nest, each with its limit."""

    async def inner(number: int) -> int:
        await ka.checkpoint()
        return number

    async def outer(number: int) -> int:
        return sum(await bulk(inner, range(number), limit=2))

    assert await bulk(outer, range(8), limit=3) == [0, 0, 1, 3, 6, 10, 15, 21]


# --- the loop ------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("limit", [1, 10])
async def test_a_func_that_never_waits_does_not_freeze_the_loop(bulk: Bulk, limit: int) -> None:
    """Other tasks get their turn, again and again: a worker gives way once in 64 items."""
    done = most = seen = turns = 0

    async def watch() -> None:
        nonlocal most, seen, turns
        while True:
            most = max(most, done - seen)
            seen = done
            turns += 1
            await ka.checkpoint()

    async def work(number: int) -> None:
        nonlocal done
        done += 1

    async with ka.TaskGroup() as group:
        group.start_soon(watch, daemon=True)
        await settle(2)
        await bulk(work, range(6400), limit=limit)
    assert most <= 2 * 64 * limit  # trio may let the others go first, and last the next time
    assert turns >= 6400 / (64 * limit)


@ways
async def test_a_func_that_never_waits_is_served_by_few_workers(bulk: Bulk) -> None:
    """One more is started only where all of them wait: a task costs more than an item."""
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        most = max(most, len(anyio.get_running_tasks()))

    before = len(anyio.get_running_tasks())
    await bulk(work, range(2000), limit=1000)
    assert most - before <= 20


async def test_a_func_that_never_waits_gives_way_no_more_than_it_must() -> None:
    """Once in 64 items, and so to wait costs next to nothing."""
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            turns += 1
            await ka.checkpoint()

    async def work(number: int) -> None:
        pass

    async with ka.TaskGroup() as group:
        group.start_soon(watch, daemon=True)
        await settle(2)
        turns = 0
        await ka.amap(work, range(6400), limit=1)
        assert 100 <= turns <= 110


@ways
async def test_a_func_that_never_waits_can_be_cancelled(bulk: Bulk) -> None:
    """A cancellation is seen where the worker gives way."""
    done = 0

    with ka.CancelScope() as scope:

        async def work(number: int) -> None:
            nonlocal done
            done += 1
            if done == 500:
                scope.cancel()

        await bulk(work, range(6400), limit=4)
    assert scope.cancelled_caught
    assert done < 500 + 4 * 64


@virtual_time
@ways
@pytest.mark.parametrize("sets", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_nothing_turns_while_all_items_wait(bulk: Bulk, limit: int, sets: bool) -> None:
    """Virtual time passes only while no task has anything to do: a busy wait would hang."""
    variable: ContextVar[int] = ContextVar("variable")

    async def work(number: int) -> int:
        if sets:
            variable.set(number)
        if number % 3:
            await ka.sleep(1)
        return number

    assert await bulk(work, range(100), limit=limit) == [*range(100)]


@virtual_time
@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_nothing_turns_while_source_or_consumer_wait(limit: int) -> None:
    """Idle workers, a full window and a source without demand cost no turn of the loop."""

    async def items() -> AsyncIterator[int]:
        for number in range(100):
            if number % 7 == 0:
                await ka.sleep(1)
            yield number

    async def same(number: int) -> int:
        return number

    async with ka.imap(same, items(), limit=limit) as results:
        got = []
        async for result in results:
            if result % 5 == 0:
                await ka.sleep(3)
            got.append(result)
    assert got == [*range(100)]


async def test_items_of_one_worker_share_its_task() -> None:
    """Said in the docs: a lock that belongs to a task belongs to the worker."""
    tasks = set()

    async def work(number: int) -> None:
        tasks.add(anyio.get_current_task().id)
        await ka.checkpoint()

    await ka.amap(work, range(100), limit=3)
    assert len(tasks) == 3


async def test_workers_are_named_for_their_work() -> None:
    """As the trees and the debugger show them."""

    async def fetch(number: int) -> str:
        await settle(3)
        return str(anyio.get_current_task().name)

    name = "amap(test_workers_are_named_for_their_work.<locals>.fetch)"
    names = await ka.amap(fetch, range(3), limit=3)
    assert sorted(names) == [f"{name}[{n}]" for n in range(3)]
