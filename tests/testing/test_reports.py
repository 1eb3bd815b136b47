"""What a report says, so that its reader has the shortest way to the bug."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import kingdom_async as ka
from kingdom_async.testing import Failure, Report, cancel_everywhere, explore


def _failing(seeds: range, says: str) -> list[Failure]:
    return [Failure(f"explore(body, seeds=[{n}])", AssertionError(says), seed=n) for n in seeds]


def test_failures_that_are_alike_are_told_once() -> None:
    """The first in full, with its replay; of the others the numbers."""
    report = Report("explore(body)", "trio", points=40, injected=40)
    report.failures = [
        *_failing(range(3, 5), "lost\nmore of it"),
        *_failing(range(20, 40), "late"),
    ]
    assert str(report).splitlines() == [
        "explore(body) on trio: 40 of 40 points, 22 failed",
        "seed 3: AssertionError: lost",
        "  more of it",
        "  replay: explore(body, seeds=[3])",
        "  … and 1 like it: seed 4",
        "seed 20: AssertionError: late",
        "  replay: explore(body, seeds=[20])",
        "  … and 19 like it: seeds 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, …",
    ]


def test_what_differs_from_run_to_run_makes_no_other_bug() -> None:
    """Addresses, and the numbers of tasks and threads without a name; no other number."""
    report = Report("explore(body)", "trio")
    for seed, says in enumerate(["<Lock at 0x7f1dad496bc0>", "task 'Task-3 (f)'", "0x3f"]):
        changed = says.replace("96bc0", "d49af").replace("3", "4")
        report.failures += _failing(range(seed, seed + 1), says)
        report.failures += _failing(range(seed + 10, seed + 11), changed)
    assert str(report).count("and 1 like it") == 2
    assert str(report).count("replay: ") == 4


def test_many_kinds_of_failures_are_cut_short() -> None:
    """Ten are printed, and how many more there are is said."""
    report = Report("explore(body)", "trio")
    for number in range(12):
        report.failures += _failing(range(number, number + 2), f"the {number}th")
    assert str(report).count("replay: ") == 10
    assert str(report).endswith("… and 4 more, in report.failures")


def test_schedules_that_fail_alike_are_counted() -> None:
    """They are tuples, and have no number."""
    report = Report("explore(body)", "trio")
    report.failures = [Failure("explore(body)", ValueError("x")) for _ in range(3)]
    assert str(report).endswith("  … and 2 like it, in report.failures")


def test_a_run_that_fails_in_several_ways_is_one_that_failed() -> None:
    """So never more fail than there were."""
    report = Report("explore(body)", "trio", points=1, injected=1)
    report.failures = [*_failing(range(1), "lost"), *_failing(range(1), "held")]
    assert str(report).startswith("explore(body) on trio: 1 of 1 points, 1 failed\n")


def test_a_replay_can_be_pasted_into_the_test() -> None:
    """A function is called what it is called there, and not by its qualified name."""

    async def body() -> None:
        await ka.checkpoint()

    def check() -> None:
        raise ValueError("never right")

    report = cancel_everywhere(body, backend="trio", check=check, raises=LookupError)
    call = "cancel_everywhere(body, backend='trio', check=check, raises=LookupError, only=1)"
    assert report.failures[-1].replay == call
    report = explore(body, backend="trio", check=check, seeds=1)
    assert report.failures[0].replay == "explore(body, seeds=[0], backend='trio', check=check)"


def test_the_place_of_a_hang_is_no_line_of_ours() -> None:
    """It was one of the tool's own."""
    report = explore(ka.sleep_forever, seeds=1, backend="asyncio")
    assert [one.place for one in report.failures] == [""]


@pytest.mark.parametrize("tool", [explore, cancel_everywhere])
def test_what_each_run_logs_is_told_once(tool: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With how often it was said, when the runs are over; what was said once as it was."""
    runs = 0

    async def body() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            logging.getLogger("kingdom_async").warning("said %s", "once")
        queue = ka.Queue[int](2)
        await queue.put(1)
        queue.discard()
        await ka.checkpoint()
        await ka.checkpoint()

    report = tool(body)
    assert runs > 2
    assert caplog.messages == [
        f"Queue: 1 item was put and never taken ({runs} times in the runs of {report.call})",
        "said once",
    ]


def test_a_deadlock_ends_with_the_tree() -> None:
    """And not with how a program is recorded, as the tree does elsewhere."""
    report = explore(ka.sleep_forever, seeds=1, backend="asyncio")
    last = str(report.failures[0].error).splitlines()[-1]
    assert " · waiting" in last
