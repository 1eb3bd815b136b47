"""Groups, gather, races and scopes when asyncio itself cancels: at every turn of the loop.

Task.cancel(), asyncio.timeout and asyncio.wait_for go through every shield. Whenever they
strike, each error that was raised is raised further, hangs on the one that is, or is logged;
each value is returned or discarded; and no task is left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import kingdom_async as ka
from support.backends import asyncio_only, chosen
from support.turns import settle

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

asyncio_virtual = pytest.mark.parametrize(
    "anyio_backend", chosen(("asyncio+virtual",)), indirect=True
)


class Ledger:
    """What a run has made, and what must be found again."""

    def __init__(self, step: Callable[[], Awaitable[None]]) -> None:
        self.step = step
        self.errors: list[BaseException] = []
        self.values: list[object] = []
        self.discarded: list[object] = []

    async def fail(self, steps: int) -> Any:
        for _ in range(steps):
            await self.step()
        try:
            self.errors.append(OSError("origin"))
            raise self.errors[-1]
        except OSError:
            self.errors.append(ValueError(f"after {steps}"))
            raise self.errors[-1]  # noqa: B904

    async def fail_in_cleanup(self) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            self.errors.append(KeyError("cleanup"))
            raise self.errors[-1]

    async def succeed(self, steps: int) -> object:
        for _ in range(steps):
            await self.step()
        self.values.append(object())
        return self.values[-1]

    async def succeed_when_cancelled(self) -> object:
        try:
            await anyio.sleep_forever()
        except ka.get_cancelled_exc_class():
            self.values.append(object())
        return self.values[-1]

    async def discard(self, value: object) -> None:
        self.discarded.append(value)
        await self.step()


Program = Callable[[Ledger], Awaitable[Any]]


async def first_fails(ledger: Ledger) -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(ledger.fail, 3)
        group.start_soon(ledger.fail_in_cleanup)
        await anyio.sleep_forever()


async def first_fails_at_its_end(ledger: Ledger) -> None:
    """The hole in anyio's exit: no task is left to wait for."""
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(ledger.fail, 1)
        await anyio.sleep_forever()


async def first_fails_though_its_body_ends_well(ledger: Ledger) -> None:
    async with ka.TaskGroup(errors="first") as group:
        handle = group.start_soon(ledger.fail, 1)
        try:
            await handle.wait()
        except ka.get_cancelled_exc_class():
            pass


async def first_fails_in_its_body(ledger: Ledger) -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(ledger.fail_in_cleanup)
        await ledger.fail(2)


async def first_with_failing_daemons(ledger: Ledger) -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(ledger.fail_in_cleanup, daemon=True)
        group.start_soon(ledger.step)
        await ledger.step()


async def first_nests(ledger: Ledger) -> None:
    async with ka.TaskGroup(errors="first") as outer:
        outer.start_soon(ledger.fail_in_cleanup)
        async with ka.TaskGroup(errors="first") as inner:
            inner.start_soon(ledger.fail, 2)
            await anyio.sleep_forever()


async def start_fails(ledger: Ledger) -> None:
    async def late(*, task_status: Any) -> None:
        await ledger.step()
        task_status.started()
        await ledger.fail(1)

    async def never(*, task_status: Any) -> None:
        await ledger.fail_in_cleanup()

    async with ka.TaskGroup(errors="first") as group:
        await group.start(late)
        await group.start(never)


async def start_fails_early(ledger: Ledger) -> None:
    async def early(*, task_status: Any) -> None:
        await ledger.fail(2)

    async with ka.TaskGroup(errors="first") as group:
        await group.start(early)


async def gather_fails(ledger: Ledger) -> None:
    await ka.gather(ledger.fail(2), ledger.fail_in_cleanup(), ledger.step())


async def gather_goes_well(ledger: Ledger) -> None:
    await ka.gather(ledger.step(), ledger.step())


async def success(ledger: Ledger) -> object:
    return await ka.first_success(
        ledger.fail(1),
        ledger.succeed(3),
        ledger.succeed_when_cancelled(),
        ledger.succeed_when_cancelled(),
        ledger.fail_in_cleanup(),
        discard=ledger.discard,
    )


async def no_success(ledger: Ledger) -> object:
    return await ka.first_success(ledger.fail(1), ledger.fail(2))


async def finished(ledger: Ledger) -> object:
    return await ka.first_finished(
        ledger.succeed(2),
        ledger.succeed_when_cancelled(),
        ledger.fail_in_cleanup(),
        discard=ledger.discard,
    )


async def finished_by_a_failure(ledger: Ledger) -> object:
    return await ka.first_finished(
        ledger.fail(2), ledger.succeed_when_cancelled(), discard=ledger.discard
    )


async def shielded_fails(ledger: Ledger) -> None:
    try:
        await ledger.step()
    finally:
        with ka.shielded(1000):
            await ledger.step()
            await ledger.fail(1)


async def timeout_fails(ledger: Ledger) -> None:
    with ka.fail_after(1000):
        await ka.with_timeout(1000, ledger.fail(3), default=None)


CHAINS: list[Program] = [
    first_fails,
    first_fails_at_its_end,
    first_fails_though_its_body_ends_well,
    first_fails_in_its_body,
    first_with_failing_daemons,
    first_nests,
    start_fails,
    start_fails_early,
    gather_fails,
    finished_by_a_failure,
]
KEEPS_ALL: list[Program] = [
    *CHAINS,
    gather_goes_well,
    success,
    no_success,
    finished,
    shielded_fails,
    timeout_fails,
]
programs = pytest.mark.parametrize("program", KEEPS_ALL, ids=lambda program: program.__name__)


# --- the ways to cancel --------------------------------------------------------------------


class Run:
    """One run of a program, to be cancelled while it is under way."""

    def __init__(self, program: Program, step: Callable[[], Awaitable[None]]) -> None:
        self.ledger = Ledger(step)
        self.value: object = None
        self.done = False
        self.struck = False  # it was under way when it was cancelled
        self._program = program

    async def __call__(self) -> None:
        try:
            self.value = await self._program(self.ledger)
        finally:
            self.done = True


async def task_cancel(run: Run, turns: int) -> None:
    task = asyncio.ensure_future(run())
    for _ in range(turns):
        await asyncio.sleep(0)
    run.struck = not run.done
    task.cancel()
    await task


async def timeout(run: Run, turns: int) -> None:
    loop = asyncio.get_running_loop()

    def countdown(left: int) -> None:
        if run.done:
            return
        if left:
            loop.call_soon(countdown, left - 1)
        else:
            run.struck = True
            block.reschedule(loop.time())

    async with asyncio.timeout(None) as block:  # type: ignore[attr-defined, unused-ignore]
        countdown(turns)
        await run()


async def wait_for(run: Run, half_seconds: int) -> None:
    """With steps of a second each: between two of them, and at the same moment as one."""
    start = anyio.current_time()
    try:
        await asyncio.wait_for(run(), half_seconds / 2)
    finally:
        run.struck = anyio.current_time() - start >= half_seconds / 2


async def check(
    program: Program,
    cancel: Callable[[Run, int], Awaitable[None]],
    step: Callable[[], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Cancel *program* after 0, 1, 2 … turns, until that is after its end."""
    caplog.set_level(logging.DEBUG, "kingdom_async")
    for turns in range(200):
        run = Run(program, step)
        before = asyncio.all_tasks()
        error: BaseException | None = None
        try:
            await cancel(run, turns)
        except BaseException as caught:
            error = caught
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before, f"a task is left after {turns} turns"
        if program in CHAINS:
            check_all_in_the_chain(run, error)
        check_nothing_lost(run, error, caplog)
        if not run.struck:
            assert turns > 1
            return
    raise AssertionError("never done")


def reachable(error: BaseException | None) -> Iterator[BaseException]:
    """*error* and all that hangs on it."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            todo += link.exceptions


def check_all_in_the_chain(run: Run, error: BaseException | None) -> None:
    found = {id(link) for link in reachable(error)}
    assert [lost for lost in run.ledger.errors if id(lost) not in found] == []


def check_nothing_lost(
    run: Run, error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    found = {id(link) for top in (error, *logged) for link in reachable(top)}
    assert [lost for lost in run.ledger.errors if id(lost) not in found] == []
    taken = [value for value in (run.value, *run.ledger.discarded) if value is not None]
    assert sorted(map(id, taken)) == sorted(map(id, run.ledger.values))
    caplog.clear()


# --- the promise ---------------------------------------------------------------------------


@asyncio_only
@programs
@pytest.mark.parametrize(
    "cancel",
    [task_cancel, timeout] if sys.version_info >= (3, 11) else [task_cancel],
    ids=lambda cancel: cancel.__name__,
)
async def test_cancelled_at_any_turn_nothing_is_lost(
    program: Program, cancel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """By Task.cancel() and by asyncio.timeout, at every turn of the loop."""
    await check(program, cancel, checkpoint, caplog)


@asyncio_virtual
@programs
async def test_cancelled_by_wait_for_nothing_is_lost(
    program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """By asyncio.wait_for, at each step and between any two of them."""
    await check(program, wait_for, lambda: anyio.sleep(1), caplog)


# --- and after it ---------------------------------------------------------------------------


async def fail_in_cleanup() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise ValueError("cleanup")


async def first_group() -> None:
    async with ka.TaskGroup(errors="first") as group:
        group.start_soon(fail_in_cleanup)


async def first_group_whose_body_fails() -> None:
    async with ka.TaskGroup(errors="first"):
        await fail_in_cleanup()


FAILURES_THAT_WIN = pytest.mark.parametrize(
    "call",
    [
        first_group,
        first_group_whose_body_fails,
        lambda: ka.gather(fail_in_cleanup()),
        lambda: ka.first_success(fail_in_cleanup()),
        lambda: ka.first_finished(fail_in_cleanup()),
        lambda: ka.amap(lambda _: fail_in_cleanup(), [1]),
    ],
    ids=["group", "body", "gather", "first_success", "first_finished", "amap"],
)


@asyncio_only
@pytest.mark.skipif(sys.version_info < (3, 13), reason="as asyncio.TaskGroup, since 3.13")
@FAILURES_THAT_WIN
async def test_a_cancellation_that_a_failure_won_over_is_raised_by_the_next_wait(
    call: Callable[[], Any],
) -> None:
    """It is not forgotten, however often one wins; and it is counted once."""
    went_on = False

    async def main() -> None:
        nonlocal went_on
        for _ in range(2):
            with pytest.raises((ValueError, ExceptionGroup)):
                await call()
        assert asyncio.current_task().cancelling() == 1
        with pytest.raises(asyncio.CancelledError):
            await checkpoint()
        went_on = True
        raise asyncio.CancelledError

    task = asyncio.ensure_future(main())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert went_on


@asyncio_only
@pytest.mark.skipif(sys.version_info < (3, 13), reason="as asyncio.TaskGroup, since 3.13")
@FAILURES_THAT_WIN
async def test_a_timeout_of_asyncio_takes_its_cancellation_back(
    call: Callable[[], Any],
) -> None:
    """After asyncio.timeout has ended, what came of the failure it caused can be waited for."""
    with pytest.raises((ValueError, ExceptionGroup)):
        async with asyncio.timeout(0):
            await call()
    assert asyncio.current_task().cancelling() == 0
    await checkpoint()


@asyncio_only
@FAILURES_THAT_WIN
async def test_what_was_cancelled_before_the_call_is_not_cancelled_again(
    call: Callable[[], Any],
) -> None:
    """A cancellation that the caller had handled already stays handled."""

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        with pytest.raises((ValueError, ExceptionGroup)), anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await call()
        await checkpoint()

    task = asyncio.ensure_future(main())
    await settle()
    task.cancel()
    await task


async def fails() -> None:
    raise ValueError


@asyncio_only
async def test_what_was_cancelled_before_a_group_that_fails_is_not_cancelled_again() -> None:
    """Where nothing cancels the group but its own failure."""

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        with pytest.raises(ValueError, match=r"^$"):
            async with ka.TaskGroup(errors="first") as group:
                group.start_soon(fails)
        await checkpoint()

    task = asyncio.ensure_future(main())
    await settle()
    task.cancel()
    await task


@asyncio_only
@pytest.mark.parametrize("daemon", [False, True])
async def test_a_failure_wins_over_a_cancellation_at_the_exit(daemon: bool) -> None:
    """Also where the task that failed is over by then, and none is left to wait for."""
    failures: list[ValueError] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with ka.TaskGroup(errors="first") as group:
                group.start_soon(fails, daemon=daemon)
                with anyio.CancelScope(shield=True):
                    await settle()
                task.cancel()
        except ValueError as error:
            failures.append(error)

    await asyncio.wait([asyncio.ensure_future(main())])
    assert len(failures) == 1


@asyncio_only
@pytest.mark.parametrize("errors", ["group", "first"])
@pytest.mark.parametrize("daemon", [False, True])
async def test_what_a_group_starts_for_itself_is_closed(errors: Any, daemon: bool) -> None:
    """Also what asyncio cancels before its first step; nothing is left unawaited."""
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()

    def cancel_all_others() -> None:
        for task in asyncio.all_tasks(loop) - before:
            task.cancel()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises((ValueError, ExceptionGroup)):
            async with ka.TaskGroup(errors=errors) as group:
                if daemon:
                    group.start_soon(anyio.sleep_forever, daemon=True)
                    await checkpoint()
                loop.call_soon(cancel_all_others)
                raise ValueError
        gc.collect()
    assert [str(each.message) for each in caught] == []
