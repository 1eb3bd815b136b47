"""Arguments that are not what a call takes, and the sentence that helps.

Rule: what is refused leaves nothing behind: no coroutine stays unawaited.
"""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Coroutine,
    Generator,
    Iterable,
    Sequence,
)
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ._failures import short_repr

_NAMED = (
    (Coroutine, "coroutine"),
    (AsyncGenerator, "async generator"),
    (Generator, "generator"),
)
_COLLECTIONS: tuple[type[Iterable[object]], ...] = (list, tuple, set)


def refuse_coroutine(call: str, func: object, rest: str = "its arguments") -> None:
    """Explain ``start_soon(fetch(1))``, and close the coroutine that it made."""
    if isinstance(func, Coroutine):
        name = getattr(func, "__name__", "func")  # pyright: ignore[reportUnknownArgumentType]
        func.close()
        raise TypeError(
            f"{call}() takes the function and {rest}: "
            f"write {call}({name}, …), not {call}({name}(…))"
        )


def check_mapping(call: str, func: object, items: object, example: str) -> None:
    """Refuse what is no function of an item; most often it is the items."""
    refuse_coroutine(call, func, "items")
    if callable(func):
        return
    close_all([items])
    if callable(items):
        raise TypeError(
            f"{call}() takes the function first, and then the items: write "
            f"{call}({name_of(items)}, items), not {call}(items, {name_of(items)})"
        )
    raise TypeError(
        f"{call}() takes a function and items, not {shown(func)}; write {call}({example})"
    )


def refuse_async_generator(call: str, func: object, takes: str = "an async function") -> None:
    """Explain that what yields has no one result to wait for."""
    if inspect.isasyncgenfunction(func):
        name = name_of(func)
        raise TypeError(
            f"{call}() takes {takes}, and {name} is an async generator; iterate over it where "
            f"you need its items: async for item in {name}(…)"
        )


def check_coroutines(call: str, coros: Sequence[object], *, at_least_one: bool = False) -> None:
    """Refuse what is no coroutine, and leave none of the others behind unawaited."""
    if at_least_one and not coros:
        raise ValueError(f"{call}() needs at least one coroutine: write {call}(fetch(1))")
    for wrong in coros:
        # The type first: an abstract class takes a while to say yes.
        if type(wrong) is not CoroutineType and not isinstance(wrong, Coroutine):
            break
    else:
        return
    close_all(coros)
    what = shown(wrong)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(wrong, _COLLECTIONS):
        close_all(wrong)  # pyright: ignore[reportUnknownArgumentType]
        what = f"a {type(wrong).__name__}"  # pyright: ignore[reportUnknownArgumentType]
        instead = f"write {call}(*coros)"
    elif inspect.iscoroutinefunction(wrong):
        name = wrong.__name__
        instead = f"write {call}({name}(…)), with what {name}() takes"
    elif inspect.isawaitable(wrong):
        instead = "await it in an async function of your own, and give a call of that"
    else:
        instead = f"write {call}(fetch(1), fetch(2))"
    raise TypeError(f"{call}() takes coroutines, not {what}; {instead}")


def close_all(coros: Iterable[object]) -> None:
    """Close those of *coros* that are coroutines; one that has ended stays as it is."""
    for coro in coros:
        if isinstance(coro, Coroutine):
            coro.close()


class PlainWith:
    """A block that ``async with`` does not enter, and that says so."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __aenter__(self):
            raise TypeError(
                "blocks such as fail_after(5) and shielded(5) are entered with a plain with: "
                "write with fail_after(5):, not async with"
            )

        __aexit__ = None


def check_items(call: str, items: object) -> None:
    """Refuse what cannot be iterated over, with the sentence that helps."""
    if isinstance(items, (AsyncIterable, Iterable)) or hasattr(type(items), "__getitem__"):
        return
    if inspect.iscoroutine(items):
        items.close()
        instead = "await it first: the items are what it returns"
    elif callable(items):
        instead = "call it"
    else:
        instead = "give a list, a generator, or an async generator"
    raise TypeError(f"{call}(): items must be iterable, not {shown(items)}; {instead}")


def check_on_error(call: str, on_error: object) -> None:
    """Refuse what cannot be called with an item and its error for a value."""
    if on_error is None or (callable(on_error) and not inspect.iscoroutinefunction(on_error)):
        return
    raise TypeError(
        f"{call}(): on_error must be an ordinary function of an item and its error, not "
        f"{shown(on_error)}; on_error=ErrorResult keeps both"
    )


def check_count(what: str, value: float, instead: str) -> None:
    """Refuse anything but a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, not {value!r}; {instead}")
    if value < 1:
        raise ValueError(f"{what} must be 1 or more, not {value!r}; {instead}")


def check_seconds(what: str, value: float, instead: str) -> None:
    """Refuse anything but a number of seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {shown(value)}; {instead}")
    if not value >= 0:
        raise ValueError(f"{what} must be 0 or more seconds, not {value!r}; {instead}")


def is_async(call: str, func: object, instead: str) -> TypeError:
    """The error for an async function given where an ordinary one is wanted."""
    return TypeError(
        f"{call}() runs ordinary functions, and {name_of(func)} is async; write {instead}"
    )


def returned_no_awaitable(call: str, answer: object) -> TypeError:
    """The error for an ordinary function given where an async one is wanted."""
    if isinstance(answer, AsyncGenerator):
        instead = "give an async function that iterates over it"
    else:
        instead = "for a blocking function use offload_map()"
    return TypeError(
        f"{call} takes an async function, and this one returned {shown(answer)}; {instead}"  # pyright: ignore[reportUnknownArgumentType]
    )


def name_of(func: object) -> str:
    """What to call *func* in an error; never its address."""
    if isinstance(func, partial):
        return name_of(func.func)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return getattr(func, "__qualname__", None) or type(func).__qualname__


def shown(value: object) -> str:
    """*value* in an error: what has a name by that, and all else by its repr, cut short."""
    for kind, what in _NAMED:
        if isinstance(value, kind):
            return f"the {what} {name_of(value)}"  # pyright: ignore[reportUnknownArgumentType]
    if inspect.isroutine(value) or isinstance(value, partial):
        return f"the function {name_of(value)}"  # pyright: ignore[reportUnknownArgumentType]
    return short_repr(value)


def name_of_coroutine(coro: Coroutine[Any, Any, object]) -> str:
    """What to call the task that runs *coro*: what anyio calls it, given the coroutine."""
    frame = getattr(coro, "cr_frame", None)
    module = None if frame is None else frame.f_globals.get("__name__")
    name = getattr(coro, "__qualname__", None) or str(coro)
    return f"{module}.{name}" if module else name
