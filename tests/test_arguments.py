"""Arguments of the wrong kind: one sentence each, and nothing left behind."""

from __future__ import annotations

import re
from typing import Any

import pytest

import kingdom_async as ka


async def double(number: int) -> int:
    return 2 * number


async def later(item: object, error: Exception) -> None:
    raise NotImplementedError


async def refuse(expected: type[Exception], sentence: str, call: Any) -> None:
    with pytest.raises(expected, match=re.escape(sentence)):
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
        "Limiter(5)",
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
