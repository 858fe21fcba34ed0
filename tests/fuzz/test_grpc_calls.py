"""A few hundred damaged messages to a real server; grpc_calls.py sends them for as long as one likes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("fastapi", reason="a real server needs the serve extra")

from running import Running, running

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server") / "log", "--threads", "1") as found:
        yield found


def test_damaged_messages_are_answered_in_our_words(server: Running) -> None:
    inputs = [*load("seeds").seeds("message"), *load("campaign").kept("message")]
    wanted = server.refine().json()["instances"]
    codes = load("grpc_calls").fuzz(server.grpc_port, inputs, lambda number: number < 300, seed=1)
    assert codes["OK"] > 10
    assert codes["INVALID_ARGUMENT"] > 50
    assert server.process.poll() is None
    assert server.refine().json()["instances"] == wanted
    # A fault of the service's own would be in its log.
    assert "Traceback" not in server.log.read_text()
