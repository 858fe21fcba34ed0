"""A network elsewhere that is busy at the start is no reason to end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="the service needs the serve extra")

from maskmend.service.core import Core
from maskmend.service.errors import ServiceError, UnavailableError


class Stub:
    """What warming up needs of the service."""

    def __init__(self, error: Exception) -> None:
        self.served = SimpleNamespace(list=lambda: [SimpleNamespace(name="bpr-small")])
        self.error, self.asked = error, 0

    async def refine(self, _: object) -> None:
        self.asked += 1
        raise self.error


def test_what_does_not_answer_at_the_start_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    stub = Stub(UnavailableError("no Triton answers"))
    asyncio.run(Core.warm_up(stub))  # type: ignore[arg-type]
    assert stub.asked > 1
    assert "bpr-small was not warmed up: no Triton answers" in caplog.text


def test_other_errors_still_end_the_start() -> None:
    with pytest.raises(ServiceError, match="damaged"):
        asyncio.run(Core.warm_up(Stub(ServiceError("damaged"))))  # type: ignore[arg-type]
