"""`environment`: the variables, applied to a loop that somebody else started."""

from __future__ import annotations

import re
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from anyio.to_thread import current_default_thread_limiter

import kingdom_async as ka
from kingdom_async._settings import Settings, read_settings
from support.backends import REAL


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND", "TRACE", "WATCHDOG", "CONTROL", "THREADS"):
        monkeypatch.delenv(f"KINGDOM_ASYNC_{name}", raising=False)


def _tokens() -> float:
    return current_default_thread_limiter().total_tokens


async def test_changes_nothing_where_no_variable_is_set() -> None:
    """It may stand in every program."""
    before = _tokens()
    with ka.environment():
        assert _tokens() == before
    assert _tokens() == before


async def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `KINGDOM_ASYNC_BACKEND= program`: the default, and no warning."""
    for name in ("BACKEND", "TRACE", "WATCHDOG", "CONTROL", "THREADS"):
        monkeypatch.setenv(f"KINGDOM_ASYNC_{name}", "")
    before = _tokens()
    with ka.environment():
        assert _tokens() == before
    assert read_settings() == Settings("asyncio", None, "off", None, False, None, None)


@pytest.mark.parametrize("level", ["life", "steps"])
def test_a_level_and_where_to(level: str) -> None:
    """What stands behind the colon is a path."""
    settings = read_settings(trace=f"{level}:out:1.html")
    assert (settings.trace, settings.trace_path) == (level, "out:1.html")


async def test_applies_threads_for_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives the limiter back as it was, also after an error."""
    before = _tokens()
    monkeypatch.setenv("KINGDOM_ASYNC_THREADS", "3")
    with pytest.raises(KeyError), ka.environment():
        assert _tokens() == 3
        raise KeyError
    assert _tokens() == before


async def test_may_be_the_lifespan_of_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds no scope and no group open, so a yield inside it is safe."""
    monkeypatch.setenv("KINGDOM_ASYNC_THREADS", "3")

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with ka.environment():
            yield

    async with lifespan():
        assert await ka.gather(ka.offload(int), ka.offload(str)) == (0, "")
        assert _tokens() == 3


@pytest.mark.parametrize("asked", REAL)
async def test_warns_where_another_backend_runs(
    asked: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """The loop is there already, so all it can do is say so, at the line of the block."""
    monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", asked)
    runs = ka.current_backend()
    with ka.environment():
        pass
    sentence = (
        f"KINGDOM_ASYNC_BACKEND asks for {asked}, but {runs} runs already; "
        "choose the loop where it is started (uvicorn: --loop)"
    )
    expected = [] if asked == runs else [sentence]
    assert [str(warning.message) for warning in recwarn] == expected
    assert all(warning.filename == __file__ for warning in recwarn)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKEND", "tokio"),
        ("TRACE", "on"),
        ("WATCHDOG", "soon"),
        ("CONTROL", "on"),
        ("THREADS", "0"),
    ],
)
async def test_refuses_what_run_refuses(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sentence, on entry."""
    monkeypatch.setenv(f"KINGDOM_ASYNC_{name}", value)
    with (
        pytest.raises(ValueError, match=re.escape(f"KINGDOM_ASYNC_{name}={value!r} is no ")),
        ka.environment(),
    ):
        pytest.fail("entered")


@pytest.mark.parametrize("asked", REAL)
async def test_a_backend_that_does_not_run_need_not_be_installed(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for another one than the one that runs gets a warning, and no error."""
    runs = ka.current_backend()
    monkeypatch.setenv("KINGDOM_ASYNC_BACKEND", asked)
    monkeypatch.setattr("kingdom_async._backend.installed_backends", lambda: (runs,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ka.environment():
            pass
    assert len(caught) == (asked != runs)


async def test_the_trace_argument_beats_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in run."""
    monkeypatch.setenv("KINGDOM_ASYNC_TRACE", "nonsense")
    with ka.environment(trace="steps"):
        pass
    with (
        pytest.raises(ValueError, match=re.escape("trace='all' is no level of tracing")),
        ka.environment(trace="all"),
    ):
        pytest.fail("entered")


async def test_warns_of_a_misspelt_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the line of the block."""
    monkeypatch.setenv("KINGDOM_ASYNC_BAKEND", "trio")
    with (
        pytest.warns(
            UserWarning, match=re.escape("did you mean KINGDOM_ASYNC_BACKEND?")
        ) as warned,
        ka.environment(),
    ):
        pass
    assert [warning.filename for warning in warned] == [__file__]


def test_needs_a_running_loop() -> None:
    """Outside of one it says so."""
    with (
        pytest.raises(RuntimeError, match=r"^environment\(\) where no event loop runs"),
        ka.environment(),
    ):
        pytest.fail("entered")
