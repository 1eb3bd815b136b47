"""Bulk calls of every kind at once, drawn by seed, against what must hold for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest

import kingdom_async as ka
from support.backends import virtual_time
from support.turns import settle

SEEDS = 400

_set_by: ContextVar[int] = ContextVar("set_by", default=-1)


class ItemFailed(Exception):
    pass


class SourceFailed(Exception):
    pass


class Case:
    """One call, all of it drawn from its seed, and what happened in it."""

    def __init__(self, seed: int, native: bool) -> None:
        draw = Random(seed)
        self.size = draw.choice([0, 1, 2, 3, 5, 10, 40, 150])
        self.limit = draw.choice([1, 1, 2, 3, 5, 64, 200])
        self.kind = draw.choice(["amap", "imap", "unordered"])
        self.is_async = draw.random() < 0.5
        self.source_waits = draw.choice([0, 0, 0.1, 0.9])
        self.source_fails_at = draw.randrange(self.size + 1) if draw.random() < 0.2 else None
        self.waits = draw.choice([0, 0.02, 0.5, 1])
        self.sets = draw.choice([0, 0.02, 1])
        self.cuts = draw.choice([0, 0.1])
        self.fails = draw.choice([0, 0, 0, 0.02, 0.3])
        self.cancels = draw.choice([0, 0, 0, 0.05]) if native else 0
        self.on_error = draw.choice([None, None, lambda item, _: ("failed", item)])
        self.consumer_waits = draw.choice([0, 0.1, 1])
        self.leaves_at = draw.randrange(self.size + 1) if draw.random() < 0.15 else None
        self.cancelled_at = draw.randrange(120) if draw.random() < 0.2 else None
        self.draw = draw

        self.pulled = self.consumed = self.in_work = 0
        self.failed: set[int] = set()
        self.taken_away = False
        self.source_is_open = False
        self.results: list[Any] = []

    # --- the source ------------------------------------------------------------------

    def items(self) -> Any:
        return self._async_items() if self.is_async else self._items()

    def _items(self) -> Iterator[int]:
        for number in range(self.size + 1):
            if number == self.source_fails_at:
                raise SourceFailed
            if number < self.size:
                self._pull()
                yield number

    async def _async_items(self) -> AsyncIterator[int]:
        self.source_is_open = True
        try:
            for number in self._items():
                if self.draw.random() < self.source_waits:
                    await self._wait()
                yield number
        finally:
            self.source_is_open = False
            await ka.checkpoint()

    def _pull(self) -> None:
        self.pulled += 1
        if self.kind != "amap":
            assert self.pulled - self.consumed <= 2 * self.limit, "pulled too far ahead"

    # --- the work --------------------------------------------------------------------

    async def work(self, number: int) -> int:
        draw = self.draw.random
        self.in_work += 1
        try:
            assert self.in_work <= self.limit, "too many in work"
            assert _set_by.get() == -1, "a variable got through"
            if draw() < self.sets:
                _set_by.set(number)
            if draw() < self.cuts:
                with ka.move_on_after(0):
                    await ka.sleep_forever()
            if draw() < self.waits:
                await self._wait()
            if draw() < self.fails:
                self.failed.add(number)
                raise ItemFailed(number)
            if draw() < self.cancels:
                task = asyncio.current_task()
                assert task is not None
                self.taken_away = True
                task.cancel()
                await ka.sleep_forever()
            return number * number
        finally:
            self.in_work -= 1

    async def _wait(self) -> None:
        await (ka.sleep(self.draw.random()) if self.draw.random() < 0.3 else settle(1))

    # --- the caller ------------------------------------------------------------------

    async def call(self) -> None:
        options: dict[str, Any] = {"limit": self.limit}
        if self.on_error is not None:
            options["on_error"] = self.on_error
        if self.kind == "amap":
            self.results = await ka.amap(self.work, self.items(), **options)
            return
        ordered = self.kind == "imap"
        async with ka.imap(self.work, self.items(), ordered=ordered, **options) as results:
            if self.leaves_at == 0:
                return
            async for result in results:
                self.consumed += 1
                self.results.append(result)
                if self.consumed == self.leaves_at:
                    return
                if self.draw.random() < self.consumer_waits:
                    await self._wait()

    async def run(self) -> None:
        error: Exception | None = None

        async def call() -> None:
            nonlocal error
            try:
                await self.call()
            except Exception as raised:
                error = raised

        with ka.fail_after(1e6, reason="it hangs"):
            async with ka.TaskGroup() as group:
                task = group.start_soon(call)
                if self.cancelled_at is not None:
                    await settle(self.cancelled_at)
                    task.cancel()
                await task.wait()
        was_cancelled = task.status is ka.TaskHandle.Status.CANCELLED
        self.check(error, was_cancelled)

    def check(self, error: Exception | None, was_cancelled: bool) -> None:
        assert self.in_work == 0
        assert not self.source_is_open
        right = [
            ("failed", number) if number in self.failed else number * number
            for number in range(self.size)
        ]
        if isinstance(error, ItemFailed):
            assert self.on_error is None
            assert error.args[0] in self.failed
            [note, *_] = error.__notes__
            assert note == f"while mapping item {error.args[0]}: {error.args[0]}"
        elif isinstance(error, SourceFailed):
            assert self.source_fails_at is not None
        elif isinstance(error, ka.TaskCancelled):
            assert self.taken_away
        elif error is not None:
            raise error
        elif not was_cancelled and self.leaves_at is None:
            assert self.source_fails_at is None
            assert not self.taken_away
            assert self.on_error is not None or not self.failed
            assert sorted(map(str, self.results)) == sorted(map(str, right))

        if self.kind == "unordered":
            assert set(map(str, self.results)) <= set(map(str, right))
        else:
            assert self.results == right[: len(self.results)]
        if isinstance(error, SourceFailed) and self.kind != "amap":
            assert len(self.results) == self.source_fails_at


@virtual_time
@pytest.mark.parametrize("part", range(4))
async def test_what_must_hold_holds_for_every_seed(part: int) -> None:
    """No hang, no limit exceeded, no wrong, lost or doubled result, and no error unheard of."""
    native = ka.current_backend() != "trio"
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        try:
            await Case(seed, native).run()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
