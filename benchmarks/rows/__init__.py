"""The rows of the speed table, one module each, in the table's order."""

from __future__ import annotations

from . import (
    amap,
    amap_memory,
    fail_after,
    gather,
    get_batch,
    imap,
    import_and_first_task,
    offload,
    offload_map,
    queue,
    start_soon,
    tracing,
)

COMPARISONS = (
    amap.COMPARISON,
    amap_memory.COMPARISON,
    imap.COMPARISON,
    queue.TWO_TASKS,
    queue.ONE_TASK,
    get_batch.COMPARISON,
    offload_map.COMPARISON,
    start_soon.GROUP,
    start_soon.FIRST,
    gather.MANY,
    gather.THREE,
    offload.COMPARISON,
    fail_after.COMPARISON,
    import_and_first_task.COMPARISON,
    *tracing.COMPARISONS,
)
