"""What the fixtures of this folder give."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class SmallJob:
    """Paths of a job, and the ids in it."""

    images: Path
    truth: Path
    coarse: Path
    records: list[dict[str, Any]]
