"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from tsp.errors import ConfigError

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
THREADS_BESIDE_GPU = 4
"""Most threads of torch in a rank that computes on a GPU."""
CPUS_VARIABLE = "TSP_CPUS"
"""CPUs that a pod requests, set by the chart; CPUs of one rank, set by the process that starts several on a machine."""
MOST_AUTO_WORKERS = 8
"""Each holds its own decoders and queues batches in shared memory: more only where they are asked for."""


def rank_cpus(environment: Mapping[str, str] = os.environ) -> int:
    """CPUs that this process can count on: its share or its pod's request, and no more than it may use; at least 1.

    Raises: ConfigError if the variable contains no number.
    """
    share = environment.get(CPUS_VARIABLE, "").strip()
    usable = usable_cpus()
    if not share:
        return usable
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?", share):
        raise ConfigError(f"the variable {CPUS_VARIABLE} must be a number of CPUs, got {share!r}")
    return min(usable, max(1, int(share.split(".")[0])))


def auto_workers(cpus: float) -> int:
    """Data workers of a rank with that many CPUs: one CPU is the training loop's."""
    return max(1, min(MOST_AUTO_WORKERS, math.floor(cpus) - 1))


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
    for mount in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):  # the first is a link to one of the others, not everywhere
        for folder in control_groups(cgroups / mount, own_cgroup, controller="cpu"):
            yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def control_groups(cgroups: Path, own_cgroup: Path, *, controller: str = "") -> list[Path]:
    """The folder of the process's control group, then those around it; of version 2, or of a controller of version 1.

    In a container that is the mount itself, whatever the file says of the node's groups.
    """
    try:
        lines = [line.split(":", 2) for line in own_cgroup.read_text().splitlines()]
    except OSError:
        lines = []
    path = next((line[2] for line in lines if len(line) == 3 and controller in line[1].split(",")), "/")
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
