from __future__ import annotations

from collections.abc import Iterator

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
