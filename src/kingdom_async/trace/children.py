"""What a task of the core runs in while it is recorded.

Rule: this is paid for by every task that is spawned, so it is written out: no calls, no
objects but the coroutine itself and one tuple at the end. On loops that cannot be watched
from outside, the task drives itself and times its own steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from threading import get_ident
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .._given import TRACED
from .guard import report
from .places import CORE_FILES, outside
from .records import now
from .store import LONGEST_NAME, Account, Block

if TYPE_CHECKING:
    from .._observe import Group
    from .recorder import Recorder

T = TypeVar("T")
Wrapped: TypeAlias = Callable[
    [Coroutine[Any, Any, Any], str, Any, int], Coroutine[Any, Any, Any]
]
Child: TypeAlias = Callable[[Coroutine[Any, Any, Any], int], Coroutine[Any, Any, Any]]


def make_wrapped(recorder: Recorder) -> Wrapped:
    """What takes a task that is about to be spawned, and gives what is to run in its place."""
    store, child, unbegun = recorder.store, recorder.child, recorder.unbegun
    live, serials = store.live, store.serials
    thread, identify = recorder.loop.thread, recorder.loop.identify

    def wrapped(
        coro: Coroutine[Any, Any, T], name: str, group: Group, depth: int
    ) -> Coroutine[Any, Any, T]:
        if get_ident() != thread:
            return coro
        try:
            block: Block | None = group._seen
            if block is None:  # it was opened before the recording began
                block = group._seen = Block("TaskGroup", None, 0, 0, ())
            frame = sys._getframe(depth)
            if frame.f_code.co_filename in CORE_FILES:
                frame = outside(frame)
            parent = serials.get(block.host or identify())
            if len(name) > LONGEST_NAME:
                name = name[:LONGEST_NAME]
            serial = store.spawned
            store.spawned = serial + 1
            live[serial] = (name, block, parent, frame.f_code, frame.f_lasti, now(), False)
            recorder.expected = serial
            unbegun[serial] = wrapper = child(coro, serial)
        except Exception as error:
            recorder.expected = None
            report("spawning", error)
            return coro
        return wrapper

    return wrapped


def make_child(recorder: Recorder) -> Child:
    """The async function that runs a child's coroutine and writes its life."""
    store, loop = recorder.store, recorder.loop
    live, started, serials, accounts = store.live, store.started, store.serials, store.accounts
    ended, unbegun = store.ended, recorder.unbegun
    current_task, has_swallowed = loop.current_task, loop.has_swallowed
    has_steps, late_first_run = recorder.has_steps, recorder.thresholds.late_first_run
    is_driven = has_steps and not loop.can_see_steps

    async def child(traced_coroutine: Coroutine[Any, Any, T], serial: int) -> T:
        task, account = 0, None
        try:
            unbegun.pop(serial, None)
            task = id(current_task())
            life = live.get(serial)
            if life is not None:  # else the recording is over
                serials[task] = serial
                started[serial] = begun = now()
                if begun - life[5] > late_first_run:
                    recorder.began_late(serial)
                if has_steps:
                    account = accounts.setdefault(task, Account(serial))
        except Exception as error:
            report("first run", error)
        try:
            if is_driven and account is not None:
                value: T = await _driven(traced_coroutine, account, recorder)
            else:
                value = await traced_coroutine
        except BaseException as error:
            recorder.failed(serial, task, error)
            raise
        try:
            if has_swallowed():
                recorder.swallowed(serial)
            if has_steps:
                recorder.succeeded(serial, task)
            elif (life := live.pop(serial, None)) is not None:
                first = started.pop(serial, None)
                ended.append((serial, life, first, now(), "ok", None, None, None))
                serials.pop(task, None)
        except Exception as error:
            report("exit", error)
        return value

    assert child.__code__.co_varnames[0] == TRACED
    return child


@coroutine
def _driven(
    driven_coroutine: Coroutine[Any, Any, T], account: Account, recorder: Recorder
) -> Generator[Any, Any, T]:
    """Run a coroutine and time its steps.

    A reader of its stack goes on behind its first variable; see `stacks.DRIVEN`.
    """
    append, long_step = recorder.store.steps.append, recorder.thresholds.long_step
    send, serial = driven_coroutine.send, account.serial
    resume: Callable[[Any], Any] = send
    value: Any = None
    while True:
        start = now()
        try:
            waits_for = resume(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            end = now()
            held = end - start
            account.busy += held
            account.steps += 1
            append((start, end, serial))
            if held > long_step:
                recorder.stepped_long(serial, held)
        try:
            value = yield waits_for
            resume = send
        except GeneratorExit:
            driven_coroutine.close()
            raise
        except BaseException as error:
            value = error
            resume = driven_coroutine.throw
