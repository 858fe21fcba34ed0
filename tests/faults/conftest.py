"""The small job of the clients' tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_CLIENTS = Path(__file__).parents[1] / "clients" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("maskmend_clients_conftest", _CLIENTS)
assert _SPEC is not None
assert _SPEC.loader is not None
_clients = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_clients)
job, run = _clients.job, _clients.run
