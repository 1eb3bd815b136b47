"""`explore`: one body under many orders of its tasks' steps.

Rule: a run depends on its seed alone. What it came to is counted, and what failed can be seen
again by one line.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
from anyio import CancelScope

from .._arguments import check_count, shown
from .._backend import anyio_backend, choose_backend
from .._failures import bare, short_repr
from ..trace.here import current_loop
from .clock import virtual_backend
from .clocks.idle import Deadlock, Idle, tree_text
from .internals.faults import open_all_shields
from .internals.schedules import picking
from .plugin.guard import between_runs
from .reports import Broken, Failure, Report, called, place_of
from .runs.checked import (
    Check,
    NotAsChecked,
    ask,
    check_body,
    check_check,
    coroutine_of,
    refuse_running_loop,
)
from .runs.fault_options import Clock, check_clock
from .runs.orders import Order, Scheduled, Seed, order_of
from .runs.patience import Onlooker
from .runs.said_once import said_once
from .runs.steps import Watcher, watched_backend
from .runs.written import Written

Body = Callable[[], Awaitable[object]]
Pair = tuple[str, dict[str, Any]]

#: Real seconds for which a program on virtual time may wait for nothing that is known of.
_GIVE_UP = 0.05
#: Real seconds without a step after which a run on such a clock counts as hung.
_PATIENCE = {"real": 1.0, "virtual": 5.0}
#: After so many runs that had to be given up, each of which takes long, no more are made.
_MOST_HUNG = 3


def explore(
    body: Body,
    *,
    seeds: int | Iterable[Seed] = 200,
    backend: str | None = None,
    check: Callable[[], object] | None = None,
    clock: Clock = "virtual",
) -> Report:
    """Run *body* under many orders of its tasks' steps, and see whether all come out well.

    An event loop resumes its tasks in the order in which they became ready, which a slow socket
    or a busy machine changes. Here seeds decide: tasks that could run take turns in any order,
    and some are held back for whole turns of the loop, since shuffling alone never makes a
    task late. Timers and callbacks keep their places. Time is virtual, except on uvloop.

    A run fails if the body raises, can never end, or *check* raises. The same seed gives the
    same run, as far as the body itself does: `random` is seeded, and what threads do is not.

    Each run has an event loop of its own, so this is called from an ordinary function.

    Args:
        body: An async function without arguments. It makes what it uses, so that each run
            begins alike. What it returns is counted in ``report.outcomes``.
        seeds: How many orders; or which, to see one of them again. Seed 0 is the loop's own
            order. A tuple of pairs ``(step, chances)`` holds back just those steps.
        backend: As for `run`; the variable is ``KINGDOM_ASYNC_BACKEND``, the default asyncio.
        check: A function called after each run; it raises, or returns False, if something is
            wrong.
        clock: ``"virtual"`` lets time jump, except on uvloop, which cannot; ``"real"`` for
            bodies with threads that neither `offload` nor anyio has started.

    Returns:
        How many seeds there were, what the runs came to, and what failed.

    Raises:
        RuntimeError: If called where an event loop runs.

    Example:
        >>> explore(transfer, seeds=1000, check=nothing_lost).raise_if_failed()
    """
    __tracebackhide__ = True
    check_body("explore", body)
    check_check("explore", check)
    name = choose_backend(backend)
    wanted = _checked_seeds(seeds)
    check_clock(clock)
    refuse_running_loop("explore", body)
    runs = _Runs(body, check, name, clock, Written("explore"))
    with ExitStack() as stack:
        runs.onlooker = stack.enter_context(Onlooker(runs.patience))
        stack.enter_context(_random_kept())
        stack.enter_context(said_once(runs.report.call))
        runs.report.points = len(wanted)
        for seed in wanted:
            between_runs()
            if not runs.run(seed):
                break
        between_runs()
    return runs.report


class _Runs:
    """All runs of one call."""

    onlooker: Onlooker

    def __init__(
        self, body: Body, check: Check | None, backend: str, clock: Clock, written: Written
    ) -> None:
        self._body = body
        self._written = written
        self._check = check
        self._backend = backend
        self._clock = clock
        self._is_virtual = clock == "virtual" and backend != "asyncio+uvloop"
        self.patience = _PATIENCE["virtual" if self._is_virtual else "real"]
        self._hung = 0
        self.report = Report(f"explore({called(body)})", backend)

    def run(self, seed: Seed) -> bool:
        """Run it in the order of *seed*; False if there shall be no more runs."""
        random.seed(repr(seed))
        outcome, error = self._outcome(seed)
        if error is None and self._check is not None:
            try:
                ask("explore", self._check)
            except NotAsChecked as wrong:
                raise TypeError(str(wrong)) from None
            except Exception as broken:
                error = broken
        self.report.injected += 1
        self.report.outcomes[outcome] += 1
        if error is not None:
            self._failed(seed, error)
        if self._hung < _MOST_HUNG:
            return True
        self.report.remarks.append(f"stopped early: {self._hung} runs were hung")
        return False

    def _outcome(self, seed: Seed) -> tuple[str, BaseException | None]:
        try:
            return short_repr(self._run(order_of(seed))), None
        except (Deadlock, _Hung) as error:
            self._hung += isinstance(error, _Hung)
            return "hung", error
        except NotAsChecked as error:
            raise TypeError(str(error)) from None
        except (Exception, asyncio.CancelledError) as error:
            cause = bare(error)
            return f"raised {type(cause).__name__}", cause

    def _run(self, order: Order) -> object:
        idle = Idle(give_up=_GIVE_UP)
        idle.last_resort = open_all_shields
        native = (
            virtual_backend(self._backend, idle)
            if self._is_virtual
            else anyio_backend(self._backend)
        )
        name, options = scheduled_backend(native, Scheduled(order))

        async def main() -> object:
            with idle.watched():
                order.is_on = True
                try:
                    return await self._watched(order)
                finally:
                    order.is_on = False

        return anyio.run(main, backend=name, backend_options=options)

    async def _watched(self, order: Order) -> object:
        """The body, cancelled where nothing happens any more."""
        tree = ""

        def give_up(times: int) -> None:
            nonlocal tree
            tree = tree or tree_text(current_loop())
            scope.cancel()
            if times > 1:
                open_all_shields()

        result: object = None
        with CancelScope() as scope, self.onlooker.watching(lambda: order.choices, give_up):
            result = await coroutine_of("explore", self._body)
        if tree:
            raise _Hung(f"hung: no task took a step for {self.patience:g} s\n{tree}")
        return result

    def _failed(self, seed: Seed, error: BaseException) -> None:
        like, check = self._written.like, self._check
        body = like("body", self._body, called(self._body))
        rest = "" if check is None else f", check={like('check', check, called(check))}"
        rest += "" if self._clock == "virtual" else f", clock={self._clock!r}"
        replay = f"explore({body}, seeds=[{seed!r}], backend={self._backend!r}{rest})"
        number = seed if isinstance(seed, int) else None
        self.report.failures.append(Failure(replay, error, seed=number, place=place_of(error)))


class _Hung(Broken):
    """A run that would never have ended."""


def scheduled_backend(pair: Pair, watcher: Watcher) -> Pair:
    """What anyio calls a backend, and its options, so that ``watcher.pick`` decides the order.

    On trio the watcher is told of nothing else.
    """
    name, options = pair
    if name != "trio":
        return watched_backend(pair, watcher)
    assert watcher.pick is not None
    instruments = [*options.get("instruments", ()), picking(watcher.pick)]
    return name, {**options, "instruments": instruments}


@contextmanager
def _random_kept() -> Generator[None]:
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


# --- arguments -------------------------------------------------------------------------


def _checked_seeds(seeds: int | Iterable[Seed]) -> list[Seed]:
    if isinstance(seeds, int):
        check_count("seeds", seeds, "write seeds=200, or seeds=[17] for one of them")
        return [*range(seeds)]
    if not isinstance(seeds, Iterable):
        raise _wrong_seeds(seeds)
    wanted = [*seeds]
    for seed in wanted:
        if not (_is_number(seed) or (isinstance(seed, tuple) and all(map(_is_delay, seed)))):
            raise _wrong_seeds(seed)
    if not wanted:
        raise ValueError("seeds is empty, so there is nothing to run; write seeds=200")
    return wanted


def _wrong_seeds(seeds: object) -> TypeError:
    return TypeError(
        f"seeds takes whole numbers, or tuples of (step, chances), not {shown(seeds)}; "
        "write seeds=200, seeds=[17] or seeds=[((3, 1),)]"
    )


def _is_number(one: object) -> bool:
    return isinstance(one, int) and not isinstance(one, bool)


def _is_delay(one: object) -> bool:
    match one:
        case (int(step), int(chances)):
            return isinstance(one, tuple) and step >= 1 and chances >= 0
        case _:
            return False
