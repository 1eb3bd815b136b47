"""Random programs of producers and consumers over one queue, cancelled at random moments.

Rule: every program can end, whoever is cancelled: the first consumer is never cancelled for
good. What must hold at the end is in `queue_books`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal, cast, get_args

import kingdom_async as ka
from kingdom_async.testing import Report, cancel_everywhere

from .queue_books import Books
from .strikes import Strikes

Body = Callable[[], Awaitable[None]]
Mode = Literal["once", "twice", "native"]
Overflow = Literal["wait", "drop_new", "drop_old", "error"]

#: How a program ends: all is consumed, it is closed meanwhile, left, or cancelled.
_ENDINGS = ("consumed", "consumed", "closed", "discarded", "cancelled")


class Planned(Exception):
    """What a producer fails with, or a queue is closed with."""


def conformance(
    kind: type[ka.Queue[Any]] = ka.Queue, tally: Counter[str] | None = None
) -> Body:
    """A body for `explore`, whose seed also decides what the program is."""

    async def queue_program() -> None:
        program = _Program(random.Random(random.getrandbits(64)), kind)
        await program.run()
        program.books.check()
        if tally is not None:
            tally.update(program.figures())

    return queue_program


def injected(
    seed: int, backend: str, kind: type[ka.Queue[Any]] = ka.Queue, mode: Mode = "once"
) -> Report:
    """The program of *seed*, cancelled as a whole at each of its steps in turn."""
    programs: list[_Program] = []

    async def queue_program() -> None:
        programs[:] = [_Program(random.Random(seed), kind)]
        await programs[0].run()

    def books() -> None:
        programs[0].books.check()

    return cancel_everywhere(queue_program, check=books, backend=backend, mode=mode, seed=seed)


class _Program:
    """One of them."""

    def __init__(self, dice: random.Random, kind: type[ka.Queue[Any]]) -> None:
        self._dice = dice
        self._queue: ka.Queue[tuple[int, int]] = kind(
            dice.choice((1, 1, 2, 3, 5, math.inf)),
            overflow=cast("Overflow", dice.choice(("wait", "wait", *get_args(Overflow)))),
        )
        #: Turns at most that one waits before each call, and works on each item.
        self._slowness_in, self._slowness_out = dice.choice(((2, 2), (0, 4), (1, 2), (4, 0)))
        self._strikes = Strikes(dice)
        self._ending = dice.choice(_ENDINGS)
        self._linger = 0.0003 if ka.current_backend() == "asyncio+uvloop" else 0.5
        self.books = Books(self._queue)

    def figures(self) -> dict[str, int]:
        statistics = self._queue.statistics()
        return {
            "items": len(self.books.accepted),
            "taken": len(self.books.taken),
            "dropped": statistics.dropped,
            "abandoned": statistics.abandoned,
            "cancellations": self._strikes.number,
        }

    async def run(self) -> None:
        leaves = self._ending == "discarded"
        async with ka.TaskGroup() as group:
            if self._dice.random() < 0.3:
                group.start_soon(self._join)
            if self._dice.random() < 0.7:
                group.start_soon(self._strike)
            async with self._queue if leaves else nullcontext():
                for number in range(self._dice.randint(1, 3)):
                    group.start_soon(self._consume, number)
                await self._produce_all(group)
                if self._ending != "consumed":
                    await self._turns(8)
            if self._ending == "closed":
                self._close()
            elif self._ending == "cancelled":
                group.cancel()

    async def _produce_all(self, group: ka.TaskGroup) -> None:
        number = self._dice.randint(1, 3)
        if self._ending != "consumed":
            for who in range(number):
                group.start_soon(self._produce, who)
            return
        with self._queue.producing():
            async with ka.TaskGroup() as producers:
                for who in range(number):
                    producers.start_soon(self._produce, who)

    def _close(self) -> None:
        error = None
        if self._dice.random() < 0.5:
            error = Planned("closed")
            self.books.errors.append(error)
        self._queue.close(error)

    # --- producers -------------------------------------------------------------------

    async def _produce(self, who: int) -> None:
        with self._strikes.native(), suppress(Planned, ka.QueueClosed, ka.BrokenResourceError):
            has_block = self._dice.random() < 0.3
            with self._queue.producing() if has_block else nullcontext():
                for number in range(self._dice.randint(1, 6)):
                    await self._turns(self._slowness_in)
                    with self._perhaps_cancelled():
                        await self._put((who, number))
                    self.books.check_size()
                    self._strikes.maybe(0.15)
                if has_block and self._dice.random() < 0.3:
                    error = Planned(f"producer {who}")
                    self.books.errors.append(error)
                    raise error

    async def _put(self, item: tuple[int, int]) -> None:
        choice = self._dice.random()
        try:
            if choice < 0.25:
                self._queue.put_nowait(item)
            elif choice < 0.9:
                await self._queue.put(item)
            else:
                await self._queue.send_stream.send(item)
        except ka.QueueFull:
            return
        self.books.accepted.append(item)

    # --- consumers -------------------------------------------------------------------

    async def _consume(self, number: int) -> None:
        mortal = self._strikes.native() if number else nullcontext()
        with mortal, suppress(ka.QueueClosed, ka.EndOfStream):
            try:
                while True:
                    await self._turns(self._slowness_out)
                    with self._perhaps_cancelled():
                        await self._dice.choice(_TAKE)(self)
            except Planned as error:
                self.books.ends_seen.append(error)

    async def _get(self) -> None:
        await self._took([await self._queue.get()])

    async def _get_nowait(self) -> None:
        try:
            item = self._queue.get_nowait()
        except ka.QueueEmpty:
            await self._get()
        else:
            await self._took([item])

    async def _get_batch(self) -> None:
        linger = self._linger if self._dice.random() < 0.2 else 0
        await self._took(await self._queue.get_batch(self._dice.choice((1, 2, 4)), linger))

    async def _iterate(self) -> None:
        async for item in self._queue:
            await self._took([item])
            if self._dice.random() < 0.3:
                return
        raise ka.EndOfStream

    async def _batches(self) -> None:
        async for batch in self._queue.batches(self._dice.choice((1, 3))):
            await self._took(batch)
            if self._dice.random() < 0.5:
                return
        raise ka.EndOfStream

    async def _receive(self) -> None:
        await self._took([await self._queue.receive_stream.receive()])

    async def _drain(self) -> None:
        self.books.taken += self._queue.drain()
        await self._get()

    async def _took(self, items: list[tuple[int, int]]) -> None:
        """Entered in the step in which they were taken; then they are worked on."""
        self.books.taken += items
        try:
            self._strikes.maybe(0.1)
            await self._turns(self._slowness_out)
        finally:
            for _ in items:
                self._queue.task_done()

    # --- others ----------------------------------------------------------------------

    async def _join(self) -> None:
        with self._strikes.native(), self._perhaps_cancelled():
            try:
                await self._queue.join()
            except ka.QueueClosed:
                assert self._queue.statistics().abandoned, "join() gave up, nothing abandoned"
            else:
                assert self._queue.statistics().unfinished == 0, "join() returned too early"

    async def _strike(self) -> None:
        for _ in range(self._dice.randint(1, 8)):
            await self._turns(3)
            self._strikes.one()

    @contextmanager
    def _perhaps_cancelled(self) -> Generator[None]:
        with self._strikes.scope() if self._dice.random() < 0.5 else nullcontext():
            yield

    async def _turns(self, most: int) -> None:
        for _ in range(self._dice.randint(0, most)):
            await ka.checkpoint()


_TAKE: tuple[Callable[[_Program], Awaitable[None]], ...] = (
    _Program._get,
    _Program._get,
    _Program._get_nowait,
    _Program._get_batch,
    _Program._iterate,
    _Program._batches,
    _Program._receive,
    _Program._drain,
)
