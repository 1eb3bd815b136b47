"""`cancel_everywhere`: a body is cancelled at each of its steps, and must stand it.

Rule: one run in which nothing happens counts the steps; then there is a run for each.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack, contextmanager

from .._backend import choose_backend
from .internals.faults import check_faults
from .internals.leaks import check_leaks
from .plugin.guard import between_runs
from .reports import Broken, Failure, Report, called
from .runs.checked import NotAsChecked, ask, check_body, refuse_running_loop
from .runs.fault_options import Clock, Options, named, nothing_to_do
from .runs.injection import Injector, Mode
from .runs.one_run import Body, Run, RunSettings, chain_of, run_once
from .runs.patience import Onlooker
from .runs.said_once import said_once
from .runs.warned import Warned
from .runs.written import Written

#: Python 3.12 has frozen some hundred objects when it starts.
_FROZEN_AT_START = 5000
#: True if there were more than these when they were last counted.
_is_frozen = False
#: So many objects are collected in no time.
_FEW = 10_000
_CALL = "cancel_everywhere"
#: After so many runs that had to be given up, each of which takes long, no more are made.
_MOST_HUNG = 3


def cancel_everywhere(
    body: Body,
    *,
    backend: str | None = None,
    check: Callable[[], object] | None = None,
    watch: Collection[object] = (),
    mode: Mode = "once",
    task: str | None = None,
    raises: type[BaseException] | tuple[type[BaseException], ...] = (),
    seed: int | None = None,
    clock: Clock = "virtual",
    grace: float = 1.0,
    patience: float = 5.0,
    only: int | None = None,
) -> Report:
    """Run *body* once for each of its steps, cancelled there, and look at what is left.

    The first run is left alone, to count the steps that the body and the tasks it starts take.
    In the others the cancellation comes right after one step, when its task waits again. After
    each run no task, thread, process, pool, stream, limiter token, async generator or coroutine
    that nobody awaited may be left, no socket or file may have been dropped without being
    closed, nothing in *watch* may be held, no task that was cancelled may have returned all the
    same (but for `offload`, which returns what comes late), and *check* must not raise.

    Each run has an event loop of its own, so this is called from an ordinary function. trio
    takes its tasks in the same order in each run.

    Args:
        body: An async function without arguments. It makes what it uses, so that each run
            begins alike.
        backend: As for `run`; the variable is ``KINGDOM_ASYNC_BACKEND``, the default asyncio.
        check: A function called after each run; it raises, or returns False, if something is
            wrong, such as an item that is neither in the queue nor handled.
        watch: Locks, semaphores, conditions and limiters, or functions that return those that
            the body has made. Prefer the second: a lock left held spoils the runs that follow.
            A semaphore that the body makes needs its ``max_value``.
        mode: ``"once"``. ``"twice"``: again one step later, from further out; on asyncio by
            ``Task.cancel()``, which goes through shields. ``"native"``: by ``Task.cancel()``,
            asyncio only. ``"error"``: `InjectedError` is raised in the task in place of a
            cancellation, where it waits in a checkpoint or a sleep of the body's own.
        task: Cancel only tasks of that name, alone, after their own steps; patterns as of
            ``fnmatch``, and the last part of a dotted name is enough.
        raises: What the body may raise besides, without that being a failure;
            ``ResourceWarning`` allows sockets and files that are not closed.
        seed: Of a schedule to run under, as of `explore`; default, the loop's own order.
        clock: ``"virtual"`` lets time jump, except on uvloop, which cannot; ``"real"`` for
            bodies with threads that neither `offload` nor anyio has started.
        grace: Real seconds that threads, and processes that were told to, have to come to their
            end after a run.
        patience: Real seconds without a step after which a run counts as hung.
        only: Make only the run for that step, as a failure's replay says. It is a failure if
            the step does not come, as in a body that has changed since.

    Returns:
        How many steps there are, for how many there was a run in which it was cancelled, and
        what failed. Threads may make steps come and go: then `injected` is less than `points`.

    Raises:
        RuntimeError: If called where an event loop runs.
        ValueError: If no task is called *task*, or *body* takes no step.

    Example:
        >>> cancel_everywhere(transfer, check=nothing_lost).raise_if_failed()
    """
    __tracebackhide__ = True
    check_body("cancel_everywhere", body)
    name = choose_backend(backend)
    options = Options(check, watch, mode, task, raises, seed, clock, grace, patience, only)
    options.refuse_wrong(name)
    refuse_running_loop("cancel_everywhere", body)
    check_faults(name)
    check_leaks()
    runs = _Runs(body, options, name, Written("cancel_everywhere"))
    with ExitStack() as stack:
        runs.onlooker = stack.enter_context(Onlooker(patience))
        stack.enter_context(_small_heap())
        runs.warned = stack.enter_context(Warned())
        stack.enter_context(said_once(runs.report.call))
        runs.count()
        for point in range(1, runs.report.points + 1) if only is None else (only,):
            between_runs()
            if not runs.strike(point):
                break
        between_runs()
    return runs.finished_report()


class _Runs:
    """All runs of one call."""

    onlooker: Onlooker
    warned: Warned

    def __init__(self, body: Body, options: Options, backend: str, written: Written) -> None:
        self._body = body
        self._options = options
        self._plan = options.plan
        self._settings = RunSettings(
            backend,
            options.clock,
            options.watch,
            options.allowed,
            options.grace,
            options.seed or 0,
            options.patience,
        )
        self._written = written
        self._hung = 0
        self._missed: list[int] = []
        self.report = Report(f"{_CALL}({called(body)}{options.text(named)})", backend)

    def count(self) -> None:
        """Run the body undisturbed."""
        injector = Injector(self._plan, None)
        run = self._run(injector)
        self.report.points = injector.count
        for error in run.errors:
            if isinstance(error, NotAsChecked):
                raise TypeError(str(error)) from None
            self._failed(error, None, "")
        self._look_for_unclosed(run, None, "")
        if run.is_hung:
            self.report.points = 0
        elif injector.count == 0 and not run.errors:
            raise nothing_to_do(self._body, self._plan, injector.names)

    def strike(self, point: int) -> bool:
        """Run it with a cancellation after that step; False if there shall be no more runs."""
        injector = Injector(self._plan, point, self.report.points)
        run = self._run(injector)
        if not injector.struck:
            self._missed.append(point)
        elif injector.refusal is not None:
            raise ValueError(f"{self.report.call}: {injector.refusal}")
        else:
            self.report.injected += 1
            self.report.outcomes[run.outcome] += 1
        step = point if injector.struck else None
        for error in run.errors:
            self._failed(error, step, injector.place)
        self._look_for_unclosed(run, step, injector.place)
        return not self._is_over(run)

    def finished_report(self) -> Report:
        only = self._options.only
        if self._missed and only is not None:  # a stale replay, which has tried nothing
            self._failed(
                Broken(
                    f"it did not come: the body took {self.report.points} steps, and nothing "
                    "was cancelled; leave out only= to try each of them"
                ),
                only,
                "",
            )
        elif self._missed:
            self.report.remarks.append(
                f"not reached this time: {len(self._missed)} of the steps; threads, or what "
                "else differs from run to run, make them come and go"
            )
        return self.report

    def _run(self, injector: Injector) -> Run:
        run = run_once(self._body, self._settings, injector, self.onlooker)
        if self._options.check is not None and not run.is_hung:
            try:
                ask(_CALL, self._options.check)
            except NotAsChecked as error:
                raise TypeError(str(error)) from None
            except Exception as error:
                run.errors.append(error)
        return run

    def _look_for_unclosed(self, run: Run, step: int | None, place: str) -> None:
        """Python closes files, sockets and such that are dropped, and says so."""
        unclosed = self.warned.unclosed()
        if run.is_hung or ResourceWarning in self._options.allowed:
            return
        for one in unclosed:
            self._failed(Broken(f"left behind: {one}"), step, place)

    def _failed(self, error: BaseException, step: int | None, place: str) -> None:
        like = self._written.like
        body = like("body", self._body, called(self._body))
        backend = f", backend={self._settings.backend!r}"
        only = "" if step is None else f", only={step}"
        replay = f"{_CALL}({body}{backend}{self._options.text(like)}{only})"
        failure = Failure(replay, error, step, self._plan.seed, place, step is None)
        self.report.failures.append(failure)
        for one in chain_of(error):  # their frames would keep what the runs had made
            traceback.clear_frames(one.__traceback__)

    def _is_over(self, run: Run) -> bool:
        self._hung += run.is_hung
        if run.is_blocked:
            why = "what is watched is held now, and the runs that follow would wait for it"
        elif self._hung >= _MOST_HUNG:
            why = f"{self._hung} runs were hung"
        else:
            return False
        self.report.remarks.append(f"stopped early: {why}")
        return True


# --- around the runs -------------------------------------------------------------------


@contextmanager
def _small_heap() -> Generator[None, None, None]:
    """What is there already is not looked at by the garbage collections after each run."""
    global _is_frozen
    if _is_frozen and len(gc.get_objects(generation=2)) < _FEW:
        yield  # whoever had frozen the program's objects has done what is done here
        return
    # Where much is frozen, this count takes longer than all the runs of a small body.
    _is_frozen = is_frozen = gc.get_freeze_count() >= _FROZEN_AT_START
    gc.freeze()
    try:
        yield
    finally:
        if not is_frozen:  # else whoever had frozen the program's objects wants them frozen
            gc.unfreeze()
