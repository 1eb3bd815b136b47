"""Who cancelled a task: the table in docs/how-to/who-cancelled-me.md is true."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from kingdom_async import trace
from support.backends import REAL, chosen
from support.turns import settle

Level = Literal["life", "steps"]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "who-cancelled-me.md"

#: By what cancels: what each kind of loop lets be known.
TABLE: dict[str, tuple[str, str]] = {
    cells[0]: (cells[1], cells[2])
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and len(cells := line.strip("| ").split(" | ")) == 3
    if not cells[0].startswith("What ")
}


async def victim() -> None:
    await anyio.sleep_forever()


async def fails() -> None:
    raise ValueError


async def expire(scope: anyio.CancelScope) -> None:
    await settle()
    scope.deadline = anyio.current_time()


async def hold(scope: anyio.CancelScope) -> None:
    """A group with a victim, in a block whose time then runs out."""
    async with ka.TaskGroup() as group:
        group.start_soon(victim)
        await expire(scope)


def is_asyncio() -> bool:
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


# --- programs, by the first cell of the row -------------------------------------------------


async def fail_after_with_reason() -> None:
    """`fail_after(9, reason="loading")`"""
    with suppress(TimeoutError), ka.fail_after(9, reason="loading") as scope:
        await hold(scope)


async def fail_after() -> None:
    """`fail_after(9)`, `move_on_after(9)`, `move_on_at(…)`"""
    with suppress(TimeoutError), ka.fail_after(9) as scope:
        await hold(scope)


async def move_on_after() -> None:
    """`fail_after(9)`, `move_on_after(9)`, `move_on_at(…)`"""
    with ka.move_on_after(9) as scope:
        await hold(scope)


async def move_on_after_set_by_hand() -> None:
    """`fail_after(9)`, `move_on_after(9)`, `move_on_at(…)`"""
    block = ka.move_on_after(None)
    block.deadline = anyio.current_time() + 9
    with block as scope:
        await hold(scope)


async def fail_at() -> None:
    """`fail_at(…, reason="by nine")`"""
    at = anyio.current_time() + 9
    with suppress(TimeoutError), ka.fail_at(at, reason="by nine") as scope:
        await hold(scope)


async def passed_deadline() -> None:
    """`move_on_after(0)`, which passes before the task begins"""
    with ka.move_on_after(0):
        async with ka.TaskGroup() as group:
            group.start_soon(victim)
            await anyio.sleep_forever()


async def deadline_by_hand() -> None:
    """`scope.cancel("no need")` of a block with a deadline"""
    with ka.move_on_after(9) as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)
            await settle()
            scope.cancel("no need")


async def outer_deadline() -> None:
    """the outer one of two nested deadlines"""
    with (
        suppress(TimeoutError),
        ka.fail_after(9, reason="outer") as scope,
        ka.fail_after(99, reason="inner"),
    ):
        await hold(scope)


async def inner_deadline() -> None:
    """the inner one"""
    with (
        suppress(TimeoutError),
        ka.fail_after(99, reason="outer"),
        ka.fail_after(9, reason="inner") as scope,
    ):
        await hold(scope)


async def move_on_at() -> None:
    """`fail_after(9)`, `move_on_after(9)`, `move_on_at(…)`"""
    with ka.move_on_at(anyio.current_time() + 9) as scope:
        await hold(scope)


async def anyio_deadline() -> None:
    """anyio's and trio's own deadlines"""
    with anyio.move_on_after(9) as scope:
        await hold(scope)


async def trio_deadline() -> None:
    """anyio's and trio's own deadlines"""
    if is_asyncio():
        await anyio_deadline()
        return
    import trio

    with trio.move_on_after(9) as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)
            await settle()
            scope.deadline = trio.current_time()


async def group_cancel() -> None:
    """`group.cancel("enough")`"""
    async with ka.TaskGroup() as group:
        group.start_soon(victim)
        await settle()
        group.cancel("enough")


async def group_cancel_by_another() -> None:
    """`group.cancel()` in another task of the group"""

    async def ends() -> None:
        group.cancel()

    async with ka.TaskGroup() as group:
        group.start_soon(victim)
        await settle()
        group.start_soon(ends, name="ends")


async def outer_group() -> None:
    """the same for the group around the task's own"""

    async def inner() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)

    async with ka.TaskGroup() as group:
        group.start_soon(inner)
        await settle()
        group.cancel("outer")


async def cancel_in_a_callback() -> None:
    """`group.cancel("late")` in a callback of the loop"""

    def callback() -> None:
        group.cancel("late")

    async with ka.TaskGroup() as group:
        group.start_soon(victim)
        await settle()
        if is_asyncio():
            asyncio.get_running_loop().call_soon(callback)
        else:
            import trio

            trio.lowlevel.current_trio_token().run_sync_soon(callback)


async def group_scope() -> None:
    """`group.cancel_scope.cancel("why")`, any scope's `cancel`"""
    async with ka.TaskGroup() as group:
        group.start_soon(victim)
        await settle()
        group.cancel_scope.cancel("why")


async def any_scope() -> None:
    """`group.cancel_scope.cancel("why")`, any scope's `cancel`"""
    with anyio.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)
            await settle()
            scope.cancel("why")


async def handle_cancel() -> None:
    """`handle.cancel()`"""
    async with ka.TaskGroup() as group:
        handle = group.start_soon(victim)
        await settle()
        handle.cancel()


async def failure_beside() -> None:
    """a failure beside it in the group"""
    with suppress(ValueError):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(victim)
            await settle()
            group.start_soon(fails, name="bad")


async def failure_in_the_body() -> None:
    """a failure in the body of its group"""
    with suppress(ValueError):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(victim)
            await settle()
            raise ValueError


async def failure_in_gather() -> None:
    """a failure in `gather`"""
    with suppress(ValueError):
        await ka.gather(victim(), fails())


async def first_success() -> None:
    """another one's success in `first_success`"""

    async def quick() -> int:
        await settle()
        return 1

    quick.__qualname__ = "quick"
    await ka.first_success(victim(), quick())


async def daemon() -> None:
    """the end of its group, for a daemon"""
    async with ka.TaskGroup() as group:
        group.start_soon(victim, daemon=True)


async def interrupt() -> None:
    """Ctrl-C"""
    async with ka.TaskGroup() as group:
        group.start_soon(victim)
        await settle()
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()


async def plain_group() -> None:
    """a group of plain anyio's around the core's"""

    async def inner() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)

    async with anyio.create_task_group() as group:
        group.start_soon(inner)
        await settle()
        group.cancel_scope.cancel()


async def trio_scope() -> None:
    """`scope.cancel()` of trio's own"""
    if is_asyncio():
        return
    import trio

    with trio.CancelScope() as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)
            await settle()
            scope.cancel()


async def native_cancel() -> None:
    """`asyncio.Task.cancel("by hand")` of the task"""
    if not is_asyncio():
        return
    async with ka.TaskGroup() as group:
        before = asyncio.all_tasks()
        group.start_soon(victim)
        (task,) = asyncio.all_tasks() - before
        await settle()
        task.cancel("by hand")
        await settle()


async def native_cancel_of_the_host() -> None:
    """the same of the task that holds its group"""
    if not is_asyncio():
        return

    async def host() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(victim)

    task = asyncio.create_task(host(), name="outer")
    await settle()
    task.cancel("by hand")
    with suppress(asyncio.CancelledError):
        await task


PROGRAMS: list[Callable[[], Awaitable[None]]] = [
    fail_after_with_reason,
    fail_after,
    move_on_after,
    move_on_after_set_by_hand,
    fail_at,
    passed_deadline,
    deadline_by_hand,
    outer_deadline,
    inner_deadline,
    move_on_at,
    anyio_deadline,
    trio_deadline,
    group_cancel,
    group_cancel_by_another,
    outer_group,
    cancel_in_a_callback,
    group_scope,
    any_scope,
    handle_cancel,
    failure_beside,
    failure_in_the_body,
    failure_in_gather,
    first_success,
    daemon,
    interrupt,
    plain_group,
    trio_scope,
    native_cancel,
    native_cancel_of_the_host,
]


def plain(text: str | None) -> str:
    """A cause as the page shows it."""
    text = (text or "-").replace(f"{__name__}.", "")
    text = re.sub(r"test_causes\.py:\d+ in ", "app.py:12 in ", text)
    return text.replace("app.py:12 in group_cancel", "app.py:12 in main").replace(
        "app.py:12 in outer_group", "app.py:12 in main"
    )


@pytest.mark.parametrize("level", ["life", "steps"])
@pytest.mark.parametrize("backend", chosen(REAL))
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_table(program: Callable[[], Awaitable[None]], backend: str, level: Level) -> None:
    """Each cell is what is recorded on that loop."""

    async def main() -> None:
        await program()

    main.__qualname__ = "main"
    with trace.recording(level) as recording, suppress(KeyboardInterrupt):
        ka.run(main, backend=backend)
    found = [task.cancelled_by for task in recording.tasks if task.name.endswith("victim")]
    expected = TABLE[(program.__doc__ or "").strip()][backend == "trio"]
    assert plain(found[0] if found else None) == expected


@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_timer_is_no_deadline(backend: str) -> None:
    """Whose sleep ends in the turn in which a neighbour fails was cancelled by that failure."""

    async def fails() -> None:
        await anyio.sleep(0.01)
        raise ValueError("broken")

    async def main() -> None:
        async with ka.TaskGroup(errors="first") as group:
            for _ in range(20):
                group.start_soon(anyio.sleep, 0.01)
            group.start_soon(fails)
            for _ in range(20):
                group.start_soon(anyio.sleep, 0.01)

    with trace.recording() as recording, pytest.raises(ValueError, match="broken"):
        ka.run(main, backend=backend)
    causes = {task.cancelled_by for task in recording.tasks if task.outcome == "cancelled"}
    assert all("failed: ValueError" in str(cause) for cause in causes)


async def cleans_up(until: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await until.wait()


@pytest.mark.parametrize("what", ["handle", "scope of the group", "outer scope"])
@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_deadline_that_passes_later_has_not_done_it(backend: str, what: str) -> None:
    """Nor during the cleanup of whom somebody else has cancelled."""

    async def main() -> None:
        with ka.move_on_after(9) as timed, anyio.CancelScope() as outer:
            async with ka.TaskGroup() as group:
                may_end = anyio.Event()
                child = group.create_task(cleans_up(may_end), name="victim")
                await settle()
                named = {"handle": child, "outer scope": outer}
                named.get(what, group.cancel_scope).cancel()
                with anyio.CancelScope(shield=True):
                    await settle()
                    timed.deadline = anyio.current_time()
                    await settle()
                may_end.set()

    main.__qualname__ = "main"
    with trace.recording() as recording:
        ka.run(main, backend=backend)
    (found,) = (task.cancelled_by for task in recording.tasks if task.name == "victim")
    assert found is not None
    assert found.startswith("task '")


async def test_a_deadline_inside_is_not_blamed_for_the_group() -> None:
    """Where a block in the task runs out in the very turn in which its group is cancelled."""

    async def polls() -> None:
        while True:
            with ka.move_on_after(0.01):
                await anyio.sleep_forever()

    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(polls, name="polls")
            await anyio.sleep(0.005)
            time.sleep(0.05)  # noqa: ASYNC251  # the block has run out when the loop goes on
            await checkpoint()
            group.cancel("shutting down")
    (found,) = (task.cancelled_by for task in recording.tasks if task.name == "polls")
    assert found is not None
    assert found.endswith(": shutting down")


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_map_that_has_given_all_is_not_cancelled(ordered: bool) -> None:
    """Its tasks end by themselves, as on a healthy day nothing is cancelled."""

    async def double(number: int) -> int:
        await checkpoint()
        return 2 * number

    with trace.recording() as recording:
        async with ka.imap(double, range(5), limit=2, ordered=ordered) as doubled:
            assert sorted([number async for number in doubled]) == [0, 2, 4, 6, 8]
    ended = {task.outcome for task in recording.tasks if task.name.startswith("imap(")}
    assert ended == {"ok"}


def test_every_row_has_a_program() -> None:
    """Nothing stands in the table that is not tested."""
    assert set(TABLE) == {(program.__doc__ or "").strip() for program in PROGRAMS}


@pytest.mark.parametrize("name", ["user's", 'the "one"', "a > b", 'it\'s "it"'])
async def test_a_task_may_have_any_name(name: str) -> None:
    """Whoever cancelled is named as it is, with quotes and all."""
    scopes: list[anyio.CancelScope] = []

    async def cancels() -> None:
        scopes[0].cancel("enough")

    with trace.recording() as recording, ka.move_on_after(60) as scope:
        scopes.append(scope)
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep_forever, name="victim")
            await checkpoint()
            group.start_soon(cancels, name=name)
    (found,) = (task.cancelled_by for task in recording.tasks if task.name == "victim")
    assert found == f"task {name!r}: enough"


async def test_a_long_reason_is_cut() -> None:
    """A page of text for a reason does not fill the recording, once for each task."""
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(anyio.sleep_forever, name="by group")
            await ka.checkpoint()
            group.cancel("x" * 100_000)
        with suppress(TimeoutError), ka.fail_after(60, reason="y" * 100_000) as timed:
            async with ka.TaskGroup() as group:
                group.start_soon(anyio.sleep_forever, name="by deadline")
                await ka.checkpoint()  # what has not begun is cancelled by its group
                timed.deadline = ka.current_time()
        with anyio.CancelScope() as scope:
            async with ka.TaskGroup() as group:
                group.start_soon(anyio.sleep_forever, name="by scope")
                await ka.checkpoint()
                scope.cancel("z" * 100_000)
    causes = [task.cancelled_by for task in recording.tasks if task.name.startswith("by ")]
    assert len(causes) == 3
    for cause, letter in zip(causes, "xyz", strict=True):
        assert cause is not None
        assert letter * 1900 in cause
        assert len(cause) < 2200
