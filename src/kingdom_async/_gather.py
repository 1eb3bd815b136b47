"""`gather`: a task group in one line.

Rule: every coroutine given is awaited or closed, and results are in the order given.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar, overload

from anyio import TaskCancelled, TaskHandle

from ._arguments import check_coroutines, name_of_coroutine
from ._failures import task_cancelled
from ._given import Given, close_unstarted, returns_coroutine, runs
from ._groups import TaskGroup

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")

Coro = Coroutine[Any, Any, T]


@overload
async def gather(*, return_exceptions: bool = False) -> tuple[()]: ...
@overload
async def gather(
    c1: Coro[T1], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1]: ...
@overload
async def gather(
    c1: Coro[T1], c2: Coro[T2], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2]: ...
@overload
async def gather(
    c1: Coro[T1], c2: Coro[T2], c3: Coro[T3], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2, T3]: ...
@overload
async def gather(
    c1: Coro[T1],
    c2: Coro[T2],
    c3: Coro[T3],
    c4: Coro[T4],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def gather(
    c1: Coro[T1],
    c2: Coro[T2],
    c3: Coro[T3],
    c4: Coro[T4],
    c5: Coro[T5],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def gather(
    c1: Coro[T1],
    c2: Coro[T2],
    c3: Coro[T3],
    c4: Coro[T4],
    c5: Coro[T5],
    c6: Coro[T6],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> tuple[T1, T2, T3, T4, T5, T6]: ...
@overload
async def gather(
    *coros: Coro[T], return_exceptions: Literal[False] = False
) -> tuple[T, ...]: ...
@overload
async def gather(
    c1: Coro[T1], /, *, return_exceptions: Literal[True]
) -> tuple[T1 | Exception]: ...
@overload
async def gather(
    c1: Coro[T1], c2: Coro[T2], /, *, return_exceptions: Literal[True]
) -> tuple[T1 | Exception, T2 | Exception]: ...
@overload
async def gather(
    c1: Coro[T1], c2: Coro[T2], c3: Coro[T3], /, *, return_exceptions: Literal[True]
) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception]: ...
@overload
async def gather(
    c1: Coro[T1],
    c2: Coro[T2],
    c3: Coro[T3],
    c4: Coro[T4],
    /,
    *,
    return_exceptions: Literal[True],
) -> tuple[T1 | Exception, T2 | Exception, T3 | Exception, T4 | Exception]: ...
@overload
async def gather(*coros: Coro[T], return_exceptions: bool) -> tuple[T | Exception, ...]: ...


@returns_coroutine
def gather(*coros: Coro[Any], return_exceptions: bool = False) -> Coro[tuple[Any, ...]]:
    """Run *coros* at the same time and return their results, in the order given.

    The first failure cancels the others and is raised itself, once they have ended, as from
    ``TaskGroup(errors="first")``. Cancelling the caller cancels them all. There is no limit
    on how many run at once: for many items of one kind use `amap`.

    Args:
        coros: Coroutines, such as ``fetch(1)``; each runs as a task.
        return_exceptions: True to put an ``Exception`` in the place of its result and let the
            others go on. Cancellation and ``KeyboardInterrupt`` never become values.

    Returns:
        A tuple with one result per coroutine.

    Raises:
        TaskCancelled: If a task was cancelled natively (``asyncio.Task.cancel``).

    Example:
        >>> user, posts = await ka.gather(load_user(7), load_posts(7))
    """
    return _gather(Given(coros), return_exceptions)


@runs("gather")
async def _gather(given: Given[Coro[Any]], return_exceptions: bool) -> tuple[Any, ...]:
    coros = given.take()
    check_coroutines("gather", coros)
    try:
        async with TaskGroup(errors="first") as group:
            if return_exceptions:
                handles = [
                    group.create_task(_value_or_error(coro), name=name_of_coroutine(coro))
                    for coro in coros
                ]
            else:
                handles = [group.create_task(coro) for coro in coros]
            group._members.are_new = True
    except BaseException:
        handles = []  # an error whose frames hold it is a reference cycle
        close_unstarted(coros)
        raise
    if group.cancel_scope.cancel_called:  # and yet no error: asyncio.Task.cancel()
        close_unstarted(coros)
        _raise_if_cancelled(handles)
    return tuple(handle.return_value for handle in handles)


def _raise_if_cancelled(handles: Sequence[TaskHandle[Any]]) -> None:
    cancelled = [
        (handle.name, _why_cancelled(handle))
        for handle in handles
        if handle.status is not TaskHandle.Status.FINISHED
    ]
    if cancelled:
        # all but one were cancelled by the group, and anyio's message says so
        name, cause = min(cancelled, key=lambda one: "cancel scope" in str(one[1]))
        raise task_cancelled("gather", name, cause)


def _why_cancelled(handle: TaskHandle[Any]) -> BaseException | None:
    if handle.status is not TaskHandle.Status.CANCELLED:
        return None  # it never took its first step
    try:
        return handle.exception
    except TaskCancelled as error:
        return error.__cause__


async def _value_or_error(coro: Coro[T]) -> T | Exception:
    try:
        return await coro
    except Exception as error:
        return error
