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
