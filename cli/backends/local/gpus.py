"""GPUs of this machine, from ``nvidia-smi``: the command line never loads torch."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from tsp.errors import TspError


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    device: str
    """Its name for CUDA_VISIBLE_DEVICES."""
    name: str
    memory_mib: int | None
    """None if the driver does not report it (memory shared with the CPU)."""


def gpus_here() -> list[Gpu]:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES allows; none without a driver."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (FileNotFoundError, PermissionError, subprocess.CalledProcessError):
        return []
    except subprocess.TimeoutExpired as error:
        raise TspError("nvidia-smi did not answer within 30 s: this machine's GPU driver hangs") from error
    return visible(parse(answer.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse(table: str) -> list[tuple[str, Gpu]]:
    """UUID and GPU from each line ``index, uuid, name, MiB``."""
    cards = []
    for line in table.strip().splitlines():
        index, uuid, name, memory = (cell.strip() for cell in line.split(","))
        cards.append((uuid, Gpu(index, name, int(memory) if memory.isdigit() else None)))
    return cards


def visible(cards: list[tuple[str, Gpu]], wanted: str | None) -> list[Gpu]:
    """The GPUs in a CUDA_VISIBLE_DEVICES of indices or UUIDs, in its order.

    Like CUDA, it stops at the first one that does not exist.
    """
    if wanted is None:
        return [card for _, card in cards]
    chosen: list[Gpu] = []
    for item in (part.strip() for part in wanted.split(",")):
        found = [card for uuid, card in cards if item and (item == card.device or uuid.startswith(item))]
        if not found:
            break
        chosen.append(found[0])
    return chosen
