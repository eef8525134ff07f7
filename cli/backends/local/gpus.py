"""GPUs of this machine, asked from ``nvidia-smi``: the laptop side never loads torch."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from tsp.errors import TspError


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card."""

    device: str
    """What CUDA_VISIBLE_DEVICES calls it."""
    name: str
    memory_mib: int | None
    """None where the driver does not say (memory shared with the processor)."""


def gpus_here() -> list[Gpu]:
    """The cards this machine has and the user may use (CUDA_VISIBLE_DEVICES is honoured); empty without a driver."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (FileNotFoundError, PermissionError, subprocess.CalledProcessError):
        return []
    except subprocess.TimeoutExpired as error:
        raise TspError("nvidia-smi does not answer within 30 s: the driver of this machine's GPUs hangs") from error
    return visible(parse(answer.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse(table: str) -> list[tuple[str, Gpu]]:
    """UUID and card for each line ``index, uuid, name, MiB``."""
    cards = []
    for line in table.strip().splitlines():
        index, uuid, name, memory = (cell.strip() for cell in line.split(","))
        cards.append((uuid, Gpu(index, name, int(memory) if memory.isdigit() else None)))
    return cards


def visible(cards: list[tuple[str, Gpu]], wanted: str | None) -> list[Gpu]:
    """The cards that a CUDA_VISIBLE_DEVICES lets through, in its order; it may hold indices or UUIDs.

    As CUDA does, it stops at the first one that does not exist.
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
