"""Many items through `amap` and `imap`: flat memory, and every result in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import kingdom_async as ka

from .memory import traced

LIMIT = 64
PAYLOAD = 1000  # bytes an item
_FLAT = 2 * 2**20  # bytes; a million items would be a thousand times that


def _items(size: int) -> Iterator[bytearray]:
    for number in range(size):
        item = bytearray(PAYLOAD)
        item[0] = number % 251
        yield item


async def _first(item: bytearray) -> int:
    if item[0] == 7:
        await ka.checkpoint()  # some wait, so that items overtake one another
    return item[0]  # a small integer, which takes no memory of its own


async def amap(size: int, call: Any = ka.amap) -> str:
    """All results in one list, and no more memory than that list."""
    with traced() as memory:
        results = await call(_first, _items(size), limit=LIMIT)
    assert len(results) == size, f"{size - len(results)} results are missing"
    assert all(value == place % 251 for place, value in enumerate(results)), "wrong places"
    # A list that grows is copied: for a moment there are two, the new one an eighth longer.
    above = memory.peak - 8 * size * 2.25
    assert above <= _FLAT, f"{above:.0f} bytes above the list of results"
    return f"{size} items, peak {memory.peak / 2**20:.1f} MiB with the list of results"


async def imap(size: int, call: Any = ka.imap) -> str:
    """The results one by one, in flat memory."""
    count = 0
    with traced() as memory:
        block: AbstractAsyncContextManager[Any] = call(_first, _items(size), limit=LIMIT)
        async with block as results:
            async for value in results:
                assert value == count % 251, f"result {count} is wrong"
                count += 1
    assert count == size, f"{size - count} results are missing"
    assert memory.peak <= _FLAT, f"a peak of {memory.peak} bytes"
    assert memory.left <= _FLAT // 8, f"{memory.left} bytes are left"
    return f"{size} items, peak {memory.peak / 1024:.0f} KiB"
