"""Tasks that end with their block.

Rule: anyio's task group does all the work. This file starts tasks and hands their handles to
the group's members (`_members`), who know what to do when the block is left.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import anyio.abc
from anyio import TaskHandle, create_task_group, get_cancelled_exc_class

from . import _observe
from ._arguments import name_of, name_of_coroutine, refuse_coroutine, shown
from ._failures import without
from ._members import Members

if sys.version_info >= (3, 11):
    from typing import Self, TypeVarTuple, Unpack
else:
    from typing_extensions import Self, TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")


class TaskGroup(anyio.abc.TaskGroup):
    """Start tasks that have all ended when the block is left.

    An `anyio.abc.TaskGroup`, so any function that takes one takes this. Added to it are
    daemons, and errors that can be caught by their own type. When a task or the body fails,
    all the others are cancelled, and the block raises once they have ended. Where you need
    neither, ``anyio.create_task_group()`` is enough.

    Args:
        errors: ``"group"`` raises an ``ExceptionGroup`` of all failures, as anyio does.
            ``"first"`` raises the first failure itself, so that ``except DbError:`` works.
            Each other one is a note on it, stands in a group at the end of its chain, and is
            logged, together with those like it. A failure wins over a cancellation from
            outside, which the next wait then raises (one by ``asyncio.Task.cancel()`` on
            Python 3.13 and later only), and ``KeyboardInterrupt`` and ``SystemExit`` win over
            all. A plain group that holds a single error counts as that error, with the group's
            message as a note; a group of a class of its own stays what it is.

    Example:
        >>> async with ka.TaskGroup(errors="first") as group:
        ...     group.start_soon(beat, daemon=True)  # ends when the other two have
        ...     user = group.start_soon(load_user, 7)
        ...     posts = group.start_soon(load_posts, 7)
        >>> print(user.return_value, posts.return_value)
    """

    def __init__(self, *, errors: Literal["group", "first"] = "group") -> None:
        if errors not in ("group", "first"):
            raise ValueError(f"errors must be 'group' or 'first', not {shown(errors)}")
        self._first = errors == "first"
        self._group = create_task_group()
        self._members = Members(self._group)

    #: An observer's own.
    _seen: Any = None

    @property
    def cancel_scope(self) -> anyio.CancelScope:  # type: ignore[override]
        """The scope around the body and all tasks."""
        return self._group.cancel_scope

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the body and all tasks, as ``cancel_scope.cancel(reason)`` does."""
        scope: anyio.CancelScope | None = self._group.cancel_scope  # of trio's only when open
        if scope is None:
            raise RuntimeError("this task group is not open; enter it: async with group:")
        if (observer := _observe.observer) is not None:
            observer.cancelled(self, reason)
        scope.cancel(reason)

    # --- starting tasks --------------------------------------------------------------

    def start_soon(  # type: ignore[misc]  # final in the abc, which knows no daemons
        self,
        func: Callable[[Unpack[Args]], Coroutine[Any, Any, T]],
        *args: Unpack[Args],
        name: object = None,
        daemon: bool = False,
    ) -> TaskHandle[T]:
        """Start ``func(*args)`` as a task; it first runs when the caller next waits.

        Args:
            func: An async function; *args* are its positional arguments.
            name: What to call the task; default, the function's qualified name.
            daemon: True for a task that does not keep the group open. All daemons are
                cancelled together once the body and every ordinary task are done.

        Raises:
            TypeError: If *func* is not an async function.
            RuntimeError: If the group is not open.
        """
        try:
            coro = func(*args)
        except TypeError:
            _refuse_no_function("start_soon", func)
            raise
        if not isinstance(coro, Coroutine):
            raise _not_async("start_soon", func, coro)
        if name is None:
            name = _name_of(func)
        if (observer := _observe.observer) is not None:
            return self._create_observed(observer, coro, name, None, daemon)
        return self.create_task(coro, name=name, daemon=daemon)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        daemon: bool = False,
    ) -> TaskHandle[T]:
        """Start *coro* as a task; as `start_soon`, for a coroutine that is made already.

        Args:
            coro: A coroutine; closed if the task cannot be started.
            name: What to call the task; default, the coroutine's qualified name.
            context: The `contextvars.Context` of which the task gets a copy, so that what it
                sets is not seen there; default, the caller's.
            daemon: True for a task that does not keep the group open.
        """
        observer = _observe.observer  # another thread may set it to None at any time
        if observer is not None and isinstance(coro, Coroutine):
            return self._create_observed(observer, coro, name, context, daemon)
        try:
            handle = self._group.create_task(coro, name=name, context=context)
        except TypeError:
            if isinstance(coro, Coroutine):
                raise
            raise _no_coroutine(coro) from None
        self._members.add(handle, daemon)
        return handle

    def _create_observed(
        self,
        observer: _observe.Observer,
        coro: Coroutine[Any, Any, T],
        name: object,
        context: Context | None,
        daemon: bool,
    ) -> TaskHandle[T]:
        name = name_of_coroutine(coro) if name is None else str(name)
        child = observer.wrapped(coro, name, self, 3)
        try:
            handle = self._group.create_task(child, name=name, context=context)
        except BaseException:
            observer.unspawned(self)
            coro.close()
            raise
        self._members.add(handle, daemon)
        return handle

    @overload
    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        *args: object,
        name: object = None,
        return_handle: Literal[False] = ...,
        daemon: bool = False,
    ) -> Any: ...

    @overload
    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        *args: object,
        name: object = None,
        return_handle: Literal[True],
        daemon: bool = False,
    ) -> TaskHandle[T, Any]: ...

    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        *args: object,
        name: object = None,
        return_handle: bool = False,
        daemon: bool = False,
    ) -> Any:
        """Start a task and wait until it calls ``task_status.started(value)``.

        A failure before that call is raised here; one after it fails the group. Cancelling
        the caller before it cancels the task. On asyncio, as with anyio's, this hangs if the
        task is cancelled by ``asyncio.Task.cancel()`` before it took its first step.

        Args:
            func: An async function that takes ``task_status`` as a keyword argument.
            name: What to call the task; default, the function's qualified name.
            return_handle: True for the handle, whose ``start_value`` is the value.
            daemon: True for a task that does not keep the group open.

        Returns:
            The value given to ``started()``, or the handle.

        Raises:
            TypeError: If *func* is not an async function.
            RuntimeError: If the task ends without calling ``started()``, or the group is not
                open.
        """
        _refuse_no_function("start", func)
        name = _name_of(func) if name is None else name
        heard: list[BaseException] | None = []

        observer = _observe.observer
        ticket = None if observer is None else observer.spawning(str(name), self)

        async def watched(*args: object, task_status: anyio.abc.TaskStatus[Any]) -> T:
            try:
                coro = func(*args, task_status=task_status)
                if not isinstance(coro, Coroutine):
                    raise _not_async("start", func, coro)
                if observer is not None:
                    coro = observer.child(coro, ticket)
                return await coro
            except BaseException as error:
                if observer is not None:
                    observer.unstarted(ticket, error)
                if heard is not None:
                    heard.append(error)
                raise

        watched.__qualname__ = name_of(func)  # for who shows the handle's coroutine
        self._members.starts(daemon)
        try:
            handle = await self._group.start(watched, *args, name=name, return_handle=True)
        except get_cancelled_exc_class() as error:
            if observer is not None:
                observer.unstarted(ticket, error)
            # The caller was cancelled, and the task with it. What the task raised then, anyio
            # drops on asyncio; it is raised here, as on trio.
            if not heard or without(get_cancelled_exc_class(), heard[0]) is None:
                raise
            failure = heard[0]
        except BaseException:
            if observer is not None and not heard:
                observer.unspawned(self)
            raise
        else:
            self._members.add(handle, daemon)
            return handle if return_handle else handle.start_value
        finally:
            self._members.started(daemon)
            heard = None  # an error whose frames hold it is a reference cycle
        try:
            raise failure
        finally:
            del failure

    # --- the block -------------------------------------------------------------------

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __enter__(self):
            raise TypeError(
                "a TaskGroup is entered with async with: write async with TaskGroup() as group:"
            )

        __exit__ = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        if self._first:
            self._members.enter()
        if (observer := _observe.observer) is not None:
            observer.opened(self)
        return self

    async def __aexit__(  # type: ignore[override]  # see "names bound in the block" in docs/design
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._members.end_daemons_last()
        if exc is not None and (observer := _observe.observer) is not None:
            observer.failed(self, exc)
        try:
            if self._first:
                return await self._members.leave_with_first(exc_type, exc, traceback)
            return await self._group.__aexit__(exc_type, exc, traceback)
        finally:
            self._members.forget()
            if (observer := _observe.observer) is not None:
                observer.closed(self)
            del exc, traceback  # an error whose frames hold it is a reference cycle


def _refuse_no_function(call: str, func: object) -> None:
    refuse_coroutine(call, func)
    if not callable(func):
        raise TypeError(
            f"{call}() takes an async function and its arguments, not {shown(func)}; "
            f"write {call}(fetch, 1)"
        )


def _not_async(call: str, func: Callable[..., object], result: object) -> TypeError:
    name = _name_of(func)
    if isinstance(result, AsyncGenerator):
        instead = "iterate over it in an async function, and start that"
    else:
        instead = f"for a blocking function write {call}(offload, {name}, …)"
    return TypeError(
        f"{call}() takes an async function; {name}() returned {shown(result)}, "  # pyright: ignore[reportUnknownArgumentType]
        f"which is no coroutine; {instead}"
    )


def _no_coroutine(value: object) -> TypeError:
    name = name_of(value) if callable(value) else "fetch"
    return TypeError(
        f"create_task() takes a coroutine, not {shown(value)}; "
        f"write create_task({name}(…)) or start_soon({name}, …)"
    )


def _name_of(func: Callable[..., object]) -> str:
    name = getattr(func, "__qualname__", None)
    if name is None:
        if isinstance(func, partial):
            return _name_of(func.func)
        name = type(func).__qualname__
    module = getattr(func, "__module__", None)
    return f"{module}.{name}" if module else name
