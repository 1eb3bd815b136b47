"""The pytest plugin beside others, beside ordinary tests, and where nobody uses it."""

from __future__ import annotations

import pytest

from support.small_projects import BACKENDS, MIXED, VIRTUAL, SmallProject

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

_PYTEST_ASYNCIO = "pytest_asyncio.plugin"
_LOOP_SCOPE = "asyncio_default_fixture_loop_scope = function"  # else it warns


@pytest.mark.parametrize("plugins", ["", None], ids=["alone", "beside all that is installed"])
def test_every_backend_and_virtual_time(project: SmallProject, plugins: str | None) -> None:
    """A test runs on each backend, and on virtual time on those that have it.

    Beside pytest-asyncio as well, and where pytest itself finds our plugin.
    """
    if plugins is None:
        project.ini(_LOOP_SCOPE)
    result = project.run(MIXED, "-v", plugins=plugins)
    result.assert_outcomes(passed=BACKENDS + VIRTUAL + 1, deselected=BACKENDS - VIRTUAL)
    result.stdout.fnmatch_lines_random(["*test_a_year?trio-virtual? PASSED*"])


def test_under_xdist(project: SmallProject) -> None:
    """Each worker has the plugin for itself."""
    result = project.run(MIXED, "-n", "2", plugins="xdist")
    result.assert_outcomes(passed=BACKENDS + VIRTUAL + 1)


def test_with_pytest_asyncio_running_its_own(project: SmallProject) -> None:
    """Tests of pytest-asyncio are its own, also in a project that uses these fixtures."""
    project.ini(_LOOP_SCOPE, mode="strict")
    source = """
    import asyncio
    @pytest.fixture
    async def held(anyio_backend):
        async with ka.TaskGroup() as group:
            yield group
    @pytest.mark.anyio
    async def test_ours(held):
        held.start_soon(ka.checkpoint)
    @pytest.mark.asyncio
    async def test_theirs():
        assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")
    """
    result = project.run(source, plugins=_PYTEST_ASYNCIO)
    result.assert_outcomes(passed=BACKENDS + 1)


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


def test_beside_pytest_asyncio_in_auto_mode(project: SmallProject) -> None:
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
    project.ini("asyncio_mode = auto", _LOOP_SCOPE, mode="strict")
    result = project.run(source, plugins=_PYTEST_ASYNCIO)
    result.assert_outcomes(passed=2 + 1 + 2 * BACKENDS + 2, deselected=BACKENDS - 2)


def test_beside_pytest_asyncio_in_strict_mode(project: SmallProject) -> None:
    """The same file: marked tests are ours, and those of pytest-asyncio have its mark."""
    source = _MARKED.replace("async def test_of", "@pytest.mark.asyncio\n    async def test_of")
    project.ini("asyncio_mode = strict", _LOOP_SCOPE, mode="strict")
    result = project.run(source, plugins=_PYTEST_ASYNCIO)
    result.assert_outcomes(passed=2 + 1, deselected=BACKENDS - 2)


def test_what_pytest_asyncio_runs_has_what_needs_no_plugin(project: SmallProject) -> None:
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
    options = "--kingdom-timeout=1", "--kingdom-trace=life", "--kingdom-backends=asyncio"
    project.ini(_LOOP_SCOPE, mode="strict")
    result = project.run(source, *options, "-W", "ignore", plugins=_PYTEST_ASYNCIO)
    result.assert_outcomes(failed=3, deselected=BACKENDS - 1)
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


def test_tools_in_a_test_of_pytest_asyncio(project: SmallProject) -> None:
    """It is told to be an ordinary function; another mark would lead to another error."""
    source = """
    @pytest.mark.asyncio
    async def test_tools(cancel_everywhere, explore):
        pass
    """
    project.ini(_LOOP_SCOPE, mode="strict")
    result = project.run(source, "--kingdom-backends=asyncio", plugins=_PYTEST_ASYNCIO)
    result.assert_outcomes(failed=1, deselected=BACKENDS - 1)
    told = (
        "test_tools?asyncio? is run by pytest-asyncio, as its mark says, and cancel_everywhere "
        "and explore can only work in an ordinary function, as loops are started there; write "
        "def in place of async def, without a mark, and give it an async function that is the "
        "body"
    )
    result.stdout.fnmatch_lines([told])


def test_ordinary_tests_beside_a_wide_fixture(project: SmallProject) -> None:
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
    result = project.run(source)
    result.assert_outcomes(passed=(1 + 1 + 2 + 1 + 1) * BACKENDS)


def test_a_project_that_does_not_use_it(project: SmallProject) -> None:
    """It imports nothing of ours, its own fixture is its own, and no test is guarded."""
    project.conftest("")
    result = project.run(
        """
import sys, threading
async def test_it():
    assert not [name for name in sys.modules if name.startswith("kingdom_async.testing")]
    assert "kingdom_async guard" not in [each.name for each in threading.enumerate()]
"""
    )
    result.assert_outcomes(passed=2)


_LIGHT = """
import sys
def pytest_sessionfinish(session):
    ours = sorted(name for name in sys.modules if name.split(".")[0] == "kingdom_async")
    print("\\nOURS:", ours)
"""


def test_only_installed_it_costs_nothing(project: SmallProject) -> None:
    """The package itself is not imported."""
    project.conftest(_LIGHT)
    options = ("-s", "-p", "no:asyncio")
    result = project.run("def test_it(): pass", *options, plugins=None, uses_it=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["OURS: ??"])
