"""Test runs in forked children, each in a copy of the project.

Rule: the parent has pytest and the event loops loaded but never the library, so that a child
starts in milliseconds and imports the library it is to test.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import anyio._backends._asyncio  # these are for the children
import anyio._backends._trio  # noqa: F401
import hypothesis  # noqa: F401
import pytest
import trio  # noqa: F401
import uvloop  # noqa: F401

ROOT = Path(__file__).parents[2]
_MEMORY = 6 << 30  # bytes of address space; a mutant that eats memory dies of it

#: The second: what the parent has loaded for its children cannot be rewritten any more.
_OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")

Plugins = Callable[[], list[object]]


@dataclass(frozen=True)
class Trial:
    """What to run: which tests, on which backend, with what to choose and see them."""

    files: tuple[str, ...]
    backend: str
    #: seconds; what takes longer hangs
    limit: float
    #: the same for one test
    limit_of: Callable[[str], float]
    #: called in the child
    plugins: Plugins
    args: tuple[str, ...] = ("-x",)


@dataclass(frozen=True)
class Result:
    """How it ended: "passed", "failed" or "timed out", and by which test."""

    outcome: str
    detail: str
    seconds: float


class Copy:
    """A copy of the project; one trial at a time runs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, files.split("\0")):
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, target)
        self._written = time.time() - 10**7
        self._changed: dict[Path, str] = {}
        self._pid = 0
        self._trial: Trial | None = None
        self._started = 0.0
        self._running, self._since = "", 0.0

    def change(self, module: str, source: str) -> None:
        """Put *source* in place of the module; `restore` undoes it."""
        path = self.path / "src/kingdom_async" / f"{module}.py"
        self._changed.setdefault(path, path.read_text())
        self._write(path, source)

    def restore(self) -> None:
        for path, source in self._changed.items():
            self._write(path, source)
        self._changed.clear()

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source)
        # Python tells stale bytecode by size and whole seconds: no two may be alike.
        self._written += 2
        os.utime(path, (self._written, self._written))

    def start(self, trial: Trial) -> None:
        self._trial, self._started = trial, time.monotonic()
        (self.path / "running.txt").write_text("")
        self._running, self._since = "", self._started
        (self.path / "killer.txt").write_text("")
        self._pid = os.fork()
        if not self._pid:
            _be_child(self.path, trial)

    def poll(self) -> Result | None:
        """The result, once there is one."""
        assert self._trial is not None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        seconds = time.monotonic() - self._started
        if pid:
            self.stop()
            return self._judge(os.waitstatus_to_exitcode(status), seconds)
        if seconds > self._trial.limit or self._hangs():
            self.stop()
            os.waitpid(self._pid, 0)
            return Result("timed out", self._first_line("running.txt"), seconds)
        return None

    def log(self) -> str:
        """What the trial printed last."""
        path = self.path / "log.txt"
        return "\n".join(path.read_text().splitlines()[-80:]) if path.exists() else ""

    def _hangs(self) -> bool:
        """True if the test that runs now has taken far longer than it ever does."""
        now, running = time.monotonic(), self._first_line("running.txt")
        if running != self._running:
            self._running, self._since = running, now
        assert self._trial is not None
        return now - self._since > self._trial.limit_of(running)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # with the processes that it started

    def _judge(self, code: int, seconds: float) -> Result:
        if code == 0:
            return Result("passed", "", seconds)
        if code == 5:
            raise RuntimeError(f"no tests ran: {self._trial}")
        return Result("failed", self._first_line("killer.txt") or f"exit code {code}", seconds)

    def _first_line(self, name: str) -> str:
        path = self.path / name
        return path.read_text().partition("\n")[0] if path.exists() else ""


class _Watcher:
    """Writes down what runs, and what failed first."""

    def __init__(self) -> None:
        self._running = os.open("running.txt", os.O_WRONLY | os.O_CREAT)

    @pytest.hookimpl
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.pwrite(self._running, f"{nodeid}\n".encode(), 0)  # quick: there are many tests

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            Path("killer.txt").write_text(report.nodeid)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            Path("killer.txt").write_text(f"import of {report.nodeid}")


def _be_child(path: Path, trial: Trial) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(path)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(number, target)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.dont_write_bytecode = False  # rewritten test files are kept for the next child
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPATH"] = str(path / "src")
        os.environ.pop("KINGDOM_ASYNC_BACKEND", None)
        if trial.backend:
            os.environ["KINGDOM_ASYNC_BACKEND"] = trial.backend
        plugins = trial.plugins()
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.path[:] = [
            str(path / "src"),
            *(each for each in sys.path if each not in ("", str(ROOT))),
        ]
        # A process worker runs the main file again, and that is not to be this program.
        sys.modules["__main__"] = ModuleType("__main__")
        code = pytest.main(
            [*_OPTIONS, *trial.args, *trial.files],
            plugins=[_Watcher(), *plugins],
        )
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


Job = tuple[Callable[[Copy], Trial | None], Callable[[Result | None], None]]


def run_all(copies: list[Copy], jobs: Iterable[Job]) -> None:
    """Each job in the next free copy: prepare it, run the trial, hand over what came of it."""
    free, busy = list(copies), dict[Copy, Callable[[Result | None], None]]()
    waiting = iter(jobs)
    try:
        while True:
            while free and (job := next(waiting, None)) is not None:
                prepare, done = job
                if (trial := prepare(free[-1])) is None:
                    done(None)
                    continue
                busy[free[-1]] = done
                free.pop().start(trial)
            if not busy:
                return
            for copy, result in [(copy, copy.poll()) for copy in busy]:
                if result is not None:
                    copy.restore()
                    free.append(copy)
                    busy.pop(copy)(result)
            time.sleep(0.01)
    finally:
        for copy in busy:
            copy.stop()
