"""The pytest plugin: a task group that a fixture holds fails, and others are at work."""

from __future__ import annotations

import pytest

from support.small_projects import BACKENDS, SmallProject

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

_SERVER = """
    @pytest.fixture(scope="session")
    async def database():
        await ka.checkpoint()
        yield 1
        await ka.checkpoint()

    async def crash(after):
        await after.wait()
        raise OSError("address in use")

    @pytest.fixture
    async def stop():
        return ka.Event()

    @pytest.fixture
    async def server(stop):
        async with anyio.create_task_group() as group:
            group.start_soon(crash, stop)
            yield group
"""

_CONNECTS = (
    _SERVER
    + """
    @pytest.fixture
    async def client(server, stop):
        stop.set()
        await ka.sleep_forever()
        yield "never connected"

    async def test_before(database):
        await ka.checkpoint()

    async def test_client(client, database):
        await ka.checkpoint()

    async def test_after(database):
        await ka.checkpoint()
"""
)


def test_a_server_crashes_while_the_client_connects(project: SmallProject) -> None:
    """The setup says that it was cancelled, the teardown why, and other tests pass."""
    result = project.run(_CONNECTS, "--kingdom-timeout=30")
    result.assert_outcomes(passed=2 * BACKENDS, errors=2 * BACKENDS)
    shown = result.stdout.str()
    told = "Cancelled: the setup of the fixture 'client' was cancelled: a task group, or "
    assert shown.count(told) == BACKENDS
    assert shown.count("| OSError: address in use") == BACKENDS
    assert "ClosedResourceError" not in shown
    assert "AssertionError" not in shown


_SAYS_GOODBYE = (
    _SERVER
    + """
    @pytest.fixture
    async def client(server, stop):
        yield "connected"
        stop.set()
        await ka.sleep_forever()

    async def test_client(client):
        await ka.checkpoint()

    def test_other():
        pass
"""
)


def test_a_server_crashes_while_the_client_says_goodbye(project: SmallProject) -> None:
    """One error with both teardowns in it; pytest goes on, and ends with its summary."""
    result = project.run(_SAYS_GOODBYE, "--kingdom-timeout=30")
    result.assert_outcomes(passed=BACKENDS + 1, errors=BACKENDS)
    shown = result.stdout.str() + result.stderr.str()
    told = "Cancelled: the teardown of the fixture 'client' was cancelled: a task group, or "
    assert shown.count(told) == BACKENDS
    assert shown.count("| OSError: address in use") == BACKENDS
    assert "previous item was not torn down" not in shown


def test_it_crashes_beside_pytest_asyncio(project: SmallProject) -> None:
    """The same, where another plugin looks for async fixtures, too."""
    project.ini("asyncio_default_fixture_loop_scope = function")
    result = project.run(_SAYS_GOODBYE, plugins="pytest_asyncio.plugin")
    result.assert_outcomes(passed=BACKENDS + 1, errors=BACKENDS)
    assert result.stdout.str().count("| OSError: address in use") == BACKENDS


_WIDE = """
    @pytest.fixture(scope="module")
    async def crashed():
        async def crash():
            await ka.sleep(0.01)
            raise OSError("address in use")
        async with anyio.create_task_group() as group:
            group.start_soon(crash)
            yield group

    @pytest.fixture
    async def healthy():
        async with anyio.create_task_group() as group:
            await ka.checkpoint()
            yield group
            await ka.sleep(0.02)
            group.cancel_scope.cancel()
"""


_AFTER_IT = (
    _WIDE
    + """
    @pytest.fixture(scope="session")
    async def database():
        async with anyio.create_task_group() as group:
            yield group

    async def test_uses_it(database, crashed):
        await ka.sleep_forever()

    async def test_database(database, healthy):
        database.start_soon(ka.checkpoint)
        await ka.checkpoint()

    async def test_alone():
        await ka.checkpoint()

    async def test_healthy(healthy):
        healthy.start_soon(ka.checkpoint)
        await ka.checkpoint()

    async def test_crashes_itself(healthy):
        async def crash():
            raise LookupError("in the test's own group")
        healthy.start_soon(crash)
        await ka.sleep_forever()

    class TestWide:
        @pytest.fixture(scope="class")
        async def held(self):
            await ka.checkpoint()
            yield 7
            await ka.checkpoint()

        async def test_wide(self, held, healthy):
            await ka.checkpoint()
            assert held == 7

    async def test_uses_it_again(crashed, healthy):
        await ka.checkpoint()
"""
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tests_without_the_group_that_crashed(project: SmallProject, backend: str) -> None:
    """They pass, and what they set up comes to its end; those with it say what is open."""
    result = project.run(_AFTER_IT, "--kingdom-timeout=30", f"--kingdom-backends={backend}")
    # The last one: its own fixture is cancelled as well, and the module's is torn down.
    result.assert_outcomes(passed=4, failed=2, errors=3, deselected=7 * (BACKENDS - 1))
    shown = result.stdout.str()
    assert shown.count("raises that error (open: 'crashed', module scope)") == 2
    assert "has not ended" not in shown
    assert shown.count("| OSError: address in use") == 1


_MEANWHILE = (
    _WIDE
    + """
    async def test_sets_it_up(crashed):
        pass

    async def test_meanwhile(healthy):
        await ka.sleep(0.05)
"""
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_group_crashes_beside_a_test_without_it(project: SmallProject, backend: str) -> None:
    """That test passes, and so does the teardown of what it had set up before the crash."""
    result = project.run(_MEANWHILE, "--kingdom-timeout=30", f"--kingdom-backends={backend}")
    result.assert_outcomes(passed=2, errors=1, deselected=2 * (BACKENDS - 1))
    assert result.stdout.str().count("| OSError: address in use") == 1


_OUT_OF_ORDER = """
    @pytest.fixture(scope="module")
    async def first():
        await ka.checkpoint()
        yield 1
        await ka.checkpoint()

    @pytest.fixture(scope="session")
    async def database():
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()

    async def test_first(first):
        await ka.checkpoint()

    async def test_database(database):
        database.start_soon(ka.checkpoint)

    async def test_both(first, database):
        database.start_soon(ka.checkpoint)
"""


def test_a_wider_fixture_that_comes_later(project: SmallProject) -> None:
    """It outlives the one before it, and neither of them ends inside of the other's shield."""
    result = project.run(_OUT_OF_ORDER, "--kingdom-timeout=30")
    result.assert_outcomes(passed=3 * BACKENDS)
