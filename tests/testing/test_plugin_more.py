"""The pytest plugin beside others, in small projects of its own."""

from __future__ import annotations

import re
from importlib.util import find_spec
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

_CONFTEST = """
from kingdom_async.pytest_plugin import every_backend
anyio_backend = every_backend
"""
_HEAD = """
import asyncio, anyio, pytest
import kingdom_async as ka
"""
_BACKENDS = 3 if find_spec("uvloop") else 2


def _run(pytester: pytest.Pytester, ini: str, source: str, *options: str) -> pytest.RunResult:
    pytester.makeconftest(_CONFTEST)
    pytester.makefile(".ini", pytest=f"[pytest]\nfilterwarnings = error\n{dedent(ini)}")
    pytester.makepyfile(_HEAD + dedent(source))
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=90)


_MARKED = """
    @pytest.fixture
    async def held(anyio_backend):
        async with ka.TaskGroup() as group:
            yield group

    @pytest.mark.anyio
    async def test_ours(held, virtual_clock, no_leaks):
        await ka.sleep(3600)
        assert virtual_clock.now >= 3600

    async def test_of_the_plugin_in_auto_mode():
        assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")
"""
_AUTO = """
    asyncio_mode = auto
    asyncio_default_fixture_loop_scope = function
"""


def test_beside_pytest_asyncio_in_auto_mode(pytester: pytest.Pytester) -> None:
    """It takes all async tests and fixtures, and ours are taken back, each on its backend."""
    source = (
        _MARKED
        + """
    from hypothesis import given, strategies

    @pytest.fixture(scope="{scope}")
    async def wide():
        async with anyio.create_task_group() as group:
            yield group

    @pytest.fixture
    async def plain():
        return ka.current_backend()

    class TestInAClass:
        @pytest.fixture
        async def own(self):
            yield self

        @pytest.mark.anyio
        async def test_backend(self, anyio_backend_name, plain, own, wide):
            assert plain.startswith(anyio_backend_name)
            assert plain == ka.current_backend() and type(own) is type(self)
            wide.start_soon(ka.checkpoint)

    @pytest.mark.anyio
    @given(number=strategies.integers(0, 3))
    async def test_given(number, anyio_backend):
        assert ka.current_backend().startswith(anyio_backend[0])

    async def test_theirs(plain, no_leaks, kingdom_seed):
        assert plain == "asyncio"

    @pytest.fixture
    async def theirs():
        yield asyncio.get_running_loop()

    async def test_their_fixture(theirs):
        assert theirs is asyncio.get_running_loop()
    """.replace("{scope}", "module")
    )
    result = _run(pytester, _AUTO, source)
    result.assert_outcomes(passed=2 + 1 + 2 * _BACKENDS + 2, deselected=_BACKENDS - 2)


def test_ordinary_tests_beside_a_wide_fixture(pytester: pytest.Pytester) -> None:
    """Its loop is still there, and stands still: others may be started meanwhile."""
    source = """
    @pytest.fixture(scope="module")
    async def held(anyio_backend):
        async with anyio.create_task_group() as group:
            yield group

    @pytest.mark.anyio
    async def test_before(held):
        held.start_soon(ka.checkpoint)

    async def body():
        await ka.checkpoint()

    def test_tools(explore, cancel_everywhere):
        explore(body, seeds=3)
        cancel_everywhere(body)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_loops_of_its_own(backend, every_backend):
        ka.run(body, backend=backend)
        anyio.run(body, backend=backend)
        from kingdom_async.testing import run_virtual
        run_virtual(body, backend=backend)

    @pytest.fixture
    async def late(held, anyio_backend):
        await ka.checkpoint()
        yield ka.current_backend()
        await ka.checkpoint()

    def test_asked_for_while_it_runs(request, anyio_backend):
        assert request.getfixturevalue("late").startswith(anyio_backend[0])
        anyio.run(body, backend="trio")

    @pytest.mark.anyio
    async def test_still_there(held):
        event = anyio.Event()
        async def wake():
            event.set()
        held.start_soon(wake)
        await event.wait()
        await ka.offload(int)
    """
    result = _run(pytester, "", source, "-p", "no:asyncio")
    result.assert_outcomes(passed=(1 + 1 + 2 + 1 + 1) * _BACKENDS)


def test_what_pytest_asyncio_runs_has_what_needs_no_plugin(pytester: pytest.Pytester) -> None:
    """No leaks, the guard and the trace; what needs anyio's says so."""
    source = """
    @pytest.mark.asyncio
    async def test_leaks(no_leaks):
        asyncio.create_task(asyncio.sleep(0.5), name="left")

    @pytest.mark.asyncio
    async def test_hangs():
        async with asyncio.TaskGroup() if hasattr(asyncio, "TaskGroup") else ka.TaskGroup():
            await asyncio.sleep(60)

    @pytest.mark.asyncio
    async def test_ours(virtual_clock, kingdom_seed):
        pass
    """
    ini = "asyncio_default_fixture_loop_scope = function"
    options = "--kingdom-timeout=1", "--kingdom-trace=life", "--kingdom-backends=asyncio"
    result = _run(pytester, ini, source, *options, "-W", "ignore")
    result.assert_outcomes(failed=3, deselected=_BACKENDS - 1)
    result.stdout.fnmatch_lines_random(
        [
            "*task 'left', *",
            "*TookTooLong: test_hangs has not ended after 1 s of real time*",
            "*kingdom_async: task tree at the failure*",
            "*test_hangs*await asyncio.sleep(60)*",
            (
                "test_ours?asyncio-virtual? is run by pytest-asyncio, as its mark says, and "
                "every_backend and virtual_clock can only work where anyio's plugin runs the "
                "test; write @pytest.mark.anyio in place of @pytest.mark.asyncio"
            ),
        ]
    )


def test_a_list_of_backends_in_toml(pytester: pytest.Pytester) -> None:
    """As TOML writes it, beside a number."""
    pytester.makeconftest(_CONFTEST)
    pytester.makepyprojecttoml(
        """
        [tool.pytest.ini_options]
        anyio_mode = "auto"
        kingdom_backends = ["asyncio", "trio"]
        kingdom_timeout = 30
        """
    )
    pytester.makepyfile(
        f"{_HEAD}async def test_it(anyio_backend):\n    await ka.checkpoint()\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    result.assert_outcomes(passed=2, deselected=_BACKENDS - 2)


def test_anyios_own_uvloop_has_no_virtual_time(pytester: pytest.Pytester) -> None:
    """It is deselected, as ours is, and does not run on another loop than it says."""
    source = """
    @pytest.mark.parametrize(
        "anyio_backend", ["trio", "asyncio", ("asyncio", {"use_uvloop": True})]
    )
    @pytest.mark.anyio
    async def test_year(anyio_backend, virtual_clock):
        await ka.sleep(365 * 86400)
    """
    result = _run(pytester, "", source, "-p", "no:asyncio")
    result.assert_outcomes(passed=2, deselected=1)


def test_beside_pytest_asyncio_in_strict_mode(pytester: pytest.Pytester) -> None:
    """The same file: marked tests are ours, and those of pytest-asyncio have its mark."""
    ini = """
    asyncio_mode = strict
    asyncio_default_fixture_loop_scope = function
    """
    source = _MARKED.replace("async def test_of", "@pytest.mark.asyncio\n    async def test_of")
    result = _run(pytester, ini, source)
    result.assert_outcomes(passed=2 + 1, deselected=_BACKENDS - 2)


_WIDE = """
    @pytest.fixture(scope="{scope}")
    async def number():
        await ka.checkpoint()
        return 7

    @pytest.fixture(scope="{scope}")
    async def held(number):
        async with ka.TaskGroup() as group:
            group.start_soon(ka.sleep_forever)
            yield group
            group.cancel()

    async def crash():
        raise LookupError("in the background")

    async def test_fine(held, number):
        held.start_soon(ka.checkpoint)
        assert number == 7

    async def test_crash(held):
        held.start_soon(crash)
        await ka.sleep_forever()
"""


@pytest.mark.parametrize(
    ("scope", "options"),
    [("class", ""), ("module", ""), ("session", "-n 1")],
    ids=["class", "module", "session, under xdist"],
)
def test_a_crash_in_a_wide_fixture(pytester: pytest.Pytester, scope: str, options: str) -> None:
    """The test fails, the teardown says why, and nothing hangs (anyio#805, worst on trio)."""
    source = _WIDE.replace("{scope}", scope)
    given = ["-p", "no:asyncio", "--kingdom-timeout=30", "--kingdom-backends=trio"]
    result = _run(pytester, "anyio_mode = auto", source, *given, *options.split())
    result.assert_outcomes(
        passed=1, failed=1, errors=1, deselected=0 if options else 2 * (_BACKENDS - 1)
    )
    result.stdout.fnmatch_lines_random(["*LookupError: in the background"])
    assert "has not ended" not in result.stdout.str()


_DEADLOCK = """
    async def test_waits(virtual_clock):
        await ka.Event().wait()

    async def test_leaks(anyio_backend, no_leaks):
        global stream
        stream = anyio.create_memory_object_stream(1)
"""


def test_what_the_tools_find_is_told_without_their_own_lines(pytester: pytest.Pytester) -> None:
    """No line of anyio, of an event loop or of contextlib is in such a failure."""
    options = ("-p", "no:asyncio", "-W", "ignore", "--kingdom-backends=asyncio,trio")
    result = _run(pytester, "anyio_mode = auto", _DEADLOCK, *options)
    result.assert_outcomes(failed=4, deselected=2 * (_BACKENDS - 2))
    shown = result.stdout.str()
    assert shown.count("raise error.with_traceback(None)") == 4
    for other in ("contextlib.py", "_asyncio.py:2", "base_events.py", "outcome"):
        assert f"{other}: in " not in shown
        assert f"{other}:1" not in shown


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


def test_the_last_words_are_seen(pytester: pytest.Pytester) -> None:
    """Where nothing ends a test the process ends, and says so past pytest's capturing."""
    result = _run(pytester, "", _NEVER, "-p", "no:asyncio", "--kingdom-timeout=0.5")
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


@pytest.mark.skipif(_BACKENDS < 3, reason="elsewhere time is virtual")
def test_of_many_runs_the_one_is_told_that_it_is_in(pytester: pytest.Pytester) -> None:
    """So that much work is told from a run that hangs; and no line of pytest's is shown."""
    result = _run(pytester, "", _SLOW, "-p", "no:asyncio", "--kingdom-timeout=3")
    result.assert_outcomes(failed=1)
    told = "E*TookTooLong: test_explored has not ended after 3 s of real time *; it is here"
    result.stdout.fnmatch_lines([f"{told}, in run *:", "E*, in test_explored"])
    result.stdout.no_fnmatch_line("E*_pytest*")


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


def test_an_ordinary_test_whose_loops_do_not_end(pytester: pytest.Pytester) -> None:
    """It fails on each backend, and the others go on; uvloop swallowed what was to end it."""
    options = ("-p", "no:asyncio", "--kingdom-timeout=1")
    result = _run(pytester, "anyio_mode = auto", _FOR_EVER, *options)
    result.assert_outcomes(failed=3 * _BACKENDS, passed=_BACKENDS)
    shown = result.stdout.str()
    assert shown.count("TookTooLong: ") >= 3 * _BACKENDS
    assert "Exception ignored" not in shown + result.stderr.str()


_BY_NAME = """
    async def test_by_name(every_backend):
        assert ka.current_backend().replace("+uvloop", "") == every_backend[0]

    def test_explored(explore):
        print("explored on", explore(ka.checkpoint, seeds=2).backend)

    def test_cancelled(anyio_backend, cancel_everywhere):
        print("cancelled on", cancel_everywhere(ka.checkpoint).backend)
"""


def test_each_test_has_one_backend(pytester: pytest.Pytester) -> None:
    """Once on each, by whatever names it is asked for, and where a tool alone is asked for."""
    options = ("-p", "no:asyncio", "-v", "-s")
    result = _run(pytester, "anyio_mode = auto", _BY_NAME, *options)
    result.assert_outcomes(passed=3 * _BACKENDS)
    for backend in ("asyncio", "trio"):
        result.stdout.fnmatch_lines_random(
            [
                f"*::test_by_name?{backend}-{backend}?*PASSED*",
                f"*::test_explored?{backend}?*explored on {backend}",
                f"*cancelled on {backend}",
            ]
        )


_OWN_RECORDING = """
    import time
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


def test_a_recording_of_the_test_beside_ours(pytester: pytest.Pytester) -> None:
    """Each lint is logged once, and the tree has the line of the test that failed."""
    options = ("-p", "no:asyncio", "--kingdom-trace=steps")
    result = _run(pytester, "anyio_mode = auto", _OWN_RECORDING, *options)
    result.assert_outcomes(failed=_BACKENDS)
    shown = result.stdout.str()
    assert shown.count("lint long-step: ") == _BACKENDS
    assert len(re.findall("^WARNING.*long-step: ", shown, re.M)) == _BACKENDS
    assert len(re.findall(r" · failed at \S+.py:\d+ in test_fails", shown)) == _BACKENDS


_LEAVES = """
    async def test_leaves_a_token(no_leaks):
        await ka.Limiter(1, name="pool").acquire()

    async def test_explores(explore):
        explore(test_leaves_a_token)
"""


def test_no_line_of_ours_in_the_tree_of_a_test_that_failed(pytester: pytest.Pytester) -> None:
    """Neither where the test itself has ended, nor where it called a tool."""
    options = ("-p", "no:asyncio", "--kingdom-trace=life", "--kingdom-backends=trio")
    result = _run(pytester, "anyio_mode = auto", _LEAVES, *options)
    result.assert_outcomes(failed=2)
    shown = result.stdout.str()
    assert "idle.py" not in shown
    assert len(re.findall(r" · failed at \S+.py:\d+ in test_explores", shown)) == 1
