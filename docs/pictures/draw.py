"""Draw the picture of the blocked loop for docs/debugging.md.

python docs/pictures/draw.py          needs Chromium and the extra "browser"
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

import anyio
from playwright.sync_api import sync_playwright

import kingdom_async as ka
from kingdom_async import trace

HERE = Path(__file__).parent
chance = random.Random(4)


@trace.instrument_task
async def load(order: int) -> int:
    await anyio.sleep(chance.uniform(0.01, 0.06))
    return order


def render(order: int) -> str:
    time.sleep(0.3 if order == 23 else chance.uniform(0.0005, 0.003))
    return f"<order {order}>"


async def answer(order: int) -> str:
    await load(order)
    return render(order)


async def beat() -> None:
    while True:
        await anyio.sleep(0.05)


async def serve() -> None:
    async with ka.TaskGroup() as group:
        group.start_soon(beat, daemon=True)
        await ka.amap(answer, range(60), limit=6)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "blocked.html"
        with trace.recording("steps") as recording:

            async def program() -> None:
                with trace.watchdog(0.1):
                    await serve()

            program.__qualname__ = "orders"
            ka.run(program)
        recording.to_html(page)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            shown = browser.new_page(viewport={"width": 1280, "height": 720})
            shown.goto(page.as_uri())
            blocked = next(lint for lint in recording.lints if lint.kind == "blocked-loop")
            name = next(t.name for t in recording.tasks if t.serial == blocked.task)
            shown.evaluate("name => window.kingdom.select(name)", name)
            shown.wait_for_timeout(500)
            shown.screenshot(path=HERE / "blocked.png")
            browser.close()


if __name__ == "__main__":
    main()
