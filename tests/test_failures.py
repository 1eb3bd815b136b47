"""What is sorted out of several failures, without a loop."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from anyio import TaskFailed

from kingdom_async._failures import (
    add_note,
    bare,
    distinct,
    first_of,
    identity,
    short_repr,
    without,
)
from support.backends import asyncio_only

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def test_without_gives_the_rest() -> None:
    """All of a kind is taken out, at any depth."""
    error = ExceptionGroup("a", [KeyError("k"), ExceptionGroup("b", [ValueError(), OSError()])])
    rest = without(ValueError, error)
    assert (
        repr(rest) == "ExceptionGroup('a', [KeyError('k'), ExceptionGroup('b', [OSError()])])"
    )
    assert without(ValueError, ValueError()) is None
    assert without(ValueError, ExceptionGroup("a", [ValueError()])) is None


def test_without_what_is_not_there_gives_the_same_object() -> None:
    """split() would make a new group, with another identity."""
    group = BaseExceptionGroup("a", [SystemExit(), ExceptionGroup("b", [KeyError()])])
    error = KeyError()
    assert without(KeyboardInterrupt, group) is group
    assert without(KeyboardInterrupt, error) is error


@asyncio_only  # which has to know its cancellation
@pytest.mark.parametrize("width", [0, 1])
async def test_groups_deeper_than_python_recurses(width: int) -> None:
    """No RecursionError of ours takes the place of the failure."""
    innermost = error = ValueError("innermost")
    for _ in range(20 * sys.getrecursionlimit()):
        error = ExceptionGroup("deep", [error, *(KeyError() for _ in range(width))])  # type: ignore[assignment]
    assert without(KeyboardInterrupt, error) is error
    assert len(identity(error)) == 1 + 20 * sys.getrecursionlimit() * width
    first = first_of(distinct([error]), {})
    assert first is (error if width else innermost)


def test_bare_takes_the_notes_along() -> None:
    """Unwrapping a group of one loses none of the notes on the wrappers, and doubles none."""
    error = ValueError()
    inner = ExceptionGroup("inner", [error])
    outer = ExceptionGroup("outer", [inner])
    add_note(error, "own")
    add_note(inner, "inner")
    add_note(outer, "outer")
    add_note(outer, "own")
    assert bare(outer) is bare(outer) is error
    notes = ["own", "in a group: inner", "inner", "in a group: outer", "outer"]
    assert error.__notes__ == notes  # type: ignore[attr-defined]


def test_bare_says_nothing_of_the_groups_that_task_groups_make() -> None:
    """Their messages are the same for all."""
    error = ValueError()
    inner = ExceptionGroup("Exceptions from Trio nursery", [error])
    assert bare(ExceptionGroup("unhandled errors in a TaskGroup", [inner])) is error
    assert not hasattr(error, "__notes__")


def test_bare_takes_along_what_the_group_came_from() -> None:
    """To the end of the chain, and once; where it is part of the chain there is no loop."""
    error, before, origin = ValueError(), KeyError(), OSError("disk full")
    error.__context__ = before
    group = ExceptionGroup("cannot save", [error])
    group.__cause__ = origin
    assert bare(group) is bare(group) is error
    assert error.__context__ is before
    assert before.__context__ is origin
    assert origin.__context__ is None
    again = ExceptionGroup("again", [error])
    again.__cause__ = error
    assert bare(again) is error
    assert origin.__context__ is None


def raised_by(func: Callable[[], object]) -> Exception:
    try:
        func()
    except Exception as error:
        return error
    raise AssertionError("it has not failed")


def test_bare_says_nothing_of_a_group_of_except_star() -> None:
    """Which has no message."""
    error = ValueError()
    assert bare(ExceptionGroup("", [error])) is error
    assert not hasattr(error, "__notes__")


def test_bare_takes_along_the_lines_that_the_group_passed() -> None:
    """Before those of the error, and once; also where it has none of its own."""

    def load(error: Exception) -> None:
        raise ExceptionGroup("cannot load", [error])

    def fails() -> None:
        raise KeyError

    for error, own in ((ValueError(), []), (raised_by(fails), ["raised_by", "fails"])):
        group = raised_by(partial(load, error))
        assert bare(group) is bare(group) is error
        lines = [line.name for line in traceback.extract_tb(error.__traceback__)]
        assert lines == ["raised_by", "load", *own]


def test_bare_takes_along_what_was_handled_when_the_group_was_raised() -> None:
    """Unless it was raised from something, or a task group raised it, which handles its own."""
    error, handled = ValueError(), KeyError()
    group = ExceptionGroup("cannot save", [error])
    group.__context__ = handled
    assert bare(group) is error
    assert error.__context__ is handled
    for group, suppressed in (
        (ExceptionGroup("cannot save", [ValueError()]), True),
        (ExceptionGroup("unhandled errors in a TaskGroup", [ValueError()]), False),
    ):
        group.__context__ = handled
        group.__suppress_context__ = suppressed
        assert bare(group).__context__ is None


def test_bare_notes_the_origin_that_no_traceback_would_show() -> None:
    """Because the chain is cut by a ``from None``, or the two chains meet."""
    quiet, origin = ValueError(), KeyError("origin")
    quiet.__suppress_context__ = True
    group = ExceptionGroup("cannot save", [quiet])
    group.__cause__ = origin
    assert bare(group) is bare(group) is quiet
    assert quiet.__context__ is origin
    notes = ["in a group: cannot save", "in a group that came from KeyError('origin')"]
    assert quiet.__notes__ == notes  # type: ignore[attr-defined]

    common, error = OSError(), ValueError()
    error.__context__ = origin.__context__ = common
    group = ExceptionGroup("cannot save", [error])
    group.__cause__ = origin
    assert bare(group) is error
    assert error.__context__ is common
    assert common.__context__ is None
    assert error.__notes__ == notes  # type: ignore[attr-defined]


async def test_what_a_task_failed_was_told_goes_to_what_it_stands_for() -> None:
    """The group that it was in has a message, which stays."""
    error, repeats = ValueError(), TaskFailed()
    repeats.__cause__ = error
    assert distinct([error, ExceptionGroup("cannot save", [repeats])]) == [error]
    assert error.__notes__ == ["in a group: cannot save"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", ["error", "group"])
async def test_a_group_of_a_class_of_its_own_is_what_it_holds(first: str) -> None:
    """Whichever was recorded first, it is one failure, and the class and its cause stay."""

    class Invalid(ExceptionGroup[Exception]):
        pass

    error = ValueError()
    group = Invalid("form", [error])
    both = [error, group] if first == "error" else [group, error]
    assert distinct(both) == [group]


def test_bare_leaves_a_group_of_a_class_of_its_own() -> None:
    """Whoever catches that class catches it whether there is one error in it or two."""

    class Invalid(ExceptionGroup[Exception]):
        def derive(self, excs: Sequence[Exception]) -> Invalid:  # type: ignore[override]
            return Invalid(self.message, excs)

    group = Invalid("form", [ValueError()])
    assert bare(group) is group
    assert bare(ExceptionGroup("outer", [group])) is group


def test_notes_that_cannot_be() -> None:
    """Notes that are no list are left alone; those that raise are none."""

    class Odd(Exception):
        @property
        def __notes__(self) -> object:
            raise RuntimeError("no notes")

    inner = Odd()
    outer = ExceptionGroup("odd", [inner])
    add_note(outer, "a note")
    assert bare(outer) is inner


def test_short_repr_is_short_and_never_fails() -> None:
    """A long repr is cut, a failing one replaced, also where the type's name misleads."""

    def fail(self: object) -> str:
        raise RuntimeError("no repr")

    assert len(short_repr("x" * 1000)) <= 80
    for kind in (object, int):
        value = type(kind.__name__, (kind,), {"__repr__": fail})()
        assert short_repr(value).startswith("<")
