"""Plays a made-up program, and keeps the log.

Rule: an operation is entered in the log after the next delay, not when it is over. Whether a
task that is cancelled in the moment in which it was woken has seen what woke it, no backend
promises.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import kingdom_async as ka
from kingdom_async._failures import without

from .made_up import LONGEST, QUEUES, THE_END, Op, Script
from .outcomes import tree
from .uvloop_clock import held

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


class Planned(Exception):
    """What a program raises on purpose."""


class Player:
    """For one run."""

    def __init__(self) -> None:
        self.log: dict[str, list[tuple[float, object]]] = {}
        #: What no program raises: the player itself is wrong.
        self.mistakes: list[Exception] = []
        self._queues = [ka.Queue[int](size, overflow=policy) for size, policy in QUEUES]  # type: ignore[arg-type]
        self._events = [ka.Event() for _ in range(2)]
        self._limiter = ka.Limiter(2, name="soak")
        self._lock = ka.Lock()
        self._starts = ka.RateLimit(1 / LONGEST)

    async def play(self, program: Script) -> object:
        try:
            with ka.move_on_after(THE_END):
                await self._script(program, _Alone())
        finally:
            for number, queue in enumerate(self._queues):
                entries = [(0, queue.statistics()), (0, tuple(queue.drain()))]
                self.log[f"queue {number}"] = [*entries]
        return ka.current_time()

    async def _script(self, script: Script, group: _Group | _Alone) -> int:
        """What it returns tells how much of it was done."""
        done: object = "begins"
        try:
            for op in (*script.ops, None):
                await ka.sleep(script.last if op is None else op.after)
                self._enter(script.name, done)
                if op is not None:
                    done = await self._op(op, script.name, group)
            return len(script.ops)
        except ka.get_cancelled_exc_class():
            self._enter(script.name, "cancelled")
            raise
        except BaseException as error:
            self._enter(script.name, ("raised", tree(error)))
            raise

    async def _op(self, op: Op, name: str, group: _Group | _Alone) -> object:
        doing: Callable[[Op, _Group | _Alone], Awaitable[object]] = getattr(self, f"_{op.kind}")
        began = ka.current_time()
        try:
            answer = await doing(op, group)
        except (ka.QueueClosed, ka.WouldBlock) as error:
            answer = type(error).__name__
        except Exception as error:
            if isinstance(error, (TypeError, AttributeError, AssertionError)):
                self.mistakes.append(error)
            if not op.catches:
                raise
            answer = tree(error)
        return op.number, op.kind, op.way, answer, began

    def _enter(self, name: str, what: object) -> None:
        self.log.setdefault(name, []).append((ka.current_time(), what))

    # --- operations that have no parts -----------------------------------------------

    async def _sleep(self, op: Op, group: object) -> None:
        await ka.sleep(op.number)

    async def _put(self, op: Op, group: object) -> None:
        queue = self._queue(op)
        if op.way == "nowait":
            queue.put_nowait(op.number)
        else:
            with ka.fail_after(3 * LONGEST + op.number, reason=f"put {op.number}"):
                await queue.put(op.number)

    async def _get(self, op: Op, group: object) -> object:
        queue = self._queue(op)
        if op.way == "drain":
            return tuple(queue.drain())
        if op.way == "nowait":
            return queue.get_nowait()
        with ka.fail_after(5 * LONGEST + op.number, reason=f"get {op.number}"):
            if op.way == "wait":
                return await queue.get()
            linger = op.after // 3 if op.way == "linger" else 0
            return tuple(await queue.get_batch(2, linger))

    async def _close(self, op: Op, group: object) -> None:
        self._queue(op).close(Planned(op.number) if op.way == "error" else None)

    async def _event(self, op: Op, group: object) -> None:
        event = self._events[op.number % 2]
        if op.way == "set":
            event.set()
        else:
            with ka.move_on_after(4 * LONGEST + op.number):
                await event.wait()

    async def _rate(self, op: Op, group: object) -> None:
        async with self._starts:
            pass

    async def _offload(self, op: Op, group: object) -> int:
        def work() -> int:
            if op.way == "error":
                raise Planned(op.number)
            return op.number

        with held():
            return await ka.offload(work)

    async def _raise(self, op: Op, group: object) -> None:
        raise Planned(op.number)

    async def _cancel(self, op: Op, group: _Group | _Alone) -> None:
        if op.way == "group":
            group.cancel(f"op {op.number}")
        elif group.handles:
            group.handles[op.number % len(group.handles)].cancel()

    async def _handle(self, op: Op, group: _Group | _Alone) -> object:
        if not group.handles:
            return None
        try:
            with ka.move_on_after(2 * LONGEST + op.number):
                return await group.handles[op.number % len(group.handles)]
        except (ka.TaskFailed, ka.TaskCancelled) as error:
            return type(error).__name__
        return "still at work"

    def _queue(self, op: Op) -> ka.Queue[int]:
        return self._queues[op.number % len(self._queues)]

    # --- operations around others ----------------------------------------------------

    async def _timeout(self, op: Op, group: _Group | _Alone) -> object:
        (inner,), seconds = op.scripts, 2 * op.after
        if op.way == "with_timeout":
            return await ka.with_timeout(seconds, self._script(inner, group), default="late")
        block = ka.fail_after(seconds, reason="soak") if op.way == "fail" else None
        with block or ka.move_on_after(seconds) as scope:
            await self._script(inner, group)
        return scope.cancelled_caught

    async def _shield(self, op: Op, group: _Group | _Alone) -> object:
        with ka.shielded(3 * op.after):
            return await self._script(op.scripts[0], group)

    async def _cleanup(self, op: Op, group: _Group | _Alone) -> object:
        work, cleanup = op.scripts
        try:
            return await self._script(work, group)
        finally:
            with ka.shielded(2 * op.after if op.number % 2 else math.inf):
                await self._script(cleanup, _Alone())
                if op.way == "raises":
                    raise Planned(f"cleanup {op.number}")

    async def _limit(self, op: Op, group: _Group | _Alone) -> object:
        limits: dict[str, AbstractAsyncContextManager[Any]] = {
            "limiter": self._limiter,
            "lock": self._lock,
        }
        with ka.move_on_after(6 * LONGEST + op.number):
            async with limits[op.way]:
                return await self._script(op.scripts[0], group)
        return "no longer"

    async def _group(self, op: Op, outer: object) -> object:
        try:
            return await self._tasks(op)
        except BaseExceptionGroup as error:
            # A group that fails and is cancelled from outside: on trio the cancellations are
            # among what it raises, so that `except Exception` does not catch it.
            failures = without(ka.get_cancelled_exc_class(), error)
            if failures is None or failures is error:
                raise
            raise failures from None

    async def _tasks(self, op: Op) -> object:
        body, *children = op.scripts
        async with ka.TaskGroup(errors="first" if op.way == "first" else "group") as tasks:
            group = _Group(tasks)
            for number, child in enumerate(children):
                is_daemon = (op.number + number) % 4 == 0
                group.handles.append(
                    tasks.create_task(
                        self._script(child, group), name=child.name, daemon=is_daemon
                    )
                )
            await self._script(body, group)
        return [
            (handle.name, handle.status.name, tree(handle.exception) if handle.exception else 0)
            for handle in group.handles
        ]

    async def _gather(self, op: Op, group: object) -> object:
        coros = [self._script(script, _Alone()) for script in op.scripts]
        results = await ka.gather(*coros, return_exceptions=op.way == "exceptions")
        return [tree(one) if isinstance(one, BaseException) else one for one in results]

    async def _race(self, op: Op, group: object) -> object:
        coros = [self._script(script, _Alone()) for script in op.scripts]
        if op.way == "finished":
            return await ka.first_finished(*coros)
        return await ka.first_success(
            *coros, stagger=op.after // 2 if op.way == "stagger" else None
        )

    async def _map(self, op: Op, group: object) -> object:
        async def one(script: Script) -> int:
            return await self._script(script, _Alone())

        limit = 1 + op.number % 3
        if op.way == "amap":
            return await ka.amap(one, op.scripts, limit=limit if op.number % 2 else None)
        if op.way == "on_error":
            return await ka.amap(
                one, op.scripts, limit=limit, on_error=lambda script, error: tree(error)
            )
        found: list[tuple[float, int]] = []
        is_ordered = op.way == "imap"
        async with ka.imap(one, op.scripts, limit=limit, ordered=is_ordered) as results:
            async for value in results:
                found.append((ka.current_time(), value))
                await ka.sleep(op.after // 5 + len(found))
        return found


class _Group:
    """The group that a script is in."""

    def __init__(self, tasks: ka.TaskGroup) -> None:
        self.cancel = tasks.cancel
        self.handles: list[ka.TaskHandle[int]] = []


class _Alone:
    """There is none."""

    handles: tuple[ka.TaskHandle[int], ...] = ()

    def cancel(self, reason: str) -> None:
        return None
