"""Small projects of tests, each run by a pytest of its own process."""

from __future__ import annotations

from importlib.util import find_spec
from textwrap import dedent
from typing import TYPE_CHECKING

from .snippets import NO_OTHER_PLUGINS, OUR_PLUGINS

if TYPE_CHECKING:
    import pytest

#: What a project's tests run on, and how many of these have virtual time.
BACKENDS = 3 if find_spec("uvloop") else 2
VIRTUAL = 2

#: A test on each backend, one on virtual time, and an ordinary one.
MIXED = """
async def test_backend(anyio_backend_name):
    assert ka.current_backend().startswith(anyio_backend_name)

async def test_a_year(virtual_clock):
    begun = ka.current_time()
    await ka.sleep(365 * 86400)
    assert virtual_clock.now - begun == 365 * 86400

def test_ordinary():
    pass
"""

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
import asyncio, anyio, pytest, time
import kingdom_async as ka
"""
_STUCK = 90  # seconds


class SmallProject:
    """A project of one file of tests; each runs on every backend if nothing else is said."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        for name in (*NO_OTHER_PLUGINS, "CI", "BUILD_NUMBER"):  # with which pytest says more
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COLUMNS", "80")  # what is longer is cut short in the summary
        self.conftest(_CONFTEST)
        self.ini()

    def ini(self, *more: str, mode: str = "auto") -> None:
        """Configure pytest; *mode* is anyio's."""
        self._pytester.makefile(".ini", pytest=_INI.format(more="\n".join(more), mode=mode))

    def toml(self, text: str) -> None:
        """Configure pytest in ``pyproject.toml`` instead."""
        (self._pytester.path / "pytest.ini").unlink()
        self._pytester.makepyprojecttoml(dedent(text))

    def conftest(self, source: str) -> None:
        """Replace the file that makes ``every_backend`` the backend of all tests."""
        self._pytester.makeconftest(source)

    def run(
        self, source: str, *options: str, plugins: str | None = "", uses_it: bool = True
    ) -> pytest.RunResult:
        """With our plugin, anyio's, and one that is named; with all there are, if None."""
        self._pytester.makepyfile((_HEAD if uses_it else "") + dedent(source))
        if plugins is not None:
            for name, value in NO_OTHER_PLUGINS.items():
                self._monkeypatch.setenv(name, value)
            options = (*OUR_PLUGINS, *(("-p", plugins) if plugins else ()), *options)
        return self._pytester.runpytest_subprocess(*options, timeout=_STUCK)
