"""Hypothesis strategies for what the testing tools are given, so that it shrinks what fails.

Rule: what they draw is plain data, and the smaller it is, the nearer is the run to an
undisturbed one. Only this file imports hypothesis, and only where a strategy is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments import check_count

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from .runs.orders import Delay


def seeds() -> SearchStrategy[int]:
    """Seeds for ``explore(body, seeds=[seed])``; they shrink to 0, the loop's own order.

    A seed that is a little smaller is quite another order: to have a failing order shrunk, use
    `schedules`.

    Example:
        >>> @given(seed=seeds())
        ... def test_transfer(seed):
        ...     explore(transfer, seeds=[seed]).raise_if_failed()
    """
    from hypothesis import strategies

    return strategies.integers(0, 2**32 - 1)


def schedules(
    *, steps: int = 60, chances: int = 20, delays: int = 6
) -> SearchStrategy[tuple[Delay, ...]]:
    """Orders for ``explore(body, seeds=[schedule])``: which steps are held back, and how long.

    A schedule is a tuple of pairs ``(step, chances)``: the step of that number, counted as they
    become due, lets so many chances to run pass to others. What fails shrinks to the fewest
    delays, at the earliest steps, that are as short as can be.

    Args:
        steps: The last step that may be held back; about as many as the body takes.
        chances: How many chances a step lets pass at most.
        delays: How many steps are held back at most.

    Example:
        >>> @given(schedule=schedules(steps=30))
        ... def test_transfer(schedule):
        ...     explore(transfer, seeds=[schedule]).raise_if_failed()
    """
    from hypothesis import strategies

    for name, value in (("steps", steps), ("chances", chances), ("delays", delays)):
        check_count(name, value, "write schedules(steps=30)")
    delay = strategies.tuples(strategies.integers(1, steps), strategies.integers(1, chances))
    return strategies.lists(delay, max_size=delays, unique_by=lambda one: one[0]).map(
        lambda drawn: tuple(sorted(drawn))
    )


def steps(most: int = 100) -> SearchStrategy[int]:
    """Steps for ``cancel_everywhere(body, only=step)``. They shrink to the first, which is 1.

    Args:
        most: The last one; a step that the body does not reach is one where nothing happens.

    Example:
        >>> @given(step=steps(20))
        ... def test_transfer(step):
        ...     cancel_everywhere(transfer, only=step).raise_if_failed()
    """
    from hypothesis import strategies

    check_count("most", most, "write steps(100)")
    return strategies.integers(1, most)
