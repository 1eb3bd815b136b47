"""Types of `no_leaks`, `explore` and the strategies: checked, never run."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis.strategies import SearchStrategy
from typing_extensions import assert_type

from kingdom_async.testing import LeakError, Report, explore, no_leaks, strategies


async def body() -> int:
    return 1


def not_async() -> int:
    return 1


async def leaks(error: LeakError) -> None:
    async with no_leaks(grace=2, allow=["thread *"]) as nothing:
        assert_type(nothing, None)
    assert_type(error.leaks[0].name, str)
    no_leaks(2)  # type: ignore


def orders(check: Callable[[], None]) -> None:
    assert_type(explore(body), Report)
    explore(body, seeds=[1, ((3, 1),)], backend="trio", check=check)
    explore(not_async)  # type: ignore
    explore(body, seeds=["one"])  # type: ignore
    assert_type(strategies.seeds(), SearchStrategy[int])
    assert_type(strategies.schedules(steps=3), SearchStrategy[tuple[tuple[int, int], ...]])
    assert_type(strategies.steps(3), SearchStrategy[int])
