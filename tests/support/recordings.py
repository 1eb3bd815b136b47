"""Made-up recordings: a small loop on a clock of its own, and programs that are run on it.

Rule: nothing here waits or looks at the time; the same call gives the same recording.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import TypeAlias

from kingdom_async.trace.records import Dropped, Lag, Lint, Outcome, Span, Step, TaskRecord
from kingdom_async.trace.snapshot import Snapshot

_NOTHING = Dropped()
_BEGAN = 5000.0
_EPOCH = 1_790_000_000.0 - _BEGAN

#: It yields how long it holds the loop and how long it then waits, ``inf`` for its children.
Body: TypeAlias = Generator[tuple[float, float], None, None]


class Cancelled(BaseException):
    pass


@dataclass(eq=False)
class Task:
    serial: int
    parent: Task | None
    name: str
    place: str | None
    group: str | None
    spawned: float
    body: Body
    foreign: bool = False
    started: float | None = None
    ended: float | None = None
    outcome: Outcome = "running"
    error: str | None = None
    cause: str | None = None
    busy: float = 0.0
    steps: int = 0
    alive: int = 0
    children: list[Task] = field(default_factory=list)

    def record(self) -> TaskRecord:
        return TaskRecord(
            self.serial,
            self.parent.serial if self.parent else None,
            self.name,
            self.place,
            self.group,
            self.spawned,
            self.started,
            self.ended,
            self.outcome,
            self.error,
            self.cause,
            self.busy,
            self.steps,
            self.foreign,
        )


class Loop:
    """Runs one task at a time, each when its wait is over and the one before lets go."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = _BEGAN
        self.current: Task | None = None
        self.tasks: list[Task] = []
        self.steps: list[Step] = []
        self.spans: list[Span] = []
        self.lints: list[Lint] = []
        self._ready: list[tuple[float, int, Task]] = []
        self._order = 0

    def spawn(self, name: str, place: str | None, group: str | None, body: Body) -> Task:
        parent = self.current
        task = Task(len(self.tasks), parent, name, place, group, self.now, body)
        self.tasks.append(task)
        if parent:
            parent.children.append(task)
            parent.alive += 1
        self._wake(task, self.now + 2e-5)
        return task

    def cancel(self, task: Task, cause: str) -> None:
        for one in (task, *task.children):
            if one.ended is None and one.cause is None:
                one.cause = cause
                self._wake(one, self.now)
                if one is not task:
                    self.cancel(one, cause)

    def lint(self, kind: str, task: Task | None, place: str, message: str) -> None:
        self.lints.append(Lint(kind, task.serial if task else None, place, message, self.now))

    def run(self, seconds: float, *, most_steps: float = inf) -> None:
        end = _BEGAN + seconds
        while self._ready and len(self.steps) < most_steps:
            at, _, task = heappop(self._ready)
            if at > end:
                break
            if task.ended is None:
                self.now = max(self.now + 3e-6, at)
                self._step(task)
        self.now = max(self.now, end)

    def snapshot(self, *, level: str = "steps", dropped: Dropped = _NOTHING) -> Snapshot:
        return Snapshot(
            backend="trio",
            level=level,
            python="3.13.5",
            pid=41277,
            program="python -m orders.service --port 8080",
            began=_BEGAN,
            ended=self.now,
            epoch=_EPOCH,
            tasks=tuple(task.record() for task in self.tasks),
            steps=tuple(self.steps) if level == "steps" else (),
            spans=tuple(self.spans),
            lints=tuple(self.lints),
            lags=tuple(self._lags()),
            dropped=dropped,
        )

    def _step(self, task: Task) -> None:
        self.current = task
        start = self.now
        if task.started is None:
            task.started = start
        hold, wait = self._resume(task)
        self.now = max(self.now, start + hold)
        self.steps.append(Step(start, self.now, task.serial))
        task.busy += self.now - start
        task.steps += 1
        if task.ended is not None:
            task.ended = self.now
            if task.parent:
                task.parent.alive -= 1
                if not task.parent.alive:
                    self._wake(task.parent, self.now)
        elif wait != inf:
            self._wake(task, self.now + wait)
        elif not task.alive:
            self._wake(task, self.now)

    def _resume(self, task: Task) -> tuple[float, float]:
        hold = self.random.uniform(2e-5, 2e-4)
        try:
            if task.cause is not None and task.outcome == "running":
                return task.body.throw(Cancelled())
            return next(task.body)
        except StopIteration:
            task.outcome = "ok"
        except Cancelled:
            task.outcome = "cancelled"
        except Exception as error:
            task.outcome, task.error = "error", type(error).__name__
        task.ended = self.now
        return hold, inf

    def _wake(self, task: Task, at: float) -> None:
        self._order += 1
        heappush(self._ready, (at, self._order, task))

    def _lags(self) -> list[Lag]:
        """What a ping every 50 ms would have waited."""
        lags = []
        ping, n = _BEGAN, 0
        while ping < self.now:
            while n < len(self.steps) and self.steps[n].end < ping:
                n += 1
            step = self.steps[n] if n < len(self.steps) else None
            late = step.end - ping if step and step.start <= ping else 0.0
            lags.append(Lag(ping, late + self.random.uniform(4e-5, 3e-4)))
            ping += 0.05 + late
        return lags


class Service:
    """An order service: requests, a crew that fetches prices, and an accident or two."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.random = loop.random

    def main(self) -> Body:
        group = "TaskGroup at service.py:91 in main"
        yield 0.012, 0.02
        self.loop.spawn("serve", "service.py:92 in main", group, self.serve())
        self.loop.spawn("refresh_prices", "service.py:93 in main", group, self.refresh())
        self.loop.spawn("metrics", "service.py:94 in main", group, self.metrics())
        self.loop.spawn("watch_config", "service.py:95 in main", group, self.watch())
        yield 0.001, inf

    def serve(self) -> Body:
        group = "TaskGroup at service.py:40 in serve"
        for number in range(16):
            path = self.random.choice(["/orders", "/invoice", "/search", "/cart"])
            name = f"handle({path}/{310 + number * 7})"
            self.loop.spawn(name, "service.py:44 in serve", group, self.handle(number))
            yield self.random.uniform(3e-4, 2e-3), self.random.uniform(0.05, 0.42)
        yield 2e-4, inf

    def handle(self, number: int) -> Body:
        loop, group = self.loop, "TaskGroup at service.py:52 in handle"
        me = loop.current
        assert me is not None
        yield self.random.uniform(1e-3, 4e-3), self.random.uniform(0.01, 0.05)
        children = [
            loop.spawn("load_user", "service.py:53 in handle", group, self.load("user")),
            loop.spawn(
                "load_order", "service.py:54 in handle", group, self.load("order", number)
            ),
            loop.spawn("stock", "service.py:55 in handle", group, self.load("stock", number)),
        ]
        yield 5e-4, 0.55
        late = [child for child in children if child.ended is None]
        failed = any(child.outcome == "error" for child in children)
        for child in late:
            loop.cancel(
                child,
                "load_order failed with KeyError at store.py:31 in load"
                if failed
                else "deadline 'reply within 0.6 s' of timeout at service.py:50 in handle",
            )
        if failed:
            yield 1e-3, 0.02
            raise LookupError
        if late:
            yield 2e-3, 0.02
            return
        start = loop.now
        yield self.random.uniform(1e-3, 5e-3), self.random.uniform(0.06, 0.3)
        self.span("offload render_invoice", start)

    def load(self, what: str, number: int = 0) -> Body:
        start = self.loop.now
        yield self.random.uniform(4e-4, 2e-3), self.random.uniform(0.02, 0.09)
        self.span("connect", start)
        asked = self.loop.now
        for _ in range(self.random.randint(2, 9)):
            yield self.random.uniform(3e-4, 6e-3), self.random.uniform(0.005, 0.05)
        if what == "order" and number in (5, 11):
            self.span("SELECT … FROM orders", asked, "KeyError")
            raise KeyError(number)
        if what == "stock" and number in (3, 5, 9, 11):
            yield 1e-3, 5.0
        self.span(f"SELECT … FROM {what}s", asked)
        self.span(f"load {what}", start)

    def refresh(self) -> Body:
        group = "amap at service.py:70 in refresh_prices"
        for turn in range(2):
            for number in range(6):
                name = f"amap(fetch)[{number}]"
                place = "service.py:70 in refresh_prices"
                self.loop.spawn(name, place, group, self.fetch(12 - turn * 5))
            yield 2e-3, inf
            yield 4e-3, 0.5

    def fetch(self, items: int) -> Body:
        for _ in range(items):
            start = self.loop.now
            yield self.random.uniform(5e-4, 4e-3), self.random.uniform(0.04, 0.26)
            self.span("fetch price", start)

    def metrics(self) -> Body:
        for turn in range(9):
            if turn == 4:
                me, place = self.loop.current, "metrics.py:18 in collect"
                self.loop.lint(
                    "blocked-loop",
                    me,
                    place,
                    "task 'metrics' (metrics.py:18 in collect) held the loop for 0.412 s: "
                    "re.sub(pattern, '', text)",
                )
                yield 0.412, 0.3
            yield self.random.uniform(3e-3, 9e-3), 0.5

    def watch(self) -> Body:
        while True:
            try:
                yield 3e-4, 1.1
            except Cancelled:
                yield 1e-3, 0.25

    def span(self, name: str, start: float, error: str | None = None) -> None:
        task = self.loop.current
        assert task is not None
        outcome: Outcome = "error" if error else "ok"
        self.loop.spans.append(Span(name, task.serial, start, self.loop.now, outcome, error))


def service(*, level: str = "steps", dropped: Dropped = _NOTHING) -> Snapshot:
    """Five seconds of a service with every outcome, spans, lints and a blocked loop."""
    loop = Loop(seed=4)
    main = loop.spawn("main", None, None, Service(loop).main())
    loop.run(4.2)
    config = next(task for task in loop.tasks if task.name == "watch_config")
    cause = "task 'main' with reason 'shutdown' at service.py:99 in main"
    loop.cancel(config, cause)
    place = "service.py:95 in main"
    message = (
        "task 'watch_config' was cancelled 0.25 s ago and goes on at config.py:22 in watch"
    )
    loop.run(4.6)
    loop.lint("swallowed-cancellation", config, place, message)
    loop.current = main
    late = loop.spawn("flush_log", "service.py:99 in main", None, iter_nothing())
    loop.run(4.61)
    foreign = loop.spawn("uvicorn lifespan", None, None, iter_nothing())
    foreign.parent, foreign.foreign, foreign.outcome = None, True, "unknown"
    loop.lint("stuck", None, "pool.py:7 in acquire", "3 tasks wait at pool.py:7 in acquire")
    snapshot = loop.snapshot(level=level, dropped=dropped)
    assert late.started is not None
    return snapshot


def iter_nothing() -> Body:
    yield 1e-4, 0.05
    yield 1e-4, 0.2


def big(tasks: int = 10_000, steps: int = 200_000) -> Snapshot:
    """Bulk work: so many tasks in waves of groups, and so many steps."""
    loop = Loop(seed=7)
    per_group = 500

    def worker(number: int) -> Body:
        for _ in range(steps // tasks - 1):
            yield loop.random.uniform(5e-6, 9e-5), loop.random.expovariate(4.0)
        if number % 97 == 0:
            raise ConnectionError
        if number % 41 == 0:
            raise Cancelled

    def batch(number: int) -> Body:
        group = f"amap at crawl.py:{20 + number} in crawl_{number}"
        for n in range(per_group - 1):
            name = f"amap(fetch)[{n}]"
            loop.spawn(name, f"crawl.py:{20 + number} in crawl_{number}", group, worker(n))
            if n % 10 == 9:
                yield 2e-4, loop.random.uniform(0, 0.08)
        yield 1e-4, inf

    def main() -> Body:
        for number in range((tasks - 1) // per_group + 1):
            group = "TaskGroup at crawl.py:9 in main"
            loop.spawn(f"crawl_{number}", "crawl.py:11 in main", group, batch(number))
            yield 1e-3, 0.8
        yield 1e-3, inf

    loop.spawn("main", None, None, main())
    loop.run(1000.0, most_steps=steps)
    loop.now = max(step.end for step in loop.steps[-1:])
    return loop.snapshot()
