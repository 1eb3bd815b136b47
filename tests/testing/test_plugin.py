"""The pytest plugin: backends, virtual time, fixtures, options, and the tools as fixtures."""

from __future__ import annotations

import pytest

from support.small_projects import BACKENDS, MIXED, SmallProject

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow


def test_which_backends(project: SmallProject) -> None:
    """On the command line and in the configuration; a mistake is named."""
    project.run(MIXED, "--kingdom-backends=trio").assert_outcomes(
        passed=3, deselected=2 * (BACKENDS - 1)
    )
    project.ini("kingdom_backends = asyncio, trio")
    project.run(MIXED).assert_outcomes(passed=5, deselected=2 * (BACKENDS - 2))
    result = project.run(MIXED, "--kingdom-backends=twisted")
    result.stderr.fnmatch_lines(["*kingdom_backends: 'twisted' is no backend; use some of *"])


_BY_NAME = """
    async def test_by_name(every_backend):
        assert ka.current_backend().replace("+uvloop", "") == every_backend[0]

    def test_explored(explore):
        print("explored on", explore(ka.checkpoint, seeds=2).backend)

    def test_cancelled(anyio_backend, cancel_everywhere):
        print("cancelled on", cancel_everywhere(ka.checkpoint).backend)
"""


def test_each_test_has_one_backend(project: SmallProject) -> None:
    """Once on each, by whatever names it is asked for, and where a tool alone is asked for."""
    options = ("-v", "-s")
    result = project.run(_BY_NAME, *options)
    result.assert_outcomes(passed=3 * BACKENDS)
    for backend in ("asyncio", "trio"):
        result.stdout.fnmatch_lines_random(
            [
                f"*::test_by_name?{backend}-{backend}?*PASSED*",
                f"*::test_explored?{backend}?*explored on {backend}",
                f"*cancelled on {backend}",
            ]
        )


def test_an_async_test_without_the_line_in_conftest(project: SmallProject) -> None:
    """It is told to write it, where anyio's plugin has run it on another backend."""
    project.conftest("")
    source = "async def test_it(every_backend):\n    await ka.checkpoint()\n"
    result = project.run(source, "--kingdom-backends=trio")
    result.assert_outcomes(passed=1, failed=1, deselected=2 * (BACKENDS - 1))
    told = (
        "test_it?*? runs on asyncio instead of trio, since anyio's plugin runs it on "
        "anyio_backend, which is another fixture than every_backend here; write "
        "anyio_backend = every_backend in conftest.py"
    )
    result.stdout.fnmatch_lines([told])


_TYPED = pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 9 has [tool.pytest]")


@pytest.mark.parametrize("backends", ['["asyncio", "trio"]', '"asyncio, trio"'])
@pytest.mark.parametrize("table", ["ini_options", pytest.param("", marks=_TYPED)])
def test_backends_in_toml(project: SmallProject, table: str, backends: str) -> None:
    """A list or a string, in each of pytest's tables, where every warning is an error."""
    project.toml(
        f"""
        [tool.pytest{"." if table else ""}{table}]
        anyio_mode = "auto"
        filterwarnings = ["error"]
        kingdom_backends = {backends}
        kingdom_timeout = {30 if table else '"30"'}
        """
    )
    result = project.run("async def test_it(anyio_backend):\n    await ka.checkpoint()\n")
    result.assert_outcomes(passed=2, deselected=BACKENDS - 2)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--kingdom-timeout=soon", "kingdom_timeout: 'soon' is no time; use real seconds*"),
        ("--kingdom-trace=all", "kingdom_trace: 'all' is no level; use off, life or steps"),
        ("--kingdom-seed=x", "kingdom_seed: 'x' is no number; use one such as 42"),
    ],
)
def test_a_wrong_option_is_named(project: SmallProject, option: str, sentence: str) -> None:
    """Before any test runs."""
    result = project.run("def test_it(): pass", option)
    assert result.ret != 0
    result.stderr.fnmatch_lines([f"*{sentence}"])


_SCOPES = """
@pytest.fixture(scope="{scope}")
async def held():
    before = ka.current_backend()
    async with ka.TaskGroup() as group:
        event = ka.Event()
        async def wait():
            await event.wait()
        group.start_soon(wait)
        yield group
        event.set()
    assert ka.current_backend() == before

async def test_one(held, anyio_backend_name):
    assert ka.current_backend().startswith(anyio_backend_name)
    held.start_soon(ka.checkpoint)

class TestTwo:
    async def test_two(self, held, anyio_backend_name):
        assert ka.current_backend().startswith(anyio_backend_name)

async def test_skip(held):
    pytest.skip("no reason")

@pytest.mark.xfail(strict=True)
async def test_xfail(held):
    assert False

async def test_after(held):
    await ka.checkpoint()
"""


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_groups_in_fixtures_of_every_scope(project: SmallProject, scope: str) -> None:
    """Each on the backend of its test; skip and xfail do no harm (anyio#1179)."""
    result = project.run(_SCOPES.replace("{scope}", scope), "-v")
    result.assert_outcomes(passed=3 * BACKENDS, skipped=BACKENDS, xfailed=BACKENDS)


_CRASHES = """
async def crash(event):
    await event.wait()
    raise LookupError("in the background")

@pytest.fixture
async def event():
    event = ka.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(crash, event)
        yield event

async def test_during(event):
    event.set()
    await ka.sleep_forever()

async def test_as_it_ends(event):
    event.set()

@pytest.fixture
async def fine():
    async with anyio.create_task_group() as group:
        yield group

async def test_fine(fine):
    fine.start_soon(ka.checkpoint)
"""


def test_a_crash_in_the_group_of_a_fixture(project: SmallProject) -> None:
    """The test says so, the teardown raises the error, and nothing hangs (anyio#805)."""
    result = project.run(_CRASHES, "--kingdom-timeout=30")
    result.assert_outcomes(passed=2 * BACKENDS, failed=BACKENDS, errors=2 * BACKENDS)
    result.stdout.fnmatch_lines_random(
        [
            (
                "*Cancelled: test_during?trio? was cancelled: a task group, or another cancel "
                "scope, that an async fixture holds across its yield was cancelled; where a "
                "task in it failed, the teardown of the fixture raises that error "
                "(open: 'event', function scope)"
            ),
            "*LookupError: in the background",
        ]
    )


_WIDE_GROUP = """
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
    [("class", ()), ("module", ()), ("session", ("-n", "1"))],
    ids=["class", "module", "session, under xdist"],
)
def test_a_crash_in_a_wide_fixture(
    project: SmallProject, scope: str, options: tuple[str, ...]
) -> None:
    """The test fails, the teardown says why, and nothing hangs (anyio#805, worst on trio)."""
    source = _WIDE_GROUP.replace("{scope}", scope)
    given = ["--kingdom-timeout=30", "--kingdom-backends=trio"]
    result = project.run(source, *given, *options, plugins="xdist" if options else "")
    result.assert_outcomes(
        passed=1, failed=1, errors=1, deselected=0 if options else 2 * (BACKENDS - 1)
    )
    result.stdout.fnmatch_lines_random(["*LookupError: in the background"])
    assert "has not ended" not in result.stdout.str()


_TOOLS = """
def test_cancelled_everywhere(every_backend, cancel_everywhere):
    items = []
    async def body():
        await ka.checkpoint()
        items.append(1)
        await ka.checkpoint()
    report = cancel_everywhere(body)
    assert report.injected >= 2

def test_explored(every_backend, explore):
    seen = []
    async def body():
        async def one(number):
            await ka.checkpoint()
            seen.append(number)
        async with ka.TaskGroup() as group:
            for number in range(3):
                group.start_soon(one, number)
    def check():
        order, seen[:] = seen[:], []
        assert order != [2, 1, 0], "out of order"
    explore(body, check=check)

async def test_no_leaks(anyio_backend, no_leaks):
    await ka.checkpoint()

async def test_leaks(anyio_backend, no_leaks):
    global stream
    stream = anyio.create_memory_object_stream(1)
"""


def test_the_tools_as_fixtures(project: SmallProject) -> None:
    """On the backend of the test; what they find fails it, without another call."""
    result = project.run(_TOOLS, "--kingdom-backends=asyncio,trio", "-W", "ignore")
    result.assert_outcomes(passed=2 + 2, failed=2 + 2, deselected=4 * (BACKENDS - 2))
    result.stdout.fnmatch_lines_random(["*AssertionError: out of order*", "*LeakError: *"])


_ORDINARY = """
    def test_ordinary(no_leaks):
        pass

    def test_with_a_loop(no_leaks):
        async def main():
            async with no_leaks():
                await ka.checkpoint()
        anyio.run(main)

    class TestAll:
        @pytest.fixture(autouse=True)
        def watched(self, no_leaks):
            pass

        def test_ordinary_too(self):
            pass

    class TestOfItsOwn:
        @pytest.fixture
        def no_leaks(self):
            return 7

        def test_ordinary_too(self, no_leaks):
            assert no_leaks == 7
"""


def test_no_leaks_in_an_ordinary_test(project: SmallProject) -> None:
    """It watches nothing there, and says so where the test names it and does not call it."""
    result = project.run(_ORDINARY)
    result.assert_outcomes(passed=3, failed=1)
    told = (
        "no_leaks: test_ordinary is not run in a loop, and nothing was watched; make it an "
        "async function with @pytest.mark.anyio, or set anyio_mode = auto; or write async with "
        "no_leaks() in the loop that it starts"
    )
    result.stdout.fnmatch_lines([told])
