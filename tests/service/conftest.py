from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import page_driver as driver
import pytest

pytest.importorskip("fastapi", reason="the service needs the serve extra")

from running import Running, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that leave it as it was."""
    log = tmp_path_factory.mktemp("server") / "log"
    flags = (
        "--max-body-mb",
        "8",
        "--max-image-mp",
        "30",
        "--read-timeout-s",
        "3",
        "--max-parts",
        "300",
        "--max-patches",
        "1000",
    )
    with running(log, *flags) as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[str]:
    for module in ("fastapi", "uvicorn"):
        pytest.importorskip(module, reason=f"{module} is not installed; the page needs a server")
    with driver.running_server(tmp_path_factory.mktemp("server") / "log.txt") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = driver.find_browser()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(driver.BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def seen(browser: Any, address: str) -> Iterator[Any]:
    """A visit to the page, which must end without errors and without a request to anywhere else."""
    with driver.visit(browser, address) as visit:
        yield visit
        assert visit.errors == []
        assert visit.elsewhere == []
