"""What the testing tools are given, looked at before a loop starts.

Rule: what cannot work is refused with what to write instead, and what would only seem to work
above all: a check that is never run finds nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..._arguments import name_of, refuse_async_generator, shown
from ..._backend import running_library
from ..reports import called

Check = Callable[[], object]


def check_body(call: str, body: object) -> None:
    """Refuse what is no async function without arguments."""
    if isinstance(body, Coroutine):
        name = getattr(body, "__name__", "body")  # pyright: ignore[reportUnknownArgumentType]
        body.close()
        raise TypeError(f"{call}() takes the async function: pass {name}, not {name}()")
    refuse_async_generator(call, body)
    if not callable(body):
        raise TypeError(
            f"{call}() takes an async function, not {shown(body)}; write {call}(body)"
        )
    if missing := _needs(body):
        name = called(body)
        raise TypeError(
            f"{call}() calls its body without arguments, and {name}() needs {missing}; write "
            f"{call}(functools.partial({name}, …))"
        )


def check_check(call: str, check: object) -> None:
    """Refuse what is no ordinary function without arguments."""
    if check is None:
        return
    if inspect.iscoroutinefunction(check) or inspect.isasyncgenfunction(check):
        raise _is_async_check(call, check)
    if not callable(check):
        raise TypeError(
            f"{call}(): check must be a function, not {shown(check)}; it is called after each "
            "run, and raises where something is wrong"
        )
    if missing := _needs(check):
        raise TypeError(
            f"{call}(): check is called without arguments, and {name_of(check)}() needs "
            f"{missing}; let the body leave what it looks at in a variable of yours"
        )


def ask(call: str, check: Check) -> None:
    """Have *check* look at what a run has left.

    Raises:
        AssertionError: If it returns False, as a comparison does.
    """
    answer = check()
    if answer is False:
        raise AssertionError(f"{name_of(check)}() returned False")
    if isinstance(answer, Awaitable):
        if isinstance(answer, Coroutine):
            answer.close()
        raise NotAsChecked(str(_is_async_check(call, check)))


def refuse_running_loop(call: str, body: object) -> None:
    library = running_library()
    if library is None:
        return
    raise RuntimeError(
        f"{call}({name_of(body)}) inside a running {library} loop; it starts loops of its own, "
        "so call it from an ordinary function"
    )


def coroutine_of(call: str, body: Callable[[], Awaitable[object]]) -> Coroutine[Any, Any, Any]:
    """The coroutine of *body*; whatever it does happens when that is awaited."""
    answer = body()
    if isinstance(answer, Coroutine):
        return answer  # pyright: ignore[reportUnknownVariableType]
    if isinstance(answer, Awaitable):
        return _awaiting(answer)
    raise NotAsChecked(
        f"{call}() takes an async function, and {name_of(body)} returned {shown(answer)}; "
        "define it with async def"
    )


class NotAsChecked(TypeError):
    """Something is none of what it was taken for, which shows only when it is called.

    It passes through what looks at the errors of a body, and comes out as a `TypeError`.
    """


def check_kinds_of_errors(call: str, raises: object) -> None:
    """Refuse what is neither a class of errors nor a tuple of such."""
    given: tuple[Any, ...] = raises if isinstance(raises, tuple) else (raises,)  # pyright: ignore[reportUnknownVariableType]
    for one in given:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(
                f"{call}(): raises takes a class of errors or a tuple of them, not "
                f"{shown(one)}; write raises=(LookupError, OSError)"  # pyright: ignore[reportUnknownArgumentType]
            )


def _needs(func: Callable[..., object]) -> str:
    """The arguments that *func* cannot be called without, as text."""
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):  # written in C, it may not tell
        return ""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return ", ".join(
        one.name
        for one in parameters
        if one.default is inspect.Parameter.empty and one.kind not in optional
    )


def _is_async_check(call: str, check: object) -> TypeError:
    return TypeError(
        f"{call}(): check must be an ordinary function, and {name_of(check)} is async; it is "
        "called when the loop of a run is over, so look there at what the body has left"
    )


async def _awaiting(answer: Awaitable[object]) -> object:
    return await answer
