"""Starting a program, or settling into a loop that somebody else started.

Rule: whatever is wrong with the call or the settings is said before the loop starts, and a
Ctrl-C comes out as a bare `KeyboardInterrupt`, whichever loop ran.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

import anyio
from anyio.to_thread import current_default_thread_limiter

from . import _observe
from ._arguments import name_of, refuse_async_generator, shown
from ._backend import anyio_backend, current_backend, running_library
from ._errors import OffloadError
from ._interrupts import Interrupts
from ._settings import Level, Settings, read_settings

if sys.version_info >= (3, 11):
    from typing import TypeVarTuple, Unpack
else:
    from typing_extensions import TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")


def run(
    func: Callable[[Unpack[Args]], Awaitable[T]],
    *args: Unpack[Args],
    backend: str | None = None,
    trace: str | None = None,
) -> T:
    """Run ``func(*args)`` in a new event loop and return its result.

    For each setting an argument beats its ``KINGDOM_ASYNC_…`` environment variable, which
    beats the default; an empty variable is one that is not set. Ctrl-C cancels the main task
    where it waits, and raises a bare ``KeyboardInterrupt`` once the program has cleaned up;
    errors in that cleanup are its ``__cause__``. A second Ctrl-C raises at once.

    Args:
        func: An async function; *args* are its positional arguments.
        backend: ``"asyncio"``, ``"asyncio+uvloop"`` or ``"trio"``; the variable is
            ``KINGDOM_ASYNC_BACKEND``, the default asyncio.
        trace: ``"off"``, ``"life"`` or ``"steps"``, optionally ``":path"`` of a recording; the
            variable is ``KINGDOM_ASYNC_TRACE``, the default off.

    Raises:
        ValueError: If a setting is not valid.
        ImportError: If the backend is not installed.
        RuntimeError: If an event loop runs in this thread already.
        TypeError: If *func* is no async function.
        KeyboardInterrupt: On Ctrl-C.

    Warns:
        UserWarning: For a ``KINGDOM_ASYNC_`` variable that does not exist.

    Example:
        >>> ka.run(main, "https://example.org", backend="trio")
    """
    _refuse_coroutine(func)
    _refuse_nesting(func)
    _refuse_second_start()
    settings = read_settings(backend, trace)
    interrupts = Interrupts()
    name, options = anyio_backend(settings.backend)
    options |= interrupts.options(settings.backend)

    async def program() -> T:
        interrupts.start_counting()
        try:
            with _Applied(settings):
                return await _observed(_awaitable(func, func(*args)), name_of(func))
        finally:
            interrupts.shuts_down()

    program.__module__ = getattr(func, "__module__", None) or __name__
    program.__qualname__ = name_of(func)  # what the main task is called
    with interrupts:
        return anyio.run(program, backend=name, backend_options=options)


@contextmanager
def environment(*, trace: str | None = None) -> Generator[None]:
    """Apply the ``KINGDOM_ASYNC_…`` variables to a loop that somebody else started.

    For programs under uvicorn, hypercorn or a test runner; `run` does it by itself. The block
    may be the lifespan of an application. All else in the package needs no block.

    Args:
        trace: As in `run`.

    Raises:
        ValueError: If a setting is not valid.
        RuntimeError: If no event loop runs in this thread.

    Warns:
        UserWarning: If the backend asked for is not the one that runs.

    Example:
        >>> @asynccontextmanager
        ... async def lifespan(app):
        ...     with ka.environment():
        ...         yield
    """
    try:
        runs = current_backend()
    except RuntimeError:
        raise RuntimeError(
            "environment() where no event loop runs; enter it inside an async function, or "
            "start the program with run(), which does it by itself"
        ) from None
    settings = read_settings(trace=trace, runs=runs, stacklevel=4)  # contextlib stands between
    if settings.asked is not None and settings.backend != runs:
        warnings.warn(
            f"KINGDOM_ASYNC_BACKEND asks for {settings.backend}, but {runs} runs already; "
            "choose the loop where it is started (uvicorn: --loop)",
            UserWarning,
            stacklevel=3,
        )
    with _Applied(settings):
        yield


class _Applied(AbstractContextManager[None]):
    """The settings that a running loop takes; as they were before, afterwards."""

    def __init__(self, settings: Settings) -> None:
        self._threads = settings.threads
        self._level: Level = settings.trace
        self._path = settings.trace_path
        self._control = settings.control
        self._watchdog = settings.watchdog
        self._tracing = ExitStack()

    def __enter__(self) -> None:
        with self._tracing as entered:  # ended, if what follows raises
            self._enter(entered)
            self._tracing = entered.pop_all()

    def _enter(self, tracing: ExitStack) -> None:
        if self._level != "off" or self._control:
            from .trace.control.programs import traced

            tracing.enter_context(traced(self._level, self._path, control=self._control))
        if self._watchdog is not None:
            from .trace.lints.watchdog import of_program

            tracing.enter_context(of_program(self._watchdog))
        if self._threads is not None:
            self._limiter = current_default_thread_limiter()
            self._before = self._limiter.total_tokens
            self._limiter.total_tokens = self._threads

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._limiter.total_tokens = self._before
        if exc is not None:
            _tell_recordings(exc)
        self._tracing.close()


def _tell_recordings(error: BaseException) -> None:
    """An error leaves the program; a recording may be there that saves what led to it."""
    hub = sys.modules.get("kingdom_async.trace.hub")
    if hub is not None:
        hub.hub.crashed(error)


def _refuse_coroutine(func: object) -> None:
    if isinstance(func, Coroutine):
        name = getattr(func, "__name__", "main")  # pyright: ignore[reportUnknownArgumentType]
        func.close()
        raise TypeError(f"run() takes the async function: pass {name}, not {name}()")
    refuse_async_generator("run", func)
    if not callable(func):
        raise TypeError(
            f"run() takes an async function and its arguments, not {shown(func)}; "
            "write run(main)"
        )


def _awaitable(func: object, answer: Awaitable[T]) -> Awaitable[T]:
    if not inspect.isawaitable(answer):
        raise TypeError(
            f"run() takes an async function, and {name_of(func)} returned {shown(answer)}; "
            "define it with async def, or call it without run()"
        )
    return answer


async def _observed(answer: Awaitable[T], name: str) -> T:
    """The program itself, as the first task that a recording sees."""
    observer = _observe.observer
    if observer is None or not isinstance(answer, Coroutine):
        return await answer
    return await observer.adopted(answer, name)  # pyright: ignore[reportUnknownArgumentType]


def _refuse_nesting(func: Callable[..., object]) -> None:
    library = running_library()
    if library is None:
        return
    name = name_of(func)
    raise RuntimeError(
        f"run({name}) inside a running {library} loop; you are in async code already: "
        f"await it, as in await {name}(…)"
    )


def _refuse_second_start() -> None:
    """Stop a worker process that, by importing the main file, starts the program again."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if (
            frame.f_globals.get("__name__") == "__mp_main__"
            and frame.f_code.co_name == "<module>"
        ):
            raise OffloadError(
                "run() was called while a worker process imported the main file; put what "
                "starts the program under: if __name__ == '__main__':"
            )
        frame = frame.f_back
