"""Structured concurrency for services: ``import kingdom_async as ka``, on any event loop."""

from anyio import (
    TASK_STATUS_IGNORED,
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    CapacityLimiter,
    ClosedResourceError,
    Condition,
    EndOfStream,
    Event,
    Future,
    Lock,
    RunFinishedError,
    Semaphore,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskNotFinished,
    WouldBlock,
    current_time,
    from_thread,
    get_cancelled_exc_class,
    open_signal_receiver,
    sleep,
    sleep_forever,
    sleep_until,
)
from anyio.abc import TaskStatus
from anyio.from_thread import check_cancelled
from anyio.lowlevel import checkpoint

from ._amap import ErrorResult, amap
from ._backend import current_backend
from ._errors import (
    DeadlineExceeded,
    LimiterDeadlock,
    OffloadError,
    QueueClosed,
    QueueEmpty,
    QueueFull,
)
from ._gather import gather
from ._groups import TaskGroup
from ._imap import imap
from ._limits import Limiter, RateLimit
from ._offload import offload
from ._offload_map import offload_map
from ._queues import Queue, QueueStatistics
from ._races import first_finished, first_success
from ._run import environment, run
from ._scopes import (
    fail_after,
    fail_at,
    move_on_after,
    move_on_at,
    remaining,
    with_timeout,
)
from ._shielded import shielded

__version__ = "0.1.0"

__all__ = [
    # running
    "current_backend",
    "environment",
    "run",
    # tasks
    "TASK_STATUS_IGNORED",
    "TaskCancelled",
    "TaskFailed",
    "TaskGroup",
    "TaskHandle",
    "TaskNotFinished",
    "TaskStatus",
    "first_finished",
    "first_success",
    "gather",
    # bulk work
    "ErrorResult",
    "Limiter",
    "RateLimit",
    "amap",
    "imap",
    # time and cancellation
    "CancelScope",
    "DeadlineExceeded",
    "checkpoint",
    "current_time",
    "fail_after",
    "fail_at",
    "get_cancelled_exc_class",
    "move_on_after",
    "move_on_at",
    "remaining",
    "shielded",
    "sleep",
    "sleep_forever",
    "sleep_until",
    "with_timeout",
    # queues
    "Queue",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "QueueStatistics",
    # threads, processes, executors
    "LimiterDeadlock",
    "OffloadError",
    "RunFinishedError",
    "check_cancelled",
    "from_thread",
    "offload",
    "offload_map",
    # synchronization and signals
    "BrokenResourceError",
    "BusyResourceError",
    "CapacityLimiter",
    "ClosedResourceError",
    "Condition",
    "EndOfStream",
    "Event",
    "Future",
    "Lock",
    "Semaphore",
    "WouldBlock",
    "open_signal_receiver",
]
