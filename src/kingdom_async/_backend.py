"""Which event loop: its names, how one is chosen, and which one runs now.

Rule: nothing is imported here that the chosen backend does not need, and a wrong choice
is refused before any loop starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from threading import get_ident
from typing import TYPE_CHECKING, Any

import sniffio
from anyio import get_cancelled_exc_class
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from anyio.abc import AsyncBackend

BACKENDS = ("asyncio", "asyncio+uvloop", "trio")

_VARIABLE = "KINGDOM_ASYNC_BACKEND"
_classes: dict[type[BaseException], type[AsyncBackend]] = {}
_NEEDS = {"asyncio": "asyncio", "asyncio+uvloop": "uvloop", "trio": "trio"}


def installed_backends() -> tuple[str, ...]:
    """The backends that can run here."""
    return tuple(name for name in BACKENDS if find_spec(_NEEDS[name]) is not None)


def choose_backend(
    argument: str | None, environ: Mapping[str, str] | None = None, runs: str | None = None
) -> str:
    """*argument*, else ``KINGDOM_ASYNC_BACKEND``, else asyncio.

    Where a backend *runs* already, what was asked for need not be installed.

    Raises:
        ValueError: If there is no such backend.
        ImportError: If it is not installed.
    """
    if argument is not None:
        source, name = "backend", argument
    else:
        environ = os.environ if environ is None else environ
        source, name = _VARIABLE, environ.get(_VARIABLE) or "asyncio"
    installed = installed_backends()
    if name not in BACKENDS:
        raise ValueError(
            f"{source}={name!r} is no backend; use one of {', '.join(BACKENDS)} "
            f"(installed here: {', '.join(installed)})"
        )
    if runs is None and name not in installed:
        raise ImportError(
            f"{source}={name!r} needs {_NEEDS[name]}, which is not installed; "
            f"run: pip install {_NEEDS[name]}, or use one of {', '.join(installed)}"
        )
    return name


def anyio_backend(name: str) -> tuple[str, dict[str, Any]]:
    """What anyio calls backend *name*: its own name and the options for it."""
    if name == "asyncio+uvloop":
        import uvloop

        return "asyncio", {"loop_factory": uvloop.new_event_loop}
    return name, {}


def running_library() -> str | None:
    """Whose loop runs in this thread, "asyncio" or "trio"; None where none does."""
    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:  # but perhaps a callback of asyncio's
        loop: object = asyncio._get_running_loop()  # pyright: ignore[reportUnknownMemberType]
        return None if loop is None else "asyncio"


def current_backend() -> str:
    """Which backend runs the calling task, or callback.

    It is ``"asyncio"``, ``"asyncio+uvloop"`` or ``"trio"``. Answers under any loop,
    whoever started it.

    Raises:
        RuntimeError: If no event loop runs in this thread.
    """
    library = running_library()
    if library is None:
        raise RuntimeError(
            "current_backend() called where no event loop runs; call it from inside "
            "an async function"
        )
    if library == "asyncio":
        kinds = type(asyncio.get_running_loop()).__mro__  # it may be a class made from uvloop's
        is_uvloop = any(kind.__module__.startswith("uvloop") for kind in kinds)
        return "asyncio+uvloop" if is_uvloop else library
    return library


def run_finder() -> Callable[[], object]:
    """A quick function that says which run the caller is in, made for the current backend.

    It returns the same object for as long as the run lasts. Elsewhere, other threads included,
    it returns something else or raises `RuntimeError`.

    Raises:
        RuntimeError: If no event loop runs in this thread.
    """
    if current_backend() == "trio":
        import trio

        return trio.lowlevel.current_trio_token

    if sys.version_info >= (3, 12):
        return asyncio._get_running_loop

    # Before 3.12 that asks the operating system for the process, each time.
    loop, thread = asyncio.get_running_loop(), get_ident()
    is_running = loop.is_running
    return lambda: loop if get_ident() == thread and is_running() else None


def backend_class() -> type[AsyncBackend]:
    """anyio's implementation of the backend that runs: what each ``anyio.…`` call looks up.

    As ``current_token().backend_class``, at half the price.

    Raises:
        RuntimeError: If no event loop runs in this thread.
    """
    cancelled = get_cancelled_exc_class()
    try:
        return _classes[cancelled]
    except KeyError:
        return _classes.setdefault(cancelled, current_token().backend_class)
