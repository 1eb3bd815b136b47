"""What the tasks of a loop are in, told by the code on their await stacks.

Rule: called only where the program rests anyway, for it looks at every task.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType

from ...trace.loops import Loop, NativeTask, tasks_of
from ...trace.stacks import frames
from ..internals import clocks as internals


def stacks(loop: Loop) -> Iterator[tuple[NativeTask, list[CodeType]]]:
    """Each task of *loop*, and the codes of its await stack, outermost first."""
    for task in tasks_of(loop):
        yield task, [frame.f_code for frame in frames(task.coro)]


def process_calls(loop: Loop) -> int:
    """How many tasks wait for a call in one of anyio's processes."""
    tasks = tasks_of(loop)
    return sum(internals.is_process_call(list(frames(task.coro))) for task in tasks)
