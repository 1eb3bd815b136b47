"""SIGTERM and SIGINT at random moments of a busy program, and what the checks find.

The long run: ``python -m tests.signals``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from signals.moments import ITEMS, PHASES, Moment, Outcome, check, strike
from support.backends import REAL, chosen


@pytest.mark.slow
@pytest.mark.parametrize("backend", chosen(REAL))
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("seed", range(len(PHASES)))  # one in each phase, startup to shutdown
def test_nothing_accepted_is_lost_unsaid(seed: int, name: str, backend: str) -> None:
    """It ends in time and says how; each item is done, or named as left over."""
    outcome = strike(Moment(seed, backend, name))
    assert not outcome.wrong, outcome.text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "seed", "name", "finding"),
    [
        ("forgets", 1, "SIGINT", "lost unsaid"),
        ("silent", 1, "SIGINT", "lost unsaid"),
        ("wrong-status", 1, "SIGINT", "status 0, not one of"),
        ("hangs", 1, "SIGINT", "it did not end within"),
    ],
)
def test_a_broken_program_is_found(bug: str, seed: int, name: str, finding: str) -> None:
    """Planted in the real program: the first moment that shows it, of a few."""
    backend = chosen(REAL)[0]
    found: list[str] = []
    for one in range(seed, seed + 5 * len(PHASES), len(PHASES)):
        found += strike(Moment(one, backend, name, bug), latest=5).wrong
        if any(text.startswith(finding) for text in found):
            return
    raise AssertionError(f"{bug} was not found: {found}")


# --- the checks themselves -----------------------------------------------------------

MOMENT = Moment(1, "asyncio", "SIGINT")
GOOD = Outcome(
    MOMENT,
    status=130,
    lines=["ready", "+ a0", "+ a1", "- a0", "left a1", "flushed", "end", "exit 130"],
    stderr="",
    seconds=0.1,
    struck="- a0",
)


def wrong(outcome: Outcome) -> list[str]:
    outcome = replace(outcome, wrong=[])
    check(outcome)
    return outcome.wrong


def without(line: str) -> list[str]:
    return [one for one in GOOD.lines if one != line]


def test_a_good_end_is_good() -> None:
    """So that what follows differs from it in one thing only."""
    assert wrong(GOOD) == []
    assert wrong(replace(GOOD, moment=replace(MOMENT, signal="SIGTERM"), status=0)) != []


#: As asyncio says it on Python 3.11 and on 3.12.
STATUS = (
    "Unknown child process pid 8124, will report returncode 255\n"
    "child process pid 31179 exit status already read:  will report returncode 255\n"
)


def test_what_asyncio_says_of_a_status_is_no_complaint() -> None:
    """Those lines alone; what stands beside them is."""
    assert wrong(replace(GOOD, stderr=STATUS)) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"status": None}, "it did not end within 20 s"),
        ({"status": -2}, "status -2, not one of [130]"),
        ({"lines": without("exit 130")}, "it did not say how it ended"),
        ({"lines": without("left a1")}, "lost unsaid: ['a1']"),
        ({"lines": [*GOOD.lines, "- a0"]}, "done more than once: ['a0']"),
        ({"lines": [*GOOD.lines, "left a0"]}, "done, and yet named as left: ['a0']"),
        ({"lines": [*GOOD.lines, "- a7"]}, "never accepted: ['a7']"),
        ({"lines": without("flushed")}, "it never said 'flushed'"),
        ({"stderr": "Task exception was never retrieved"}, "it complained"),
        ({"stderr": f"{STATUS}Task exception was never retrieved"}, "it complained"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_thing_that_is_wrong_is_said(change: dict[str, object], finding: str) -> None:
    """One by one."""
    assert wrong(replace(GOOD, **change)) == [finding]  # type: ignore[arg-type]


def test_what_the_library_names_is_named() -> None:
    """An item that a queue gave away and nobody began is in the log."""
    outcome = replace(
        GOOD,
        lines=without("left a1"),
        stderr="imap(finish) ended early; pulled from the source and not begun: 'a1'\n",
    )
    assert wrong(outcome) == []


def test_a_signal_that_comes_too_late_changes_nothing() -> None:
    """The program had done all its items: it may end well, or die of it."""
    items = [f"a{number}" for number in range(ITEMS)]
    lines = ["ready", *(f"+ {i}" for i in items), *(f"- {i}" for i in items), "flushed", "end"]
    assert wrong(replace(GOOD, lines=[*lines, "exit 0"], status=0)) == []
    assert wrong(replace(GOOD, lines=lines, status=-2)) == []


def test_a_failure_can_be_replayed() -> None:
    """By one line."""
    assert MOMENT.replay == (
        "python -m tests.signals --backend asyncio --signal SIGINT --seed 1"
    )
