"""Small concurrent histories of a queue, which must be those of the plain model.

Rule: a call is recorded in the very steps in which it begins and ends. At the end of a program
on virtual time, what still waits must rightly do so; on uvloop the queue is closed instead.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import kingdom_async as ka

from .linearize import NEVER, Call, linearization
from .queue_model import CLOSED, DONE, EMPTY, FULL, Model, State
from .strikes import Strikes

if TYPE_CHECKING:
    from .queue_programs import Body, Overflow

_POLICIES: tuple[Overflow, ...] = ("wait", "wait", "drop_new", "drop_old", "error")
_PUTS = ("put", "put", "put", "put_nowait")
_TAKES = ("get", "get", "get", "get_nowait", "get_batch", "drain", "qsize", "close")


def linearizability(
    kind: type[ka.Queue[Any]] = ka.Queue, tally: Counter[str] | None = None
) -> Body:
    """A body for `explore`, whose seed also decides what the tasks do."""

    async def queue_history() -> None:
        history = _History(random.Random(random.getrandbits(64)), kind)
        await history.make()
        history.check()
        if tally is not None:
            tally.update(history.figures())

    return queue_history


class _History:
    """Three or four tasks with three or four calls each."""

    def __init__(self, dice: random.Random, kind: type[ka.Queue[Any]]) -> None:
        self._dice = dice
        overflow = dice.choice(_POLICIES)
        self._model = Model(dice.choice((1, 1, 2, 3)), overflow)
        self._queue: ka.Queue[int] = kind(self._model.maxsize, overflow=overflow)
        self._strikes = Strikes(dice)
        self._clock = 0
        self._items = 0
        self._calls: list[Call] = []
        self._left: list[int] = []

    def figures(self) -> dict[str, int]:
        return {
            "calls": len(self._calls),
            "calls that wait at the end": sum(call.was_blocked for call in self._calls),
            "calls cancelled": sum(call.is_void for call in self._calls),
            "cancellations": self._strikes.number,
        }

    async def make(self) -> None:
        async with ka.TaskGroup() as group:
            for task in range(self._dice.randint(3, 4)):
                group.start_soon(self._task, task, self._dice.random())
            group.start_soon(self._strike)
            if ka.current_backend() == "asyncio+uvloop":
                await self._turns(20)
                await self._call(9, "close")
            else:
                await ka.sleep(1)  # time moves where nothing else can happen
                for call in self._calls:
                    call.was_blocked = call.ended == NEVER
                group.cancel()
        self._left = self._queue.drain()

    def check(self) -> None:
        found = linearization(self._calls, State(), self._model.step, self._is_end)
        if found is None:
            raise AssertionError(f"no order explains this:\n{self}")

    def __str__(self) -> str:
        first = f"{self._model.overflow!r}, maxsize {self._model.maxsize}, left {self._left}"
        return "\n".join((first, *map(str, self._calls)))

    def _is_end(self, state: State) -> bool:
        blocked = (call for call in self._calls if call.was_blocked)
        rightly = all(self._model.may_block(state, call) for call in blocked)
        return rightly and [*state.items] == self._left

    # --- the tasks -------------------------------------------------------------------

    async def _task(self, task: int, puts: float) -> None:
        with self._strikes.native():
            for _ in range(self._dice.randint(3, 4)):
                await self._turns(3)
                names = _PUTS if self._dice.random() < puts else _TAKES
                with self._strikes.scope() if self._dice.random() < 0.4 else nullcontext():
                    await self._call(task, self._dice.choice(names))
                self._strikes.maybe(0.1)

    async def _call(self, task: int, name: str) -> None:
        self._clock += 1
        call = Call(task, name, self._argument(name), self._clock)
        self._calls.append(call)
        try:
            call.answer = await self._answer(call)
        except ka.QueueClosed:
            call.answer = CLOSED
        except ka.QueueFull:
            call.answer = FULL
        except ka.QueueEmpty:
            call.answer = EMPTY
        except ka.get_cancelled_exc_class():
            call.is_void = True
            raise
        finally:
            self._clock += 1
            call.ended = self._clock

    async def _answer(self, call: Call) -> object:
        method: Callable[..., Any] = getattr(self._queue, call.name)
        answer: Any = method() if call.argument is None else method(call.argument)
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, list):
            return tuple(cast("list[int]", answer))
        return DONE if answer is None else answer

    def _argument(self, name: str) -> int | None:
        if name in ("put", "put_nowait"):
            self._items += 1
            return self._items
        return self._dice.choice((1, 2, 3)) if name == "get_batch" else None

    async def _strike(self) -> None:
        for _ in range(self._dice.randint(0, 6)):
            await self._turns(3)
            self._strikes.one()

    async def _turns(self, most: int) -> None:
        for _ in range(self._dice.randint(0, most)):
            await ka.checkpoint()
