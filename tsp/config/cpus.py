"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
THREADS_BESIDE_GPU = 4
"""Most threads of torch in a rank that computes on a GPU."""


def usable_cpus(cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """Cores of the affinity mask, or fewer where a control group has a CPU quota: at least 1.

    A pod without CPU pinning sees every core of its node; threads beyond its quota only throttle each other.
    Args: cgroups, where control groups are mounted; own_cgroup, the file that names this process's.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(cgroups, own_cgroup), default=math.inf)
    return cores if quota >= cores else max(1, math.ceil(quota))


def _quotas(cgroups: Path, own_cgroup: Path) -> Iterator[float]:
    """Cores that the process's control group and the ones around it allow, where they have a quota."""
    for folder in control_groups(cgroups, own_cgroup):
        yield from _quota(folder / "cpu.max")
    # Version 1; in a container its own group is mounted as the root.
    yield from _quota(cgroups / "cpu" / "cpu.cfs_quota_us", cgroups / "cpu" / "cpu.cfs_period_us")


def control_groups(cgroups: Path, own_cgroup: Path) -> list[Path]:
    """The folder of the process's control group (version 2), then those around it.

    In a container that is the mount itself, whatever the file says of the node's groups.
    """
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        lines = []
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    inner = PurePosixPath(path.lstrip("/"))
    return [cgroups / part for part in (inner, *inner.parents)]


def _quota(*files: Path) -> Iterator[float]:
    """Cores of one quota: limit and period, in one file or in two."""
    try:
        limit, period = " ".join(file.read_text() for file in files).split()[:2]
        if int(limit) > 0:
            yield int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return
