"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
THREADS_BESIDE_GPU = 4
"""Most threads of torch in a rank that computes on a GPU."""


def usable_cpus(v2: Path = _CGROUP_V2, v1: Path = _CGROUP_V1) -> int:
    """Cores of the affinity mask, or fewer where the container has a quota: at least 1.

    A pod without CPU pinning sees every core of its node; threads beyond its quota only throttle each other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(v2, v1)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(v2: Path, v1: Path) -> float | None:
    """Cores of the control group's quota; None where there is none."""
    try:
        if v2.exists():
            limit, period = v2.read_text().split()[:2]
        else:
            limit = (v1 / "cpu.cfs_quota_us").read_text().strip()
            period = (v1 / "cpu.cfs_period_us").read_text().strip()
        return None if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
