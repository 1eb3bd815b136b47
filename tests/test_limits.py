"""Limiter and RateLimit: how much at once, how much a second, in any number of runs."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import REAL, VIRTUAL, backend_and_options, chosen, virtual_time
from support.native import by_task_cancel

LIMITER = ka.Limiter(2, name="database")  # at module level, as in a service
_LATE = 20.0  # seconds; what takes longer is not going to happen
RATE = ka.RateLimit(10)

asyncio_virtual = pytest.mark.parametrize(
    "anyio_backend", chosen(("asyncio+virtual",)), indirect=True
)


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(6):
        await checkpoint()


def in_a_run(backend: str, func: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    name, options = backend_and_options(backend)
    return anyio.run(func, *args, backend=name, backend_options=options)


# --- Limiter -----------------------------------------------------------------------------


async def test_it_is_anyios_limiter() -> None:
    """It goes wherever an anyio.CapacityLimiter goes."""
    assert isinstance(LIMITER, anyio.CapacityLimiter)
    async with LIMITER:
        assert LIMITER.borrowed_tokens == 1
        assert LIMITER.available_tokens == 1
        assert LIMITER.statistics().borrowed_tokens == 1
    assert LIMITER.borrowed_tokens == 0


async def test_its_tokens_are_a_limit() -> None:
    """Never more than that many blocks at once, and each of them runs."""
    inside, most, done = 0, 0, 0

    async def use() -> None:
        nonlocal inside, most, done
        async with LIMITER:
            inside += 1
            most = max(most, inside)
            await settle()
            inside -= 1
            done += 1

    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(use)
    assert (most, done) == (2, 7)


async def test_it_limits_anyios_threads() -> None:
    """As limiter= of anyio.to_thread.run_sync it holds, and counts in statistics."""
    release = threading.Event()
    entered = 0
    lock = threading.Lock()

    def block() -> None:
        nonlocal entered
        with lock:
            entered += 1
        release.wait(60)

    async def call() -> None:
        await anyio.to_thread.run_sync(block, limiter=LIMITER)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(call)
        while entered < 2:
            await checkpoint()
        await settle()
        assert entered == 2
        assert LIMITER.borrowed_tokens == 2
        assert LIMITER.statistics().tasks_waiting == 3
        release.set()
    assert entered == 5
    assert LIMITER.borrowed_tokens == 0


async def test_every_way_to_borrow() -> None:
    """The whole interface of anyio's limiter does what anyio's does."""
    limiter = ka.Limiter(2, name="two")
    borrower = object()
    await limiter.acquire()
    await limiter.acquire_on_behalf_of(borrower)
    with pytest.raises(anyio.WouldBlock):
        limiter.acquire_on_behalf_of_nowait(object())
    limiter.release()
    limiter.acquire_nowait()
    with pytest.raises(RuntimeError):
        limiter.acquire_nowait()  # this task holds one already
    limiter.release()
    limiter.release_on_behalf_of(borrower)
    limiter.acquire_on_behalf_of_nowait(borrower)
    limiter.release_on_behalf_of(borrower)
    assert limiter.available_tokens == 2
    with pytest.raises(RuntimeError):
        limiter.release()


async def test_who_borrows_or_gives_back_twice_is_told_which_limiter() -> None:
    """The error is anyio's, with the limiter's name and what to do."""
    limiter = ka.Limiter(2, name="printer")
    twice = (
        r"limiter 'printer': this borrower holds a token already; give it back first, or "
        r"borrow the next one with acquire_on_behalf_of\(object\(\)\)"
    )
    never = r"limiter 'printer': this borrower holds no token, and has none to give back"
    async with limiter:
        with pytest.raises(RuntimeError, match=f"^{twice}$"):
            await limiter.acquire()
        with pytest.raises(RuntimeError, match=f"^{twice}$"):
            limiter.acquire_nowait()
        with pytest.raises(RuntimeError, match=f"^{twice}$"):
            async with limiter:
                pass
        await limiter.acquire_on_behalf_of(one := object())
        with pytest.raises(RuntimeError, match=f"^{twice}$"):
            limiter.acquire_on_behalf_of_nowait(one)
        limiter.release_on_behalf_of(one)
        with pytest.raises(RuntimeError, match=f"^{never}$"):
            limiter.release_on_behalf_of(one)
    with pytest.raises(RuntimeError, match=f"^{never}$"):
        limiter.release()


async def test_a_cancelled_borrower_holds_nothing() -> None:
    """Cancelled while it waits for a token, a task leaves no trace."""
    limiter = ka.Limiter(1, name="one")
    async with limiter:
        async with anyio.create_task_group() as group:

            async def borrow() -> None:
                async with limiter:
                    raise AssertionError("never reached")

            group.start_soon(borrow)
            await settle()
            assert limiter.statistics().tasks_waiting == 1
            group.cancel_scope.cancel()
        assert limiter.statistics().tasks_waiting == 0
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("value", [1, 5, math.inf])
async def test_total_tokens_can_be_changed(value: float) -> None:
    """More tokens let in those who wait."""
    limiter = ka.Limiter(1, name="one")
    limiter.total_tokens = value
    assert limiter.total_tokens == value
    assert repr(limiter) == f"<Limiter 'one' tokens={value}>"


async def test_more_tokens_let_in_those_who_wait() -> None:
    """A change counts at once."""
    limiter = ka.Limiter(1, name="one")
    entered = 0

    async def use() -> None:
        nonlocal entered
        async with limiter:
            entered += 1
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(use)
        await settle()
        assert entered == 1
        limiter.total_tokens = 3
        await settle()
        assert entered == 3
        group.cancel_scope.cancel()


@pytest.mark.parametrize("backend", REAL)
def test_total_tokens_outside_a_run(backend: str) -> None:
    """It can be read and set where no loop runs; the runs after it have the new value."""
    limiter = ka.Limiter(1, name="one")
    assert limiter.total_tokens == 1
    limiter.total_tokens = 3

    async def use() -> None:
        assert limiter.total_tokens == 3
        limiter.total_tokens = 4

    in_a_run(backend, use)
    assert limiter.total_tokens == 4


def test_what_is_borrowed_outside_a_run() -> None:
    """Nothing is, as anyio's limiter says."""
    limiter = ka.Limiter(3, name="three")
    assert (limiter.borrowed_tokens, limiter.available_tokens) == (0, 3)
    assert limiter.statistics().borrowers == ()
    assert limiter.statistics().total_tokens == 3
    with pytest.raises(anyio.NoEventLoopError):
        limiter.acquire_nowait()


def test_its_name() -> None:
    """What errors and traces call it."""
    assert LIMITER.name == "database"
    assert repr(LIMITER) == "<Limiter 'database' tokens=2>"


@pytest.mark.parametrize(
    ("arguments", "options", "called", "instead"),
    [
        ((1, "jobs"), {}, "Limiter(1, 'jobs')", "Limiter(1, name='jobs')"),
        ((math.inf,), {}, "Limiter(inf)", "Limiter(inf, name='database')"),
        ((5, 6), {"name": "jobs"}, "Limiter(5, 6)", "Limiter(5, name='database')"),
        ((5,), {"name": ""}, "Limiter(5)", "Limiter(5, name='database')"),
        (("jobs", 5), {}, "Limiter('jobs', 5)", "Limiter(5, name='jobs')"),
    ],
)
def test_a_limiter_needs_its_name(
    arguments: tuple[Any, ...], options: dict[str, Any], called: str, instead: str
) -> None:
    """Without one, or with one in the wrong place, it says what to write."""
    sentence = (
        f"{called}: a limiter is made of its tokens and a name, which errors call it by; "
        f"write {instead}"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.Limiter(*arguments, **options)


def test_a_name_is_text() -> None:
    """Anything else is refused."""
    sentence = "name must be text, not 5; such as 'database'"
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.Limiter(1, name=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("per_second", ["x", None, True])
def test_a_rate_is_a_number(per_second: Any) -> None:
    """Anything else gets a sentence."""
    sentence = (
        f"per_second must be a number of starts a second, not {per_second!r}; "
        "write RateLimit(10)"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.RateLimit(per_second)


@pytest.mark.parametrize("tokens", [1.5, "5", None, math.nan, 2.0, True])
def test_tokens_are_counted(tokens: Any) -> None:
    """Anything but a whole number or infinity is refused, when made and when set."""
    sentence = f"tokens must be a whole number or math.inf, not {tokens!r}; "
    sentence += "such as 5, for five at once"
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        ka.Limiter(tokens, name="some")
    limiter = ka.Limiter(1, name="one")
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        limiter.total_tokens = tokens


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_limiter_without_tokens_is_refused(tokens: int) -> None:
    """Nobody could ever go on."""
    sentence = f"tokens must be 1 or more, not {tokens}; with none, every caller would hang"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ka.Limiter(tokens, name="some")
    limiter = ka.Limiter(1, name="one")
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        limiter.total_tokens = tokens
    assert limiter.total_tokens == 1


def test_one_limiter_serves_run_after_run_on_any_backend() -> None:
    """At module level it outlives the run; also a token never given back (ground 28)."""

    async def use() -> weakref.ref[object]:
        assert LIMITER.available_tokens == 2
        await LIMITER.acquire_on_behalf_of("never given back")
        assert await anyio.to_thread.run_sync(int, "7", limiter=LIMITER) == 7
        return weakref.ref(LIMITER.current)

    for backend in (*REAL, *REAL):
        counted = in_a_run(backend, use)
        until = time.monotonic() + _LATE
        while counted() is not None:  # what was counted in that run goes with it,
            assert time.monotonic() < until
            gc.collect()  # once the worker thread has come to its end


def test_two_runs_at_one_time_have_their_own_tokens() -> None:
    """A run in another thread neither waits for this one's tokens nor sees them."""
    limiter = ka.Limiter(1, name="one")

    async def inner() -> int:
        async with limiter:
            return limiter.borrowed_tokens

    async def outer(inner_backend: str) -> None:
        async with limiter:
            assert await anyio.to_thread.run_sync(in_a_run, inner_backend, inner) == 1
            assert limiter.borrowed_tokens == 1

    for backend in REAL:
        for inner_backend in REAL:
            in_a_run(backend, outer, inner_backend)


# --- RateLimit ---------------------------------------------------------------------------


class Starts:
    """When each of those who use a limit started, from now on."""

    def __init__(self, limit: ka.RateLimit) -> None:
        self.limit = limit
        self.names: list[object] = []
        self.times: list[float] = []
        self._zero = anyio.current_time()

    async def start(self, name: object = None) -> None:
        async with self.limit:
            self.names.append(name)
            self.times.append(anyio.current_time() - self._zero)


@virtual_time
@pytest.mark.parametrize("per_second", [10, 3, 0.5, 7.3])
async def test_starts_are_evenly_spaced(per_second: float) -> None:
    """Without a burst each start is one interval after the one before: no drift, no gap."""
    starts = Starts(ka.RateLimit(per_second))
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(starts.start)
    assert starts.times == pytest.approx([number / per_second for number in range(50)])


@virtual_time
async def test_a_burst_comes_at_once() -> None:
    """So many may start together; then the rate holds."""
    starts = Starts(ka.RateLimit(10, burst=3))
    for _ in range(6):
        await starts.start()
    assert starts.times == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])


@virtual_time
async def test_a_pause_earns_a_burst_and_no_more() -> None:
    """Turns not used lapse, except for the burst."""
    starts = Starts(ka.RateLimit(10, burst=3))
    for _ in range(4):
        await starts.start()
    await anyio.sleep_until(starts._zero + 100)
    for _ in range(5):
        await starts.start()
    assert starts.times[4:] == pytest.approx([100, 100, 100, 100.1, 100.2])


@virtual_time
async def test_a_short_pause_earns_a_part_of_the_burst() -> None:
    """After the burst, each interval of rest earns one start."""
    starts = Starts(ka.RateLimit(10, burst=3))
    for _ in range(3):
        await starts.start()
    await anyio.sleep_until(starts._zero + 0.25)
    for _ in range(4):
        await starts.start()
    assert starts.times == pytest.approx([0, 0, 0, 0.25, 0.25, 0.3, 0.4])


@virtual_time
async def test_turns_come_in_the_order_asked_for() -> None:
    """First come, first served."""
    starts = Starts(ka.RateLimit(10))
    async with anyio.create_task_group() as group:
        for name in range(20):
            group.start_soon(starts.start, name)
            await settle()
    assert starts.names == list(range(20))


@virtual_time
@pytest.mark.parametrize("cancelled", [[1], [1, 2], [3], [1, 3]])
async def test_a_cancelled_waiter_gives_its_turn_on(cancelled: list[int]) -> None:
    """The next one in line starts when the cancelled one would have."""
    starts = Starts(ka.RateLimit(1))
    scopes = [anyio.CancelScope() for _ in range(5)]

    async def start(name: int) -> None:
        with scopes[name]:
            await starts.start(name)

    async with anyio.create_task_group() as group:
        for name in range(5):
            group.start_soon(start, name)
            await settle()
        await anyio.sleep(0.5)
        for name in cancelled:
            scopes[name].cancel()
    left = [name for name in range(5) if name not in cancelled]
    assert starts.names == left
    assert starts.times == pytest.approx([float(number) for number in range(len(left))])


@asyncio_virtual
async def test_cancelled_natively_at_every_turn() -> None:
    """asyncio's Task.cancel() takes no turn away and leaves nothing locked."""
    starts = Starts(ka.RateLimit(1))
    await starts.start()

    for turns in range(8):  # no time passes in them
        with suppress(asyncio.CancelledError):
            await by_task_cancel(starts.start("cancelled"), turns)
    for name in ("a", "b"):
        await starts.start(name)
    assert starts.names == [None, "a", "b"]
    assert starts.times == pytest.approx([0, 1, 2])


@asyncio_virtual
@pytest.mark.parametrize("after", [0.5, 1.0, 1.5])
async def test_under_wait_for(after: float) -> None:
    """asyncio.wait_for that runs out gives the turn on, also in the moment of the turn."""
    starts = Starts(ka.RateLimit(1))
    await starts.start("first")

    async def hurry() -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(starts.start("hurried"), after)

    async with anyio.create_task_group() as group:
        group.start_soon(hurry)
        await settle()
        group.start_soon(starts.start, "patient")
    assert starts.names in (["first", "hurried", "patient"], ["first", "patient"])
    assert starts.times == pytest.approx([0, 1, 2][: len(starts.times)])


@virtual_time
@pytest.mark.parametrize("burst", [1, 4])
@pytest.mark.parametrize("seed", range(5))
async def test_never_more_in_any_second(
    burst: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever sleeping overshoots and whoever pauses, no second has too many starts."""
    dice = random.Random(seed)

    async def sleep_late(when: float) -> None:
        await anyio.sleep_until(when + dice.choice([0, 0, 0.01, 0.3, 2]))

    monkeypatch.setattr("kingdom_async._limits.sleep_until", sleep_late)
    starts = Starts(ka.RateLimit(8, burst=burst))

    async def use() -> None:
        for _ in range(30):
            await anyio.sleep(dice.choice([0, 0, 0, 0.05, 0.4]))
            await starts.start()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(use)

    most = 8 + burst - 1
    assert len(starts.times) == 90
    for first, next_allowed in zip(starts.times, starts.times[most:], strict=False):
        assert next_allowed - first >= 1 - 1e-9


@virtual_time
async def test_shared_between_calls_and_tasks() -> None:
    """One limit is one rate, however many use it, bulk calls included."""
    limit = ka.RateLimit(10)
    starts = Starts(limit)

    async def note(_: int) -> None:
        starts.times.append(anyio.current_time() - starts._zero)

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: ka.amap(note, range(5), limit=2, rate=limit))
        group.start_soon(lambda: ka.amap(note, range(5), limit=5, rate=limit))
        for _ in range(5):
            group.start_soon(starts.start)
    assert starts.times == pytest.approx([number / 10 for number in range(15)])


@virtual_time
async def test_the_block_itself_is_not_limited() -> None:
    """Only starts are spaced: blocks may overlap, and a failing one changes nothing."""
    limit = ka.RateLimit(10)
    starts = Starts(limit)

    async def long() -> None:
        async with limit:
            await anyio.sleep(50)

    async with anyio.create_task_group() as group:
        group.start_soon(long)
        await settle()
        with pytest.raises(ValueError, match="mine"):
            async with limit:
                raise ValueError("mine")
        await starts.start()
        assert starts.times == pytest.approx([0.2])


async def test_a_turn_that_need_not_wait_is_a_checkpoint() -> None:
    """A cancelled caller does not start."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with ka.RateLimit(10):
            raise AssertionError("never reached")
    assert scope.cancelled_caught


def test_one_rate_serves_run_after_run_on_any_backend() -> None:
    """At module level it outlives the run; each run begins anew (ground 28)."""

    async def use() -> list[float]:
        starts = Starts(RATE)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(starts.start)
        with anyio.move_on_after(0.05):
            await starts.start()  # leaves in the middle of its wait
        return starts.times

    for backend in (*VIRTUAL, *VIRTUAL):
        assert in_a_run(backend, use) == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("per_second", [0, -1, math.inf, math.nan])
def test_a_rate_that_is_none(per_second: float) -> None:
    """Never and always are no rates."""
    sentence = (
        f"per_second must be more than 0 and finite, not {per_second!r}; "
        "for no limit leave the RateLimit out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ka.RateLimit(per_second)


@pytest.mark.parametrize("burst", [0, -1, 1.5, None])
def test_a_burst_that_is_none(burst: Any) -> None:
    """At least one start at a time."""
    sentence = (
        f"burst must be a whole number of at least 1, not {burst!r}; 1 spaces all starts evenly"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ka.RateLimit(10, burst=burst)


def test_its_repr() -> None:
    """What it limits to is seen."""
    assert repr(ka.RateLimit(10, burst=2)) == "<RateLimit 10 a second, burst=2>"
    assert repr(ka.RateLimit(0.5)) == "<RateLimit 0.5 a second, burst=1>"


async def test_a_limiter_tells_how_many_tokens_are_left() -> None:
    """Of five, of which two are borrowed."""
    limiter = ka.Limiter(5, name="five")
    first, second = object(), object()
    for borrower in (first, second):
        limiter.acquire_on_behalf_of_nowait(borrower)
    assert (limiter.borrowed_tokens, limiter.available_tokens) == (2, 3)
    for borrower in (first, second):
        limiter.release_on_behalf_of(borrower)
