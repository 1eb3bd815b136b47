"""Functions and values for other processes, which import this module by its name."""

from __future__ import annotations

import os
import signal
import threading
from contextvars import ContextVar
from typing import Any

variable: ContextVar[str] = ContextVar("elsewhere", default="unset")


def add(left: int, right: int) -> int:
    return left + right


def process_and_variable() -> tuple[int, str]:
    return os.getpid(), variable.get()


def fail(text: str) -> None:
    raise LookupError(text)


def stop() -> None:
    raise StopIteration


def leave() -> None:
    raise SystemExit("from elsewhere")


def die() -> None:
    os._exit(3)


def lock() -> Any:
    return threading.Lock()


def returns_coroutine() -> Any:
    return nothing()


async def nothing() -> None: ...


class Unpicklable(Exception):
    """An error that cannot be pickled: it holds a lock."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def raise_unpicklable() -> None:
    raise Unpicklable


class OneWay(Exception):
    """An error that can be pickled and not unpickled, as many of the standard pattern."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def raise_one_way() -> None:
    raise OneWay(7, "one way")


class Treacherous:
    """A value that can be pickled and not unpickled."""

    def __reduce__(self) -> Any:
        return fail, ("not today",)


def return_treacherous() -> Any:
    return Treacherous()


def half(number: int) -> int:
    """Fails for 13; a StopIteration for 17; for 19 what cannot be pickled, and for 23 back."""
    if number == 13:
        raise ValueError("bad luck")
    if number == 17:
        raise StopIteration
    if number == 19:
        raise Unpicklable
    if number == 23:
        raise OneWay(7, "one way")
    return number // 2


def pass_gates(begun: str, go: str) -> str:
    """Go through two named pipes, each of which opens only when the other side opens it."""
    open(begun, "w").close()
    open(go).close()
    return "late"


def interrupted() -> bool:
    """Whether a Ctrl-C interrupts what runs here."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return True
    return False
