"""Ordering bugs that a plain run never shows, each with its mended version.

Rule: under the loop's own order every one of these comes out well. `later` stands for whatever
takes a while, such as an answer from the network: on one machine it always takes the same time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import checkpoint

import kingdom_async as ka

Body = Callable[[], Awaitable[object]]

#: By name: the one with the bug, and the mended one.
RACES: dict[str, tuple[Body, Body]] = {}
#: Those that end in a deadlock.
DEADLOCKS = {"lost wake-up", "notified before it waits", "two locks in two orders"}


def race(name: str) -> Callable[[Callable[[bool], Awaitable[object]]], object]:
    """The function that follows is called with True for its mended version."""

    def register(function: Callable[[bool], Awaitable[object]]) -> object:
        def buggy() -> Awaitable[object]:
            return function(False)

        def mended() -> Awaitable[object]:
            return function(True)

        RACES[name] = buggy, mended
        return function

    return register


async def later(turns: int) -> None:
    for _ in range(turns):
        await checkpoint()


async def together(*functions: Callable[[], Awaitable[object]]) -> None:
    async with ka.TaskGroup(errors="first") as group:
        for function in functions:
            group.start_soon(function)


@race("check, then act")
async def check_then_act(is_mended: bool) -> object:
    balance, lock = 100, ka.Lock()

    async def withdraw(turns: int) -> None:
        nonlocal balance
        await later(turns)
        if is_mended:
            async with lock:
                await pay()
        else:
            await pay()

    async def pay() -> None:
        nonlocal balance
        if balance >= 70:
            await checkpoint()  # asks the bank
            balance -= 70

    await together(lambda: withdraw(0), lambda: withdraw(4))
    assert balance == 30, f"the balance is {balance}"
    return balance


@race("lost wake-up")
async def lost_wake_up(is_mended: bool) -> object:
    items: list[int] = []
    event = ka.Event()

    async def consume() -> None:
        while not items:
            current = event
            if is_mended and items:
                break
            await checkpoint()
            await (current if is_mended else event).wait()

    async def produce() -> None:
        nonlocal event
        await later(4)
        items.append(1)
        event.set()
        event = ka.Event()

    await together(consume, produce)
    return len(items)


@race("initialised twice")
async def initialised_twice(is_mended: bool) -> object:
    pools: list[object] = []
    pool: object = None
    lock = ka.Lock()

    async def get() -> object:
        if is_mended:
            async with lock:
                return await make()
        return await make()

    async def make() -> object:
        nonlocal pool
        if pool is None:
            await checkpoint()  # connects
            pool = object()
            pools.append(pool)
        return pool

    async def use(turns: int) -> None:
        await later(turns)
        await get()

    await together(lambda: use(0), lambda: use(3))
    assert len(pools) == 1, f"{len(pools)} pools"
    return len(pools)


@race("reader before writer")
async def reader_before_writer(is_mended: bool) -> object:
    settings: dict[str, int] = {}
    is_there = ka.Event()

    async def write() -> None:
        await later(1)
        settings["limit"] = 5
        is_there.set()

    async def read() -> None:
        await (is_there.wait() if is_mended else later(4))
        assert settings["limit"] == 5

    await together(write, read)
    return settings["limit"]


@race("cache stampede")
async def cache_stampede(is_mended: bool) -> object:
    cache: dict[str, int] = {}
    loading: dict[str, ka.Event] = {}
    loads = 0

    async def load() -> None:
        nonlocal loads
        loads += 1
        await later(2)
        cache["page"] = 7

    async def get(turns: int) -> int:
        await later(turns)
        if "page" not in cache:
            if not is_mended:
                await load()
            elif "page" in loading:
                await loading["page"].wait()
            else:
                loading["page"] = ka.Event()
                await load()
                loading["page"].set()
        return cache["page"]

    await together(lambda: get(0), lambda: get(5), lambda: get(6))
    assert loads == 1, f"loaded {loads} times"
    return loads


@race("ABA")
async def aba(is_mended: bool) -> object:
    stack = ["a", "b", "c"]
    changes = 0

    async def pop_slowly() -> None:
        nonlocal changes
        while True:
            top, rest, seen = stack[0], stack[1:], changes
            await checkpoint()
            if stack[0] == top and (not is_mended or changes == seen):
                stack[:] = rest  # what it was when it was looked at
                changes += 1
                return

    async def pop_two_and_put_back() -> None:
        nonlocal changes
        await later(4)
        first, _ = stack.pop(0), stack.pop(0)
        stack.insert(0, first)
        changes += 1

    await together(pop_slowly, pop_two_and_put_back)
    assert len(stack) == 1, f"left: {stack}"
    return len(stack)


@race("counter over an await")
async def counter(is_mended: bool) -> object:
    count, lock = 0, ka.Lock()

    async def add(turns: int) -> None:
        nonlocal count
        await later(turns)
        if is_mended:
            async with lock:
                await add_one()
        else:
            await add_one()

    async def add_one() -> None:
        nonlocal count
        seen = count
        await checkpoint()
        count = seen + 1

    await together(lambda: add(0), lambda: add(4), lambda: add(8))
    assert count == 3, f"counted {count}"
    return count


@race("use after close")
async def use_after_close(is_mended: bool) -> object:
    is_open = True
    sent = ka.Event()

    async def send() -> None:
        await later(2)
        assert is_open, "sent on a connection that is closed"
        sent.set()

    async def close() -> None:
        nonlocal is_open
        await (sent.wait() if is_mended else later(6))
        is_open = False

    await together(send, close)
    return is_open


@race("shut down in the wrong order")
async def wrong_order_of_shutdown(is_mended: bool) -> object:
    rows: list[int] = []
    database_is_open = True
    queue = ka.Queue[int](10)

    async def write() -> None:
        async for item in queue:
            await checkpoint()
            assert database_is_open, "written after the database was closed"
            rows.append(item)

    async def work() -> None:
        nonlocal database_is_open
        async with ka.TaskGroup(errors="first") as group:
            writer = group.start_soon(write)
            for item in range(3):
                await queue.put(item)
            queue.close()
            await (writer.wait() if is_mended else later(8))
            database_is_open = False

    try:
        await work()
    finally:
        queue.drain()
    return rows


@race("not awaited before the next")
async def forgotten_order(is_mended: bool) -> object:
    lines: list[str] = []

    async def write(line: str) -> None:
        await checkpoint()
        lines.append(line)

    async with ka.TaskGroup(errors="first") as group:
        header = group.start_soon(write, "header")
        if is_mended:
            await header.wait()
        else:
            await later(2)
        await write("body")
    assert lines == ["header", "body"], str(lines)
    return lines


@race("timeout against result")
async def timeout_against_result(is_mended: bool) -> object:
    results: list[int] = []
    taken: list[int] = []
    scope = ka.CancelScope()

    async def fetch() -> None:
        await later(2)
        results.append(1)  # the server has done it
        if is_mended:
            taken.append(1)
        await checkpoint()  # the answer is on its way
        if not is_mended:
            taken.append(1)

    async def time_out() -> None:
        await later(7)
        scope.cancel()

    async def ask() -> None:
        with scope:
            await fetch()

    await together(ask, time_out)
    assert taken == results, "done, and reported as timed out"
    return "consistent"


@race("notified before it waits")
async def notified_before_it_waits(is_mended: bool) -> object:
    condition, is_ready = ka.Condition(), False

    async def wait() -> None:
        async with condition:
            while not (is_mended and is_ready):
                await condition.wait()
                if not is_mended:
                    return

    async def notify() -> None:
        nonlocal is_ready
        await later(5)
        async with condition:
            is_ready = True
            condition.notify()

    await together(wait, notify)
    return is_ready


@race("two locks in two orders")
async def two_locks(is_mended: bool) -> object:
    first, second = ka.Lock(), ka.Lock()

    async def both(turns: int, one: ka.Lock, other: ka.Lock) -> None:
        await later(turns)
        async with one:
            await checkpoint()
            async with other:
                await checkpoint()

    order = (first, second) if is_mended else (second, first)
    await together(lambda: both(0, first, second), lambda: both(8, *order))
    return "both"


@race("answers taken in the order of questions")
async def answers_out_of_order(is_mended: bool) -> object:
    answers: list[int] = []
    by_question: dict[int, int] = {}

    async def ask(question: int) -> None:
        await later(2)
        answers.append(question * 10)
        by_question[question] = question * 10

    await together(*(lambda question=question: ask(question) for question in (1, 2, 3)))
    got = [by_question[q] for q in (1, 2, 3)] if is_mended else answers
    assert got == [10, 20, 30], str(got)
    return got


@race("one connection lent twice")
async def lent_twice(is_mended: bool) -> object:
    free, lent = ["x", "y"], list[str]()

    async def borrow(turns: int) -> None:
        await later(turns)
        if is_mended:
            lent.append(free.pop())
            await checkpoint()
            return
        connection = free[-1]
        await checkpoint()  # is it alive?
        lent.append(connection)
        if connection in free:
            free.remove(connection)

    await together(lambda: borrow(0), lambda: borrow(4))
    assert len({*lent}) == 2, f"lent: {lent}"
    return sorted(lent)


async def plain(body: Body) -> object:
    """As a program runs it."""
    with anyio.fail_after(5):
        return await body()
