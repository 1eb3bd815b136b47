"""A page in headless Chromium, through Playwright.

Rule: it asks nothing of the network, and what the page asks for or complains of is kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def missing(what: str) -> None:
    """Skips the test, unless KINGDOM_TEST_BROWSER=1 demands that it runs."""
    if os.environ.get("KINGDOM_TEST_BROWSER") == "1":
        pytest.fail(f"KINGDOM_TEST_BROWSER=1, but {what}")
    pytest.skip(what)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for a module of tests; they are skipped where there is none."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        missing("no Chromium is installed: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: pip install 'kingdom_async[browser]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield Browser(browser)
        finally:
            browser.close()


class Browser:
    def __init__(self, browser: Any) -> None:
        self._browser = browser

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        scheme: str = "light",
        ratio: float = 1,
        size: tuple[int, int] = (1440, 900),
    ) -> Iterator[Shown]:
        """Shows a file; nothing that went wrong in it goes unseen."""
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            device_scale_factor=ratio,
        )
        try:
            shown = Shown(context.new_page(), path)
            yield shown
            shown.frame()
            assert shown.complaints == []
            assert shown.requests == [path.as_uri()]
        finally:
            context.close()


class Shown:
    """A page, with what tests ask of it."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", self._requested)
        page.goto(path.as_uri())
        self.frame()

    def _requested(self, request: Any) -> None:
        if not request.url.startswith("data:"):
            self.requests.append(request.url)

    def do(self, script: str) -> Any:
        """Evaluates a script, and lets the page draw."""
        found = self.page.evaluate(script)
        self.frame()
        return found

    def frame(self) -> None:
        """Returns after the next frame was drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.frame()

    def visible(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate("kingdom.visible()")
        return found

    def width(self) -> float:
        """How many seconds of the recording are in sight."""
        visible = self.visible()
        return float(visible["to"] - visible["from"])

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def colors(self) -> int:
        """How many colours the timeline is drawn in: one, if nothing is."""
        return int(
            self.page.evaluate("""() => {
                const canvas = document.getElementById("timeline");
                const pen = canvas.getContext("2d");
                const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
                return new Set(new Uint32Array(data.buffer)).size;
            }""")
        )
