"""What a task of the core runs in while it is recorded.

Rule: this is paid for by every task that is spawned, so it is written out: one coroutine with
few variables, one row that is filled in as the task goes on, and hardly a call. Each object
that the garbage collector sees costs more than all the rest. On loops that cannot be watched
from outside, the task drives itself and times its own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from sys import _getframe
from threading import get_ident
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..._given import TRACED
from ..guard import report
from ..records import now
from .places import CORE_FILES, outside
from .rows import LONGEST_NAME, Account, Block, Row

if TYPE_CHECKING:
    from ..._observe import Group
    from .recorder import Recorder

T = TypeVar("T")
Wrapped: TypeAlias = Callable[
    [Coroutine[Any, Any, Any], str, Any, int], Coroutine[Any, Any, Any]
]
Child: TypeAlias = Callable[[Coroutine[Any, Any, Any], Row], Coroutine[Any, Any, Any]]


def make_wrapped(recorder: Recorder) -> Wrapped:
    """What takes a task that is about to be spawned, and gives what is to run in its place."""
    store, child = recorder.store, recorder.child
    live, serials = store.live, store.serials
    loop = recorder.loop
    thread, identify, run = loop.thread, loop.identify, loop.run

    def wrapped(
        coro: Coroutine[Any, Any, T], name: str, group: Group, depth: int
    ) -> Coroutine[Any, Any, T]:
        if get_ident() != thread:
            return coro
        try:
            block: Block | None = group._seen
            if block is None:  # it was opened before the recording began
                if not loop.is_current():
                    return coro
                block = group._seen = Block("TaskGroup", None, 0, 0, (), run)
            elif block.run != run:  # the thread has two loops
                return coro
            frame = _getframe(depth)
            code = frame.f_code
            if code.co_filename in CORE_FILES:
                frame = outside(frame)
                code = frame.f_code
            parent = serials.get(block.host or identify())
            if len(name) > LONGEST_NAME:
                name = name[:LONGEST_NAME]
            serial = store.spawned
            store.spawned = serial + 1
            at = frame.f_lasti
            row: Row = [serial, name, block, parent, code, at, now(), False, None, 0, None]
            row[8] = wrapper = child(coro, row)
            block.unbegun += 1
            live[serial] = recorder.expected = row
        except Exception as error:
            recorder.expected = None
            report("spawning", error)
            return coro
        return wrapper

    return wrapped


def make_child(recorder: Recorder) -> Child:
    """The async function that runs a child's coroutine and writes its life."""
    is_driven = recorder.has_steps and not recorder.loop.can_see_steps
    child = _driving(recorder) if is_driven else _running(recorder)
    assert child.__code__.co_varnames[0] == TRACED
    return child


def _running(recorder: Recorder) -> Child:
    begun, ended, failed = _make_begun(recorder), _make_ended(recorder), recorder.failed

    async def child(traced_coroutine: Coroutine[Any, Any, T], row: Row) -> T:
        task = begun(row)
        try:
            value = await traced_coroutine
        except BaseException as error:
            failed(row, task, error)
            raise
        ended(row, task)
        return value

    return child


def _driving(recorder: Recorder) -> Child:
    begun, ended, failed = _make_begun(recorder), _make_ended(recorder), recorder.failed
    accounts = recorder.store.accounts

    async def child(traced_coroutine: Coroutine[Any, Any, T], row: Row) -> T:
        task = begun(row)
        account = accounts.get(task)
        try:
            if account is None:
                value = await traced_coroutine
            else:
                value = await _driven(traced_coroutine, account, recorder)
        except BaseException as error:
            failed(row, task, error)
            raise
        ended(row, task)
        return value

    return child


def _make_begun(recorder: Recorder) -> Callable[[Row], int]:
    """What writes that a task runs for the first time, and returns its ``id``."""
    store, current_task = recorder.store, recorder.loop.current_task
    live, serials, accounts = store.live, store.serials, store.accounts
    has_steps, late_first_run = recorder.has_steps, recorder.thresholds.late_first_run

    def begun(row: Row) -> int:
        task = 0
        try:
            if row[8] is not None:  # see `make_wrapped`
                row[8] = None
                row[2].unbegun -= 1
            serial = row[0]
            if serial in live:  # else the recording is over
                task = row[9] or id(current_task())
                serials[task] = serial
                row[9] = task
                row[8] = at = now()
                if at - row[6] > late_first_run:
                    recorder.began_late(serial, at - row[6])
                if has_steps:
                    accounts.setdefault(task, Account(serial))
        except Exception as error:
            report("first run", error)
            accounts.pop(task, None)  # what cannot begin is not driven
        return task

    return begun


def _make_ended(recorder: Recorder) -> Callable[[Row, int], None]:
    """What writes that a task has ended well."""
    store, has_swallowed = recorder.store, recorder.loop.has_swallowed
    live, serials, rows = store.live, store.serials, store.ended
    has_steps = recorder.has_steps

    def ended(row: Row, task: int) -> None:
        try:
            try:
                if has_swallowed():
                    recorder.swallowed(row[0])
            except Exception as error:
                report("exit", error)
            if has_steps:
                recorder.succeeded(row[0], task)
            elif live.pop(row[0], None) is not None:
                row[10] = now()
                rows.append(row)
                serials.pop(task, None)
        except Exception as error:
            report("exit", error)

    return ended


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
                recorder.stepped_long(serial, held, driven_coroutine)
        try:
            value = yield waits_for
            resume = send
        except GeneratorExit:
            driven_coroutine.close()
            raise
        except BaseException as error:
            value = error
            resume = driven_coroutine.throw
