"""Versions, machines and digests of the files of a run, for run.json."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch

from tsp.config.run import RunConfig
from tsp.data.dataset_files import DatasetFiles
from tsp.errors import NoSuchRunError, TspError
from tsp.model.device import card_of, driver_version
from tsp.run.origins import IMAGE, IMAGE_VARIABLE, tables_of
from tsp.run.stored_run import StoredRun
from tsp.store.base import sha256_of
from tsp.train.distributed import Group
from tsp.version import commit, version

logger = logging.getLogger(__name__)

PACKAGES = ("torchvision", "av", "h5py", "numpy")
_CPU_INFO, _OS_RELEASE = Path("/proc/cpuinfo"), Path("/etc/os-release")
_CPU_NAMES = ("model name", "hardware", "cpu model", "machine", "processor")
"""Keys of ``/proc/cpuinfo`` that name the processor, on different architectures."""


def record_origins(
    run: StoredRun, config: RunConfig, group: Group, device: torch.device, weights: Mapping[str, str]
) -> dict[str, str]:
    """Write versions, machines and digests to run.json; every rank calls it.

    Args: weights, digests of the weights it starts from.
    Returns: on rank 0 of a later attempt, the changes since the first one, which are also logged.
    Raises: StoreError.
    """
    machines = group.gather(machine(device))
    if not group.is_main:
        return {}
    digests = {**table_digests(config), **weights}
    try:
        changed = run.record_origins(versions=versions(), machine=of_all_ranks(machines), digests=digests)
    except NoSuchRunError as error:
        logger.warning("versions and digests are not recorded: %s", error)
        return {}
    for name, text in changed.items():
        logger.warning("changed since the run began: %s is %s", name, text)
    return changed


def versions() -> dict[str, str]:
    """Versions of the programs that train; what a build or a machine does not have is left out."""
    found = {"tspctl": version(), "commit": commit() or "unknown", "python": platform.python_version()}
    found["torch"] = str(torch.__version__)
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    asked: dict[str, Callable[[], object]] = {
        "cuda": lambda: torch.version.cuda,
        "cudnn": torch.backends.cudnn.version,
        "nccl": _nccl_version,
        "driver": driver_version,
    }
    for name, ask in asked.items():
        if (value := _or_none(ask)) is not None:
            found[name] = str(value)
    return found


def machine(device: torch.device) -> dict[str, str]:
    """This rank's: GPU, processor, kernel, system, and in a pod its image. What cannot be read is left out."""
    card = _or_none(lambda: card_of(device))
    asked = {
        "gpu": None if card is None else str(card),
        "cpu": _cpu_name(),
        "kernel": platform.release(),
        "system": _system_name(),
        IMAGE: os.environ.get(IMAGE_VARIABLE),
    }
    return {key: value for key, value in asked.items() if value}


def of_all_ranks(machines: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One text a fact: that of every rank, or each with the ranks it is of: ``H100 (ranks 0, 1); V100 (rank 2)``."""
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for one in machines for key in one):
        values = [one.get(key, "none") for one in machines]
        if len(set(values)) == 1:
            found[key] = values[0]
            continue
        ranks = {value: [rank for rank, other in enumerate(values) if other == value] for value in values}
        found[key] = "; ".join(
            f"{value} (rank{'s' if len(which) > 1 else ''} {', '.join(map(str, which))})"
            for value, which in ranks.items()
        )
    return found


def table_digests(config: RunConfig) -> dict[str, str]:
    """SHA-256 of each table, label map and GVF file that was read, by its path below the data set's root."""
    files = DatasetFiles(config.data, config.store)
    found = {}
    for name in tables_of(config):
        try:
            found[name] = sha256_of(files.table(name))
        except (TspError, OSError) as error:
            logger.warning("run.json has no digest of %s: %s", name, error)
    return found


def _or_none(ask: Callable[[], object]) -> object | None:
    """An answer of torch or a driver, whose absence shows as any kind of exception."""
    try:
        return ask()
    except Exception as error:
        logger.debug("not recorded: %s", error)
        return None


def _nccl_version() -> str:
    found = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return ".".join(map(str, found)) if isinstance(found, tuple) else str(found)


def _cpu_name() -> str | None:
    try:
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    facts: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and value.strip() and not value.strip().isdigit():
            facts.setdefault(key.strip().lower(), value.strip())
    return next((facts[name] for name in _CPU_NAMES if name in facts), platform.machine() or None)


def _system_name() -> str | None:
    try:
        lines = _OS_RELEASE.read_text(errors="replace").splitlines()
    except OSError:
        return platform.system() or None
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return found.get("PRETTY_NAME", "").strip("\"'") or platform.system() or None
