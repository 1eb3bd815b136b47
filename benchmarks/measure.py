"""Interleaved rounds of a comparison, on one backend.

Rule: whatever the machine does meanwhile hits all sides alike. Each round gives every side
its turn, in an order that is reversed from round to round; sides are compared within a round
and never across. The garbage collector is on, as users have it.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import anyio

from .comparison import Comparison, Row, Side

_WARM_UP = 100
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "asyncio+uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def rounds_of(
    comparison: Comparison, backend: str, rounds: int, *, smoke: bool = False
) -> list[dict[str, float]]:
    """For each round, what each side took, by its name; the warm-up is left out."""
    times = (
        min(comparison.times, max(comparison.times // 50, 20)) if smoke else comparison.times
    )
    if not smoke:
        rounds *= comparison.more_rounds
    sides = [comparison.ours, *others_on(comparison, backend)]
    measure = _HOW[comparison.how]
    expected = comparison.outcome(times)
    warm_up = not comparison.is_exact
    found: list[dict[str, float]] = []
    for number in range(1 if comparison.is_exact else rounds + warm_up):
        one: dict[str, float] = {}
        for side in sides[:: -1 if number % 2 else 1]:
            one[side.name], outcome = measure(side, side.loops[backend], times)
            if outcome != expected:
                raise AssertionError(
                    f"{comparison.operation}, {side.name} on {backend}: "
                    f"came to {outcome!r:.60}, not {expected!r:.60}"
                )
        if number >= warm_up:
            found.append(one)
    return found


def others_on(comparison: Comparison, backend: str) -> list[Side]:
    """The other sides that there are on *backend*, of those that are installed."""
    return [
        side
        for side in comparison.others
        if backend in side.loops and (side.needs is None or is_installed(side.needs))
    ]


def is_installed(module: str) -> bool:
    """True if there is such a module; it may be one of a package that is not there."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def rows_of(
    comparison: Comparison, backend: str, found: Sequence[Mapping[str, float]]
) -> Iterator[Row]:
    """What *found* comes to: one row for each other side."""

    def relate(our: float, their: float) -> float:
        return our - their if comparison.relation == "excess" else our / their

    ours = [one[comparison.ours.name] for one in found]
    for side in others_on(comparison, backend):
        theirs = [one[side.name] for one in found]
        each = list(map(relate, ours, theirs))
        low, _, high = quantiles(each, method="inclusive") if len(each) > 1 else each * 3
        yield Row(
            operation=comparison.operation,
            against=side.name,
            backend=backend,
            unit=comparison.unit,
            relation=comparison.relation,
            ours=median(ours),
            theirs=median(theirs),
            value=median(each),
            low=low,
            high=high,
            best=relate(min(ours), min(theirs)),
            goal=side.goal_on(backend),
        )


# --- how a side is measured: what it took, and what came out ------------------------------


def _on_a_loop(side: Side, loop: str, times: int) -> tuple[float, object]:
    """Microseconds for each time, in a loop of its own that has run the side before."""
    run = _coroutine_function(side)

    async def program() -> tuple[float, object]:
        await run(min(times, _WARM_UP))  # threads have started, code is specialised
        gc.collect()  # the garbage of the side before is not ours to clear away
        began = perf_counter()
        outcome = await run(times)
        return (perf_counter() - began) / times * 1e6, outcome

    return _run(program, loop)


def _as_a_program(side: Side, loop: str, times: int) -> tuple[float, object]:
    """Milliseconds for each run of ``python -c``."""
    backend, options = _OPTIONS[loop]
    source = str(side.run).format(loop=loop, backend=backend, options=options)
    environ = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    printed = b""
    began = perf_counter()
    for _ in range(times):
        printed += subprocess.run(
            [sys.executable, "-c", source], check=True, stdout=subprocess.PIPE, env=environ
        ).stdout
    return (perf_counter() - began) / times * 1e3, printed.decode().split()


def _is_foreign(variable: str) -> bool:
    """True for what users do not have set: ours compiled anew each time, or settings."""
    return variable == "PYTHONDONTWRITEBYTECODE" or variable.startswith("KINGDOM_ASYNC_")


def _traced_memory(side: Side, loop: str, times: int) -> tuple[float, object]:
    """Mebibytes at the highest point."""
    run = _coroutine_function(side)

    async def program() -> tuple[float, object]:
        await run(_WARM_UP)
        gc.collect()
        tracemalloc.start()
        try:
            outcome = await run(times)
            return tracemalloc.get_traced_memory()[1] / 2**20, outcome
        finally:
            tracemalloc.stop()

    return _run(program, loop)


_HOW: dict[str, Callable[[Side, str, int], tuple[float, object]]] = {
    "on a loop": _on_a_loop,
    "as a program": _as_a_program,
    "traced memory": _traced_memory,
}


def _coroutine_function(side: Side) -> Callable[[int], Awaitable[object]]:
    assert not isinstance(side.run, str), f"{side.name} is a program"
    return side.run


def _run(
    program: Callable[[], Awaitable[tuple[float, object]]], loop: str
) -> tuple[float, object]:
    backend, options = _OPTIONS[loop]
    return anyio.run(program, backend=backend, backend_options=options)
