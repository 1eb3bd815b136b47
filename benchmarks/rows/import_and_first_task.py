"""How long does a program take that imports the library, runs one task and ends?"""

from __future__ import annotations

from ..comparison import TRIO, Comparison, Side

OURS = """
import kingdom_async as ka

async def main():
    async with ka.TaskGroup() as group:
        group.start_soon(ka.sleep, 0)
    print("done")

ka.run(main, backend={loop!r})
"""

ANYIO = """
import anyio

async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    print("done")

anyio.run(main, backend={backend!r}, backend_options={options!r})
"""

ASYNCIO_ALONE = """
import asyncio

async def main():
    await asyncio.create_task(asyncio.sleep(0))
    print("done")

asyncio.run(main())
"""

TRIO_ALONE = """
import trio

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
    print("done")

trio.run(main)
"""

COMPARISON = Comparison(
    "import and first task",
    Side("ours", OURS),
    (
        Side("anyio", ANYIO, 1.25),
        Side("asyncio alone", ASYNCIO_ALONE, loops={"asyncio": "asyncio"}),
        Side("trio alone", TRIO_ALONE, loops=TRIO),
        Side("an empty program", "print('done')"),
    ),
    times=1,
    outcome=lambda times: ["done"] * times,
    unit="ms",
    how="as a program",
)
