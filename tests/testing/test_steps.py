"""Each step of each task is told, and only those."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from kingdom_async.testing.runs.steps import (
    Step,
    Watcher,
    is_step,
    watched_backend,
    watched_loop,
)
from support.backends import REAL, chosen

ASYNCIO = [name for name in chosen(REAL) if name != "trio"]
every_backend = pytest.mark.parametrize("backend", chosen(REAL))


class Counting(Watcher):
    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def spawned(self, task: Any) -> None:
        self.told.append(("spawned", task))

    def stepping(self, task: Any) -> None:
        self.told.append(("stepping", task))

    def stepped(self, task: Any) -> None:
        self.told.append(("stepped", task))

    def steps_of(self, name: str) -> list[str]:
        return [what for what, task in self.told if task_name(task) == name]


def task_name(task: Any) -> str:
    return task.name if hasattr(task, "name") else task.get_name()  # type: ignore[no-any-return]


def run(backend: str, watcher: Watcher, func: Any) -> Any:
    name, options = watched_backend(backend, watcher)
    return anyio.run(func, backend=name, backend_options=options)


@every_backend
def test_each_step_is_told_before_and_after(backend: str) -> None:
    """A task that waits twice takes three steps, on every backend."""
    watcher = Counting()

    async def twice() -> None:
        event = anyio.Event()
        waits.append(event)
        await event.wait()
        await anyio.sleep(0.001)

    waits: list[anyio.Event] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(twice, name="twice")
            while not waits:
                await checkpoint()
            waits[0].set()

    run(backend, watcher, main)
    assert watcher.steps_of("twice") == ["spawned", *["stepping", "stepped"] * 3]


@every_backend
def test_steps_do_not_overlap(backend: str) -> None:
    """Between a step's beginning and its end there is no other step."""
    watcher = Counting()

    async def child() -> None:
        for _ in range(3):
            await checkpoint()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(child)

    run(backend, watcher, main)
    steps = [(what, task) for what, task in watcher.told if what != "spawned"]
    assert len(steps) > 30
    for (before, stepping), (after, stepped) in zip(steps[::2], steps[1::2], strict=True):
        assert (before, after) == ("stepping", "stepped")
        assert stepping is stepped


@every_backend
def test_the_task_is_parked_when_its_step_is_over(backend: str) -> None:
    """A scope cancelled right then stops the task at the wait that it has just begun."""
    reached: list[int] = []
    scopes: list[anyio.CancelScope] = []

    class Canceller(Watcher):
        steps = 0

        def stepped(self, task: Any) -> None:
            if scopes and reached:
                scopes[0].cancel()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            for number in range(10):
                reached.append(number)
                await anyio.sleep(0.001)

    run(backend, Canceller(), main)
    assert reached == [0]


@pytest.mark.parametrize("backend", ASYNCIO)
@pytest.mark.parametrize("python", [False, True], ids=["C task", "Python task"])
def test_what_is_a_step(backend: str, python: bool) -> None:
    """``task.cancel`` given to the loop is none, nor is a callback that belongs to no task."""
    watcher = Counting()
    seen: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if python:
            loop.set_task_factory(
                lambda loop, coro, **options: asyncio.tasks._PyTask(coro, loop=loop, **options)  # type: ignore[attr-defined]
            )
        task = loop.create_task(asyncio.sleep(60), name="other")
        await asyncio.sleep(0)
        seen.append(is_step(task.cancel))
        loop.call_soon(task.cancel)
        loop.call_soon(seen.copy)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(backend, watcher, main)
    assert seen == [False]
    assert watcher.steps_of("other") == ["spawned", *["stepping", "stepped"] * 2]


@pytest.mark.parametrize("backend", ASYNCIO)
def test_steps_that_are_due_are_taken_as_picked(backend: str) -> None:
    """The last first: each task in its own context all the same."""
    order: list[int] = []
    number_here: ContextVar[int] = ContextVar("number_here")

    class Backwards(Watcher):
        def __init__(self) -> None:
            self.pick = self.last

        def last(self, due: list[Step]) -> int:
            return len(due) - 1

    async def child(number: int) -> None:
        number_here.set(number)
        await checkpoint()
        assert number_here.get() == number
        order.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(child, number)

    run(backend, Backwards(), main)
    assert order == [2, 1, 0]


@pytest.mark.parametrize("backend", ASYNCIO)
def test_a_step_may_be_held_back(backend: str) -> None:
    """While none is picked, the loop goes on turning without it."""
    held: list[int] = []

    class Holding(Watcher):
        def __init__(self) -> None:
            self.pick = self.hold

        def hold(self, due: list[Step]) -> int | None:
            if len(held) < 5:
                held.append(len(due))
                return None
            return 0

    async def main() -> str:
        return "done"

    assert run(backend, Holding(), main) == "done"
    assert held == [1] * 5


def test_any_class_of_loop_can_be_watched() -> None:
    """As the one whose clock jumps."""

    class Mine(asyncio.SelectorEventLoop):
        pass

    loop = watched_loop(Mine(), Watcher())
    assert isinstance(loop, Mine)
    loop.close()
