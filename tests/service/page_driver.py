"""What the page's tests need around them: a server, a browser, and a look at what the page did."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 300
PATIENCE_MS = 180_000
"""Machines that do other work besides are slow."""


def find_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextlib.contextmanager
def running_server(log: Path) -> Iterator[str]:
    """`maskmend serve` as a process of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--grpc-port", "-1", "--timeout-s", "300"]
    # Its settings are the defaults, whatever the tests' own surroundings say.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASKMEND_")}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(URLError, OSError), urlopen(f"{address}/healthz/ready", timeout=20):
            return
        time.sleep(0.3)
    raise RuntimeError(f"the server was not ready in {START_SECONDS} s: {log.read_text()[-2000:]}")


@dataclass
class Visit:
    """One browser tab on the page.

    Attributes:
        page: the tab.
        address: of the server.
        errors: console errors and uncaught exceptions so far.
        elsewhere: requests to other origins so far.
    """

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def choose_sample(self, title: str) -> None:
        self.page.get_by_role("button", name=title).click()
        self.page.wait_for_selector("#refine:enabled")

    def upload(self, image: Path | dict[str, Any], masks: list[Path] | list[dict[str, Any]]) -> None:
        """Choose files as a person would; a dict holds name, mimeType and buffer."""
        self.page.set_input_files("#image-file", image)
        self.page.wait_for_selector("#image-drop.chosen")
        self.page.set_input_files("#masks-file", masks)
        self.page.wait_for_selector("#refine:enabled")

    def refine(self) -> None:
        self.page.click("#refine")
        self.page.wait_for_selector("#results:not([hidden])")

    def rows(self) -> list[list[str]]:
        """Cells of the table, row by row."""
        rows = self.page.locator("#table tbody tr").all()
        return [row.locator("th, td").all_inner_texts() for row in rows]

    def picture(self) -> bytes:
        """The canvas as it looks now."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.page.locator("#canvas").screenshot()

    def download(self, selector: str) -> tuple[str, bytes]:
        """Name and content of what a button saves."""
        with self.page.expect_download() as waiting:
            self.page.click(selector)
        file = waiting.value
        return file.suggested_filename, Path(file.path()).read_bytes()

    def sideways(self) -> int:
        """Pixels that the page is wider than its window."""
        wider = self.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
        return int(wider)

    def keep(self, name: str) -> None:
        """Keep a screenshot, where one is wanted."""
        folder = os.environ.get("MASKMEND_ARTEFACTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"page-{name}.png", full_page=True)


@contextlib.contextmanager
def visit(browser: Browser, address: str, **context: Any) -> Iterator[Visit]:
    """The page in a tab of its own, with an eye on its console and its requests."""
    tab = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", **context})
    try:
        page = tab.new_page()
        page.set_default_timeout(PATIENCE_MS)
        seen = Visit(page, address)

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                seen.errors.append(message.text)

        def asked(request: Request) -> None:
            if not request.url.startswith((f"{address}/", "blob:", "data:")):
                seen.elsewhere.append(request.url)

        page.on("console", heard)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", asked)
        page.goto(f"{address}/")
        page.wait_for_selector(".sample")
        yield seen
    finally:
        tab.close()
