"""`explore`: seeds decide the order of steps, a run is its seed's, and what fails is told."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import kingdom_async as ka
from kingdom_async.testing import schedules
from kingdom_async.testing.runs.orders import order_of
from kingdom_async.testing.schedules import explore
from support.backends import REAL, chosen

on_every_backend = pytest.mark.parametrize("backend", chosen(REAL))
on_virtual_time = pytest.mark.parametrize("backend", chosen(("asyncio", "trio")))


async def together(*functions: Callable[[], Awaitable[object]]) -> None:
    async with ka.TaskGroup() as group:
        for function in functions:
            group.start_soon(function)


async def order_of_three() -> str:
    """Three tasks, each of which says its name twice."""
    said: list[str] = []

    def named(name: str) -> Callable[[], Awaitable[None]]:
        async def say() -> None:
            said.append(name)
            await ka.checkpoint()
            said.append(name)

        return say

    await together(*map(named, "abc"))
    return "".join(said)


async def too_late() -> None:
    """Right unless the first task is held back by whole turns of the loop."""
    ready = False

    async def prepare() -> None:
        nonlocal ready
        await ka.checkpoint()
        ready = True

    async def use() -> None:
        for _ in range(4):
            await ka.checkpoint()
        assert ready, "used before it was ready"

    await together(prepare, use)


@on_every_backend
def test_many_orders_are_seen(backend: str) -> None:
    """The histogram counts what the body returned; the runs differ."""
    report = explore(order_of_three, backend=backend)
    assert report.points == report.injected == report.outcomes.total() == 200
    assert len(report.outcomes) > 30
    assert all(re.fullmatch(r"'[abc]{6}'", outcome) for outcome in report.outcomes)
    assert {outcome[1] for outcome in report.outcomes} == {*"abc"}


@on_every_backend
def test_seed_0_is_the_loops_own_order(backend: str) -> None:
    """What a program sees without `explore`, and where shrinking ends."""
    for seed in (0, ()):
        report = explore(order_of_three, seeds=[seed], backend=backend)
        assert dict(report.outcomes) == {"'abcabc'": 1}


@on_every_backend
def test_a_seed_is_a_run(backend: str) -> None:
    """Each seed alone comes to what it came to among the others."""
    seeds = range(1, 41)
    first = [explore(order_of_three, seeds=[seed], backend=backend).outcomes for seed in seeds]
    again = [explore(order_of_three, seeds=[seed], backend=backend).outcomes for seed in seeds]
    assert first == again
    together = explore(order_of_three, seeds=seeds, backend=backend)
    assert together.outcomes == sum(first[1:], first[0])


@pytest.mark.parametrize("seed", [4, 5, 6, 7])  # one of each kind
@on_every_backend
def test_many_cancelled_tasks_come_in_the_order_of_the_seed(backend: str, seed: int) -> None:
    """Which of them a cancellation reaches first depends on addresses; the order does not."""

    async def body() -> str:
        ended: list[str] = []

        async def wait(name: str) -> None:
            try:
                await ka.sleep_forever()
            finally:
                ended.append(name)

        async with ka.TaskGroup() as group:
            for name in "abcdefgh":
                group.start_soon(wait, name)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        return "".join(ended)

    first, *others = [explore(body, seeds=[seed], backend=backend).outcomes for _ in range(5)]
    assert others == [first] * 4


@on_every_backend
def test_a_body_that_is_cancelled_fails(backend: str) -> None:
    """Not explore itself."""

    async def body() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ka.checkpoint()
        raise asyncio.CancelledError

    report = explore(body, seeds=2, backend=backend)
    assert len(report.failures) == 2
    assert report.outcomes == {"raised CancelledError": 2}


@on_every_backend
def test_random_is_the_seeds_and_is_put_back(backend: str) -> None:
    """A body that asks `random` is replayed too, and nobody else's numbers change."""

    async def body() -> float:
        await ka.checkpoint()
        return random.random()

    one = explore(body, seeds=[5], backend=backend).outcomes
    random.random()
    state = random.getstate()
    again = explore(body, seeds=[5], backend=backend).outcomes
    assert one == again
    assert random.getstate() == state


@on_every_backend
def test_a_task_is_held_back_by_whole_turns(backend: str) -> None:
    """What lags is found, and the report says what, where and how to see it again."""
    report = explore(too_late, backend=backend)
    assert report.failures
    failure = report.failures[0]
    assert isinstance(failure.error, AssertionError)
    assert failure.place.startswith("test_explore.py:")
    assert failure.place.endswith(" in use")
    assert failure.replay == (f"explore(too_late, seeds=[{failure.seed}], backend={backend!r})")
    replayed = eval(failure.replay, {"explore": explore, "too_late": too_late})
    assert [each.seed for each in replayed.failures] == [failure.seed]
    assert report.outcomes["raised AssertionError"] == len(report.failures)
    with pytest.raises(AssertionError, match=re.escape(failure.replay)):
        report.raise_if_failed()


@on_every_backend
def test_named_steps_are_held_back(backend: str) -> None:
    """A schedule says which steps; this one makes the first of three the last."""
    report = explore(order_of_three, seeds=[((1, 30),)], backend=backend)
    assert dict(report.outcomes) == {"'bcbcaa'": 1}


@on_every_backend
def test_a_check_that_raises_is_a_failure(backend: str) -> None:
    """It is called after each run."""
    orders: list[str] = []

    async def body() -> None:
        orders.append(await order_of_three())

    def begins_with_a() -> None:
        assert orders[-1][0] == "a", orders[-1]

    report = explore(body, backend=backend, check=begins_with_a)
    wrong = [order for order in orders if order[0] != "a"]
    assert len(report.failures) == len(wrong) > 20
    assert report.failures[0].replay.endswith("begins_with_a)")


@on_every_backend
def test_a_run_that_never_ends_is_told_with_its_tasks(backend: str) -> None:
    """A deadlock is a failure like others, and names the line where each task waits."""

    async def body() -> None:
        await together(ka.Event().wait)

    report = explore(body, seeds=[1], backend=backend)
    assert dict(report.outcomes) == {"hung": 1}
    assert "test_explore.py:" in str(report.failures[0].error)


@pytest.mark.parametrize("backend", chosen(("asyncio+uvloop",)))
def test_hung_runs_on_real_time_are_given_up(backend: str) -> None:
    """Each takes a second there: after three, no more are made."""
    report = explore(ka.sleep_forever, backend=backend)
    assert (report.points, report.injected) == (200, 3)
    assert report.remarks == ["stopped early: 3 runs were hung"]


@on_virtual_time
def test_hung_runs_with_a_socket_are_given_up(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody might call; but nobody does."""
    monkeypatch.setitem(schedules._PATIENCE, "virtual", 0.1)

    async def body() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            await listener.serve(ka.sleep_forever)  # type: ignore[arg-type]

    report = explore(body, seeds=10, backend=backend)
    assert (report.points, report.injected) == (10, 3)
    assert dict(report.outcomes) == {"hung": 3}


@on_every_backend
def test_threads_of_the_programs_own_need_real_time(backend: str) -> None:
    """They are not seen, and so virtual time takes the run for a deadlock."""

    async def body() -> str:
        event, token = ka.Event(), anyio.lowlevel.current_token()
        wake = (token.backend_class.run_sync_soon, (event.set, (), token.native_token))
        threading.Timer(0.2, *wake).start()
        await event.wait()
        return "woken"

    report = explore(body, seeds=2, backend=backend, clock="real")
    assert dict(report.outcomes) == {"'woken'": 2}
    with pytest.raises(ValueError, match="clock must be 'virtual' or 'real', not 'fast'"):
        explore(body, clock="fast")  # type: ignore[arg-type]


@on_every_backend
def test_the_clock_is_in_the_replay(backend: str) -> None:
    """With which it fails again."""

    async def body() -> None:
        raise ValueError

    (failure,) = explore(body, seeds=[3], backend=backend, clock="real").failures
    assert failure.replay == f"explore(body, seeds=[3], backend={backend!r}, clock='real')"


@on_virtual_time
def test_time_is_virtual(backend: str) -> None:
    """A day of waiting takes no time, in every order."""

    async def body() -> float:
        began = ka.current_time()
        await together(lambda: ka.sleep(86400), lambda: ka.sleep(3600))
        return ka.current_time() - began

    report = explore(body, seeds=50, backend=backend)
    assert dict(report.outcomes) == {"86400.0": 50}


@on_every_backend
def test_a_task_that_waits_in_a_loop_for_another_one_gets_on(backend: str) -> None:
    """None is held back for ever."""

    async def body() -> str:
        done = False

        async def work() -> None:
            nonlocal done
            await ka.checkpoint()
            done = True

        async def look() -> None:
            while not done:
                await ka.checkpoint()

        await together(work, look)
        return "done"

    assert dict(explore(body, backend=backend).outcomes) == {"'done'": 200}


@on_every_backend
def test_threads_and_timers_go_on(backend: str) -> None:
    """Only steps of tasks are permuted; what else the loop does stays in its place."""

    async def body() -> tuple[int, int]:
        first, second = await ka.gather(ka.offload(int, "3"), ka.offload(int, "4"))
        await ka.sleep(0.001)
        return first, second

    report = explore(body, seeds=20, backend=backend)
    assert dict(report.outcomes) == {"(3, 4)": 20}


async def test_not_inside_a_loop() -> None:
    """It starts loops of its own, so it is called from an ordinary function."""
    with pytest.raises(RuntimeError, match=r"^explore\(too_late\) inside a running "):
        explore(too_late)


def test_arguments() -> None:
    """The right call beside the wrong one."""
    with pytest.raises(TypeError, match=r"^explore\(\) takes an async function, not 3; "):
        explore(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^seeds takes whole numbers, or tuples of "):
        explore(too_late, seeds=["x"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"^explore\(\) takes an async function, and print "):
        explore(print)  # type: ignore[arg-type]
    for body, check, says in (
        (too_late(), None, r"pass too_late, not too_late\(\)"),
        (too_late, 3, "check must be a function, not 3"),
        (too_late, too_late, "check must be an ordinary function, and too_late is async"),
        (too_late, lambda: too_late(), "check must be an ordinary function"),
        (partial(ka.sleep), None, r"its body without arguments, and sleep\(\) needs delay"),
    ):
        with pytest.raises(TypeError, match=says):
            explore(body, check=check)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "error"),
    [
        (0, ValueError),
        ([], ValueError),
        (-3, ValueError),
        (True, TypeError),
        (None, TypeError),
        (1.5, TypeError),
        ([((0, 2),)], TypeError),
        ([((3, -1),)], TypeError),
    ],
)
def test_seeds_that_would_run_nothing_are_refused(seeds: Any, error: type[Exception]) -> None:
    """Or would pass for a number that they are not."""
    with pytest.raises(error, match=r"^seeds .*; write seeds=200"):
        explore(too_late, seeds=seeds)


def test_a_check_that_compares_and_raises_nothing() -> None:
    """False is as good as an error, and the replay has it as it is written."""
    report = explore(too_late, seeds=3, check=lambda: False)
    assert len(report.failures) == 3
    assert report.failures[0].replay.endswith(", check=lambda: False)")


def test_a_new_task_is_not_taken_for_one_that_lives() -> None:
    """Those that are gone are forgotten, and their numbers are given to nobody else."""

    class Task:
        pass

    order = order_of(0)
    gone, lives = Task(), Task()
    for task in (gone, lives):
        assert order.pick([SimpleNamespace(task=task)]) == 0
    del gone, task
    gc.collect()
    new = Task()
    order.pick([SimpleNamespace(task=new)])
    assert order._serials[new] != order._serials[lives]
