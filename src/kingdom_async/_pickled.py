"""A call and its outcome as bytes, so that what cannot be pickled gets a sentence.

Rule: what crosses to another process here is bytes, made and read by this file on both sides.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from signal import SIG_IGN, SIGINT, default_int_handler, getsignal, signal
from typing import Any

from ._errors import OffloadError
from ._failures import add_note, short_repr
from ._thread_calls import refuse_awaitable, stopped_iteration

_is_deaf = False
"""In a worker process: True while Ctrl-C is ignored by our doing."""


def pickle_call(func: Callable[..., object], args: tuple[Any, ...], name: str) -> bytes:
    """The call, ready for `call_pickled`."""
    try:
        return pickle.dumps((func, args), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise OffloadError(
            f"offload({name}, to='process'): the call cannot be pickled ({error}); "
            "give a function from the top level of a module, and plain data"
        ) from error


def call_pickled(payload: bytes) -> bytes:
    """In the worker process: run the call, and return its outcome for `unpickle_outcome`.

    A Ctrl-C on a terminal goes to workers too. It interrupts a function. To anyio's worker that
    waits for its next call it would be an answer that nobody asked for, and each later call
    would then be given the answer to the one before; so while it waits, it is deaf to it.
    """
    _listen()
    try:
        return _outcome(payload)
    finally:
        _go_deaf()


def _listen() -> None:
    global _is_deaf
    if _is_deaf:
        _is_deaf = False
        signal(SIGINT, default_int_handler)


def _go_deaf() -> None:
    global _is_deaf
    if getsignal(SIGINT) is default_int_handler:  # and not one that the function has set
        _is_deaf = True
        signal(SIGINT, SIG_IGN)


def _outcome(payload: bytes) -> bytes:
    try:
        func, args = pickle.loads(payload)
    except Exception as error:
        return _explained(
            f"the call cannot be found there ({error}); define the function at the top level "
            "of a module, and outside of 'if __name__ == \"__main__\":'"
        )
    try:
        value = refuse_awaitable(func(*args), func)
    except StopIteration:
        return pickle_error(stopped_iteration(func))
    except BaseException as error:  # an exit ends the program, not this worker
        return pickle_error(error)
    try:
        return pickle.dumps(("value", value), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _explained(
            f"its result {short_repr(value)} cannot be pickled ({error}); return plain data"
        )


def unpickle_outcome(outcome: bytes, name: str) -> Any:
    """The value the function returned; what it raised is raised."""
    # A worker knows the main file by this name, as the workers of multiprocessing do.
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    try:
        kind, value = pickle.loads(outcome)
    except Exception as error:
        raise OffloadError(
            f"offload({name}, to='process'): its result came back as bytes that cannot be "
            f"unpickled ({error}); return plain data"
        ) from error
    if kind == "explained":
        raise OffloadError(f"offload({name}, to='process'): {value}")
    if kind == "error":
        try:
            raise value
        finally:
            del value  # an error whose frames hold it is a reference cycle
    return value


def pickle_error(error: BaseException) -> bytes:
    """An error being handled, with its traceback as a note, for `unpickle_outcome`."""
    add_note(error, f"In the worker process:\n{traceback.format_exc()}")
    try:
        outcome = pickle.dumps(("error", error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(outcome)  # some errors go in and do not come out again
    except Exception as reason:
        return _explained(
            f"it raised {short_repr(error)}, which cannot be pickled ({reason}).\n"
            + traceback.format_exc()
        )
    return outcome


def _explained(sentence: str) -> bytes:
    return pickle.dumps(("explained", sentence), pickle.HIGHEST_PROTOCOL)
