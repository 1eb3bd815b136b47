"""Each kind of lint, where it is found and where it must not be.

Rule: those that are sampled are looked for by hand, at times that are made up.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import math
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint
from sniffio import current_async_library

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.trace import guard
from kingdom_async.trace.hub import hub
from kingdom_async.trace.lints.sampler import Sampler
from kingdom_async.trace.monitor import monitor
from support.backends import asyncio_only, chosen
from support.threads import Held as HeldCall
from support.turns import settle

Look = Callable[[float], None]
KINDS = (
    "blocked-loop",
    "cancelled-but-alive",
    "deadline-overrun",
    "late-first-run",
    "leaking",
    "long-step",
    "never-yielded",
    "spinning",
    "stuck",
    "swallowed-cancellation",
)

#: asyncio counts cancellations since 3.11 only.
needs_counts = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="asyncio does not count cancellations before 3.11"
)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Looks at all tasks, so many seconds after the test began; nobody else does."""
    monkeypatch.setattr(monitor, "add", lambda job, loop, after=0.0: lambda: None)
    samplers: list[Sampler] = []
    # A whole number: else 30 s from now may be a little less, where the sum has one bit less.
    began = float(math.ceil(trace.records.now()))

    def look(seconds: float) -> None:
        if not samplers:
            samplers.extend(Sampler(each, hub._deadlines) for each in hub.recorders)
        for sampler in samplers:
            sampler.tick(began + seconds)

    yield look
    samplers.clear()


def found(recording: trace.Recording, kind: str) -> list[str]:
    assert kind in KINDS
    return [lint.message for lint in recording.lints if lint.kind == kind]


def hold(seconds: float) -> None:
    """Hold the loop."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def cleaned_up_late(done: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await done.wait()


# --- while it happens ----------------------------------------------------------------------


#: How long a loop is held, and what is too long: far from it, where a machine may be busy.
LONG_AND_SHORT = pytest.mark.parametrize(("held", "limit"), [(0.04, 0.02), (0.0, 2.0)])


@LONG_AND_SHORT
async def test_long_step(held: float, limit: float) -> None:
    """A task that holds the loop too long in one step is named; short ones are not."""
    thresholds = trace.Thresholds(long_step=limit, late_first_run=9)

    async def parse() -> None:
        await checkpoint()
        hold(held)
        await checkpoint()  # after the work

    with trace.recording("steps", thresholds=thresholds) as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(parse, name="parser")
    messages = found(recording, "long-step")
    if held:
        (message,) = [each for each in messages if "'parser'" in each]
        assert message.startswith("task 'parser' (now at test_lints.py:")
        assert "held the loop for 0." in message
        assert message.endswith(", then came to: await checkpoint()  # after the work")
    else:
        assert not messages


async def test_long_step_that_is_the_last() -> None:
    """A task that ends with it is named all the same."""

    async def parse() -> None:
        hold(0.04)

    with trace.recording("steps", thresholds=trace.Thresholds(long_step=0.02)) as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(parse, name="parser")
    messages = [each for each in found(recording, "long-step") if "'parser'" in each]
    assert len(messages) == 1
    # Where it is driven by the tracer, what it ran is known.
    assert re.match(r"task 'parser' \((spawned at|of) test_lints\.py:\d+ in ", messages[0])


@pytest.mark.parametrize("anyio_backend", chosen(("asyncio", "trio")), indirect=True)
async def test_long_step_of_a_task_of_others() -> None:
    """Who did it is told by the line that the task has come to, or by what it ran."""

    async def parse() -> None:
        await checkpoint()
        hold(0.04)
        await checkpoint()  # after the work
        hold(0.04)

    with trace.recording("steps", thresholds=trace.Thresholds(long_step=0.02)) as recording:
        if current_async_library() == "trio":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(parse, name="parser")
        else:
            await asyncio.create_task(parse(), name="parser")
    first, last = [each for each in found(recording, "long-step") if "'parser'" in each]
    assert re.match(
        r"task 'parser' \(now at test_lints\.py:\d+ in parse\) held the loop", first
    )
    assert first.endswith("await checkpoint()  # after the work")
    expected = r"task 'parser' \(of test_lints\.py:\d+ in parse\) held the loop for \S+ s"
    assert re.fullmatch(expected, last)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_long_step_of_a_callback() -> None:
    """On asyncio's own loops a callback that holds the loop is found as well."""
    with trace.recording("steps", thresholds=trace.Thresholds(long_step=0.02)) as recording:
        asyncio.get_running_loop().call_soon(hold, 0.04)
        await settle(3)
    assert [each[:26] for each in found(recording, "long-step")] == [
        "a callback held the loop f"
    ]


@pytest.mark.parametrize("yields", [False, True])
async def test_never_yielded(yields: bool) -> None:
    """A task that works all its life in one step is named; one that gives way is not."""
    thresholds = trace.Thresholds(never_yielded=0.02)

    async def work() -> None:
        hold(0.03)
        if yields:
            await checkpoint()

    with trace.recording("steps", thresholds=thresholds) as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(work, name="worker")
    messages = found(recording, "never-yielded")
    assert len(messages) == (not yields)
    assert all("task 'worker' (spawned at test_lints.py:" in each for each in messages)
    assert all("never let go of it" in each for each in messages)


@LONG_AND_SHORT
async def test_late_first_run(held: float, limit: float) -> None:
    """A task that waits long for its first step is named; one that begins soon is not."""
    thresholds = trace.Thresholds(late_first_run=limit)
    with trace.recording(thresholds=thresholds) as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(checkpoint, name="waits")
            hold(held)
    messages = found(recording, "late-first-run")
    assert len(messages) == bool(held)
    assert all("task 'waits' (spawned at test_lints.py:" in each for each in messages)


@needs_counts
async def test_swallowed_cancellation() -> None:
    """A task that catches its cancellation and ends well is named; trio shows it by steps."""

    async def deaf() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            pass

    with trace.recording("steps") as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(deaf, name="deaf")
            await settle()
            group.cancel()
    (message,) = found(recording, "swallowed-cancellation")
    line = r"test_lints\.py:\d+ in \w+"
    said = rf"task 'deaf' \(spawned at {line}\) was cancelled by task '[^']+' at {line}(.*)"
    matched = re.fullmatch(said, message)
    assert matched is not None
    where = matched[1].removesuffix(", and ended as if not")
    if current_async_library() == "trio":  # it tells where that reached the task
        assert re.fullmatch(r" at test_lints\.py:\d+ in deaf", where)
    else:
        assert where == ""


@needs_counts
async def test_a_deadline_that_did_not_pass_is_not_said_to_have() -> None:
    """Where the block's scope was cancelled by hand, that is what the lint says."""

    async def deaf() -> None:
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()

    with trace.recording("steps") as recording, ka.move_on_after(1e9) as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(deaf)
            await settle()
            scope.cancel("the user left")
    (message,) = found(recording, "swallowed-cancellation")
    assert ": the user left" in message
    assert "deadline of" not in message


@needs_counts
async def test_no_swallowed_cancellation() -> None:
    """A block that was cancelled and left, or a cancellation that went on, is none."""

    async def hears() -> None:
        with ka.move_on_after(0):
            await anyio.sleep_forever()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        await ka.with_timeout(0, anyio.sleep_forever(), default=None)

    async def ends() -> None:
        await anyio.sleep_forever()

    with trace.recording("steps") as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(hears)
            group.start_soon(ends)
            await settle()
            group.cancel()
    assert found(recording, "swallowed-cancellation") == []


@needs_counts
async def test_a_swallowed_cancellation_by_the_handle() -> None:
    """The same where only this task is cancelled, after a timer of its own went off."""

    async def deaf() -> None:
        await anyio.sleep(0.001)
        slept.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            pass

    slept = anyio.Event()
    with trace.recording("steps") as recording:
        async with ka.TaskGroup() as group:
            handle = group.start_soon(deaf, name="deaf")
            await slept.wait()
            await settle()
            handle.cancel()
    assert len(found(recording, "swallowed-cancellation")) == 1


async def winner(group: ka.TaskGroup) -> None:
    await anyio.sleep(0.001)
    group.cancel("found")


async def winner_with_care(group: ka.TaskGroup) -> None:
    group.cancel("found")
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.001)


async def giver_up(group: ka.TaskGroup) -> None:
    handles: list[anyio.TaskHandle[None]] = []

    async def ends_itself() -> None:
        await anyio.sleep(0.001)
        handles[0].cancel()

    handles.append(group.start_soon(ends_itself))
    await handles[0].wait()
    group.cancel()


async def race(group: ka.TaskGroup) -> None:
    async def after(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    await ka.first_success(after(0.001), after(5))
    await ka.first_finished(after(0.001), after(5))
    group.cancel()


@pytest.mark.parametrize("ends", [winner, winner_with_care, giver_up, race])
async def test_who_ends_its_group_swallows_nothing(ends: Any) -> None:
    """A timer that went off is no cancellation of the task that waited for it."""
    with trace.recording("steps") as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(ends, group)
            group.start_soon(anyio.sleep_forever)
    assert found(recording, "swallowed-cancellation") == []


@pytest.mark.parametrize("held", [0.04, 0.0])
async def test_deadline_overrun(held: float) -> None:
    """A block that is left long after its deadline is named, with the line of the block."""

    async def cleans_up() -> None:
        with ka.fail_after(0, reason="loading"):
            try:
                await anyio.sleep_forever()
            finally:
                hold(held)

    thresholds = trace.Thresholds(deadline_overrun=0.02)
    with (
        trace.recording(thresholds=thresholds) as recording,
        pytest.raises(ka.DeadlineExceeded),
    ):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(cleans_up, name="cleaner")
    messages = found(recording, "deadline-overrun")
    assert len(messages) == bool(held)
    assert all("task 'cleaner' (test_lints.py:" in each for each in messages)
    assert all("deadline 'loading' of 0 s" in each for each in messages)


@pytest.mark.parametrize("anyio_backend", chosen(("asyncio", "asyncio+uvloop")), indirect=True)
async def test_deadline_overrun_of_a_task_of_others() -> None:
    """It has a subject, also where the loop tells nobody of such a task."""

    async def handler() -> None:
        with ka.move_on_after(0):
            try:
                await anyio.sleep_forever()
            finally:
                hold(0.04)

    with trace.recording(thresholds=trace.Thresholds(deadline_overrun=0.02)) as recording:
        await asyncio.create_task(handler(), name="request")
    (message,) = found(recording, "deadline-overrun")
    expected = r"task 'request' \(test_lints\.py:\d+ in handler\) left a block \S+ s after its "
    assert re.match(expected, message)


# --- found by looking ----------------------------------------------------------------------


def by_group(scope: anyio.CancelScope, group: ka.TaskGroup) -> None:
    group.cancel("enough")


def by_scope_of_group(scope: anyio.CancelScope, group: ka.TaskGroup) -> None:
    group.cancel_scope.cancel()


def by_deadline(scope: anyio.CancelScope, group: ka.TaskGroup) -> None:
    scope.deadline = anyio.current_time()


@pytest.mark.parametrize("cancel", [by_group, by_scope_of_group, by_deadline])
async def test_cancelled_but_alive(
    look: Look, cancel: Callable[[anyio.CancelScope, ka.TaskGroup], None]
) -> None:
    """A task that lives on after a cancellation is named once, with its line; not its host."""
    done = anyio.Event()
    with trace.recording() as recording, ka.move_on_after(1e9) as scope:
        async with ka.TaskGroup() as group:
            group.start_soon(cleaned_up_late, done, name="late")
            await settle()
            look(0)
            cancel(scope, group)
            with anyio.CancelScope(shield=True):
                await settle()
            look(1)
            look(1.9)
            assert found(recording, "cancelled-but-alive") == []
            look(2)
            look(3)
            done.set()
    (message,) = found(recording, "cancelled-but-alive")
    assert "task 'late' (test_lints.py:" in message
    assert " in cleaned_up_late) is alive 1 s after its cancellation (" in message
    assert message.endswith("), in a shield without a deadline: await done.wait()")


async def test_no_cancelled_but_alive(look: Look) -> None:
    """Tasks that nobody cancels are left alone, and so are those that end."""
    done = anyio.Event()
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(done.wait)
            inner = group.start_soon(anyio.sleep_forever)
            await settle()
            look(0)
            inner.cancel()
            with ka.move_on_after(0):
                await anyio.sleep_forever()
            await settle()
            look(10)
            look(20)
            done.set()
    assert found(recording, "cancelled-but-alive") == []


#: Shields, and whether they end by themselves.
SHIELDS: dict[str, tuple[Callable[[], AbstractContextManager[object]], bool]] = {
    "ours": (lambda: ka.shielded(60), True),
    "anyio's, with a deadline": (lambda: anyio.move_on_after(60, shield=True), True),
    "a deadline inside": (
        lambda: _both(anyio.CancelScope(shield=True), ka.fail_after(60)),
        True,
    ),
    "anyio's inside ours": (
        lambda: _both(ka.shielded(60), anyio.CancelScope(shield=True)),
        True,
    ),
    "without a deadline": (lambda: anyio.CancelScope(shield=True), False),
    "a deadline outside": (
        lambda: _both(anyio.move_on_after(60), anyio.CancelScope(shield=True)),
        False,
    ),
}


@contextmanager
def _both(
    outer: AbstractContextManager[object], inner: AbstractContextManager[object]
) -> Iterator[None]:
    with outer, inner:
        yield


@pytest.mark.parametrize("host", [False, True], ids=["the task", "its host"])
@pytest.mark.parametrize("kind", SHIELDS)
async def test_cleanup_in_a_shield(look: Look, kind: str, host: bool) -> None:
    """In one that ends, and has not, it is what is asked for; one without an end is told of."""
    done = anyio.Event()
    shield, ends = SHIELDS[kind]

    async def cleans_up() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with shield():
                await done.wait()

    async def hosts() -> None:
        with shield():
            async with ka.TaskGroup() as group:
                group.start_soon(done.wait)

    with trace.recording() as recording:
        async with ka.TaskGroup() as outer:
            outer.start_soon(hosts if host else cleans_up)
            await settle()
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await settle()
                look(0)
                look(2)
                done.set()
    alive = found(recording, "cancelled-but-alive")
    assert len(alive) == (not ends)
    assert all("), in a shield without a deadline" in each for each in alive)


@pytest.mark.parametrize("call", [ka.move_on_at, ka.move_on_after])
@pytest.mark.parametrize("at", [-math.inf, -5.0])
async def test_no_overrun_of_a_deadline_that_had_passed(call: Any, at: float) -> None:
    """A block that is left at once is not late, whenever its time ran out."""
    started = ka.current_time() if call is ka.move_on_at else 0.0
    with trace.recording() as recording, call(started + at):
        await anyio.sleep_forever()
    assert found(recording, "deadline-overrun") == []


async def test_a_lint_that_is_switched_off(tmp_path: Path) -> None:
    """With a threshold of infinity; and such a recording can be loaded again."""
    off = trace.Thresholds(long_step=math.inf)
    with trace.recording("steps", thresholds=off) as recording:
        time.sleep(0.15)  # noqa: ASYNC251
        await ka.checkpoint()
    assert found(recording, "long-step") == []
    recording.save(tmp_path / "it.trace")
    assert trace.load(tmp_path / "it.trace").long_step == math.inf


async def test_a_sleep_is_no_end_of_a_shield(look: Look) -> None:
    """Also on trio, where each has a scope with a deadline; and who cancelled is told right."""
    inside: list[anyio.CancelScope] = []
    outside: list[anyio.CancelScope] = []

    async def polls() -> None:
        with ka.fail_after(1e9, reason="never") as scope:
            outside.append(scope)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True) as shield:
                    inside.append(shield)
                    await anyio.sleep(3600)

    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(polls)
            await settle()
            outside[0].cancel("by hand")
            await settle()
            look(0)
            look(2)
            inside[0].cancel()
    (message,) = found(recording, "cancelled-but-alive")
    assert ": by hand), in a shield without a deadline" in message


async def test_cleanup_that_outlasts_its_shield(look: Look) -> None:
    """Where the time of the shield has run out, the cleanup is told of."""
    done = anyio.Event()

    async def cleans_up() -> None:
        with suppress(ka.DeadlineExceeded), ka.shielded(0), anyio.CancelScope(shield=True):
            await done.wait()

    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(cleans_up, name="cleans up")
            await settle()
            look(0)
            look(2)
            done.set()
    (message,) = found(recording, "cancelled-but-alive")
    assert "(deadline of 0 s)" in message


@needs_counts
@asyncio_only
async def test_a_native_cancellation_that_is_not_heard(look: Look) -> None:
    """`asyncio.Task.cancel` of a task of the core's counts too."""
    done, tasks = anyio.Event(), list[Any]()

    async def work() -> None:
        tasks.append(asyncio.current_task())
        await cleaned_up_late(done)

    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(work, name="late")
            await settle()
            tasks.pop().cancel()
            await settle()
            look(0)
            look(2)
            done.set()
    (message,) = found(recording, "cancelled-but-alive")
    assert "task 'late'" in message
    assert "(by its loop)" in message


class Full:
    """A queue without room."""

    def __init__(self) -> None:
        self.queue: ka.Queue[int] = ka.Queue(1)
        self.queue.put_nowait(1)

    async def wait(self) -> None:
        with suppress(ka.QueueClosed):
            await self.queue.put(2)

    def free(self) -> None:
        self.queue.drain()
        self.queue.close()


class Held:
    """Something that is taken, and waited for with ``async with``."""

    def __init__(self, scarce: Any, give_back: Callable[[], None]) -> None:
        self.scarce = scarce
        self.free = give_back

    async def wait(self) -> None:
        async with self.scarce:
            pass


class Stream:
    """A memory stream without room."""

    def __init__(self) -> None:
        self.send, self.receive = anyio.create_memory_object_stream[int](1)
        self.send.send_nowait(1)

    async def wait(self) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.send.send(2)

    def free(self) -> None:
        self.receive.close()
        self.send.close()


def lock() -> Held:
    made = anyio.Lock()
    made.acquire_nowait()
    return Held(made, made.release)


def semaphore() -> Held:
    made = anyio.Semaphore(0)
    return Held(made, made.release)


def limiter() -> Held:
    made, other = ka.Limiter(1, name="database"), object()
    made.acquire_on_behalf_of_nowait(other)
    return Held(made, lambda: made.release_on_behalf_of(other))


def native_lock() -> Held:
    if current_async_library() == "asyncio":
        made: Any = asyncio.Semaphore(0)
        return Held(made, made.release)
    import trio

    made = trio.Semaphore(0)
    return Held(made, made.release)


class Condition:
    """A condition that nobody tells of."""

    def __init__(self) -> None:
        self.condition = anyio.Condition()

    async def wait(self) -> None:
        async with self.condition:
            await self.condition.wait()

    def free(self) -> None:
        self.condition.acquire_nowait()
        self.condition.notify_all()
        self.condition.release()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lock, "a lock"),
        (semaphore, "a semaphore"),
        (native_lock, "a semaphore"),
        (limiter, "a token of limiter 'database'"),
        (Condition, "a condition"),
        (Full, "room in a queue"),
        (Stream, "room in a queue"),
    ],
)
async def test_stuck(look: Look, make: Callable[[], Any], what: str) -> None:
    """A task that waits long for what others hold is named once, with the line."""
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            scarce = make()
            group.start_soon(scarce.wait, name="waits")
            await settle()
            look(0)
            look(29)
            assert found(recording, "stuck") == []
            look(30)
            look(40)
            scarce.free()
            await settle()
    (message,) = found(recording, "stuck")
    assert message.startswith("task 'waits' (test_lints.py:")
    assert f" in wait) has waited 30 s for {what}: " in message
    assert message.rpartition(": ")[2].startswith(("await self.", "async with self."))


@asyncio_only
async def test_stuck_while_a_call_holds_the_token(look: Look) -> None:
    """The task that waits for the call is named; trio does not tell who it is."""
    database, held = ka.Limiter(1, name="database"), HeldCall()
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(partial(ka.offload, held, limiter=database), name="holder")
            await held.until_started()
            group.start_soon(database.acquire)
            await settle()
            look(0)
            look(31)
            held.let_go()
    (message,) = found(recording, "stuck")
    assert "for a token of limiter 'database', held by task 'holder'" in message


@pytest.mark.parametrize("how", ["block", "call"])
async def test_stuck_at_what_has_a_name(look: Look, how: str) -> None:
    """The limiter and the queue are named, and so is the task that holds the token."""
    database, jobs = ka.Limiter(1, name="database"), ka.Queue[int](1, name="jobs")

    async def holds() -> None:
        async with database:
            await done.wait()

    async def wants() -> None:
        if how == "call":
            await ka.offload(int, limiter=database)
        else:
            async with database:
                pass

    done = anyio.Event()
    jobs.put_nowait(1)
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(holds, name="holder")
            await settle()
            group.start_soon(wants)
            group.start_soon(jobs.put, 2)
            await settle()
            look(0)
            look(31)
            done.set()
            jobs.drain()
            await settle()
            jobs.drain()
    messages = found(recording, "stuck")
    limiter = "'database'" if how == "call" else "limiter 'database'"
    for said in (f"31 s for a token of {limiter}, held by task 'holder'", "queue 'jobs'"):
        assert sum(said in message for message in messages) == 1


async def test_stuck_anew(look: Look) -> None:
    """Each wait is measured by itself, and a second one that is too long is told again."""
    semaphore = anyio.Semaphore(0)

    async def waits() -> None:
        for _ in range(3):
            await semaphore.acquire()

    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(waits)
            await settle()
            look(0)
            semaphore.release()
            await settle()
            look(29)
            look(31)
            assert found(recording, "stuck") == []
            look(60)
            assert len(found(recording, "stuck")) == 1
            semaphore.release()
            await settle()
            look(61)
            look(100)
            semaphore.release()
    assert len(found(recording, "stuck")) == 2


async def test_not_stuck(look: Look) -> None:
    """Waiting for work, for an event, for time or for children is what tasks do."""
    done: anyio.Event = anyio.Event()
    queue: ka.Queue[int] = ka.Queue(1)
    send, receive = anyio.create_memory_object_stream[int](0)

    async def holds_group() -> None:
        async with ka.TaskGroup() as inner:
            inner.start_soon(done.wait)

    waits: list[Callable[[], Awaitable[object]]] = [
        done.wait,
        queue.get,
        receive.receive,
        anyio.sleep_forever,
        holds_group,
    ]
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            for wait in waits:
                group.start_soon(wait)  # type: ignore[arg-type]
            await settle()
            look(0)
            look(1000)
            done.set()
            group.cancel()
    send.close()
    receive.close()
    assert found(recording, "stuck") == []


async def test_leaking(look: Look) -> None:
    """A line whose tasks grow in number at each look is named once; it may do it again."""
    with trace.recording(thresholds=trace.Thresholds(leaking=10)) as recording:
        async with ka.TaskGroup() as group:
            for second in range(20):
                for _ in range(2):
                    group.start_soon(anyio.sleep_forever)
                await settle(3)
                look(second)
            group.cancel()
    (message,) = found(recording, "leaking")
    assert message.startswith("18 live tasks were spawned at test_lints.py:")
    assert message.endswith(
        "in test_leaking, and there are more at each look: 2 were there 8 looks ago"
    )
    assert recording.lints[0].task is None


@pytest.mark.parametrize(("first", "more", "every"), [(5, 1, 2), (200, 0, 1), (0, 1, 3)])
async def test_not_leaking(look: Look, first: int, more: int, every: int) -> None:
    """Many tasks that are not more at each look, and growing ones that are few, are none."""
    with trace.recording(thresholds=trace.Thresholds(leaking=10)) as recording:
        async with ka.TaskGroup() as group:
            for second in range(30):
                for _ in range(more if second % every == 0 else 0):
                    group.start_soon(anyio.sleep_forever)
                for _ in range(first if second == 0 else 0):
                    group.start_soon(anyio.sleep_forever)
                await settle(3)
                look(second)
            group.cancel()
    assert found(recording, "leaking") == []


@pytest.mark.parametrize("step", [checkpoint, lambda: checkpoint(), lambda: ka.sleep(0)])
async def test_spinning(look: Look, step: Callable[[], Awaitable[None]]) -> None:
    """A task that takes step after step and waits for nothing is named once."""
    done: list[bool] = []

    async def spins() -> None:
        while not done:
            await step()

    with trace.recording("steps") as recording:
        async with ka.TaskGroup() as group:
            group.start_soon(spins, name="spins")
            for turn in range(8):
                await settle(400)
                look(turn * 0.3)
            done.append(True)
    (message,) = found(recording, "spinning")
    assert message.startswith("task 'spins' (test_lints.py:")
    assert "waits for nothing: await step()" in message


async def test_not_spinning(look: Look) -> None:
    """Few steps a second are none, nor are many with waits, nor many with level life."""
    event = anyio.Event()
    done: list[bool] = []

    async def waits() -> None:
        while not done:
            await event.wait()

    async def polls() -> None:
        while not done:
            await checkpoint()

    with trace.recording("steps") as recording, trace.recording() as life:
        async with ka.TaskGroup() as group:
            group.start_soon(waits)
            group.start_soon(polls)
            for turn in range(8):
                for _ in range(300):
                    event.set()
                    event = anyio.Event()
                    await cancel_shielded_checkpoint()
                look(turn * 3.0)
            done.append(True)
            event.set()
    assert found(recording, "spinning") == []
    assert found(life, "spinning") == []


# --- what looking costs --------------------------------------------------------------------


async def test_a_look_is_bounded(look: Look) -> None:
    """However many tasks there are, a look is at 100, and each has its turn."""
    thresholds = trace.Thresholds(stuck=0, late_first_run=99)
    with trace.recording(thresholds=thresholds) as recording:
        lock = anyio.Lock()
        async with lock, ka.TaskGroup() as group:
            for _ in range(250):
                group.start_soon(lock.acquire)
            await settle()
            told = []
            for second in range(6):
                look(second * 0.1)
                told.append(len(found(recording, "stuck")) + recording.dropped.lints)
            group.cancel()
    news = [after - before for before, after in pairwise(told)]
    assert told[:3] == [0, 0, 0]  # the first round
    assert all(90 <= new <= 100 for new in news[2:4])  # others are looked at, too
    assert told[-1] == 250


@pytest.mark.parametrize(
    ("tasks", "looks"), [(100, 1), (4_000, 40), (10_000, 40), (30_000, 60)]
)
async def test_a_round_of_many_tasks(
    tasks: int, looks: int, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds for ten thousand; a look grows with their number, up to a bound."""
    seen: list[object] = []
    with trace.recording():
        monkeypatch.setattr(Sampler, "_begin_round", lambda self: [object()] * tasks)
        monkeypatch.setattr(Sampler, "_look", lambda self, *args: seen.append(args[0]))
        for turn in range(looks):
            assert len(seen) < tasks
            look(turn * 0.25)
    assert len(seen) == tasks


async def test_nothing_is_kept_alive(look: Look) -> None:
    """What was looked at is let go of when it ends: tasks, and the waits in them."""
    lock = anyio.Lock()

    async def waits() -> None:
        async with lock:
            pass

    def alive() -> list[str]:
        names = [each.__name__ for each in gc.get_objects() if inspect.iscoroutine(each)]
        return sorted(name for name in names if name in {"waits", "acquire"})

    with trace.recording(tasks=1) as recording:
        async with lock, ka.TaskGroup() as group:
            group.start_soon(waits)
            await settle()
            assert "waits" in alive()
            look(0)
            look(30)
            group.cancel()
        await settle()
        gc.collect()
        assert alive() == []
    assert len(found(recording, "stuck")) == 1


async def test_a_task_with_a_long_name_and_no_source_is_no_trouble(look: Look) -> None:
    """A coroutine whose source is nowhere, and a name of 100 kB."""
    namespace: dict[str, Any] = {}
    exec("async def waits(lock):\n    await lock.acquire()", namespace)
    lock = anyio.Lock()
    with trace.recording() as recording:
        async with lock, ka.TaskGroup() as group:
            group.start_soon(namespace["waits"], lock, name="x" * 100_000)
            await settle()
            look(0)
            look(30)
            group.cancel()
    (message,) = found(recording, "stuck")
    assert "(<string>:2 in waits) has waited 30 s for a lock" in message


# --- who is told ---------------------------------------------------------------------------


async def test_lints_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each is a warning, with its fields."""
    with trace.recording() as recording:
        recording.suspect("stuck", None, "something is stuck")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("kingdom_async.trace", logging.WARNING)
    assert record.getMessage() == "stuck: something is stuck"
    assert record.kind == "stuck"  # type: ignore[attr-defined]


async def test_no_flood_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of ten thousand of a kind the first are kept, and two lines are logged."""
    with trace.recording() as recording:
        for number in range(10_000):
            recording.suspect("late-first-run", None, f"callback {number} was late")
        assert [record.getMessage() for record in caplog.records] == [
            "late-first-run: callback 0 was late"
        ]
    assert caplog.records[1].getMessage() == (
        "late-first-run: callback 9999 was late (and 9998 more like it)"
    )
    assert len(recording.lints) + recording.dropped.lints == 10_000


async def test_a_thousand_late_tasks_are_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    """One for the first, one with the number of the others, their name, line and the worst."""
    with trace.recording(thresholds=trace.Thresholds(late_first_run=0)) as recording:
        async with ka.TaskGroup() as group:
            for _ in range(1000):
                group.start_soon(settle, name="work")
    first, others = caplog.records
    assert re.fullmatch(
        r"late-first-run: task 'work' \(spawned at test_lints\.py:\d+ in \w+\) first ran \S+ s "
        "after its spawn",
        first.getMessage(),
    )
    assert re.fullmatch(
        r"late-first-run: 999 more tasks 'work' \(spawned at test_lints\.py:\d+ in \w+\) first "
        r"ran up to \S+ s after their spawn",
        others.getMessage(),
    )
    assert others.place == first.place  # type: ignore[attr-defined]
    assert others.task_name == "work"  # type: ignore[attr-defined]
    kept = [lint for lint in recording.lints if lint.kind == "late-first-run"]
    assert len(kept) + recording.dropped.lints == 1000


@pytest.mark.parametrize(
    ("kind", "amount", "said"),
    [
        ("long-step", 0.25, "held the loop for up to 0.25 s"),
        ("never-yielded", 0.25, "held the loop for up to 0.25 s, and never let go of it"),
        ("spinning", 1234, "take up to 1.23e+03 steps a second and wait for nothing"),
        ("swallowed-cancellation", 0, "were cancelled, and ended as if not"),
        ("cancelled-but-alive", 2, "are alive up to 2 s after their cancellation"),
        ("deadline-overrun", 2, "left a block up to 2 s after its deadline"),
        ("stuck", 31, "have waited up to 31 s"),
        ("late-first-run", 0.4, "first ran up to 0.4 s after their spawn"),
    ],
)
async def test_many_of_a_rule_and_place_are_one_line(
    caplog: pytest.LogCaptureFixture, kind: str, amount: float, said: str
) -> None:
    """Whatever the rule: how many there were, and the largest of what it measures."""
    with trace.recording() as recording:
        async with ka.TaskGroup() as group:
            for number in range(5):
                group.start_soon(settle, name=f"worker {number}")
            for task in recording.tasks[-5:]:
                recording.suspect(kind, task.serial, "is ill", "a.py:3 in f", amount)
                recording.suspect(kind, task.serial, "is ill", "b.py:3 in f", amount / 2)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{kind}: task 'worker 0' (a.py:3 in f) is ill",
        f"{kind}: task 'worker 0' (b.py:3 in f) is ill",
        f"{kind}: 4 more tasks such as 'worker 4' (a.py:3 in f) {said}",
        told[3],
    ]
    assert told[3].startswith(f"{kind}: 4 more tasks such as 'worker 4' (b.py:3 in f)")


async def test_leaks_of_one_line_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """They are about a line, and no task; each sentence says how many there are."""
    with trace.recording() as recording:
        for number in (100, 200, 300):
            recording.suspect("leaking", None, f"{number} live tasks", "a.py:3 in f")
    assert [record.getMessage() for record in caplog.records] == [
        "leaking: 100 live tasks",
        "leaking: 300 live tasks (and 1 more like it)",
    ]


@pytest.mark.parametrize("asked", [True, False])
async def test_errors_are_logged_when_asked_for(
    caplog: pytest.LogCaptureFixture, asked: bool
) -> None:
    """As they happen, with the task's name and line, and the traceback."""

    async def fails() -> None:
        raise KeyError(1)

    with trace.recording(log_errors=asked) as recording, pytest.raises(KeyError):
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fails, name="fails")
    messages = [record.getMessage() for record in caplog.records]
    place = recording.tasks[-1].place
    assert messages == ([f"task 'fails' ({place}) failed: KeyError"] if asked else [])
    assert all("in fails" in str(record.exc_text) for record in caplog.records)


async def test_who_asks_is_told_of_each_failure() -> None:
    """``when_failed`` takes listeners at any time."""
    heard: list[tuple[str | None, str]] = []

    async def fails() -> None:
        raise KeyError(1)

    with trace.recording() as recording, pytest.raises(KeyError):
        recording.when_failed.append(lambda task, error: heard.append((task.name, repr(error))))
        async with ka.TaskGroup(errors="first") as group:
            group.start_soon(fails, name="fails")
    assert heard == [("fails", "KeyError(1)")]


async def test_a_listener_that_raises_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program and the other listeners do not notice."""
    monkeypatch.setattr(guard, "_reported", set())
    heard: list[str] = []

    def broken(lint: trace.Lint, name: str | None) -> None:
        raise ZeroDivisionError

    with trace.recording() as recording:
        recording.when_linted = [broken, lambda lint, name: heard.append(lint.kind)]
        for _ in range(3):
            recording.suspect("stuck", None, "something")
    assert heard == ["stuck"] * 3
    messages = [record.getMessage() for record in caplog.records]
    assert len([message for message in messages if "broken" in message]) == 1
