"""The pytest plugin: what is said of a test that fails or hangs; and the others go on."""

from __future__ import annotations

import re

import pytest

from support.small_projects import BACKENDS, VIRTUAL, SmallProject

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow


_HANGS = """
async def test_hangs():
    async def inner():
        await ka.sleep_forever()
    async with ka.TaskGroup() as group:
        group.start_soon(inner)

async def test_blocks():
    time.sleep(60)

async def test_behind_a_shield():
    with ka.CancelScope(shield=True):
        await ka.sleep_forever()

@pytest.fixture
async def stuck():
    yield
    await ka.sleep_forever()

async def test_stuck(stuck):
    pass

async def test_after():
    await ka.checkpoint()
"""


#: The guard goes from one means to the next sooner than in real use.
_SOON = """
from kingdom_async.testing.plugin import guard
guard._STEP = 0.3
"""


def test_the_guard_ends_what_hangs(project: SmallProject) -> None:
    """Waiting, blocking, shielded, or in a fixture: it fails, and the rest runs."""
    result = project.run(f"{_SOON}{_HANGS}", "--kingdom-timeout=1")
    result.assert_outcomes(passed=2 * BACKENDS, failed=3 * BACKENDS, errors=BACKENDS)
    result.stdout.fnmatch_lines_random(
        [
            (
                "E*TookTooLong: test_hangs?trio? has not ended after 1 s of real time "
                "(kingdom_timeout); it is here:"
            ),
            "E*test_hangs.<locals>.inner*await ka.sleep_forever()*",
            "*time.sleep(60)*",
            "E*the teardown of test_stuck?trio? has not ended after 1 s of real time*",
        ]
    )


_FOR_EVER = """
    from kingdom_async.testing.plugin import guard
    guard._STEP = 0.3

    async def for_ever():
        async with ka.TaskGroup() as group:
            group.start_soon(ka.sleep_forever)
            while True:
                await ka.checkpoint()

    def test_explored(every_backend, explore):
        explore(for_ever)

    def test_run(every_backend):
        anyio.run(for_ever, backend=every_backend[0], backend_options=every_backend[1])

    def test_run_of_ours(every_backend):
        async def behind_a_shield():
            with ka.CancelScope(shield=True):
                await ka.sleep_forever()
        ka.run(behind_a_shield, backend="trio" if every_backend[0] == "trio" else "asyncio")

    async def test_after():
        await ka.checkpoint()
"""


def test_an_ordinary_test_whose_loops_do_not_end(project: SmallProject) -> None:
    """It fails on each backend, and the others go on; uvloop swallowed what was to end it."""
    result = project.run(_FOR_EVER, "--kingdom-timeout=1")
    result.assert_outcomes(failed=3 * BACKENDS, passed=BACKENDS)
    shown = result.stdout.str()
    assert shown.count("TookTooLong: ") >= 3 * BACKENDS
    assert "Exception ignored" not in shown + result.stderr.str()


_NEVER = """
    from kingdom_async.testing.plugin import guard
    guard._STEP, guard._TRIES = 0.2, 2

    def test_never_ends():
        while True:
            try:
                __import__("time").sleep(60)
            except BaseException:
                pass
"""


def test_the_last_words_are_seen(project: SmallProject) -> None:
    """Where nothing ends a test the process ends, and says so past pytest's capturing."""
    result = project.run(_NEVER, "--kingdom-timeout=0.5")
    assert result.ret == 70
    result.stderr.fnmatch_lines(
        [
            "test_never_ends has not ended after 0.5 s of real time (kingdom_timeout); it is *",
            "Nothing ends it, so this process ends.",
        ]
    )


_SLOW = """
    async def naps():
        await ka.sleep(0.01)

    def test_explored():
        from kingdom_async.testing import explore
        explore(naps, seeds=10_000, backend="asyncio+uvloop").raise_if_failed()
"""


@pytest.mark.skipif(BACKENDS < 3, reason="elsewhere time is virtual")
def test_of_many_runs_the_one_is_told_that_it_is_in(project: SmallProject) -> None:
    """So that much work is told from a run that hangs; and no line of pytest's is shown."""
    result = project.run(_SLOW, "--kingdom-timeout=3")
    result.assert_outcomes(failed=1)
    told = "E*TookTooLong: test_explored has not ended after 3 s of real time *; it is here"
    result.stdout.fnmatch_lines([f"{told}, in run *:", "E*, in test_explored"])
    result.stdout.no_fnmatch_line("E*_pytest*")


_FAILS = """
async def fetch(number):
    if number == 2:
        raise LookupError(number)
    await ka.sleep(100)

async def test_fails():
    async with ka.TaskGroup() as group:
        for number in range(4):
            group.start_soon(fetch, number)
"""


def test_the_trace_of_a_failing_test(project: SmallProject) -> None:
    """Beside its traceback: what became of each task, and why."""
    result = project.run(_FAILS, "--kingdom-trace=life")
    result.assert_outcomes(failed=BACKENDS)
    result.stdout.fnmatch_lines_random(
        [
            "*kingdom_async: task tree at the failure*",
            "*kingdom_async: last tasks recorded*",
            "*test*fetch · error LookupError · *spawned at * in test_fails*",
            "*test*fetch · cancelled · cancelled by task *fetch' failed: LookupError*",
            "test_fails?asyncio? *",  # the task itself, in the tree
            "test_fails?trio? *",
        ]
    )
    assert "last tasks recorded" not in project.run(_FAILS).stdout.str()


_OWN_RECORDING = """
    from kingdom_async.trace import recording

    async def slow():
        time.sleep(0.2)
        await ka.checkpoint()

    async def test_fails():
        with recording("steps"):
            async with ka.TaskGroup() as group:
                group.start_soon(slow)
        assert False, "the end"
"""


def test_a_recording_of_the_test_beside_ours(project: SmallProject) -> None:
    """Each lint is logged once, and the tree has the line of the test that failed."""
    result = project.run(_OWN_RECORDING, "--kingdom-trace=steps")
    result.assert_outcomes(failed=BACKENDS)
    shown = result.stdout.str()
    assert shown.count("lint long-step: ") == BACKENDS
    assert len(re.findall("^WARNING.*long-step: ", shown, re.M)) == BACKENDS
    assert len(re.findall(r" · failed at \S+.py:\d+ in test_fails", shown)) == BACKENDS


_LEAVES = """
    async def test_leaves_a_token(no_leaks):
        await ka.Limiter(1, name="pool").acquire()

    async def test_explores(explore):
        explore(test_leaves_a_token)
"""


def test_no_line_of_ours_in_the_tree_of_a_test_that_failed(project: SmallProject) -> None:
    """Neither where the test itself has ended, nor where it called a tool."""
    options = ("--kingdom-trace=life", "--kingdom-backends=trio")
    result = project.run(_LEAVES, *options)
    result.assert_outcomes(failed=2)
    shown = result.stdout.str()
    assert "idle.py" not in shown
    assert len(re.findall(r" · failed at \S+.py:\d+ in test_explores", shown)) == 1


_DEADLOCKS = """
async def test_deadlock(virtual_clock):
    async def waits_in_vain():
        await ka.Event().wait()
    async with ka.TaskGroup() as group:
        group.start_soon(waits_in_vain)

async def test_behind_a_shield(virtual_clock):
    with ka.CancelScope(shield=True):
        await ka.sleep_forever()

@pytest.fixture
async def stuck():
    await ka.sleep_forever()

async def test_in_a_fixture(stuck, virtual_clock):
    pass

async def test_after(virtual_clock):
    await ka.sleep(86400)
"""


def test_a_deadlock_on_virtual_time_fails_the_test(project: SmallProject) -> None:
    """With the task tree; behind a shield too, and in a fixture; the next test is fine."""
    result = project.run(_DEADLOCKS)
    result.assert_outcomes(
        passed=VIRTUAL,
        failed=2 * VIRTUAL,
        errors=VIRTUAL,
        deselected=4 * (BACKENDS - VIRTUAL),
    )
    result.stdout.fnmatch_lines_random(
        [
            "E*Deadlock: deadlock: every task waits, and nothing is left that could wake one*",
            "E*test_deadlock.<locals>.waits_in_vain*await ka.Event().wait()*",
        ]
    )


_FOUND = """
    async def test_waits(virtual_clock):
        await ka.Event().wait()

    async def test_leaks(anyio_backend, no_leaks):
        global stream
        stream = anyio.create_memory_object_stream(1)
"""


def test_what_the_tools_find_is_told_without_their_own_lines(project: SmallProject) -> None:
    """No line of anyio, of an event loop or of contextlib is in such a failure."""
    options = ("-W", "ignore", "--kingdom-backends=asyncio,trio")
    result = project.run(_FOUND, *options)
    result.assert_outcomes(failed=4, deselected=2 * (BACKENDS - 2))
    shown = result.stdout.str()
    assert shown.count("raise error.with_traceback(None)") == 4
    for other in ("contextlib.py", "_asyncio.py:2", "base_events.py", "outcome"):
        assert f"{other}: in " not in shown
        assert f"{other}:1" not in shown
