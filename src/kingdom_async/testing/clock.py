"""Programs on virtual time.

Rule: time moves only while every task waits, and then to the very moment of the next timer.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

from .._arguments import check_seconds, name_of, refuse_async_generator, shown
from .._backend import choose_backend, running_library
from .clocks.idle import GRACE, Deadlock, Idle
from .internals.clocks import ASYNCIO_CLOCK
from .internals.features import need

if sys.version_info >= (3, 11):
    from typing import TypeVarTuple, Unpack
else:
    from typing_extensions import TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")

__all__ = ["Deadlock", "run_virtual", "virtual_backend"]


def run_virtual(
    func: Callable[[Unpack[Args]], Awaitable[T]],
    *args: Unpack[Args],
    backend: str | None = None,
    grace: float = GRACE,
) -> T:
    """Run ``func(*args)`` in a new event loop whose clock jumps instead of waiting.

    The clock begins at 0. It stands still while a task can run, and while a call through
    `offload`, in anyio's threads or processes, or in an executor of the loop is out. When every
    task waits for time, it jumps to the next timer: a year of sleeping takes milliseconds.
    ``time.monotonic()`` does not move with it.

    Args:
        func: An async function; *args* are its positional arguments.
        backend: ``"asyncio"`` or ``"trio"``; the variable is ``KINGDOM_ASYNC_BACKEND``, the
            default asyncio.
        grace: Real seconds to wait, before each jump, for the sockets and pipes that tasks
            wait on. What comes later than that is late.

    Raises:
        Deadlock: If nothing can wake the program any more; it says where each task is.
        ValueError: For a backend without virtual time, which uvloop is.
        FeatureOff: If the installed trio or anyio has changed inside.

    Example:
        >>> run_virtual(ka.sleep, 86400 * 365)
    """
    _refuse(func, grace)
    idle = Idle(grace=grace)
    name, options = virtual_backend(choose_backend(backend), idle)

    async def program() -> T:
        with idle.watched():
            return await _awaitable(func, func(*args))

    program.__module__ = getattr(func, "__module__", None) or __name__
    program.__qualname__ = name_of(func)  # what the main task is called
    return anyio.run(program, backend=name, backend_options=options)


def virtual_backend(backend: str, idle: Idle | None = None) -> tuple[str, dict[str, Any]]:
    """What anyio calls *backend* with virtual time: its name and the options for it.

    Raises:
        ValueError: For uvloop.
    """
    if backend == "trio":
        from .clocks.trio_clock import TrioClock

        return backend, TrioClock(idle).options
    if backend == "asyncio":
        from .clocks.asyncio_clock import VirtualLoop

        need(ASYNCIO_CLOCK)  # not while a loop is made, which could not be closed then
        return backend, {"loop_factory": lambda: VirtualLoop(idle)}
    raise ValueError(
        f"backend={backend!r} has no virtual time: uvloop waits inside libuv, with no selector "
        "to put in its place; use 'asyncio', where the same program runs, or 'trio'"
    )


def running_idle() -> Idle | None:
    """Who decides in the loop that runs here; None on real time."""
    if running_library() == "trio":
        from .clocks.trio_clock import idle_here

        return idle_here()
    from .clocks.asyncio_clock import VirtualLoop

    loop = asyncio.get_running_loop()
    return loop.idle if isinstance(loop, VirtualLoop) else None


def _refuse(func: object, grace: float) -> None:
    if isinstance(func, Coroutine):
        name = getattr(func, "__name__", "main")  # pyright: ignore[reportUnknownArgumentType]
        func.close()
        raise TypeError(f"run_virtual() takes the async function: pass {name}, not {name}()")
    refuse_async_generator("run_virtual", func)
    if not callable(func):
        raise TypeError(
            f"run_virtual() takes an async function and its arguments, not {shown(func)}; "
            "write run_virtual(main)"
        )
    check_seconds("grace", grace, "it is real time, such as 0.02")
    library = running_library()
    if library is None:
        return
    raise RuntimeError(
        f"run_virtual({name_of(func)}) inside a running {library} loop; it starts a loop of "
        "its own, so call it from an ordinary function, or use the fixture virtual_clock"
    )


def _awaitable(func: object, answer: Awaitable[T]) -> Awaitable[T]:
    if not inspect.isawaitable(answer):
        raise TypeError(
            f"run_virtual() takes an async function, and {name_of(func)} returned "
            f"{shown(answer)}; define it with async def"
        )
    return answer
