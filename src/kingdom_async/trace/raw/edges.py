"""The steps in which a recording begins and ends: cut at its edges, so that none is missing.

Rule: called once for each recording, in the thread of its loop, and never at a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..guard import guarded
from ..records import now
from .store import copied

if TYPE_CHECKING:
    from .recorder import Recorder
    from .rows import Account


@guarded
def first_step_over(recorder: Recorder, start: float, account: Account, task: object) -> None:
    """The step that the recording began in has ended: where the next one began, or now."""
    steps = recorder.store.steps
    known = copied(steps)
    if len(known) == steps.maxlen:
        return  # where the next one began is not known any more
    end = next((began for began, *_ in known if began >= start), now())
    account.busy += end - start
    account.steps += 1
    steps.appendleft((start, end, account.serial))
    if end - start > recorder.thresholds.long_step:
        recorder.stepped_long(account.serial, end - start, task)


@guarded
def cut(recorder: Recorder, start: float, account: Account | None) -> None:
    """The step that the recording ends in ends with it; what it goes on to hold is not counted.

    Args:
        recorder: Whose work is over.
        start: When the step began.
        account: Of whom it was then; None where nobody could tell.
    """
    store, ident, at = recorder.store, recorder.loop.identify(), now()
    last, ended, _ = store.last_ended
    if account is None or account not in (ended, store.accounts.get(ident)):
        return  # the recording began in it, too
    if account is ended and last == ident:
        store.ended[-1][-1] = account = account.copy()
    account.busy += at - start
    account.steps += 1
    store.steps.append((start, at, account.serial))
