"""Arguments that are not what a call takes, and the sentence that helps.

Rule: what is refused leaves nothing behind: no coroutine stays unawaited.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Coroutine, Iterable, Sequence
from types import CoroutineType
from typing import Any

from ._failures import short_repr

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
    if isinstance(wrong, _COLLECTIONS):
        close_all(wrong)  # pyright: ignore[reportUnknownArgumentType]
        instead = f"write {call}(*coros)"
    elif inspect.iscoroutinefunction(wrong):
        name = wrong.__name__
        instead = f"write {call}({name}(…)), with what {name}() takes"
    elif inspect.isawaitable(wrong):
        instead = "await it in an async function of your own, and give a call of that"
    else:
        instead = f"write {call}(fetch(1), fetch(2))"
    what = short_repr(wrong)  # pyright: ignore[reportUnknownArgumentType]
    raise TypeError(f"{call}() takes coroutines, not {what}; {instead}")


def close_all(coros: Iterable[object]) -> None:
    """Close those of *coros* that are coroutines; one that has ended stays as it is."""
    for coro in coros:
        if isinstance(coro, Coroutine):
            coro.close()


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
    raise TypeError(f"{call}(): items must be iterable, not {short_repr(items)}; {instead}")


def check_on_error(call: str, on_error: object) -> None:
    """Refuse what cannot be called with an item and its error for a value."""
    if on_error is None or (callable(on_error) and not inspect.iscoroutinefunction(on_error)):
        return
    raise TypeError(
        f"{call}(): on_error must be an ordinary function of an item and its error, not "
        f"{short_repr(on_error)}; on_error=ErrorResult keeps both"
    )


def check_count(what: str, value: float, instead: str) -> None:
    """Refuse anything but a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, not {value!r}; {instead}")
    if value < 1:
        raise ValueError(f"{what} must be 1 or more, not {value!r}; {instead}")


def is_async(call: str, func: object, instead: str) -> TypeError:
    """The error for an async function given where an ordinary one is wanted."""
    return TypeError(
        f"{call}() runs ordinary functions, and {name_of(func)} is async; write {instead}"
    )


def name_of(func: object) -> str:
    """What to call *func* in an error."""
    return getattr(func, "__qualname__", None) or repr(func)


def name_of_coroutine(coro: Coroutine[Any, Any, object]) -> str:
    """What to call the task that runs *coro*."""
    return getattr(coro, "__qualname__", None) or type(coro).__name__
