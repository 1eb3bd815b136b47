"""What becomes of several failures: the first one raised, the others kept.

Rule: nothing in this file starts, waits for or cancels anything. It only sorts
exceptions, and every exception that goes in can be found again from the one that
comes out.
"""

from __future__ import annotations

import logging
import reprlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeGuard, cast

from anyio import TaskCancelled, TaskFailed, get_cancelled_exc_class

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

logger = logging.getLogger("kingdom_async")

_CONTEXT: Any = BaseException.__dict__["__context__"]
_LISTED = 10
_PLAIN = (BaseExceptionGroup, ExceptionGroup)
#: The messages of groups that nobody wrote: those of ``except*`` and of task groups.
_UNWRITTEN = ("", "unhandled errors in a TaskGroup", "Exceptions from Trio nursery")
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def short_repr(value: object) -> str:
    """The repr of *value*, cut short; never an error, whatever its ``__repr__`` does."""
    try:
        return _short.repr(value)
    except Exception:  # a str or dict subclass with a broken __repr__ gets past reprlib
        return f"<{type(value).__name__} whose repr() fails>"


def add_note(error: BaseException, note: str) -> None:
    """``error.add_note(note)``, on Python 3.10 too, once only, and to a frozen error too.

    Nothing happens where the class of the error does not let notes be.
    """
    notes = _notes_of(error)
    if note not in notes:
        with suppress(Exception):
            BaseException.__setattr__(error, "__notes__", [*notes, note])


def _notes_of(error: BaseException) -> list[str]:
    try:
        notes: Any = getattr(error, "__notes__", None)
    except Exception:
        return []
    return cast("list[str]", notes) if isinstance(notes, list) else []


def set_context(error: BaseException, context: BaseException | None) -> None:
    """``error.__context__ = context``, where the error's class is frozen too."""
    _CONTEXT.__set__(error, context)


def is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    """``isinstance()``, which does not tell a type checker what is in the group."""
    return isinstance(error, BaseExceptionGroup)


def without(kind: type[BaseException], error: BaseException) -> BaseException | None:
    """What is left of *error* when all of *kind* is taken out of it, at any depth.

    Where there is none of *kind* in it, that is *error* itself.
    """
    if isinstance(error, kind):
        return None
    if is_group(error) and any(isinstance(leaf, kind) for leaf in _leaves(error)):
        return error.split(kind)[1]  # which always makes a new one
    return error


def bare(error: BaseException) -> BaseException:
    """*error*, or, where it is a group that holds a single error, that error.

    The message and the notes of such a group become notes of the error, the lines that it
    passed come before the error's own, and what it came from goes to the end of the error's
    chain. A group of a class of its own says something by that, and stays.
    """
    while type(error) in _PLAIN and is_group(error) and len(error.exceptions) == 1:
        inner: BaseException = error.exceptions[0]
        _take_over(inner, error)
        error = inner
    return error


def _take_over(error: BaseException, group: BaseExceptionGroup[BaseException]) -> None:
    """Put on *error* what would go with the *group*; once, however often it is called."""
    origin = group.__cause__
    if group.message not in _UNWRITTEN:
        add_note(error, f"in a group: {group.message}")
        if origin is None and not group.__suppress_context__:
            origin = group.__context__
    for note in _notes_of(group):
        add_note(error, note)
    _put_before(group.__traceback__, error)
    if origin is not None:
        _append(error, origin)


def _put_before(passed: TracebackType | None, error: BaseException) -> None:
    """Let the traceback of *error* begin with the lines *passed*."""
    own = error.__traceback__
    if passed is None or any(
        link.tb_frame is passed.tb_frame and link.tb_lasti == passed.tb_lasti
        for link in _links(own)
    ):
        return
    for link in reversed([*_links(passed)]):
        own = TracebackType(own, link.tb_frame, link.tb_lasti, link.tb_lineno)
    BaseException.with_traceback(error, own)


def _links(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _append(error: BaseException, origin: BaseException) -> None:
    """Put *origin* at the end of the chain of *error*; in a note, where none would see it."""
    chain = list(_chain(error))
    known = {id(link) for link in chain}
    if id(origin) in known:
        return
    is_shown = not any(link.__suppress_context__ and link.__cause__ is None for link in chain)
    if any(id(link) in known for link in _chain(origin)):
        is_shown = False  # it would be a loop, or cut off what the last of them came from
    else:
        set_context(chain[-1], origin)
    if not is_shown:
        add_note(error, f"in a group that came from {short_repr(origin)}")


def distinct(errors: Iterable[BaseException]) -> list[BaseException]:
    """The failures behind *errors*: unwrapped, each once, the gravest first.

    A `TaskFailed` that only repeats another of them, as the awaiting of a failed handle
    raises it, stands for the failure it repeats.
    """
    found: dict[tuple[int, ...], BaseException] = {}
    for error in map(bare, errors):
        known = found.setdefault(identity(error), error)
        if is_group(error) and not is_group(known):
            found[identity(error)] = error  # of a class of its own, around what is known
    unique: dict[tuple[int, ...], BaseException] = {}
    for error in found.values():
        while isinstance(error, TaskFailed) and error.__cause__ is not None:
            repeated = found.get(identity(error.__cause__))
            if repeated is None:
                break
            for note in _notes_of(error):
                add_note(repeated, note)
            error = repeated
        unique.setdefault(identity(error), error)
    # sorted() is stable: among equals, the order recorded stays
    return sorted(unique.values(), key=_gravity, reverse=True)


def identity(error: BaseException) -> tuple[int, ...]:
    """What tells one failure from another.

    Not the object: taking the cancellations out of a group makes a new group.
    """
    cancelled = get_cancelled_exc_class()
    return tuple(id(leaf) for leaf in _leaves(error) if not isinstance(leaf, cancelled))


def _gravity(error: BaseException) -> int:
    if any(isinstance(leaf, (KeyboardInterrupt, SystemExit)) for leaf in _leaves(error)):
        return 2
    return not isinstance(error, Exception)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, in order; it may be deeper than Python recurses."""
    stack = [error]
    while stack:
        error = stack.pop()
        if is_group(error):
            stack.extend(reversed(error.exceptions))
        else:
            yield error


def first_of(
    failures: Sequence[BaseException], names: dict[tuple[int, ...], str]
) -> BaseException:
    """The first of *failures*, from which all the others can be reached.

    Each other one becomes a note on it, stands with its traceback in a group at the end of
    its chain, and is logged: a caller that handles the first would never see them. Those that
    are alike are logged as one: when a server is down, all that wait for it fail at once.

    Args:
        failures: What `distinct` returned; at least one.
        names: The name of the task that raised it, by the `identity` of the failure.
    """
    first, *others = failures
    kinds: dict[object, list[tuple[BaseException, str]]] = {}
    for other in others:
        name = names.get(identity(other))
        whose = "the body" if name is None else f"task {name!r}"
        add_note(first, f"also failed: {whose}: {short_repr(other)}")
        kinds.setdefault(_kind(other), []).append((other, whose))
    for kind, alike in kinds.items():
        if kind == _kind(first):  # their traceback is that of the error raised
            logger.error("also failed, like %s: %s", short_repr(first), _listed(alike))
        else:
            (other, whose), *rest = alike
            whose += f"; like it: {_listed(rest)}" if rest else ""
            log_failure(other, "also failed, beside %s: %s", short_repr(first), whose)
    _hang_on(first, others)
    return first


def _kind(error: BaseException) -> object:
    """The same for errors of one class that were raised at one line."""
    links = [*_links(error.__traceback__)]
    if not links or is_group(error):
        return id(error)
    return id(type(error)), links[-1].tb_frame.f_code, links[-1].tb_lineno


def _listed(failures: Sequence[tuple[BaseException, str]]) -> str:
    named = "; ".join(f"{whose}: {short_repr(error)}" for error, whose in failures[:_LISTED])
    return named + (f"; {len(failures) - _LISTED} more" if len(failures) > _LISTED else "")


def contexts_of(error: BaseException) -> Iterator[BaseException]:
    """What was being handled when *error* was raised, and so on; a loop ends it."""
    seen = {id(error)}
    link = error.__context__
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__context__


def log_failure(error: BaseException, message: str, *args: object) -> None:
    """Log *error* with its traceback: nobody is left to raise it to."""
    logger.error(message, *args, exc_info=(type(error), error, error.__traceback__))


def task_cancelled(call: str, name: str, error: BaseException | None) -> TaskCancelled:
    """The error for a task of ours that ``asyncio.Task.cancel`` cancelled."""
    cancelled = TaskCancelled(
        f"{call}(): the task of {name} was cancelled from outside, by asyncio.Task.cancel()"
    )
    cancelled.__cause__ = error
    return cancelled


def _hang_on(first: BaseException, others: Sequence[BaseException]) -> None:
    """Put *others* at the end of the chain of *first*, unless they are part of it."""
    chain = list(_chain(first))
    known = {id(error) for error in chain}
    unknown = [error for error in others if id(error) not in known]
    if unknown:
        message = "also failed in the same task group"
        if all(isinstance(error, Exception) for error in unknown):
            group: BaseException = ExceptionGroup(
                message, [error for error in unknown if isinstance(error, Exception)]
            )
        else:
            group = BaseExceptionGroup(message, unknown)
        set_context(chain[-1], group)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """*error*, then what it came from, and so on; a loop in the chain ends it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ if link.__cause__ is not None else link.__context__
