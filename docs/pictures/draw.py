"""Draw the pictures in README.md, docs/command.md, docs/debugging.md and docs/tracing.md.

Rule: a picture shows the page or the screen as it is; the programs behind it are made up: one
to run, one of the tests, one whose service leaks tasks, and the one in `orders.py`.

python docs/pictures/draw.py          needs Chromium and the extras "browser" and "cli"
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import anyio
from playwright.sync_api import Browser, sync_playwright

import kingdom_async as ka
from kingdom_async import trace
from kingdom_async.cli.top import Top
from kingdom_async.trace.client import connect

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from support import recordings  # noqa: E402

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


async def confirmation() -> None:
    await anyio.sleep(60)


async def charge(number: int) -> None:
    await anyio.sleep(chance.uniform(0.1, 0.8))
    if number == 33:
        render(23)
    if number in (21, 90):
        raise KeyError(number)


async def order(number: int, service: ka.TaskGroup) -> None:
    service.start_soon(confirmation, daemon=True)  # nobody waits for it
    with suppress(Exception):
        async with ka.TaskGroup() as group:
            group.start_soon(charge, number)


async def leaking_service() -> None:
    async with ka.TaskGroup() as service:
        for number in range(130):
            await anyio.sleep(0.1)
            service.start_soon(order, number, service)


def blocked(page: Path) -> str:
    """One task of many holds the loop; returns its name."""
    with trace.recording("steps") as recording:

        async def program() -> None:
            with trace.watchdog(0.1):
                await serve()

        program.__qualname__ = "orders"
        ka.run(program)
    recording.to_html(page)
    found = next(lint for lint in recording.lints if lint.kind == "blocked-loop")
    return next(task.name for task in recording.tasks if task.serial == found.task)


def leaking(page: Path) -> None:
    """A service forgets a task with each request, and a request blocks the loop."""
    thresholds = trace.Thresholds(leaking=20)
    with trace.recording("steps", thresholds=thresholds) as recording:

        async def program() -> None:
            with trace.watchdog(0.1):
                await leaking_service()

        program.__qualname__ = "service"
        ka.run(program, backend="asyncio")
    recording.to_html(page)


def top(picture: Path) -> None:
    """The screen of ``kingdom-async trace top`` beside a service, after some seconds."""
    told = {**os.environ, "KINGDOM_ASYNC_CONTROL": "1", "KINGDOM_ASYNC_TRACE": "steps"}
    program = subprocess.Popen([sys.executable, HERE / "orders.py"], env=told)
    try:
        time.sleep(12)
        picture.write_text(anyio.run(screen_of, program.pid), encoding="utf-8")
    finally:
        program.kill()


async def screen_of(process: int) -> str:
    app = Top(connect(process), interval=0.5)
    async with app.run_test(size=(142, 38)) as pilot:
        await anyio.sleep(3)
        await pilot.press("home", "enter")
        await anyio.sleep(1)
        return app.export_screenshot(title="kingdom-async trace top")


def take(
    browser: Browser,
    page: Path,
    name: str,
    script: str,
    *,
    scheme: str = "light",
    high: int = 800,
) -> None:
    """A picture of *page* as it is after *script*."""
    shown = browser.new_page(viewport={"width": 1280, "height": high}, color_scheme=scheme)
    shown.goto(page.as_uri())
    shown.evaluate(script)
    shown.wait_for_timeout(500)
    shown.screenshot(path=HERE / f"{name}.png")
    shown.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pages = {name: Path(folder) / f"{name}.html" for name in ("blocked", "leaking", "made")}
        pages["top"] = Path(folder) / "top.svg"
        top(pages["top"])
        name = blocked(pages["blocked"])
        leaking(pages["leaking"])
        recordings.service().to_html(pages["made"])
        shoot(pages, name)


def shoot(pages: dict[str, Path], name: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        take(browser, pages["blocked"], "blocked", f"kingdom.select({name!r})", high=720)
        take(browser, pages["leaking"], "leaking", "null", high=640)
        metrics = "kingdom.show(1.7, 2.9), kingdom.select('metrics')"
        take(browser, pages["made"], "timeline-light", metrics)
        take(browser, pages["made"], "timeline-dark", metrics, scheme="dark")
        failed = "kingdom.find('is:error'), kingdom.jump(1), kingdom.find('')"
        take(browser, pages["made"], "details", f"{failed}, kingdom.show(0.9, 1.7)")
        shown = browser.new_page(viewport={"width": 1440, "height": 800})
        shown.goto(pages["top"].as_uri())
        shown.locator("svg").first.screenshot(path=HERE / "top.png", omit_background=True)
        browser.close()


if __name__ == "__main__":
    main()
