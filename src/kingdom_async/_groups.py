"""Tasks that end with their block.

Rule: anyio's task group does all the work. Ours keeps the handles of the tasks that are not
done yet, and that alone tells which daemons to cancel and which failure belongs to whom.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Container, Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

import anyio.abc
from anyio import (
    TaskHandle,
    create_task_group,
    current_effective_deadline,
    get_cancelled_exc_class,
)
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from . import _observe
from ._arguments import refuse_coroutine
from ._failures import (
    bare,
    distinct,
    first_of,
    identity,
    is_group,
    set_context,
    short_repr,
    without,
)

if sys.version_info >= (3, 11):
    from typing import Self, TypeVarTuple, Unpack
else:
    from typing_extensions import Self, TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")

_UNFINISHED = (TaskHandle.Status.PENDING, TaskHandle.Status.CANCELLING)


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
            logged. A failure wins over a cancellation from outside, and ``KeyboardInterrupt``
            and ``SystemExit`` over all.

    Example:
        >>> async with ka.TaskGroup(errors="first") as group:
        ...     group.start_soon(beat, daemon=True)  # ends when the other two have
        ...     user = group.start_soon(load_user, 7)
        ...     posts = group.start_soon(load_posts, 7)
        >>> print(user.return_value, posts.return_value)
    """

    def __init__(self, *, errors: Literal["group", "first"] = "group") -> None:
        if errors not in ("group", "first"):
            raise ValueError(f"errors must be 'group' or 'first', not {errors!r}")
        self._first = errors == "first"
        self._group = create_task_group()
        self._tasks = _Unfinished()
        self._daemons = _Unfinished()
        self._leaving = False
        self._watched = False
        self._daemons_ended = False

    @property
    def cancel_scope(self) -> anyio.CancelScope:  # type: ignore[override]
        """The scope around the body and all tasks."""
        return self._group.cancel_scope

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
            refuse_coroutine("start_soon", func)
            raise
        if not isinstance(coro, Coroutine):
            raise _not_async("start_soon", func, coro)
        return self.create_task(
            coro, name=_name_of(func) if name is None else name, daemon=daemon
        )

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
            context: The `contextvars.Context` to run in; default, a copy of the caller's.
            daemon: True for a task that does not keep the group open.
        """
        if _observe.observer is not None:
            name = getattr(coro, "__qualname__", None) if name is None else name
            coro = _observe.observer.spawned(coro, str(name), self)
        try:
            handle = self._group.create_task(coro, name=name, context=context)
        except TypeError:
            if isinstance(coro, Coroutine):
                raise
            raise TypeError(
                f"create_task() takes a coroutine, not {short_repr(coro)}; "
                "write create_task(fetch(1)) or start_soon(fetch, 1)"
            ) from None
        self._keep(handle, daemon)
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
        the caller before it cancels the task.

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
        refuse_coroutine("start", func)
        name = _name_of(func) if name is None else name
        heard: list[BaseException] | None = []

        async def watched(*args: object, task_status: anyio.abc.TaskStatus[Any]) -> T:
            try:
                coro = func(*args, task_status=task_status)
                if not isinstance(coro, Coroutine):
                    raise _not_async("start", func, coro)
                if _observe.observer is not None:
                    coro = _observe.observer.spawned(coro, str(name), self)
                return await coro
            except BaseException as error:
                if heard is not None:
                    heard.append(error)
                raise

        try:
            handle = await self._group.start(watched, *args, name=name, return_handle=True)
        except get_cancelled_exc_class():
            # The caller was cancelled, and the task with it. What the task raised then, anyio
            # drops on asyncio; it is raised here, as on trio.
            if not heard or without(get_cancelled_exc_class(), heard[0]) is None:
                raise
            failure = heard[0]
        else:
            self._keep(handle, daemon)
            return handle if return_handle else handle.start_value
        finally:
            heard = None  # an error whose frames hold it is a reference cycle
        try:
            raise failure
        finally:
            del failure

    def _keep(self, handle: TaskHandle[Any, Any], daemon: bool) -> None:
        if not daemon:
            self._tasks.add(handle)
            return
        self._daemons.add(handle)
        if self._daemons_ended:
            handle.cancel()
        elif self._leaving:
            self._watch()

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._group.create_task(self._end_daemons(), name="TaskGroup: end of daemons")

    async def _end_daemons(self) -> None:
        while pending := self._tasks.unfinished():  # may grow while we wait
            for handle in pending:
                await handle.wait()
        self._daemons_ended = True
        for daemon in self._daemons.handles:
            daemon.cancel()

    # --- the block -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(  # type: ignore[override]  # see "names bound in the block" in docs/design
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._leaving = True
        if self._daemons.handles:
            self._watch()
        try:
            if self._first:
                return await self._leave_with_first(exc_type, exc, traceback)
            return await self._group.__aexit__(exc_type, exc, traceback)
        finally:
            # an error whose frames hold it is a reference cycle
            self._tasks.handles.clear()
            self._daemons.handles.clear()
            del exc, traceback

    async def _leave_with_first(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # On asyncio anyio records the failure of a task a turn after the task has failed.
        before = self._names() if exc is not None else {}
        if exc is not None or current_effective_deadline() == -math.inf:
            # Where no task is left to wait for, a native cancellation makes anyio's exit
            # drop the failures that it has recorded.
            self._group.create_task(checkpoint(), name="TaskGroup: exit")
        try:
            raised = None if await self._group.__aexit__(exc_type, exc, traceback) else exc
        except BaseException as error:
            raised = error
        try:
            if raised is not None and _failures_in(raised, before):
                await _settle()
                raised = first_of(_failures_in(raised, before), self._names())
                if self._has_ended_the_loop():
                    raised = asyncio.CancelledError("the event loop is shut down")
            if raised is None or raised is exc:
                return raised is None
            context = raised.__context__
            try:
                raise raised
            finally:
                set_context(raised, context)  # Python put the body's error here
        finally:
            del raised, exc, traceback

    def _has_ended_the_loop(self) -> bool:
        """True if a task raised what tears through asyncio's loop as soon as it is raised.

        Raised once more by the group, it would tear through the loop's shutdown as well, and
        leave worker threads behind that nobody stops.
        """
        if get_cancelled_exc_class() is not asyncio.CancelledError:
            return False
        failed = (*self._tasks.failed(), *self._daemons.failed())
        return any(isinstance(error, (KeyboardInterrupt, SystemExit)) for _, error in failed)

    def _names(self) -> dict[tuple[int, ...], str]:
        failed = (*self._tasks.failed(), *self._daemons.failed())
        return {identity(error): name for name, error in failed}


class _Unfinished:
    """The handles of tasks that have not ended, or have failed; others are dropped in time.

    At most about as many finished ones are kept as there are unfinished, so a group that
    starts tasks for years stays small.
    """

    __slots__ = ("handles", "room")

    def __init__(self) -> None:
        self.handles: list[TaskHandle[Any, Any]] = []
        self.room = 32

    def add(self, handle: TaskHandle[Any, Any]) -> None:
        self.handles.append(handle)
        if len(self.handles) > self.room:
            dropped = (TaskHandle.Status.FINISHED, TaskHandle.Status.CANCELLED)
            self.handles = [h for h in self.handles if h.status not in dropped]
            self.room = 2 * len(self.handles) + 32

    def unfinished(self) -> list[TaskHandle[Any, Any]]:
        return [handle for handle in self.handles if handle.status in _UNFINISHED]

    def failed(self) -> list[tuple[str, BaseException]]:
        """The name and the failure of each task that failed."""
        status = TaskHandle.Status.FAILED
        failed = (
            (handle, handle.exception) for handle in self.handles if handle.status is status
        )
        return [(handle.name, error) for handle, error in failed if error is not None]


def _failures_in(
    raised: BaseException, before: Container[tuple[int, ...]]
) -> list[BaseException]:
    """What anyio's group recorded, in that order, with the cancellations taken out.

    What had failed *before* the body did comes before what the body raised.
    """
    cancelled = get_cancelled_exc_class()
    errors = raised.exceptions if is_group(raised) else (raised,)
    real = (without(cancelled, error) for error in errors)
    failures = [error for error in real if error is not None]
    return distinct(sorted(failures, key=lambda error: identity(bare(error)) not in before))


async def _settle() -> None:
    """Pass one shielded checkpoint, however many native cancellations strike in it.

    A coroutine that a cancellation resumed has the `__context__` of what it raises
    overwritten in each frame on the way out; one that was resumed in peace has not.
    """
    cancelled = get_cancelled_exc_class()
    while True:
        try:
            return await cancel_shielded_checkpoint()
        except cancelled:
            continue


def _not_async(call: str, func: Callable[..., object], result: object) -> TypeError:
    name = _name_of(func)
    return TypeError(
        f"{call}() takes an async function; {name}() returned {short_repr(result)}, "
        f"which is no coroutine; for a blocking function write {call}(offload, {name}, …)"
    )


def _name_of(func: Callable[..., object]) -> str:
    name = getattr(func, "__qualname__", None) or repr(func)
    module = getattr(func, "__module__", None)
    return f"{module}.{name}" if module else name
