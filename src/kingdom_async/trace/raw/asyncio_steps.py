"""Who holds asyncio's loop: each callback is timed while a recording with steps is on.

Rule: a loop written in Python calls everything through `Handle._run`. It is wrapped once,
however many recordings look on; it calls whoever had wrapped it before, and is put back when
the last recording ends. If somebody wrapped ours meanwhile it stays, and only passes on.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.events import Handle
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..guard import guarded
from ..loops import described
from ..records import now
from .edges import cut, first_step_over
from .rows import BEGUN, FOREIGN

if TYPE_CHECKING:
    from types import FrameType

    from ..loops import AsyncioLoop
    from .recorder import Recorder
    from .rows import Account
    from .store import Store

#: A callback that is not a task's step is worth a record from so many seconds on.
_WORTH = 0.001


def watch(recorder: Recorder, loop: AsyncioLoop) -> Callable[[], None]:
    """Have *recorder* told of each step of *loop*; returns what ends that."""
    global _timed
    if _timed is None or not _timed.is_called(loop):
        _timed = _Timed(Handle._run)
    _timed.add(recorder, loop)
    _cut_first(recorder, loop)
    return partial(_unwatch, _timed, recorder)


@guarded
def _cut_first(recorder: Recorder, loop: AsyncioLoop) -> None:
    """The step that the recording begins in is cut at its beginning."""
    account = recorder.store.accounts.get(loop.identify())
    if account is not None:
        task = loop.current_task()
        loop.native.call_soon(first_step_over, recorder, now(), account, task)


def _unwatch(timed: _Timed, recorder: Recorder) -> None:
    timed.cut(recorder)
    timed.remove(recorder)
    if not timed.watched and Handle._run is timed.run:
        _put_back(timed)


def _put_back(timed: _Timed) -> None:
    global _timed
    Handle._run = timed.before  # type: ignore[method-assign, assignment]
    if timed is _timed:
        _timed = None


class _Timed:
    """`Handle._run`, and how long it takes."""

    def __init__(self, before: Callable[[Handle], None]) -> None:
        self.before = before
        self.watched: tuple[tuple[Recorder, AsyncioLoop], ...] = ()
        self.was_called = False
        self.run, self._look_at = self._wrapped()
        Handle._run = self.run  # type: ignore[method-assign, assignment]

    def add(self, recorder: Recorder, loop: AsyncioLoop) -> None:
        self.watched = (*self.watched, (recorder, loop))
        self._look_at(*self.watched)

    def remove(self, recorder: Recorder) -> None:
        self.watched = tuple(pair for pair in self.watched if pair[0] is not recorder)
        self._look_at(*self.watched)

    @guarded
    def cut(self, recorder: Recorder) -> None:
        """The step that the recording ends in is cut at its end."""
        if not recorder.is_here():
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not self.run.__code__:
            frame = frame.f_back
        if frame is None:
            return
        seen = frame.f_locals
        cut(recorder, seen["start"], seen["account"])
        if sys.version_info < (3, 13):  # a copy that the frame keeps, with the recorder in it
            seen.clear()

    def is_called(self, loop: AsyncioLoop) -> bool:
        """True if a handle still goes through this wrapper, whoever wrapped it since."""
        self.was_called = False
        Handle(lambda: None, (), loop.native)._run()
        return self.was_called

    def _wrapped(self) -> tuple[Callable[[Any], None], Callable[..., None]]:
        before = self.before
        # Those of the one recorder that looks on; where none or several do, no account is
        # found at first, and `_untimed` is the way.
        get_account: Callable[[int], Account | None] = _nothing
        append: Callable[[tuple[float, float, int | None]], None] = _nothing
        long_step: float
        recorder: Any = _Nobody

        def run(self: Any) -> None:
            # Written out, since this is paid for at each step of each task.
            try:
                owner = self._callback.__self__
            except Exception:  # it has none, or whatever its __getattr__ raises
                owner = None
            account = get_account(id(owner))
            start = now()
            try:
                before(self)
            finally:
                end = now()
                if account is None:
                    untimed(self, owner, start, end)
                else:
                    held = end - start
                    account.busy += held
                    account.steps += 1
                    append((start, end, account.serial))
                    if held > long_step:
                        recorder.stepped_long(account.serial, held, owner)

        untimed = self._untimed

        def look_at(*watched: tuple[Recorder, AsyncioLoop]) -> None:
            nonlocal get_account, append, long_step, recorder
            get_account = _nothing
            if not watched:  # nothing is kept of the last one; its last step may be under way
                append, recorder = _nothing, _Nobody
            if len(watched) == 1:
                recorder = watched[0][0]
                append, long_step = recorder.store.steps.append, recorder.thresholds.long_step
                get_account = recorder.store.accounts.get

        return run, look_at

    @guarded
    def _untimed(self, handle: Any, owner: object, start: float, end: float) -> None:
        """Somebody held a loop, and has no account yet, or several."""
        self.was_called = True
        if not self.watched and Handle._run is self.run:
            _put_back(self)  # whoever had wrapped it has gone meanwhile
        for recorder, loop in self.watched:
            if loop.native is handle._loop:
                account = _account_of(owner, recorder, start, end)
                if account is not None:
                    recorder.step(start, end, account, owner)


class _Nobody:
    @staticmethod
    def stepped_long(serial: int, held: float, task: object) -> None: ...


def _nothing(_: object) -> None:
    return None


_timed: _Timed | None = None


def _account_of(owner: Any, recorder: Recorder, start: float, end: float) -> Account | None:
    """The account of whoever has just held the loop and had none when it began to."""
    store = recorder.store
    account = store.accounts.get(id(owner))
    if account is not None:  # it was the first step
        _date_back(account, store, start)
        return account
    if _is_task(owner):
        if owner.done():
            # It was the last step, and has said so; the first one, too, where one looks on.
            ident, account, at = store.last_ended
            if ident == id(owner) and at >= start:
                return account
            if owner.cancelled() and len(store.live) > len(store.serials):
                return None  # one of ours, that never began
        return _met(owner, recorder, start)
    if end - start > _WORTH:
        recorder.callback_step(start, end, owner)
    return None


def _is_task(owner: object) -> bool:
    return isinstance(owner, asyncio.Future) and hasattr(owner, "get_coro")  # pyright: ignore[reportUnknownArgumentType]


def _date_back(account: Account, store: Store, start: float) -> None:
    """A task of others that was met in its first step has begun with that step."""
    row = store.live.get(-1 if account.serial is None else account.serial)
    if row is not None and row[FOREIGN] and row[BEGUN] is not None:
        row[BEGUN] = min(row[BEGUN], start)


def _met(task: Any, recorder: Recorder, start: float) -> Account | None:
    """The account of a task that others started; of none for one of a group's own."""
    native = described(task)
    if native.internal:
        return None
    if recorder.strangers.meet(native, started=start) is None:
        return None
    return recorder.store.accounts[id(task)]
