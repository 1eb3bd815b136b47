"""Random programs under a limit, cancelled at random: never more at work than the limit says.

Rule: what is counted is counted by the work itself, in the steps in which it begins and ends.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import kingdom_async as ka

from .strikes import Strikes

if TYPE_CHECKING:
    from .queue_programs import Body

#: As `ka.amap`, which may be replaced by one with a bug.
Amap = Callable[..., Awaitable[list[Any]]]


class Planned(Exception):
    """What an item's work fails with."""


class _AtWork:
    """Who is at work now, never more than *limit*."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.now = 0
        self.most = 0

    @contextmanager
    def one(self) -> Generator[None]:
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.now <= self._limit, f"{self.now} at work, limit {self._limit}"
        try:
            yield
        finally:
            self.now -= 1


# --- a Limiter -------------------------------------------------------------------------


def limiters(kind: type[ka.Limiter] = ka.Limiter, tally: Counter[str] | None = None) -> Body:
    """A body for `explore`: tasks that borrow tokens, and are cancelled while they wait."""

    async def limiter_program() -> None:
        program = _Limited(random.Random(random.getrandbits(64)), kind)
        await program.run()
        if tally is not None:
            tally.update(borrowings=program.borrowings, cancellations=program.strikes.number)

    return limiter_program


class _Limited:
    """One of them."""

    def __init__(self, dice: random.Random, kind: type[ka.Limiter]) -> None:
        self._dice = dice
        tokens = dice.randint(1, 3)
        self._limiter = kind(tokens, name="soak")
        self._work = _AtWork(tokens)
        self.strikes = Strikes(dice)
        self.borrowings = 0

    async def run(self) -> None:
        async with ka.TaskGroup() as group:
            for _ in range(self._dice.randint(2, 5)):
                group.start_soon(self._task)
            for _ in range(self._dice.randint(0, 6)):
                await _turns(self._dice, 3)
                self.strikes.one()
        statistics = self._limiter.statistics()
        assert statistics.borrowed_tokens == 0, f"not given back: {statistics}"
        assert statistics.tasks_waiting == 0, f"still waits: {statistics}"

    async def _task(self) -> None:
        with self.strikes.native():
            for _ in range(self._dice.randint(1, 4)):
                await _turns(self._dice, 2)
                with self.strikes.scope() if self._dice.random() < 0.5 else nullcontext():
                    await self._borrow()

    async def _borrow(self) -> None:
        if self._dice.random() < 0.7:
            async with self._limiter:
                await self._hold()
            return
        try:
            self._limiter.acquire_nowait()
        except ka.WouldBlock:
            return
        try:
            await self._hold()
        finally:
            self._limiter.release()

    async def _hold(self) -> None:
        self.borrowings += 1
        with self._work.one():
            self.strikes.maybe(0.1)
            await _turns(self._dice, 3)


# --- amap and imap ---------------------------------------------------------------------


def maps(amap: Amap = ka.amap, tally: Counter[str] | None = None) -> Body:
    """A body for `explore`: items mapped by `amap` or `imap`, which is cancelled or fails."""

    async def map_program() -> None:
        program = _Mapped(random.Random(random.getrandbits(64)), amap)
        await program.run()
        if tally is not None:
            tally.update(items=len(program.begun), **{program.outcome: 1})

    return map_program


class _Mapped:
    """One of them."""

    def __init__(self, dice: random.Random, amap: Amap) -> None:
        self._dice = dice
        self._amap = amap
        self._limit = dice.randint(1, 4)
        self._number = dice.randint(0, 10)
        self._failing = set(range(self._number)) if dice.random() < 0.1 else set[int]()
        self._failing |= {one for one in range(self._number) if dice.random() < 0.05}
        self._handles = dice.random() < 0.5  # by on_error
        self._work = _AtWork(self._limit)
        self._strikes = Strikes(dice)
        self.begun: list[int] = []
        self.outcome = "cancelled"

    async def run(self) -> None:
        results: list[Any] | None = None
        async with ka.TaskGroup() as group:
            group.start_soon(self._strike, daemon=True)
            with self._strikes.scope() if self._dice.random() < 0.5 else nullcontext():
                try:
                    results = await (self._all() if self._dice.random() < 0.6 else self._each())
                    self.outcome = "finished"
                except Planned:
                    self.outcome = "failed"
                    assert self._failing, "nobody failed"
                    assert not self._handles, "on_error would have handled it"
            assert self._work.now == 0, f"{self._work.now} still at work, and it has returned"
        assert len(set(self.begun)) == len(self.begun), f"begun twice: {self.begun}"
        if results is not None:
            expected = [-n if n in self._failing else n * n for n in range(self._number)]
            assert results == expected, f"{results}, not {expected}"

    async def _all(self) -> list[Any]:
        return await self._amap(
            self._one, self._source(), limit=self._limit, on_error=self._on_error()
        )

    async def _each(self) -> list[Any]:
        is_ordered = self._dice.random() < 0.5
        found: list[tuple[int, Any]] = []
        async with ka.imap(
            self._pair, self._source(), limit=self._limit, ordered=is_ordered
        ) as results:
            async for number, value in results:
                found.append((number, value))
                await _turns(self._dice, 1)
                self._strikes.maybe(0.02)
        assert not is_ordered or found == sorted(found), f"out of order: {found}"
        return [value for _, value in sorted(found)]

    def _source(self) -> Iterable[int] | AsyncIterator[int]:
        return range(self._number) if self._dice.random() < 0.7 else self._slow_source()

    async def _slow_source(self) -> AsyncIterator[int]:
        for number in range(self._number):
            await _turns(self._dice, 1)
            yield number

    async def _one(self, number: int) -> int:
        self.begun.append(number)
        with self._work.one():
            self._strikes.maybe(0.02)
            await _turns(self._dice, 3)
            if number in self._failing:
                raise Planned(number)
        return number * number

    async def _pair(self, number: int) -> tuple[int, int]:
        try:
            return number, await self._one(number)
        except Planned:
            if not self._handles:
                raise
            return number, -number

    def _on_error(self) -> Callable[[int, Exception], int] | None:
        return (lambda number, error: -number) if self._handles else None

    async def _strike(self) -> None:
        for _ in range(self._dice.randint(0, 3)):
            await _turns(self._dice, 5)
            self._strikes.one()


async def _turns(dice: random.Random, most: int) -> None:
    for _ in range(dice.randint(0, most)):
        await ka.checkpoint()


# --- with a bug ------------------------------------------------------------------------


class KeepsToken(ka.Limiter):
    """A token is lost where the wait for it is cancelled."""

    async def __aenter__(self) -> None:
        try:
            await super().__aenter__()
        except ka.get_cancelled_exc_class():
            self.acquire_on_behalf_of_nowait(object())
            raise


class OneTooMany(ka.Limiter):
    """Lends one more than it was told."""

    def __init__(self, tokens: float, *, name: str) -> None:
        super().__init__(tokens + 1, name=name)


async def amap_one_too_many(func: Any, items: Any, *, limit: int, on_error: Any) -> list[Any]:
    """Takes more items than it may."""
    return await ka.amap(func, items, limit=limit + 1, on_error=on_error)


async def amap_in_any_order(func: Any, items: Any, *, limit: int, on_error: Any) -> list[Any]:
    """Gives the results as they come."""
    return sorted(await ka.amap(func, items, limit=limit, on_error=on_error), key=str)


async def amap_that_forgets(func: Any, items: Any, *, limit: int, on_error: Any) -> list[Any]:
    """Gives a short result where an item was cancelled or has failed."""
    try:
        return await ka.amap(func, items, limit=limit, on_error=on_error)
    except Planned:
        return []


async def amap_that_repeats(func: Any, items: Any, *, limit: int, on_error: Any) -> list[Any]:
    """Tries again what has failed, though nobody said so."""
    try:
        return await ka.amap(func, items, limit=limit, on_error=on_error)
    except Planned:
        return await ka.amap(func, items, limit=limit, on_error=on_error)
