"""Many tasks in one group, all alive at once: memory for each; all end, no failure is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

import kingdom_async as ka

from .memory import traced

Group = Callable[[], Any]


class Planted(Exception):
    """The failure of one task."""


class Ledger:
    """Which tasks began and ended, and how."""

    def __init__(self, size: int) -> None:
        self.begun = 0
        self.ended: set[int] = set()
        self.cancelled = 0
        self.all_begun = anyio.Event()
        self.go = anyio.Event()
        self._size = size

    async def task(self, number: int, fails: bool) -> None:
        self.begun += 1
        if self.begun == self._size:
            self.all_begun.set()
        try:
            await self.go.wait()
            if fails:
                raise Planted(number)
        except ka.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.ended.add(number)


async def tasks(size: int, make: Group, failing: bool) -> str:
    """*size* tasks wait for one event; then they end, or the one in the middle fails."""
    ledger = Ledger(size)
    before = len(anyio.get_running_tasks())
    raised: BaseException | None = None
    with traced() as memory:
        try:
            async with make() as group:
                for number in range(size):
                    group.start_soon(ledger.task, number, failing and number == size // 2)
                await ledger.all_begun.wait()
                each = memory.now / size
                ledger.go.set()
        except BaseException as error:
            raised = error
    assert ledger.begun == size, f"{size - ledger.begun} tasks never began"
    assert len(ledger.ended) == size, f"{size - len(ledger.ended)} tasks have not ended"
    after = len(anyio.get_running_tasks())
    assert after == before, f"{after - before} tasks outlived their group"
    failures = _failures(raised)
    wanted = [size // 2] if failing else []
    assert failures == wanted, f"what came out: {raised!r}"
    return (
        f"{size} tasks, {len(ledger.ended)} ended ({ledger.cancelled} cancelled), "
        f"{len(failures)} failure raised; {each:.0f} bytes a task"
    )


def _failures(error: BaseException | None) -> list[int]:
    """The tasks whose failures *error* tells of; what else it may be is raised."""
    if error is None:
        return []
    if isinstance(error, Planted):
        return [error.args[0]]
    inner = getattr(error, "exceptions", None)
    if inner is None:
        raise error
    return [number for one in inner for number in _failures(one)]
