"""Made-up programs, each of which must come to the same on every backend.

Besides under each backend's own order of tasks, each is run under a shuffled one: what is
determined does not depend on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio

from kingdom_async.testing import explore, run_virtual

from .made_up import Script, made
from .outcomes import Outcome, records, tree
from .player import Player
from .uvloop_clock import virtual_uvloop

Main = Callable[[], Awaitable[object]]


def _on(backend: str) -> Callable[[Main, int], None]:
    def runner(main: Main, seed: int) -> None:
        run_virtual(main, backend=backend)

    return runner


def _on_uvloop(main: Main, seed: int) -> None:
    anyio.run(main, backend="asyncio", backend_options={"loop_factory": virtual_uvloop})


def _shuffled(backend: str) -> Callable[[Main, int], None]:
    def runner(main: Main, seed: int) -> None:
        explore(main, seeds=[seed + 1], backend=backend).raise_if_failed()

    return runner


RUNNERS: dict[str, Callable[[Main, int], None]] = {
    "asyncio": _on("asyncio"),
    "asyncio+uvloop": _on_uvloop,
    "trio": _on("trio"),
    "asyncio, shuffled": _shuffled("asyncio"),
    "trio, shuffled": _shuffled("trio"),
}


def outcome(
    program: Script, runner: str, seed: int = 0, player: type[Player] = Player
) -> Outcome:
    """What *program* comes to there."""
    results: list[object] = []
    logs: list[dict[str, list[tuple[float, object]]]] = []

    async def main() -> None:
        playing = player()
        logs.append(playing.log)
        try:
            results.append(await playing.play(program))
        except Exception as error:
            results.append(tree(error))
        for mistake in playing.mistakes:
            raise mistake

    with records() as messages:
        RUNNERS[runner](main, seed)
    return Outcome(results[0], logs[0], messages)


def differences(
    seed: int, player: type[Player] = Player, tally: Counter[str] | None = None
) -> list[str]:
    """Where the program of *seed* comes to something else."""
    program = made(seed)
    first = outcome(program, "asyncio", seed, player)
    if tally is not None:
        tally.update(scripts=len(first.log), entries=sum(map(len, first.log.values())))
    found: list[str] = []
    for runner in RUNNERS:
        if runner != "asyncio":
            difference = first.difference(outcome(program, runner, seed, player))
            if difference:
                found.append(f"asyncio against {runner}: {difference}")
    return found
