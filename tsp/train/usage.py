"""CPU and memory use of this process's control group (in a pod, the pod's) and of its GPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from tsp.config.cpus import CGROUPS, OWN_CGROUP, control_groups

MIB = 1 << 20


class Usage:
    """Readings since the last call, without waiting for the GPU."""

    def __init__(self, device: torch.device, root: Path = CGROUPS, own: Path = OWN_CGROUP) -> None:
        self._device = device
        # Version 1 has a folder for each resource below the root.
        self._folder = next((item for item in control_groups(root, own) if (item / "cpu.stat").exists()), root)
        self._cpu_sec, self._at_sec = self._read_cpu_sec(), time.monotonic()

    def __call__(self) -> dict[str, Any]:
        """``cpu_percent`` (100 is one core), ``memory_mib``, ``gpu_memory_mib``, ``gpu_utilization_percent``.

        What cannot be read is left out.
        """
        found: dict[str, Any] = {}
        now, cpu_sec = time.monotonic(), self._read_cpu_sec()
        if cpu_sec is not None and self._cpu_sec is not None and now > self._at_sec:
            found["cpu_percent"] = round(100 * (cpu_sec - self._cpu_sec) / (now - self._at_sec), 1)
        self._cpu_sec, self._at_sec = cpu_sec, now
        memory = self._number("memory.current") or self._number("memory/memory.usage_in_bytes")
        if memory is not None:
            found["memory_mib"] = round(memory / MIB)
        if self._device.type == "cuda":
            found["gpu_memory_mib"] = round(torch.cuda.max_memory_reserved(self._device) / MIB)
            try:
                found["gpu_utilization_percent"] = torch.cuda.utilization(self._device)
            except Exception:  # the driver's library is optional, and its errors are its own
                found.pop("gpu_utilization_percent", None)
        return found

    def _read_cpu_sec(self) -> float | None:
        try:
            fields = dict(line.split() for line in (self._folder / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        except (OSError, ValueError, KeyError):
            usage = self._number("cpuacct/cpuacct.usage")
            return None if usage is None else usage / 1e9

    def _number(self, name: str) -> int | None:
        try:
            return int((self._folder / name).read_text())
        except (OSError, ValueError):
            return None
