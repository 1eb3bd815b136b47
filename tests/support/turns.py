"""Turns of the loop, for tests that let all happen that can happen without time passing."""

from __future__ import annotations

from anyio.lowlevel import checkpoint


async def settle(turns: int = 30) -> None:
    """Let every other task run until it waits for more than its next turn.

    As ``anyio.wait_all_tasks_blocked()``, which on asyncio sleeps for a tenth of a second.
    """
    for _ in range(turns):
        await checkpoint()
