"""What is made while a block runs, and by which line: streams, pools, tokens, generators.

Rule: the classes are watched only while some block runs, and only what is made in the thread
of that block counts for it. What is noted is held weakly: looking at it keeps nothing alive.
"""

from __future__ import annotations

import asyncio.subprocess
import os
import sys
import threading
import typing
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..._queue_streams import ReceiveStream, SendStream
from ..._queues import Queue
from ...trace.stacks import Line, is_library, line_of
from ..internals import leaks as internals
from .cleanups import has_cleanup
from .hooks import hook
from .processes import Child, child_of, is_the_programs, process_classes

if TYPE_CHECKING:
    from .left import Kind

#: How many frames back Python looks for the line that made a coroutine.
_ORIGIN_DEPTH = 10

AnyGenerator = Any  # of those of the interpreter: an AsyncGeneratorType
AnyCoroutine = Any  # a CoroutineType, which takes no arguments before Python 3.13


class Born(NamedTuple):
    """Something that was made, and where."""

    kind: Kind
    what: ref[Any]
    place: str


class Borrowed(NamedTuple):
    """A token that was asked for."""

    limiter: Any
    borrower: object
    place: str


class Births:
    """What was made in this thread since this was opened."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        #: By ``id``. The weak reference of what is garbage is dead before its ``__del__`` runs.
        self.made: dict[int, Born] = {}
        self.tokens: dict[tuple[int, int], Borrowed] = {}
        #: By number.
        self.children: dict[int, Child] = {}
        #: The numbers of processes to which a signal was sent.
        self.signalled: set[int] = set()
        #: Where each thread was started, whoever started it.
        self.threads: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
        #: Sentences about what was dropped while it should not have been: kind, name, place.
        self.dropped: list[tuple[Kind, str, str]] = []
        #: Ends of trio's channels that were dropped unclosed: name, place, and what says if the
        #: other end is open. Where nobody is there any more, nobody misses this one.
        self.ends: list[tuple[str, str, Callable[[], bool]]] = []
        #: Coroutines that were dropped; who records the warning keeps them alive, though.
        self.warned: set[int] = set()
        self.recorder: Any = internals.who_records_warnings()

    @property
    def is_here(self) -> bool:
        return threading.get_ident() == self._thread

    def begin(self) -> None:
        """Watch from here on."""
        with _changing:
            _open.append(self)
            if len(_open) == 1:
                _hooks.extend(_installed())
        # Both are settings of this thread.
        self._depth = sys.get_coroutine_origin_tracking_depth()
        sys.set_coroutine_origin_tracking_depth(max(self._depth, _ORIGIN_DEPTH))
        self._before = sys.get_asyncgen_hooks()
        self._first = partial(self._generator_begins, self._before.firstiter)
        self._last = partial(self._generator_dropped, self._before.finalizer)
        sys.set_asyncgen_hooks(self._first, self._last)

    def end(self) -> None:
        """Watch no more; it may be over already."""
        with _changing:
            if self not in _open:
                return
            _open.remove(self)
            if not _open:
                while _hooks:
                    _hooks.pop()()
        if self.is_here:
            sys.set_coroutine_origin_tracking_depth(self._depth)
            if sys.get_asyncgen_hooks().firstiter is self._first:
                sys.set_asyncgen_hooks(*self._before)

    def note(self, kind: Kind, what: object, frame: FrameType | None) -> None:
        self.made[id(what)] = Born(kind, ref(what), _place(frame))

    # Async generators are the interpreter's: it calls these, in the thread of the block.

    def _generator_begins(
        self, before: Callable[[AnyGenerator], object] | None, generator: AnyGenerator
    ) -> None:
        self.note("generator", generator, sys._getframe(1))
        if before is not None:
            before(generator)

    def _generator_dropped(
        self, before: Callable[[AnyGenerator], object] | None, generator: AnyGenerator
    ) -> None:
        born = self.made.pop(id(generator), None)
        if born is not None and self in _open and has_cleanup(generator):
            how = f"begun at {born.place}, left at {where_left(generator)}"
            self.dropped.append((born.kind, f"{generator.__qualname__}()", how))
        if before is not None:
            before(generator)


_KINDS: dict[type, Kind] = {
    MemoryObjectSendStream: "stream",
    MemoryObjectReceiveStream: "stream",
    SendStream: "stream",
    ReceiveStream: "stream",
    Queue: "queue",
}

_open: list[Births] = []
_hooks: list[Callable[[], None]] = []  # what takes each of them away
_changing = threading.RLock()


def _here() -> list[Births]:
    return [births for births in _open if births.is_here]


# --- what is called when something is made --------------------------------------------


def _made(kind: Kind, what: object, *_: object, **__: object) -> None:
    for births in _here():
        births.note(kind, what, sys._getframe(2))


def _pool_made(pool: Executor, *_: object, **__: object) -> None:
    frame = sys._getframe(2)
    if frame.f_code.co_name != "run_in_executor":  # else it is the loop's own
        for births in _here():
            births.note("pool", pool, frame)


def _dropped(what: Any) -> None:
    for births in _open:
        born = births.made.pop(id(what), None)
        if internals.who_records_warnings() is not births.recorder:
            continue  # a test looks itself for the warning about it
        if born is not None and internals.is_channel(what):
            if internals.is_open(what):
                end = internals.channel_name(what), born.place, internals.has_other_end(what)
                births.ends.append(end)
            continue
        if born is not None and (name := still_open(born.kind, what)) is not None:
            births.dropped.append((born.kind, name, f"made at {born.place}"))


def _thread_started(thread: threading.Thread) -> None:
    for births in _open:
        births.threads[thread] = _place(sys._getframe(2))


def _process_begun(made: Any, *given: Any, **_: object) -> None:
    frame = sys._getframe(2)
    for births in _here():
        if is_the_programs(made, frame):
            child = child_of(made, given, _place(frame))
            births.children[child.pid] = child


def _signal_sent(to: Any, *_: object) -> None:
    pid: int = getattr(to, "pid", to)
    for births in _open:  # perhaps from another thread
        births.signalled.add(pid)


def _process_closed(handle: Any) -> None:
    """anyio kills it, unless ``Task.cancel()`` goes through its shields: no program's doing."""
    for births in _open:
        births.children.pop(handle.pid, None)


def _token_asked(limiter: object, borrower: object) -> None:
    for births in _here():
        key = id(limiter), id(borrower)
        births.tokens[key] = Borrowed(limiter, borrower, _place(sys._getframe(2)))


def _token_returned(limiter: object, borrower: object) -> None:
    for births in _open:  # perhaps from another thread
        births.tokens.pop((id(limiter), id(borrower)), None)


def _never_awaited(coroutine: AnyCoroutine) -> None:
    for births in _here():
        if coroutine.cr_origin is None or internals.is_expected(coroutine, births.recorder):
            continue
        how = f"called at {origin(coroutine)}"
        births.dropped.append(("coroutine", f"{coroutine.__qualname__}()", how))
        births.warned.add(id(coroutine))  # no weak reference may be made to what is dropped


def _installed() -> Iterable[Callable[[], None]]:
    """Put every hook in its place; gives what takes each away."""
    kinds = _KINDS.copy()
    for channel in internals.channel_classes():
        kinds[channel] = "stream"
    for owner, kind in kinds.items():
        made = "__post_init__" if hasattr(owner, "__post_init__") else "__init__"
        yield hook(owner, made, partial(_made, kind))
        if owner not in (SendStream, ReceiveStream):  # nothing is lost with a view of a queue
            yield hook(owner, "__del__", _dropped)
    for pool in (ThreadPoolExecutor, ProcessPoolExecutor):
        yield hook(pool, "__init__", _pool_made)
    yield hook(threading.Thread, "start", _thread_started)
    for process in process_classes():
        yield hook(process, "__init__", _process_begun, is_after=True)
    for handle in internals.process_handles():
        yield hook(handle, "aclose", _process_closed)
    yield from _hooks_of_signals()
    for limiter in internals.limiter_classes():
        yield hook(limiter, "acquire_on_behalf_of_nowait", _token_asked)
        yield hook(limiter, "acquire_on_behalf_of", _token_asked)
        yield hook(limiter, "release_on_behalf_of", _token_returned)
    yield internals.watch_unawaited(_never_awaited)


def _hooks_of_signals() -> Iterable[Callable[[], None]]:
    for name in ("kill", "killpg"):  # a group has the number of its first process
        if hasattr(os, name):
            yield hook(os, name, _signal_sent)
    for name in ("kill", "terminate", "send_signal"):  # which uvloop sends by itself
        yield hook(asyncio.subprocess.Process, name, _signal_sent)


# --- names and places ---------------------------------------------------------------


def still_open(kind: Kind, what: Any) -> str | None:
    """What to call *what* if it should have been closed or emptied, and was not."""
    if kind == "queue":
        return queue_name(what) if internals.has_items(what) else None
    if kind == "pool":
        return type(what).__name__ if internals.has_threads(what) else None
    if isinstance(what, (SendStream, ReceiveStream)):
        queue = internals.queue_of(what)
        is_open = internals.is_open(what) and internals.is_open(queue)
        end = "send" if isinstance(what, SendStream) else "receive"
        return f"{end} stream of {queue_name(queue)}" if is_open else None
    if internals.is_channel(what):
        is_missed = internals.is_open(what) and internals.has_other_end(what)()
        return internals.channel_name(what) if is_missed else None
    end = "send" if isinstance(what, MemoryObjectSendStream) else "receive"
    return f"memory {end} stream" if internals.is_open(what) else None


def queue_name(queue: Queue[Any]) -> str:
    return f"{queue!r}"[1:-1]


def origin(coroutine: AnyCoroutine) -> str:
    """The line that made *coroutine*, as far as it is known."""
    frames = [Line(*frame) for frame in coroutine.cr_origin or ()]
    own = [line for line in frames if not is_library(line.path)]
    return str((own or frames or [_defined(coroutine.cr_code)])[0])


def where_left(generator: AnyGenerator) -> str:
    """The line at which *generator* waits to go on."""
    frame = generator.ag_frame
    if frame is None:
        return str(_defined(generator.ag_code))
    return str(Line(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))


def _defined(code: CodeType) -> Line:
    return Line(code.co_filename, code.co_firstlineno, code.co_name)


#: Where dataclasses have their __init__, and where ``Queue[int](…)`` goes through.
_PASSED_ON = ("<string>", typing.__file__)


def _place(frame: FrameType | None) -> str:
    """The first line, from *frame* outwards, that is not in a library that only passes on."""
    inner = frame
    while frame is not None:
        path = frame.f_code.co_filename
        if not is_library(path) and path not in _PASSED_ON:
            return str(line_of(frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return "?" if inner is None else str(line_of(inner.f_code, inner.f_lasti))
