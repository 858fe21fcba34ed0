"""The small job of the clients' tests, and weights in a repository."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from maskmend.models.triton_repository import RepositoryOptions, write_repository
from maskmend.models.zoo import resolve_weights

_CLIENTS = Path(__file__).parents[1] / "clients" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("maskmend_clients_conftest", _CLIENTS)
assert _SPEC is not None
assert _SPEC.loader is not None
_clients = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_clients)
job, run = _clients.job, _clients.run


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bpr-small` for the python backend, two instances."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    write_repository(resolve_weights("bpr-small"), folder, RepositoryOptions("python", instances=2, max_batch=8))
    return folder
