"""Every exception of our own, its promise beside it.

Rule: a class is added only where a caller would catch it apart from all others;
everything else is a ``TypeError``, ``ValueError`` or ``RuntimeError`` with a sentence.
"""

from __future__ import annotations

from anyio import ClosedResourceError, WouldBlock


class DeadlineExceeded(TimeoutError):
    """A timeout of ours ran out, as against a ``TimeoutError`` raised by the code inside it.

    Attributes:
        reason: What the caller gave as ``reason=``, or None.
        seconds: How long the block was allowed to take.
        elapsed: How long it did take, cleanup included.
    """

    def __init__(self, reason: str | None, seconds: float, elapsed: float) -> None:
        what = f"{reason}: " if reason else ""
        super().__init__(f"{what}not done after {seconds:g} s (took {elapsed:.3g} s)")
        self.reason = reason
        self.seconds = seconds
        self.elapsed = elapsed

    def __reduce__(self) -> tuple[type[DeadlineExceeded], tuple[str | None, float, float]]:
        return type(self), (self.reason, self.seconds, self.elapsed)


class QueueFull(WouldBlock):
    """There is no room in the queue, and the caller chose not to wait for it."""


class QueueEmpty(WouldBlock):
    """There is no item in the queue, and the caller chose not to wait for one."""


class QueueClosed(ClosedResourceError):
    """The queue takes no more items, or has none left and will get none."""


class OffloadError(RuntimeError):
    """A function could not be run, or its outcome not brought back, where `offload` sent it.

    What the function itself raises comes back as it is, and is never wrapped in this.
    """


class LimiterDeadlock(OffloadError):
    """Every token of a limiter is held by a thread that waits for another token of it."""


# Tracebacks name them as users import them.
for _error in (
    DeadlineExceeded,
    QueueFull,
    QueueEmpty,
    QueueClosed,
    OffloadError,
    LimiterDeadlock,
):
    _error.__module__ = "kingdom_async"
