"""The same program gives the same records, whichever loop runs it."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.abc
import pytest

import kingdom_async as ka
from kingdom_async import trace
from support.backends import REAL, chosen
from support.turns import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kingdom_async.trace import TaskRecord

Level = Literal["life", "steps"]
levels = pytest.mark.parametrize("level", ["life", "steps"])


async def ends() -> None:
    await anyio.lowlevel.checkpoint()


async def never_waits() -> None:
    pass


async def waits() -> None:
    await anyio.sleep_forever()


async def fails() -> None:
    raise ValueError("no")


async def serves(*, task_status: anyio.abc.TaskStatus[int]) -> None:
    task_status.started(1)
    await ends()


async def hold(_: int) -> None:
    await anyio.lowlevel.checkpoint()


# --- the programs, each with what is to be recorded of it -----------------------------


async def success() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(ends)
        group.create_task(never_waits(), name="quick")


async def failure() -> None:
    with pytest.raises(ValueError, match="no"):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(waits)
            await settle()
            group.start_soon(fails)


async def cancelled_group() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(waits)
        await settle()
        group.cancel("enough")


async def timeout() -> None:
    with pytest.raises(ka.DeadlineExceeded), ka.fail_after(0.01, reason="loading"):
        async with ka.TaskGroup() as group:
            group.start_soon(waits)


async def moved_on() -> None:
    with ka.move_on_after(0.01):
        await ka.gather(waits(), waits())


async def started() -> None:
    async with ka.TaskGroup() as group:
        assert await group.start(serves) == 1


async def background() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(waits, daemon=True)
        group.start_soon(ends)


async def nested() -> None:
    async def inner() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(ends)

    async with ka.TaskGroup() as group:
        group.start_soon(inner)


async def cancelled_outside() -> None:
    async def inner() -> None:
        async with ka.TaskGroup() as group:
            group.start_soon(waits)

    async with ka.TaskGroup() as group:
        group.start_soon(inner)
        await settle()
        group.cancel()


async def by_handle() -> None:
    async with ka.TaskGroup() as group:
        handle = group.start_soon(waits)
        await settle()
        handle.cancel()


async def mapped() -> None:
    await ka.amap(hold, range(3), limit=2)


async def offloaded() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(ka.offload, len, "abc")


async def queued() -> None:
    queue: ka.Queue[int] = ka.Queue(1)

    async def consume() -> None:
        async for _ in queue:
            pass

    async with ka.TaskGroup() as group:
        group.start_soon(consume)
        with queue.producing():
            for number in range(5):
                await queue.put(number)


def task(
    name: str,
    group: str | None,
    outcome: str = "ok",
    error: str | None = None,
    cancelled_by: str | None = None,
    parent: int | None = 0,
) -> tuple[object, ...]:
    return (parent, name, group, outcome, error, cancelled_by)


PROGRAMS: dict[Callable[[], Awaitable[None]], list[tuple[object, ...]]] = {
    success: [task("ends", "TaskGroup in success"), task("quick", "TaskGroup in success")],
    failure: [
        task(
            "waits",
            "TaskGroup in failure",
            "cancelled",
            None,
            "task 'fails' failed: ValueError",
        ),
        task("fails", "TaskGroup in failure", "error", "ValueError"),
    ],
    cancelled_group: [
        task(
            "waits",
            "TaskGroup in cancelled_group",
            "cancelled",
            None,
            "task 'main' in cancelled_group: enough",
        )
    ],
    timeout: [
        task("waits", "TaskGroup in timeout", "cancelled", None, "deadline 'loading' of 0.01 s")
    ],
    moved_on: [
        task("waits", "gather in moved_on", "cancelled", None, "deadline of 0.01 s"),
        task("waits", "gather in moved_on", "cancelled", None, "deadline of 0.01 s"),
    ],
    started: [task("serves", "TaskGroup in started")],
    background: [
        task("waits", "TaskGroup in background", "cancelled", None, "the end of its group"),
        task("ends", "TaskGroup in background"),
    ],
    nested: [
        task("nested.<locals>.inner", "TaskGroup in nested"),
        task("ends", "TaskGroup in inner", parent=1),
    ],
    cancelled_outside: [
        task(
            "cancelled_outside.<locals>.inner",
            "TaskGroup in cancelled_outside",
            "cancelled",
            None,
            "task 'main' in cancelled_outside",
        ),
        task(
            "waits",
            "TaskGroup in inner",
            "cancelled",
            None,
            "task 'main' in cancelled_outside",
            parent=1,
        ),
    ],
    by_handle: [task("waits", "TaskGroup in by_handle", "cancelled", None, "task 'main'")],
    mapped: [
        task("amap(hold)[0]", "amap in mapped"),
        task("amap(hold)[1]", "amap in mapped"),
    ],
    offloaded: [task("offload", "TaskGroup in offloaded")],
    queued: [task("queued.<locals>.consume", "TaskGroup in queued")],
}


def plain(text: str | None) -> str | None:
    """A name, group or cause without modules and line numbers."""
    if text is None:
        return None
    text = text.replace(f"{__name__}.", "").replace("kingdom_async._offload.", "")
    return re.sub(r" at test_records\.py:\d+", "", text)


def summary(record: TaskRecord) -> tuple[object, ...]:
    return (
        record.parent,
        plain(record.name),
        plain(record.group),
        record.outcome,
        record.error,
        plain(record.cancelled_by),
    )


@levels
@pytest.mark.parametrize("backend", chosen(REAL))
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_same_records_on_every_backend(
    program: Callable[[], Awaitable[None]], backend: str, level: Level
) -> None:
    """Names, parents, groups, outcomes and causes do not depend on the loop."""

    async def main() -> None:
        await program()

    main.__qualname__ = "main"
    with trace.recording(level) as recording:
        ka.run(main, backend=backend)
    assert [summary(task) for task in recording.tasks] == [
        (None, "main", None, "ok", None, None),
        *PROGRAMS[program],
    ]
    assert not any(task.foreign for task in recording.tasks)


@levels
async def test_a_life_in_order(level: Level) -> None:
    """A task is spawned, first runs and ends, in that order, at the line that spawned it."""
    with trace.recording(level) as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(ends)
    record = recording.tasks[-1]
    assert record.spawned is not None
    assert record.started is not None
    assert record.ended is not None
    assert record.spawned <= record.started <= record.ended
    assert record.place is not None
    assert record.place.startswith("test_records.py:")
    assert record.place.endswith(" in test_a_life_in_order")
    assert not record.foreign


async def test_a_task_has_the_same_name_with_a_recording_and_without() -> None:
    """That of anyio, where the caller gives none."""

    async def work() -> None:
        pass

    names: list[list[str]] = []
    for context in (nullcontext(), trace.recording()):
        with context:
            async with ka.TaskGroup() as group:
                handles = group.start_soon(work), group.create_task(work())
        names.append([handle.name for handle in handles])
    assert names[0] == names[1]
    assert names[0][0].startswith(f"{__name__}.test_a_task")
