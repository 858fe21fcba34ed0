"""Two threads that are the first to use OpenVINO do not wait for one another for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")

SCRIPT = """
import sys
sys.modules["openvino_telemetry"] = None
from maskmend.models.exporters.parity import sample
from maskmend.models.runtimes import create_runtime
from maskmend.models.zoo import resolve_weights
import maskmend.models.runtimes.openvino as module

# What stands still is a race; that the first use lies before it is not.
assert module._FIRST_USE.shape == (1,)
print(create_runtime("openvino", resolve_weights("bpr-small"), threads=2).run(sample(8, 128)).shape)
"""


def test_the_first_batch_in_a_process_may_come_on_two_threads() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(8, 64, 64)"
