"""The machine: Python, processor, cores that this process may use."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16"),
}
"""What matters to the networks, and the flags of Linux that mean it: AVX for fp32, VNNI for int8, the last for bf16."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What maskmend runs on.

    Attributes:
        python: version.
        executable: of the interpreter.
        platform: system, release and architecture.
        processor: its name; empty where the system does not tell.
        features: which of `FEATURES` it has; None where the system does not tell.
        cores: of the machine.
        usable: that this process may run on.
        limit: processors' worth of time that its control group allows; None for no limit.
        remedies: what to do about it.
    """

    python: str
    executable: str
    platform: str
    processor: str
    features: dict[str, bool] | None
    cores: int
    usable: int
    limit: float | None
    remedies: tuple[str, ...] = ()


def look(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Machine:
    """Look at this machine.

    Args:
        proc: where Linux tells of processors and processes.
        cgroups: where its control groups are.
    """
    processor, features = _processor(proc)
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    limit = cpu_limit(proc, cgroups)
    remedies = []
    if limit is not None and limit < usable:
        threads = max(1, math.floor(limit))
        remedies.append(
            f"the control group allows {limit:g} processors' time on {usable} cores: "
            f"give --threads {threads} to refine and serve"
        )
    return Machine(
        python=platform.python_version(),
        executable=sys.executable,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=processor,
        features=features,
        cores=cores,
        usable=usable,
        limit=limit,
        remedies=tuple(remedies),
    )


def cpu_limit(proc: Path, cgroups: Path) -> float | None:
    """Processors' worth of time that the control groups of this process allow, versions 1 and 2; None for no limit."""
    own = _text(proc / "self" / "cgroup")
    limits = []
    for line in own.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        # Within a container the path may be that of the host: then only the root is there, and it is the container's own.
        place = root / path.lstrip("/")
        for folder in (place, *place.parents):
            limits += _quota(folder)
            if folder == root:
                break
    return min(limits, default=None)


def _quota(folder: Path) -> list[float]:
    both = _text(folder / "cpu.max").split()
    if not both:
        both = [*_text(folder / "cpu.cfs_quota_us").split(), *_text(folder / "cpu.cfs_period_us").split()]
    try:
        quota, period = (float(value) for value in both)
    except ValueError:
        return []
    return [quota / period] if quota > 0 and period > 0 else []


def _processor(proc: Path) -> tuple[str, dict[str, bool] | None]:
    text = _text(proc / "cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    if flags is None:
        return name[1].strip() if name else platform.processor(), None
    have = set(flags[1].split())
    return name[1].strip() if name else "", {key: bool(have & set(any_of)) for key, any_of in FEATURES.items()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
