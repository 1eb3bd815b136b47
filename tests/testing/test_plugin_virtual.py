"""The pytest plugin: tests on virtual time, and the loops that fixtures of others hold."""

from __future__ import annotations

import pytest

from support.small_projects import BACKENDS, MIXED, VIRTUAL, SmallProject

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

_WIDE_SERVER = """
@pytest.fixture(scope="module")
async def server():
    yield 8080

async def test_wide(server, virtual_clock):
    pass

def test_sync(virtual_clock):
    pass
"""


def test_virtual_clock_says_where_it_cannot_be(project: SmallProject) -> None:
    """Under a fixture of a wider scope, and in an ordinary test."""
    result = project.run(_WIDE_SERVER)
    result.assert_outcomes(failed=2 * VIRTUAL, deselected=2 * (BACKENDS - VIRTUAL))
    result.stdout.fnmatch_lines_random(
        [
            (
                "virtual_clock: this test runs on real time, since the async fixture 'server' "
                "(module scope) holds an ordinary loop; give the fixture function scope, or "
                "leave virtual_clock out and call run_virtual() in an ordinary test"
            ),
            (
                "virtual_clock: test_sync?trio-virtual? is not run by anyio's plugin; make it "
                "an async function with @pytest.mark.anyio, or set anyio_mode = auto"
            ),
        ]
    )


def test_virtual_clock_on_any_anyio_backend(project: SmallProject) -> None:
    """A project may keep anyio's own fixture."""
    project.conftest("")
    result = project.run(MIXED)
    result.assert_outcomes(passed=2 + 2 + 1)


def test_anyios_own_uvloop_has_no_virtual_time(project: SmallProject) -> None:
    """It is deselected, as ours is, and does not run on another loop than it says."""
    source = """
    @pytest.mark.parametrize(
        "anyio_backend", ["trio", "asyncio", ("asyncio", {"use_uvloop": True})]
    )
    @pytest.mark.anyio
    async def test_year(anyio_backend, virtual_clock):
        await ka.sleep(365 * 86400)
    """
    result = project.run(source)
    result.assert_outcomes(passed=2, deselected=1)


_HELD = """
    @pytest.fixture(scope="session")
    async def held():
        before = ka.current_backend()
        async with ka.TaskGroup() as group:
            group.start_soon(ka.sleep_forever)
            yield group
            await ka.sleep(0)
            group.cancel()
        assert ka.current_backend() == before

    @pytest.fixture
    async def shop():
        async with ka.TaskGroup() as group:
            yield group
            await ka.sleep(3600)

    @pytest.fixture
    async def opened():
        await ka.sleep(60)
        return ka.current_time()

    async def test_before(held):
        held.start_soon(ka.checkpoint)
        await ka.sleep(0.001)

    async def test_a_year(shop, opened, virtual_clock, no_leaks):
        shop.start_soon(ka.sleep, 5)
        await ka.sleep(365 * 86400)
        assert opened == 60 and virtual_clock.now == 60 + 365 * 86400
        await ka.offload(int)

    async def test_between(held):
        begun = time.monotonic()
        held.start_soon(ka.checkpoint)
        await ka.sleep(0.05)
        assert time.monotonic() - begun > 0.04

    def test_ordinary():
        anyio.run(ka.checkpoint, backend="trio")

    async def test_a_deadlock(virtual_clock):
        with pytest.raises(anyio.get_cancelled_exc_class()):
            await ka.Event().wait()

    async def test_an_hour(shop, virtual_clock):
        await ka.sleep(3600)
"""


def test_virtual_time_beside_the_loop_of_another_test(project: SmallProject) -> None:
    """It does not depend on the order of tests; the fixture goes on as before, and ends."""
    result = project.run(_HELD, "--kingdom-timeout=30")
    result.assert_outcomes(
        passed=2 * BACKENDS + 1 + 2 * VIRTUAL,
        failed=VIRTUAL,
        deselected=3 * (BACKENDS - VIRTUAL),
    )
    assert result.stdout.str().count("Deadlock: deadlock: every task waits") == VIRTUAL


_STUCK = """
    from kingdom_async.testing.plugin import guard
    guard._STEP = 0.3

    @pytest.fixture(scope="module")
    async def held():
        yield
        await ka.sleep_forever()

    async def test_before(held):
        pass

    async def test_a_year(virtual_clock):
        await ka.sleep(365 * 86400)
"""


def test_the_guard_ends_what_another_test_has_left(project: SmallProject) -> None:
    """Its fixture hangs on real time while the last test, on virtual time, is torn down."""
    result = project.run(_STUCK, "--kingdom-timeout=1", "--kingdom-backends=trio")
    result.assert_outcomes(passed=2, errors=1, deselected=2 * (BACKENDS - 1))
    told = "E*TookTooLong: the teardown of test_a_year?trio-virtual? has not ended after 1 s*"
    result.stdout.fnmatch_lines([told, "E*in held: await ka.sleep_forever()*"])
