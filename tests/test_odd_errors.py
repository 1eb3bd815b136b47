"""Errors of unusual classes come out as they went in."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest

import kingdom_async as ka
from support.backends import REAL, asyncio_only, chosen


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class NotesRefused(Exception):
    __notes__: Any = None

    def add_note(self, note: str, /) -> None:
        raise RuntimeError("no notes")


class NotesHidden(Exception):
    @property
    def __notes__(self) -> Any:
        raise RuntimeError("no notes")


async def fail(error: Exception) -> None:
    raise error


def raise_it(error: Exception) -> None:
    raise error


async def group(error: Exception) -> None:
    async with ka.TaskGroup(errors="first") as tasks:
        tasks.start_soon(fail, error)
        tasks.start_soon(fail, ValueError("another"))


async def producing(error: Exception) -> None:
    with ka.Queue[int](1).producing():
        raise error


async def consume(error: Exception) -> None:
    async with ka.imap(fail, [error], limit=1) as results:
        async for _ in results:
            pass


CALLS: dict[str, Callable[[Exception], Any]] = {
    "gather": lambda error: ka.gather(fail(error)),
    "group": group,
    "amap": lambda error: ka.amap(fail, [error]),
    "imap": consume,
    "offload_map": lambda error: ka.offload_map(raise_it, [error], limit=1),
    "producing": producing,
}


@pytest.mark.parametrize(
    "error",
    [FrozenError(1), NotesRefused("x"), NotesHidden("x")],
    ids=["frozen", "notes refused", "notes hidden"],
)
@pytest.mark.parametrize("call", CALLS)
async def test_an_error_that_refuses_attributes_is_raised_itself(
    call: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """What is noted on it never takes its place."""
    caplog.set_level(logging.CRITICAL, "kingdom_async")  # it cannot be formatted
    frozen_in_thread = call == "offload_map" and isinstance(error, FrozenError)
    if frozen_in_thread and ka.current_backend() == "trio":
        pytest.skip("anyio's own thread call on trio cannot carry it")
    with pytest.raises((type(error), ValueError)) as caught:
        await CALLS[call](error)
    assert caught.value is error or call == "group"  # trio starts either first


@pytest.mark.parametrize("backend", chosen(REAL))
def test_a_frozen_error_leaves_run(backend: Any) -> None:
    """The program's own error ends the run."""
    error = FrozenError(1)
    with pytest.raises(FrozenError) as caught:
        ka.run(fail, error, backend=backend)
    assert caught.value is error


@asyncio_only
@pytest.mark.parametrize(
    "call",
    [
        lambda: ka.gather(ka.sleep(1), ka.sleep(1)),
        lambda: ka.first_success(ka.sleep(1), ka.sleep(1)),
        lambda: ka.first_finished(ka.sleep(1), ka.sleep(1)),
        lambda: ka.offload_map(str, range(5), limit=2),
    ],
    ids=["gather", "first_success", "first_finished", "offload_map"],
)
async def test_tasks_cancelled_before_their_first_step_are_told(call: Any) -> None:
    """Task.cancel() of a task that has not begun is TaskCancelled, never a short result."""
    import asyncio

    me = asyncio.current_task()

    def kill() -> None:
        for task in asyncio.all_tasks():
            if task is not me and task.get_coro().__name__ == "_run_coro":  # type: ignore[union-attr]
                task.cancel()

    asyncio.get_running_loop().call_soon(kill)
    with pytest.raises(ka.TaskCancelled, match="was cancelled from outside"):
        await call()
