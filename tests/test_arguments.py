"""Arguments of the wrong kind: one sentence each, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

import kingdom_async as ka
from kingdom_async._arguments import name_of, shown


async def double(number: int) -> int:
    return 2 * number


async def later(item: object, error: Exception) -> None:
    raise NotImplementedError


async def stream(number: int) -> AsyncIterator[int]:
    yield number


def opens(number: int) -> AsyncIterator[int]:
    return stream(number)


class Adder:
    def __call__(self, number: int) -> int:
        return number + 1


async def refuse(expected: type[Exception], sentence: str, call: Any) -> None:
    with pytest.raises(expected, match=f"^{re.escape(sentence)}"):
        await call()


@pytest.mark.parametrize("on_error", [later, "skip"], ids=["async", "text"])
async def test_on_error_is_an_ordinary_function(on_error: Any) -> None:
    """It is refused before any item is worked on, in each call that takes one."""
    shown = ": on_error must be an ordinary function of an item and its error, not "
    error = TypeError
    await refuse(error, f"amap(){shown}", lambda: ka.amap(double, [1], on_error=on_error))
    await refuse(
        error,
        f"offload_map(){shown}",
        lambda: ka.offload_map(abs, [1], limit=1, on_error=on_error),
    )
    with pytest.raises(error, match=re.escape(f"imap(){shown}")):
        ka.imap(double, [1], limit=1, on_error=on_error)


@pytest.mark.parametrize("to", ["thread", "process"])
async def test_a_limiter_is_a_limiter(to: Any) -> None:
    """A number in its place gets a sentence."""
    await refuse(
        TypeError,
        "offload(): limiter must be a Limiter, not 5; make one for all calls, such as "
        "Limiter(5, name='database')",
        lambda: ka.offload(abs, 1, to=to, limiter=5),  # type: ignore[call-overload]
    )


async def test_stagger_is_a_number() -> None:
    """Text is refused, and the coroutines are closed."""
    await refuse(
        ValueError,
        "stagger must be 0 or more seconds, not '2'; leave it out to start all at once",
        lambda: ka.first_success(double(1), stagger="2"),  # type: ignore[arg-type]
    )


def test_environment_needs_a_loop() -> None:
    """Outside one the sentence names the call that was made."""
    sentence = "environment() where no event loop runs; enter it inside an async function"
    with pytest.raises(RuntimeError, match=re.escape(sentence)), ka.environment():
        pass


# --- which function, and in which place ----------------------------------------------

MISUSE: dict[str, tuple[Callable[[], Any], str]] = {
    "amap, swapped": (
        lambda: ka.amap([1], double),  # type: ignore[arg-type]
        (
            "amap() takes the function first, and then the items: write amap(double, items), "
            "not amap(items, double)"
        ),
    ),
    "imap, swapped": (
        lambda: ka.imap([1], double, limit=1),  # type: ignore[arg-type]
        (
            "imap() takes the function first, and then the items: write imap(double, items), "
            "not imap(items, double)"
        ),
    ),
    "offload_map, swapped": (
        lambda: ka.offload_map([1], abs, limit=1),  # type: ignore[arg-type]
        (
            "offload_map() takes the function first, and then the items: write "
            "offload_map(abs, items), not offload_map(items, abs)"
        ),
    ),
    "amap, no function": (
        lambda: ka.amap(5, [1]),  # type: ignore[arg-type]
        "amap() takes a function and items, not 5; write amap(fetch, urls)",
    ),
    "amap, no function, a coroutine as items": (
        lambda: ka.amap(5, double(1)),  # type: ignore[arg-type]
        "amap() takes a function and items, not 5; write amap(fetch, urls)",
    ),
    "amap of an async generator": (
        lambda: ka.amap(stream, [1]),  # type: ignore[arg-type]
        (
            "amap() takes an async function, and stream is an async generator; iterate over it "
            "where you need its items: async for item in stream(…)"
        ),
    ),
    "amap of a function that returns one": (
        lambda: ka.amap(opens, [1]),  # type: ignore[arg-type]
        (
            "amap(opens) takes an async function, and this one returned the async generator "
            "stream; give an async function that iterates over it"
        ),
    ),
    "offload of an async generator": (
        lambda: ka.offload(stream, 1),
        (
            "offload() takes an ordinary function, and stream is an async generator; iterate "
            "over it where you need its items: async for item in stream(…)"
        ),
    ),
    "offload of a partial of one": (
        lambda: ka.offload(partial(stream, 1), to="process"),
        (
            "offload() takes an ordinary function, and stream is an async generator; iterate "
            "over it where you need its items: async for item in stream(…)"
        ),
    ),
    "offload_map of an async generator": (
        lambda: ka.offload_map(stream, [1], limit=1),
        (
            "offload_map() takes an ordinary function, and stream is an async generator; "
            "iterate over it where you need its items: async for item in stream(…)"
        ),
    ),
    "gather of an async generator": (
        lambda: ka.gather(stream(1)),  # type: ignore[call-overload]
        (
            "gather() takes coroutines, not the async generator stream; write gather(fetch(1), "
            "fetch(2))"
        ),
    ),
    "a limiter that is a function": (
        lambda: ka.offload(abs, 1, limiter=double),  # type: ignore[call-overload]
        (
            "offload(): limiter must be a Limiter, not the function double; make one for all "
            "calls, such as Limiter(5, name='database')"
        ),
    ),
    "a place that is a function": (
        lambda: ka.offload(abs, 1, to=double),  # type: ignore[call-overload]
        (
            "to must be 'thread', 'process' or a concurrent.futures.Executor, not the function "
            "double"
        ),
    ),
    "linger": (
        lambda: ka.Queue[int](1).get_batch(1, "x"),  # type: ignore[arg-type]
        "linger must be a number of seconds, not 'x'; 0 takes what is there",
    ),
}


@pytest.mark.parametrize("misuse", MISUSE)
async def test_misuse_gets_a_sentence(misuse: str) -> None:
    """What was called, with what, and what to write instead; functions by their name."""
    call, sentence = MISUSE[misuse]
    with pytest.raises((TypeError, ValueError), match=rf"^{re.escape(sentence)}(\n|$)"):
        await call()  # the item may be named in a note


def test_a_function_is_called_by_its_name() -> None:
    """No address is shown for what has a name, or for a callable whose class has one."""
    assert name_of(partial(partial(double), 1)) == "double"
    assert name_of(Adder()) == "Adder"
    assert name_of([].append) == "list.append"
    assert shown(partial(double, 1)) == "the function double"
    assert shown(abs) == "the function abs"
    assert shown(int) == "<class 'int'>"
