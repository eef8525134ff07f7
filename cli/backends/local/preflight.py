"""Checks before a run on this machine is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cli.humanize import show_size
from tsp.config.backbones import BACKBONES
from tsp.config.run import RunConfig
from tsp.data.ground_truth import read_ground_truth
from tsp.data.label_map import load_label_map
from tsp.errors import ConfigError, DataError, StoreError
from tsp.store.base import Store, free_bytes
from tsp.version import install_command

MODULES = ("torch", "torchvision", "av", "deflate", "h5py", "numpy")


def check_modules() -> None:
    """Refuse a machine without the training packages.

    Raises: ConfigError.
    """
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training on this machine needs {', '.join(missing)}: {install_command('train')}, "
            f"or submit to a cluster with --backend kubernetes"
        )


def check_gpus(gpus: int, num_here: int) -> None:
    """Refuse more ranks than GPUs; a machine without GPUs runs them on the CPU.

    Raises: ConfigError.
    """
    if num_here and gpus > num_here:
        raise ConfigError(f"--gpus {gpus}, but this machine has {num_here}: use at most {num_here}")


def check_store(config: RunConfig, store: Store) -> None:
    """Refuse a store that is not writable or has no room for the run's checkpoints.

    Raises: StoreError.
    """
    store.check_writable()
    needed = bytes_needed(config)
    free = free_bytes(store)
    if free is not None and free < needed:
        raise StoreError(
            f"the disk of {store.uri} has {show_size(free)} left, but the run needs about {show_size(needed)}: "
            "free some space, choose another --store, or keep fewer epochs (--set keep_epochs=1)"
        )


def bytes_needed(config: RunConfig) -> int:
    """Estimated size of what the run writes: its epochs, and two mid-epoch states."""
    epochs = config.schedule.epochs
    kept = min(epochs, config.keep_epochs + 1) if config.keep_epochs else epochs
    return (kept + 2) * BACKBONES[config.model.backbone].checkpoint_bytes


def check_data(config: RunConfig) -> None:
    """Refuse a local data set without its tables, videos, label maps or GVF, or with tables that no run can read.

    Raises: DataError; ConfigError for the GVF, which another option avoids.
    """
    if "://" in config.data.root:
        return
    root = Path(config.data.root)
    if not root.is_dir():
        hint = f": generate it with 'tspctl data demo {root}'" if config.data.name == "demo" else ""
        raise DataError(f"the data folder {root} does not exist{hint or '; choose another one with --data'}")
    for head in config.model.heads:
        _require_file(root / head.labels, f"label map of {head.label_column}")
    label_maps = {head.label_column: load_label_map(root / head.labels) for head in config.model.heads}
    for subset_name, subset in (("training", config.data.train), ("validation", config.data.valid)):
        _require_file(root / subset.csv, f"{subset_name} table")
        read_ground_truth(root / subset.csv, label_maps).kept(config.clips)
        if not (root / subset.videos).is_dir():
            raise DataError(f"the folder of the {subset_name} videos {root / subset.videos} does not exist")
        if config.model.gvf != "none" and subset.gvf is not None and not (root / subset.gvf).is_file():
            raise ConfigError(
                f"--gvf {config.model.gvf} needs the file {root / subset.gvf}, which does not exist: train a TAC run "
                f"and build it with 'tspctl gvf RUN --pool {config.model.gvf}', or use --gvf none"
            )


def _require_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise DataError(f"the {what} {path} does not exist: check --data and the data set's file names")
