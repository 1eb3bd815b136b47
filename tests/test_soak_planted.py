"""Each check of ``python -m tests.soak`` finds the bugs that were planted for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import kingdom_async as ka
from kingdom_async.testing import explore
from soak import limit_programs as limits
from soak import planted_queues as queues
from soak.player import Player
from soak.programs import differences
from soak.queue_histories import linearizability
from soak.queue_programs import Body, conformance, injected
from support.backends import REAL, chosen

if TYPE_CHECKING:
    from soak.made_up import Op

#: Of which a planted bug must show in one at least.
SEEDS = 400
every_backend = pytest.mark.parametrize(
    "backend", [name for name in chosen(REAL) if name != "asyncio+uvloop"]
)


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A queue that is left with items says so."""
    with caplog.at_level(logging.CRITICAL, "kingdom_async"):
        yield


def is_found(body: Body, backend: str) -> bool:
    """True if one of the seeds shows it; the rest is not run then."""
    return any(
        explore(body, seeds=range(first, first + 20), backend=backend).failures
        for first in range(0, SEEDS, 20)
    )


@every_backend
@pytest.mark.parametrize("kind", queues.IN_THE_BOOKS)
def test_the_books_show(kind: type[ka.Queue[Any]], backend: str) -> None:
    """A queue with one broken promise does not balance, or hangs."""
    assert is_found(conformance(kind), backend)


@every_backend
@pytest.mark.parametrize("kind", [*queues.IN_HISTORIES, *queues.IN_THE_BOOKS[:5]])
def test_no_order_explains(kind: type[ka.Queue[Any]], backend: str) -> None:
    """A history of a queue with a bug is none of the model's."""
    assert is_found(linearizability(kind), backend)


@pytest.mark.slow
@every_backend
def test_a_cancellation_at_each_step_shows(backend: str) -> None:
    """An item that goes with its getter."""
    assert any(
        injected(seed, backend, queues.LosesOnCancellation).failures for seed in range(60)
    )


@every_backend
@pytest.mark.parametrize(
    ("program", "broken"),
    [
        (limits.limiters, limits.KeepsToken),
        (limits.limiters, limits.OneTooMany),
        (limits.maps, limits.amap_one_too_many),
        (limits.maps, limits.amap_in_any_order),
        (limits.maps, limits.amap_that_forgets),
        (limits.maps, limits.amap_that_repeats),
    ],
)
def test_a_limit_that_does_not_hold_shows(
    program: Callable[[Any], Body], broken: object, backend: str
) -> None:
    """A token kept, one too many at work, results out of order, too few, or items twice."""
    assert is_found(program(broken), backend)


# --- a backend that differs ------------------------------------------------------------


class LosesOnTrio(Player):
    """A queue that loses what it gives."""

    async def _get(self, op: Op, group: object) -> object:
        answer = await super()._get(op, group)
        return None if ka.current_backend() == "trio" else answer


class NoShieldOnUvloop(Player):
    """A shield that keeps nothing out."""

    async def _shield(self, op: Op, group: Any) -> object:
        if ka.current_backend() != "asyncio+uvloop":
            return await super()._shield(op, group)
        return await self._script(op.scripts[0], group)


class CancelsLateOnAsyncio(Player):
    """A task that is cancelled a moment later."""

    async def _cancel(self, op: Op, group: Any) -> None:
        if ka.current_backend() == "asyncio":
            await ka.sleep(1)
        await super()._cancel(op, group)


class DependsOnTheOrder(Player):
    """What two tasks see in the same moment."""

    woken = 0

    async def _event(self, op: Op, group: object) -> Any:
        await super()._event(op, group)
        DependsOnTheOrder.woken += 1
        return DependsOnTheOrder.woken


@pytest.mark.skipif(len(chosen(REAL)) < 3, reason="compares all backends")
@pytest.mark.parametrize(
    "player", [LosesOnTrio, NoShieldOnUvloop, CancelsLateOnAsyncio, DependsOnTheOrder]
)
def test_a_backend_that_differs_shows(player: type[Player]) -> None:
    """In some of a few programs."""
    assert any(differences(seed, player) for seed in range(40))
