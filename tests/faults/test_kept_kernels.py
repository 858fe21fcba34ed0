"""Compiled kernels are kept on disk: where that cannot be, or what was kept is damaged, they are compiled anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="limits are Unix's")

CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from maskmend.patcher._codec import foreground
import numpy as np
print(foreground(np.array([1, 2, 1], np.uint32)))
"""


def run(folder: Path, most: int = 10**8) -> list[Path]:
    """Compile a kernel in a process of its own that may write so many bytes; the files that are kept afterwards."""
    command = [sys.executable, "-B", "-c", CODE, str(most)]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    return sorted(path for path in folder.rglob("*foreground*") if path.is_file())


def test_they_are_compiled_anew_where_the_disk_is_full(tmp_path: Path) -> None:
    assert run(tmp_path, most=100) == []


def test_they_are_compiled_anew_where_what_was_kept_is_damaged(tmp_path: Path) -> None:
    kept = run(tmp_path)
    code, index = sorted(kept, key=lambda path: path.suffix)
    assert (code.suffix, index.suffix) == (".nbc", ".nbi")
    for hit, length in ((index, 0), (code, code.stat().st_size // 2)):
        size = hit.stat().st_size
        os.truncate(hit, length)
        # And kept again, for the next process.
        assert run(tmp_path) == kept
        assert hit.stat().st_size == size
