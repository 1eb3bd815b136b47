"""The public names: all listed, all documented, and anyio's own where they are anyio's."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import pytest

import kingdom_async as ka
import kingdom_async_pytest as plugin
from kingdom_async import pytest_plugin, testing, trace
from kingdom_async.testing import strategies

REFERENCE = sorted((Path(__file__).parent.parent / "docs").glob("reference*.md"))
OURS = [
    name
    for name in ka.__all__
    if "kingdom_async" in getattr(getattr(ka, name), "__module__", "")
]
ANYIOS = [name for name in ka.__all__ if name not in OURS]


def test_all_lists_every_public_name() -> None:
    """Nothing can be reached at the top that is not listed, and nothing is listed twice."""
    assert len(set(ka.__all__)) == len(ka.__all__)
    public = {
        name
        for name, value in vars(ka).items()
        if name.isidentifier()  # pytest adds names to what it rewrites, "@pytest_ar" for one
        and not name.startswith("_")
        and (not inspect.ismodule(value) or not value.__name__.startswith("kingdom_async"))
    }
    assert public == set(ka.__all__)


def test_all_is_sorted_within_each_theme() -> None:
    """Constants, classes, functions, each by name, under a comment that names the theme."""
    source = Path(ka.__file__).read_text()
    listed = source[source.index("__all__") :]
    themes = re.split(r"^ +# .*$", listed, flags=re.MULTILINE)[1:]
    names = [re.findall(r'"(\w+)"', theme) for theme in themes]
    assert [name for theme in names for name in theme] == ka.__all__
    for theme in names:
        assert theme == sorted(theme, key=_by_kind)


def _by_kind(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", ANYIOS)
def test_what_is_anyios_is_the_same_object(name: str) -> None:
    """So code that uses anyio beside us mixes freely, and except clauses match."""
    homes = (anyio, anyio.abc, anyio.lowlevel, anyio.from_thread)
    assert any(getattr(home, name, None) is getattr(ka, name) for home in homes)


def test_what_the_design_re_exports_is_anyios() -> None:
    """Not one of them is re-made."""
    names = (
        "sleep sleep_forever sleep_until current_time checkpoint CancelScope "
        "get_cancelled_exc_class TaskHandle TaskStatus TASK_STATUS_IGNORED TaskFailed "
        "TaskCancelled TaskNotFinished Event Future Lock Condition Semaphore CapacityLimiter "
        "check_cancelled from_thread open_signal_receiver EndOfStream ClosedResourceError "
        "BrokenResourceError BusyResourceError WouldBlock RunFinishedError"
    )
    assert set(names.split()) == set(ANYIOS)


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_has_a_docstring(name: str) -> None:
    """A promise in one line first."""
    doc = inspect.getdoc(getattr(ka, name))
    assert doc is not None
    assert doc.splitlines()[0].endswith(".")


OPTIONS = (
    "abandon_on_cancel backend burst chunksize context daemon default discard errors limit "
    "limiter name on_error ordered overflow rate return_exceptions return_handle stagger to "
    "trace"
)


def _functions() -> list[object]:
    """The public functions and the public methods of ours, `__init__` among them."""
    values = [getattr(ka, name) for name in OURS]
    classes = [value for value in values if isinstance(value, type)]
    methods = [method for each in classes for method in inspect.getmembers(each, callable)]
    return [
        *filter(inspect.isfunction, values),
        *(
            method
            for name, method in methods
            if inspect.isfunction(method)
            and "kingdom_async" in method.__module__
            and (name == "__init__" or not name.startswith("_"))
        ),
    ]


@pytest.mark.parametrize("function", _functions(), ids=lambda each: each.__qualname__)
def test_options_are_given_by_keyword(function: object) -> None:
    """What is given by place is a callable, its arguments, or what anyio has there."""
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.name in OPTIONS.split():
            assert parameter.kind is parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", OURS)
def test_tracebacks_name_our_exceptions_as_users_import_them(name: str) -> None:
    """``kingdom_async.QueueClosed``, and no file of ours that nobody knows."""
    value = getattr(ka, name)
    if isinstance(value, type) and issubclass(value, BaseException):
        assert value.__module__ == "kingdom_async"


@pytest.mark.skipif(not REFERENCE, reason="the documentation is not here")
@pytest.mark.parametrize("name", ka.__all__)
def test_every_name_is_in_the_reference(name: str) -> None:
    """As a directive of its own, or named in code type."""
    text = "\n".join(page.read_text() for page in REFERENCE)
    directive = rf"^::: kingdom_async\.(\w+\.)?{name}\b"
    assert re.search(rf"{directive}|`(ka\.)?{name}\b", text, flags=re.MULTILINE)


@pytest.mark.skipif(not REFERENCE, reason="the documentation is not here")
@pytest.mark.parametrize("name", trace.__all__)
def test_every_name_of_tracing_is_in_the_reference(name: str) -> None:
    """As a directive of its own, and with a docstring."""
    text = "\n".join(page.read_text() for page in REFERENCE)
    assert re.search(rf"^::: kingdom_async\.trace\.{name}$", text, flags=re.MULTILINE)
    assert inspect.getdoc(getattr(trace, name))


@pytest.mark.skipif(not REFERENCE, reason="the documentation is not here")
def test_the_reference_of_testing_names_all_there_is() -> None:
    """Every public name, strategy, fixture and option, and no others."""
    text = next(page.read_text() for page in REFERENCE if page.stem == "reference-testing")
    names = re.findall(r"^::: kingdom_async\.testing\.(\w+)", text, flags=re.MULTILINE)
    assert sorted(names) == sorted([*testing.__all__, "strategies"])
    assert all(inspect.getdoc(getattr(testing, name)) for name in testing.__all__)
    (drawn,) = re.findall(r"members: \[(seeds.*)\]", text)
    functions = inspect.getmembers(strategies, inspect.isfunction)
    here = [name for name, each in functions if each.__module__ == strategies.__name__]
    assert sorted(drawn.split(", ")) == here
    rows = re.findall(r"^\| `([\w-]+)` \|(?: `(\w+)` \|)?", text, flags=re.MULTILINE)
    fixtures = {name for name, _ in rows if not name.startswith("--")}
    assert fixtures == plugin.FIXTURES
    options = [row for row in rows if row[0].startswith("--")]
    assert options == [(f"--kingdom-{name}", f"kingdom_{name}") for name in plugin._OPTIONS]
    for name in pytest_plugin.__all__:
        assert name in text


def test_the_version_is_that_of_the_package() -> None:
    """What is imported is what is installed."""
    from importlib.metadata import version

    assert version("kingdom_async") == ka.__version__
