"""`cancel_everywhere`: a body is cancelled at each of its steps, and must stand it.

Rule: one run in which nothing happens counts the steps; then there is a run for each.
"""

from __future__ import annotations

import gc
import traceback
import warnings
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack, contextmanager

import sniffio

from .._arguments import name_of, refuse_async_generator, shown
from .._backend import choose_backend
from . import _internals_faults, _internals_leaks
from .guard import between_runs
from .held import refuse_unwatchable
from .injection import MODES, Injector, Mode, Plan
from .one_run import Body, Clock, NotAsync, Run, Settings, chain_of, run_once
from .patience import Watchdog
from .reports import Failure, Report, called
from .said_once import said_once

#: Python 3.12 has frozen some hundred objects when it starts.
_FROZEN_AT_START = 5000
#: True if there were more than these when they were last counted.
_is_frozen = False
#: So many objects are collected in no time.
_FEW = 10_000
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
    each run no task, thread, pool, stream, limiter token, async generator or coroutine that
    nobody awaited may be left, nothing in *watch* may be held, no task that was cancelled may
    have returned all the same (but for `offload`, which returns what comes late), and *check*
    must not raise.

    Each run has an event loop of its own, so this is called from an ordinary function. trio
    takes its tasks in the same order in each run.

    Args:
        body: An async function without arguments. It makes what it uses, so that each run
            begins alike.
        backend: As for `run`; the variable is ``KINGDOM_ASYNC_BACKEND``, the default asyncio.
        check: A function called after each run; it raises if something is wrong, such as an
            item that is neither in the queue nor handled.
        watch: Locks, semaphores, conditions and limiters, or functions that return those that
            the body has made. Prefer the second: a lock left held spoils the runs that follow.
        mode: ``"once"``. ``"twice"``: again one step later, from further out; on asyncio by
            ``Task.cancel()``, which goes through shields. ``"native"``: by ``Task.cancel()``,
            asyncio only. ``"error"``: `InjectedError` is raised in the task in place of a
            cancellation, where it waits in a checkpoint or a sleep of the body's own.
        task: Cancel only tasks of that name, alone, after their own steps; patterns as of
            ``fnmatch``, and the last part of a dotted name is enough.
        raises: What the body may raise besides, without that being a failure.
        seed: Of a schedule to run under, as of `explore`; default, the loop's own order.
        clock: ``"virtual"`` lets time jump, except on uvloop, which cannot; ``"real"`` for
            bodies with threads that neither `offload` nor anyio has started.
        grace: Real seconds that threads have to come to their end after a run.
        patience: Real seconds without a step after which a run counts as hung.
        only: Make only the run for that step, as a failure's replay says.

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
    name = _checked(body, backend, watch, mode, task)
    _internals_faults.check(name)
    _internals_leaks.check()
    allowed = raises if isinstance(raises, tuple) else (raises,)
    settings = Settings(name, clock, watch, allowed, grace, seed or 0, patience)
    options = _shown_options(check, watch, mode, task, raises, seed, clock)
    runs = _Runs(body, check, settings, Plan(mode, task, seed), options)
    with ExitStack() as stack:
        runs.watchdog = stack.enter_context(Watchdog(patience))
        for block in (_small_heap(), _warnings_kept(), said_once(runs.report.call)):
            stack.enter_context(block)
        runs.count()
        for point in range(1, runs.report.points + 1) if only is None else (only,):
            between_runs()
            if not runs.strike(point):
                break
        between_runs()
    return runs.finished_report()


class _Runs:
    """All runs of one call."""

    watchdog: Watchdog

    def __init__(
        self,
        body: Body,
        check: Callable[[], object] | None,
        settings: Settings,
        plan: Plan,
        options: str,
    ) -> None:
        self._body = body
        self._check = check
        self._settings = settings
        self._plan = plan
        self._options = options
        self._hung = 0
        self._missed: list[int] = []
        self.report = Report(f"cancel_everywhere({called(body)}{options})", settings.backend)

    def count(self) -> None:
        """Run the body undisturbed."""
        injector = Injector(self._plan, None)
        run = self._run(injector)
        self.report.points = injector.count
        for error in run.errors:
            if isinstance(error, NotAsync):
                raise error
            self._failed(error, None, "")
        if run.is_hung:
            self.report.points = 0
        elif injector.count == 0 and not run.errors:
            raise _nothing_to_do(self._body, self._plan, injector.names)

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
        for error in run.errors:
            self._failed(error, point if injector.struck else None, injector.place)
        return not self._is_over(run)

    def finished_report(self) -> Report:
        if self._missed:
            self.report.remarks.append(
                f"not reached this time: {len(self._missed)} of the steps; threads, or what "
                "else differs from run to run, make them come and go"
            )
        return self.report

    def _run(self, injector: Injector) -> Run:
        run = run_once(self._body, self._settings, injector, self.watchdog)
        if self._check is not None and not run.is_hung:
            try:
                self._check()
            except Exception as error:
                run.errors.append(error)
        return run

    def _failed(self, error: BaseException, step: int | None, place: str) -> None:
        only = "" if step is None else f", only={step}"
        backend = f", backend={self._settings.backend!r}"
        replay = f"cancel_everywhere({called(self._body)}{backend}{self._options}{only})"
        failure = Failure(replay, error, step=step, seed=self._plan.seed, place=place)
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


@contextmanager
def _warnings_kept() -> Generator[None, None, None]:
    """Warnings about what the report says anyway are not given; all others are, afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()  # what the last run has left,
        gc.collect()  # and what its finalizers have brought back
    seen: set[tuple[str, str, int]] = set()
    for one in caught:
        key = str(one.message), one.filename, one.lineno
        if key not in seen and not _is_reported(one):
            seen.add(key)
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _is_reported(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, ResourceWarning) or "was never awaited" in str(
        warning.message
    )


# --- arguments -------------------------------------------------------------------------


def _checked(
    body: object, backend: str | None, watch: object, mode: object, task: str | None
) -> str:
    """The backend, if all is well."""
    refuse_async_generator("cancel_everywhere", body)
    if not callable(body):
        raise TypeError(
            f"cancel_everywhere() takes an async function, not {shown(body)}; "
            "write cancel_everywhere(body)"
        )
    if mode not in MODES:
        raise ValueError(
            f"mode must be one of {', '.join(map(repr, MODES))}, not {shown(mode)}"
        )
    name = choose_backend(backend)
    if mode == "native" and name == "trio":
        raise ValueError(
            "mode='native' is asyncio's Task.cancel(), which trio does not have; "
            "use backend='asyncio', or mode='once'"
        )
    refuse_unwatchable(watch)
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return name
    raise RuntimeError(
        f"cancel_everywhere({name_of(body)}) inside a running {library} loop; it starts loops "
        "of its own, so call it from an ordinary function"
    )


def _nothing_to_do(body: object, plan: Plan, names: Collection[str]) -> ValueError:
    call = f"cancel_everywhere({name_of(body)})"
    if plan.task is not None:
        there = ", ".join(sorted(map(repr, names))) or "none"
        return ValueError(
            f"{call}: no task called {plan.task!r} has taken a step; there were {there}"
        )
    if plan.mode == "error":
        return ValueError(
            f"{call}: it waits in no checkpoint and no sleep, where mode='error' raises; let "
            "these stand for what may fail"
        )
    return ValueError(f"{call}: it never waits, so it cannot be cancelled")


def _shown_options(
    check: Callable[[], object] | None,
    watch: Collection[object],
    mode: Mode,
    task: str | None,
    raises: type[BaseException] | tuple[type[BaseException], ...],
    seed: int | None,
    clock: Clock,
) -> str:
    """What was given, as it is written in a call."""
    options: list[str] = []
    if check is not None:
        options.append(f"check={called(check)}")
    if watch:
        options.append("watch=…")
    if mode != "once":
        options.append(f"mode={mode!r}")
    if task is not None:
        options.append(f"task={task!r}")
    if raises:
        options.append("raises=…" if isinstance(raises, tuple) else f"raises={called(raises)}")
    if seed is not None:
        options.append(f"seed={seed}")
    if clock != "virtual":
        options.append(f"clock={clock!r}")
    return "".join(f", {option}" for option in options)
