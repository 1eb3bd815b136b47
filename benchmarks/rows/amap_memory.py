"""How much memory does amap() need above the list of its results?"""

from __future__ import annotations

import kingdom_async as ka

from ..comparison import Comparison, Side


async def yes(item: int) -> bool:
    return True  # an object that is there already: the list is all that the results need


async def ours(times: int) -> int:
    return len(await ka.amap(yes, range(times), limit=64))


async def the_list_alone(times: int) -> int:
    return len([await yes(item) for item in range(times)])


COMPARISON = Comparison(
    "amap, memory of 1 M items",
    Side("ours", ours),
    (Side("the list alone", the_list_alone, 10),),
    times=1_000_000,
    outcome=lambda times: times,
    unit="MiB",
    relation="excess",
    how="traced memory",
    is_exact=True,
)
