"""Order of the tests: files that take longest begin first, so that no process is left with one of them at the end."""

from __future__ import annotations

import pytest

LONG = (
    "test_slow_clients",
    "test_docker",
    "test_triton_faults",
    "test_operations",
    "test_faults",
    "test_openapi",
    "test_ray_engine",
    "test_tour",
    "test_transfiner",
    "test_server_job",
    "test_browser",
    "test_refine",
)
_RANK = {name: rank for rank, name in enumerate(LONG)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _RANK.get(item.path.stem, len(LONG)))
