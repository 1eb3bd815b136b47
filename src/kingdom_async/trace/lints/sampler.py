"""What looks wrong with tasks that wait: found by looking at them from time to time.

Rule: from a thread of its own, never in the loop's way: a look takes one to five milliseconds,
however many tasks there are, and lets go of the interpreter in between. Nothing of the
program is kept alive from one look to the next. Each lint is told once, and again only after
it had gone away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import ref

from ..loops import tasks_of
from ..raw.rows import PARENT, Life
from ..raw.store import copied
from ..stacks import frames, lines, links
from .cancels import Cancels
from .leaks import Leaks
from .waits import Waits, in_words, known_waits

if TYPE_CHECKING:
    from types import CodeType

    from ..raw.causes import Deadline
    from ..raw.recorder import Recorder

#: Coroutines and generators, each awaiting the next, with their code.
Stack: TypeAlias = "list[tuple[object, CodeType]]"
#: Seconds between two looks; and how many tasks are looked at between two pauses.
EVERY, _BREATH = 0.25, 100
#: How many are looked at each time: at least, and at most where a round would take more looks
#: than that. Ten thousand tasks are a round of ten seconds.
_AT_LEAST, _AT_MOST, _LOOKS = 100, 500, 40
#: In so many looks one after the other a task has to spin.
_SPUN = 3


class _Seen(NamedTuple):
    """A task of one round; it may have ended when its turn comes."""

    serial: int
    ident: int
    native: ref[Any]
    coro: ref[Any]


class _Spell(NamedTuple):
    """A task spins: its steps when it was seen last, and how often it was seen to."""

    steps: int
    at: float
    times: int


class Sampler:
    """Looks at the tasks of one loop, for one recording.

    Args:
        recorder: What knows the tasks, and is told what is suspect.
        deadlines: By ``id`` of the task: the deadlines around what it does now.
    """

    def __init__(self, recorder: Recorder, deadlines: Mapping[int, list[Deadline]]) -> None:
        self._recorder = recorder
        self._store = recorder.store
        self._limits = recorder.thresholds
        self._deadlines = deadlines
        self._round: Iterator[_Seen] = iter(())
        self._at_once = _AT_LEAST
        #: The serials of the tasks that have children.
        self._parents: set[int | None] = set()
        #: By kind and serial.
        self._told: set[tuple[str, int]] = set()
        #: By serial: since when it has been cancelled; in which wait, since when; how it spins.
        self._cancelled: dict[int, float] = {}
        self._waits: dict[int, tuple[ref[Any], float]] = {}
        self._spells: dict[int, _Spell] = {}
        self._leaks = Leaks(recorder)

    def __call__(self, at: float) -> float:
        """Look, and say when to look again."""
        self.tick(at)
        return at + EVERY

    def tick(self, at: float) -> None:
        """Look at the next tasks, as of *at*."""
        self._leaks.look(at)
        waits, cancels = known_waits(), Cancels(self._recorder)
        for number, seen in enumerate(self._next()):
            if number % _BREATH == _BREATH - 1:
                sleep(0)
            self._look(seen, at, waits, cancels)

    # --- whose turn it is --------------------------------------------------------------

    def _next(self) -> Iterator[_Seen]:
        """The next tasks of the round; where it is over, the first ones of a new round."""
        left = self._at_once
        for seen in self._round:
            yield seen
            left -= 1
            if not left:
                return
        if left == self._at_once:
            all_ = self._begin_round()
            self._round = iter(all_)
            left = self._at_once = min(max(_AT_LEAST, len(all_) // _LOOKS), _AT_MOST)
            for seen in self._round:
                yield seen
                left -= 1
                if not left:
                    return

    def _begin_round(self) -> list[_Seen]:
        store = self._store
        live = copied(store.live.items())
        self._parents = {raw[PARENT] for _, raw in live}
        alive = {serial for serial, _ in live}
        for kept in (self._cancelled, self._waits, self._spells):
            for serial in kept.keys() - alive:
                kept.pop(serial)
        self._told = {(kind, serial) for kind, serial in self._told if serial in alive}
        found: list[_Seen] = []
        for task in tasks_of(self._recorder.loop):
            number = store.serials.get(task.ident)
            if number is not None and not task.internal:
                found.append(_Seen(number, task.ident, ref(task.native), _ref(task.coro)))
        return found

    # --- one task ----------------------------------------------------------------------

    def _look(self, seen: _Seen, at: float, waits: Waits, cancels: Cancels) -> None:
        native, coro = seen.native(), seen.coro()
        raw = self._store.live.get(seen.serial)
        if native is None or coro is None or raw is None:
            return
        life = Life(*raw)
        stack = [] if getattr(coro, "cr_running", False) else [*links(coro)]
        self._look_for_cancel(seen, life, native, stack, at, cancels)
        if stack:
            self._look_for_wait(seen.serial, stack, at, waits)
            if self._recorder.has_steps:
                self._look_for_spell(seen, stack, at, waits)

    def _look_for_cancel(
        self, seen: _Seen, life: Life, native: Any, stack: Stack, at: float, cancels: Cancels
    ) -> None:
        serial, cause = seen.serial, None
        if serial not in self._parents:  # it may wait for its children: they are told of
            cause = cancels.of(life, native, [*self._deadlines.get(seen.ident, ())])
        if cause is None:
            self._cancelled.pop(serial, None)
            self._told.discard(("cancelled-but-alive", serial))
            return
        age = at - self._cancelled.setdefault(serial, at)
        if age >= self._limits.cancelled_but_alive:
            what = f"is alive {age:.3g} s after its cancellation {cause}"
            self._tell("cancelled-but-alive", serial, what, stack, age)

    def _look_for_wait(self, serial: int, stack: Stack, at: float, waits: Waits) -> None:
        for _, code in stack:
            scarce = waits.scarce.get(id(code))
            if scarce is not None:
                break
        else:
            if self._waits.pop(serial, None) is not None:
                self._told.discard(("stuck", serial))
            return
        innermost = stack[-1][0]
        wait = self._waits.get(serial)
        if wait is None or wait[0]() is not innermost:
            self._waits[serial] = _ref(innermost), at
            self._told.discard(("stuck", serial))
        elif at - wait[1] >= self._limits.stuck:
            named = in_words(scarce, frames(stack[0][0]), self._name_of)
            what = f"has waited {at - wait[1]:.3g} s for {named}"
            self._tell("stuck", serial, what, stack, at - wait[1])

    def _name_of(self, ident: int) -> str | None:
        row = self._store.live.get(self._store.serials.get(ident, -1))
        return None if row is None else Life(*row).name

    def _look_for_spell(self, seen: _Seen, stack: Stack, at: float, waits: Waits) -> None:
        serial, account = seen.serial, self._store.accounts.get(seen.ident)
        spins = any(id(code) in waits.checkpoints for _, code in stack[-3:])
        if account is None or not spins:
            self._spells.pop(serial, None)
            self._told.discard(("spinning", serial))
            return
        before = self._spells.get(serial)
        if before is None:
            self._spells[serial] = _Spell(account.steps, at, 0)
            return
        if at <= before.at:
            return
        rate = (account.steps - before.steps) / (at - before.at)
        times = before.times + 1 if rate >= self._limits.spinning else 0
        self._spells[serial] = _Spell(account.steps, at, times)
        if not times:
            self._told.discard(("spinning", serial))
        elif times >= _SPUN:
            what = f"takes {rate:.0f} steps a second and waits for nothing"
            self._tell("spinning", serial, what, stack, rate)

    def _tell(self, kind: str, serial: int, what: str, stack: Stack, amount: float) -> None:
        if (kind, serial) in self._told or serial not in self._store.live:
            return
        self._told.add((kind, serial))
        shown = lines(frames(stack[0][0])) if stack else []
        if not shown:
            self._recorder.suspect(kind, serial, what, amount=amount)
            return
        source = shown[-1].source
        what = f"{what}: {source}" if source else what
        self._recorder.suspect(kind, serial, what, str(shown[-1]), amount)


def _ref(value: Any) -> ref[Any]:
    """A weak reference; a dead one to what takes none."""
    try:
        return ref(value)
    except TypeError:
        return ref(_Nothing())


class _Nothing: ...
