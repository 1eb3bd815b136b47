"""Some of each check of ``python -m tests.soak``.

That each can fail is in `test_soak_planted`.
"""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

import kingdom_async as ka
from kingdom_async.testing import explore, run_virtual
from soak import __main__ as command
from soak.checks import CHECKS, EVERY, Check, Found
from soak.linearize import Call, linearization
from soak.made_up import made
from soak.outcomes import Outcome
from soak.programs import RUNNERS, outcome
from soak.queue_histories import linearizability
from soak.queue_model import DONE, Model, State
from soak.uvloop_clock import virtual_uvloop
from support.backends import REAL, chosen

#: In a quick run of the suite, and in a full one.
SOME, MORE = range(60), range(60, 260)
every_backend = pytest.mark.parametrize("backend", chosen(REAL))
needs_every_backend = pytest.mark.skipif(
    len(chosen(REAL)) < 3, reason="compares all backends, and one was asked for"
)


def run(name: str, backend: str, seeds: range) -> Counter[str]:
    """The figures of that check, in which nothing was found."""
    (check,) = (check for check in CHECKS if check.name == name)
    tally: Counter[str] = Counter()
    assert check.run(seeds, backend, tally) == []
    return tally


@every_backend
@pytest.mark.parametrize("name", ["queue", "histories", "limiter", "maps"])
def test_random_programs_stand_every_schedule(name: str, backend: str) -> None:
    """Nothing is lost, doubled, out of order, over its limit, or hung."""
    tally = run(name, backend, SOME)
    assert all(tally.values()) or backend == "asyncio+uvloop"  # each kind has come up


@every_backend
@pytest.mark.parametrize(("name", "seed"), [("maps", 995)])
def test_seeds_that_have_found_something(name: str, seed: int, backend: str) -> None:
    """An `imap` whose crew hears of a cancellation before its consumer does is not over."""
    run(name, backend, range(seed, seed + 1))


@pytest.mark.slow
@every_backend
@pytest.mark.parametrize("name", ["queue", "histories"])
def test_more_random_programs_stand_every_schedule(name: str, backend: str) -> None:
    """The same; thousands are run by hand."""
    run(name, backend, MORE)


@pytest.mark.slow
@every_backend
def test_random_programs_stand_a_cancellation_at_each_step(backend: str) -> None:
    """The same where the whole program is cancelled, once, twice and natively."""
    assert run("injected", backend, range(4))["points"] > 50


@needs_every_backend
def test_made_up_programs_come_to_the_same_everywhere() -> None:
    """On each backend, and in any order of the tasks."""
    run("programs", EVERY, range(12))


@pytest.mark.slow
@needs_every_backend
def test_more_made_up_programs_come_to_the_same_everywhere() -> None:
    """More of them; 496 has found a bug."""
    run("programs", EVERY, range(12, 110))
    run("programs", EVERY, range(496, 497))


# --- a seed is a program ---------------------------------------------------------------


@every_backend
def test_a_seed_gives_the_same_run_again(backend: str) -> None:
    """So the one line that a failure prints shows it again."""
    tallies: list[Counter[str]] = [Counter(), Counter()]
    for tally in tallies:
        explore(linearizability(tally=tally), seeds=range(40, 60), backend=backend)
    assert tallies[0] == tallies[1]
    assert tallies[0]["calls"] > 100


def test_a_made_up_program_is_rich() -> None:
    """Each kind of operation comes up often."""
    kinds: Counter[str] = Counter()

    def count(script: object) -> None:
        for op in script.ops:  # type: ignore[attr-defined]
            kinds[op.kind] += 1
            for inner in op.scripts:
                count(inner)

    for seed in range(100):
        count(made(seed))
    assert len(kinds) == 18
    assert min(kinds.values()) >= 20


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_outcome_holds_no_address(runner: str) -> None:
    """Two runs in the same place come to the same, so that a difference means something."""
    runs = [outcome(made(11), runner, 11) for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(runs[0].log) > 8


def test_a_difference_is_named() -> None:
    """By the script, the place in its log, and what stands there."""
    one = Outcome(0, {"main": [(1, "begins"), (2, "ends")]}, [])
    other = Outcome(0, {"main": [(1, "begins"), (3, "ends")]}, [])
    assert one.difference(one) == ""
    assert one.difference(other) == "main: entry 1: (2, 'ends') against (3, 'ends')"
    assert one.difference(one._replace(records=["x"])) == "logged: [] against ['x']"
    assert one.difference(one._replace(result=1)) == "0 against 1"


# --- the search ------------------------------------------------------------------------


def explained(maxsize: float, *calls: Call) -> bool:
    model = Model(maxsize, "wait")
    return linearization(calls, State(), model.step, lambda state: True) is not None


def test_calls_one_after_the_other_have_one_order() -> None:
    """First in, first out."""
    put = Call(0, "put", 1, 1, 2, DONE), Call(0, "put", 2, 3, 4, DONE)
    assert explained(2, *put, Call(0, "get", None, 5, 6, 1))
    assert not explained(2, *put, Call(0, "get", None, 5, 6, 2))


def test_calls_at_the_same_time_have_any_order() -> None:
    """Either of two puts may have been the first, but not both."""
    put = Call(0, "put", 1, 1, 4, DONE), Call(1, "put", 2, 2, 3, DONE)
    first = Call(2, "get", None, 5, 6, 2)
    assert explained(2, *put, first)
    assert explained(2, *put, first, Call(2, "get", None, 7, 8, 1))
    assert not explained(2, *put, first, Call(2, "get", None, 7, 8, 2))


def test_a_cancelled_call_has_done_nothing() -> None:
    """What a cancelled put would have put cannot be taken."""
    cancelled = Call(0, "put", 1, 1, 2, is_void=True)
    assert explained(1, cancelled, Call(1, "put", 2, 3, 4, DONE))
    assert not explained(1, cancelled, Call(1, "get", None, 3, 4, 1))


def test_a_full_queue_takes_no_more() -> None:
    """A put that returned had room."""
    put = Call(0, "put", 1, 1, 2, DONE), Call(0, "put", 2, 3, 4, DONE)
    assert explained(2, *put)
    assert not explained(1, *put)


# --- uvloop's clock --------------------------------------------------------------------


async def timers() -> list[tuple[float, str]]:
    log: list[tuple[float, str]] = []

    async def nap(name: str, seconds: float) -> None:
        await ka.sleep(seconds)
        log.append((ka.current_time(), name))

    async with ka.TaskGroup() as group:
        for seconds in (86400, 0.5, 3, 7):
            group.start_soon(nap, f"{seconds}", seconds)
        with ka.move_on_after(5):
            await ka.sleep_forever()
        log.append((ka.current_time(), "moved on"))
        await ka.offload(int)  # time stands still meanwhile
    return log


@needs_every_backend
def test_the_clock_of_uvloop_jumps_as_that_of_asyncio() -> None:
    """The same timers at the same times."""
    options = {"loop_factory": virtual_uvloop}
    log = anyio.run(_held_timers, backend="asyncio", backend_options=options)
    assert log == run_virtual(timers, backend="asyncio")
    assert log[-1] == (86400, "86400")


async def _held_timers() -> list[tuple[float, str]]:
    from soak.uvloop_clock import held

    async def offload(func: object) -> None:
        with held():
            await real(func)  # type: ignore[arg-type]

    real, ka.offload = ka.offload, offload  # type: ignore[assignment]
    try:
        return await timers()
    finally:
        ka.offload = real


# --- the command -----------------------------------------------------------------------


def test_the_command_says_what_it_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each check and backend, and the figures in the last."""
    monkeypatch.setattr("sys.argv", ["soak", "--seeds", "3", "--only", "queue"])
    monkeypatch.setattr("sys.argv", [*command.sys.argv, "--backend", "asyncio"])
    assert command.main() == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("queue, asyncio: 3 seeds, 0 failed")
    assert last.startswith("soak: 3 seeds, 0 failed")


def test_the_command_says_how_to_see_a_failure_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, and what was wrong in the next."""
    broken = Check("queue", "", lambda seeds, backend, tally: [Found(8, "lost")], 10)
    monkeypatch.setattr(command, "CHECKS", [broken])
    monkeypatch.setattr("sys.argv", ["soak", "--start", "7", "--backend", "trio"])
    assert command.main() == 1
    again = "python -m tests.soak --only queue --backend trio"
    assert capsys.readouterr().out.splitlines()[1:3] == [
        f"FAILED, again with: {again} --start 8 --seeds 1",
        "lost",
    ]
