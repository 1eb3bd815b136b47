"""The pytest plugin, in small projects of its own, each in a process of its own."""

from __future__ import annotations

from importlib.util import find_spec
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

_CONFTEST = """
from kingdom_async.pytest_plugin import every_backend
anyio_backend = every_backend
"""
_INI = """
[pytest]
anyio_mode = {mode}
filterwarnings = error
{more}
"""
_HEAD = """
import anyio, pytest, time
import kingdom_async as ka
"""
_BACKENDS = 3 if find_spec("uvloop") else 2
_VIRTUAL = 2
#: pytest imports every plugin that is installed, which takes two seconds; these are enough.
_PLUGINS = ("-p", "anyio", "-p", "kingdom_async")


class Project:
    """A project of one file of tests."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        pytester.makeconftest(_CONFTEST)
        self.ini()

    def ini(self, *more: str, mode: str = "auto") -> None:
        self._pytester.makefile(".ini", pytest=_INI.format(more="\n".join(more), mode=mode))

    def conftest(self, source: str) -> None:
        self._pytester.makeconftest(source)

    def run(self, source: str, *options: str, plugins: str | None = "") -> pytest.RunResult:
        """With our plugin, anyio's, and one that is named; with all there are, if None."""
        self._pytester.makepyfile(_HEAD + source)
        if plugins is not None:
            self._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            options = (*_PLUGINS, *(("-p", plugins) if plugins else ()), *options)
        return self._pytester.runpytest_subprocess(
            "-p", "no:cacheprovider", *options, timeout=90
        )


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    return Project(pytester, monkeypatch)


_MIXED = """
async def test_backend(anyio_backend_name):
    assert ka.current_backend().startswith(anyio_backend_name)

async def test_a_year(virtual_clock):
    begun = ka.current_time()
    await ka.sleep(365 * 86400)
    assert virtual_clock.now - begun == 365 * 86400

def test_ordinary():
    pass
"""


@pytest.mark.parametrize("plugins", ["", None], ids=["alone", "beside all that is installed"])
def test_every_backend_and_virtual_time(project: Project, plugins: str | None) -> None:
    """A test runs on each backend, and on virtual time on those that have it.

    Beside pytest-asyncio as well, and where pytest itself finds our plugin.
    """
    if plugins is None:
        project.ini("asyncio_default_fixture_loop_scope = function")
    result = project.run(_MIXED, "-v", plugins=plugins)
    result.assert_outcomes(passed=_BACKENDS + _VIRTUAL + 1, deselected=_BACKENDS - _VIRTUAL)
    result.stdout.fnmatch_lines_random(["*test_a_year?trio-virtual? PASSED*"])


def test_with_pytest_asyncio_running_its_own(project: Project) -> None:
    """Tests of pytest-asyncio are its own, also in a project that uses these fixtures."""
    project.ini("asyncio_default_fixture_loop_scope = function", mode="strict")
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
    result = project.run(dedent(source), plugins="pytest_asyncio.plugin")
    result.assert_outcomes(passed=_BACKENDS + 1)


def test_under_xdist(project: Project) -> None:
    """Each worker has the plugin for itself."""
    result = project.run(_MIXED, "-n", "2", plugins="xdist")
    result.assert_outcomes(passed=_BACKENDS + _VIRTUAL + 1)


def test_which_backends(project: Project) -> None:
    """On the command line and in the configuration; a mistake is named."""
    project.run(_MIXED, "--kingdom-backends=trio").assert_outcomes(
        passed=3, deselected=2 * (_BACKENDS - 1)
    )
    project.ini("kingdom_backends = asyncio, trio")
    project.run(_MIXED).assert_outcomes(passed=5, deselected=2 * (_BACKENDS - 2))
    result = project.run(_MIXED, "--kingdom-backends=twisted")
    result.stderr.fnmatch_lines(["*kingdom_backends: 'twisted' is no backend; use some of *"])


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
def test_groups_in_fixtures_of_every_scope(project: Project, scope: str) -> None:
    """Each on the backend of its test; skip and xfail do no harm (anyio#1179)."""
    result = project.run(_SCOPES.replace("{scope}", scope), "-v")
    result.assert_outcomes(passed=3 * _BACKENDS, skipped=_BACKENDS, xfailed=_BACKENDS)


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


def test_a_crash_in_the_group_of_a_fixture(project: Project) -> None:
    """The test says so, the teardown raises the error, and nothing hangs (anyio#805)."""
    result = project.run(_CRASHES, "--kingdom-timeout=30")
    result.assert_outcomes(passed=2 * _BACKENDS, failed=_BACKENDS, errors=2 * _BACKENDS)
    result.stdout.fnmatch_lines_random(
        [
            (
                "*Cancelled: test_during?trio? was cancelled: a task group, or another cancel "
                "scope, that an async fixture holds across its yield was cancelled; where a "
                "task in it failed, the teardown of the fixture raises that error"
            ),
            "*LookupError: in the background",
        ]
    )


_WIDE = """
@pytest.fixture(scope="module")
async def server():
    yield 8080

async def test_wide(server, virtual_clock):
    pass

def test_sync(virtual_clock):
    pass
"""


def test_virtual_clock_says_where_it_cannot_be(project: Project) -> None:
    """Under a fixture of a wider scope, and in an ordinary test."""
    result = project.run(_WIDE)
    result.assert_outcomes(failed=2 * _VIRTUAL, deselected=2 * (_BACKENDS - _VIRTUAL))
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


def test_virtual_clock_on_any_anyio_backend(project: Project) -> None:
    """A project may keep anyio's own fixture."""
    project.conftest("")
    result = project.run(_MIXED)
    result.assert_outcomes(passed=2 + 2 + 1)


_DEADLOCK = """
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


def test_a_deadlock_on_virtual_time_fails_the_test(project: Project) -> None:
    """With the task tree; behind a shield too, and in a fixture; the next test is fine."""
    result = project.run(_DEADLOCK)
    result.assert_outcomes(
        passed=_VIRTUAL,
        failed=2 * _VIRTUAL,
        errors=_VIRTUAL,
        deselected=4 * (_BACKENDS - _VIRTUAL),
    )
    result.stdout.fnmatch_lines_random(
        [
            "E*Deadlock: deadlock: every task waits, and nothing is left that could wake one*",
            "E*test_deadlock.<locals>.waits_in_vain*await ka.Event().wait()*",
        ]
    )


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


def test_the_guard_ends_what_hangs(project: Project) -> None:
    """Waiting, blocking, shielded, or in a fixture: it fails, and the rest runs."""
    project.conftest(f"{_CONFTEST}{_SOON}")
    result = project.run(_HANGS, "--kingdom-timeout=1")
    result.assert_outcomes(passed=2 * _BACKENDS, failed=3 * _BACKENDS, errors=_BACKENDS)
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


def test_the_trace_of_a_failing_test(project: Project) -> None:
    """Beside its traceback: what became of each task, and why."""
    result = project.run(_FAILS, "--kingdom-trace=life")
    result.assert_outcomes(failed=_BACKENDS)
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


def test_the_tools_as_fixtures(project: Project) -> None:
    """On the backend of the test; what they find fails it, without another call."""
    result = project.run(_TOOLS, "--kingdom-backends=asyncio,trio", "-W", "ignore")
    result.assert_outcomes(passed=2 + 2, failed=2 + 2, deselected=4 * (_BACKENDS - 2))
    result.stdout.fnmatch_lines_random(["*AssertionError: out of order*", "*LeakError: *"])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--kingdom-timeout=soon", "kingdom_timeout: 'soon' is no time; use real seconds*"),
        ("--kingdom-trace=all", "kingdom_trace: 'all' is no level; use off, life or steps"),
        ("--kingdom-seed=x", "kingdom_seed: 'x' is no number; use one such as 42"),
    ],
)
def test_a_wrong_option_is_named(project: Project, option: str, sentence: str) -> None:
    """Before any test runs."""
    result = project.run("def test_it(): pass", option)
    assert result.ret != 0
    result.stderr.fnmatch_lines([f"*{sentence}"])


def test_a_project_that_does_not_use_it(project: Project) -> None:
    """It imports nothing of ours, its own fixture is its own, and no test is guarded."""
    project.conftest("")
    result = project.run(
        """
import sys, threading
async def test_it():
    assert not [name for name in sys.modules if name.startswith("kingdom_async.testing")]
    assert "kingdom_async guard" not in [each.name for each in threading.enumerate()]
""".replace("import kingdom_async as ka", ""),
    )
    result.assert_outcomes(passed=2)


_LIGHT = """
import sys
def pytest_sessionfinish(session):
    ours = sorted(name for name in sys.modules if name.split(".")[0] == "kingdom_async")
    print("\\nOURS:", ours)
"""


def test_only_installed_it_costs_nothing(pytester: pytest.Pytester) -> None:
    """The package itself is not imported."""
    pytester.makeconftest(_LIGHT)
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-s", "-p", "no:asyncio", timeout=60)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["OURS: ??"])
