"""Many calls in threads, cancelled at random: each is accounted for, no token is left out."""

from __future__ import annotations

import threading
import time
from collections import Counter
from random import Random
from typing import Any

import anyio

import kingdom_async as ka
from kingdom_async.testing import no_leaks

TOKENS = 8
AT_ONCE = 100  # calls that wait for a token, or have one
LATE = 60.0  # seconds; a thread that has not ended by then never will


class Calls:
    """What became of each call: on the side of its caller, and in its thread."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.limiter = ka.Limiter(TOKENS, name="load")
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.stopped: set[int] = set()  # by check_cancelled()
        self.outcomes: dict[int, str] = {}
        self.waits: dict[int, bool] = {}  # whether a cancelled caller waits for the thread
        self.most = 0
        self._running = 0
        self._changed = threading.Condition()

    def work(self, number: int, seconds: float, asks: bool) -> int:
        with self._changed:
            self.begun.add(number)
            self._running += 1
            self.most = max(self.most, self._running)
        try:
            if seconds:
                time.sleep(seconds)
            if asks:
                ka.check_cancelled()
            return number
        except BaseException:
            self.stopped.add(number)
            raise
        finally:
            with self._changed:
                self._running -= 1
                self.ended.add(number)
                self._changed.notify_all()

    def until_all_ended(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, LATE)


async def offloads(size: int, abandon: bool, seed: int = 0, call: Any = ka.offload) -> str:
    """*size* calls, a hundred at once, two thirds of which are cancelled sooner or later."""
    calls = Calls(seed)
    native = ka.current_backend() != "trio"
    async with no_leaks():
        async with ka.imap(
            lambda number: _one(calls, number, abandon, native, call),
            range(size),
            limit=AT_ONCE,
            ordered=False,
        ) as ends:
            async for _ in ends:
                pass
        assert await anyio.to_thread.run_sync(calls.until_all_ended), "a function never ended"
        await _tokens_back(calls.limiter)
    _check(calls, size, abandon)
    outcomes = Counter(calls.outcomes.values())
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return (
        f"{size} calls: {said}; {len(calls.begun)} began and ended, {len(calls.stopped)} of "
        f"them stopped early; at most {calls.most} at once of {TOKENS}; no token, thread or "
        "task left"
    )


async def _one(calls: Calls, number: int, abandon: bool, native: bool, call: Any) -> None:
    draw = calls.draw.random
    how = calls.draw.choice(["not", "scope", "native" if native else "scope"])
    seconds = draw() / 100 if draw() < 0.5 else 0
    asks = draw() < 0.3
    moment = draw() * AT_ONCE / TOKENS / 200  # about when its turn comes, on the whole

    async def offloaded() -> None:
        try:
            value = await call(
                calls.work,
                number,
                seconds,
                asks,
                limiter=calls.limiter,
                abandon_on_cancel=abandon,
            )
        except ka.get_cancelled_exc_class():
            calls.outcomes[number] = "cancelled"
            raise
        assert value == number, f"call {number} returned {value!r}"
        calls.outcomes[number] = "returned"

    calls.waits[number] = not abandon and how != "native"
    calls.outcomes[number] = "never begun"
    if how == "not":
        await offloaded()
    elif how == "scope":
        with ka.move_on_after(moment):
            await offloaded()
    else:
        await _cancelled_natively(offloaded, moment)


async def _cancelled_natively(func: Any, moment: float) -> None:
    import asyncio

    task = asyncio.ensure_future(func())
    await asyncio.wait([task], timeout=moment)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _check(calls: Calls, size: int, abandon: bool) -> None:
    assert len(calls.outcomes) == size, f"{size - len(calls.outcomes)} calls have no outcome"
    assert calls.begun == calls.ended, f"never ended: {calls.begun - calls.ended}"
    assert calls.most <= TOKENS, f"{calls.most} threads under {TOKENS} tokens"
    for number, outcome in calls.outcomes.items():
        if outcome == "returned":
            assert number in calls.ended, f"call {number} returned and never ran"
        elif calls.waits[number]:
            # It waits for its thread, whose result it gets, unless that was told to stop.
            assert number not in calls.begun or number in calls.stopped, (
                f"call {number} ran to its end, and its result was lost"
            )


async def _tokens_back(limiter: ka.Limiter) -> None:
    """Every token can be borrowed at once, and so none is out."""
    borrowers = [object() for _ in range(TOKENS)]
    with anyio.move_on_after(LATE) as scope:
        for borrower in borrowers:
            await limiter.acquire_on_behalf_of(borrower)
    assert not scope.cancelled_caught, f"{_out(limiter)} tokens are out"
    for borrower in borrowers:
        limiter.release_on_behalf_of(borrower)
    assert not _out(limiter), f"{_out(limiter)} tokens are out"


def _out(limiter: ka.Limiter) -> int:
    return int(limiter.current.borrowed_tokens)
