"""Where a run continues: from its own newest state, the checkpoint that ``--resume`` names, or the beginning."""

from __future__ import annotations

import argparse
import logging
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tsp.config.run import RunConfig
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.run.stored_run import StoredRun
from tsp.store.base import sha256_of
from tsp.store.fetch import fetch_object
from tsp.train import checkpoint
from tsp.train.schedule import WarmupMultiStepLR

logger = logging.getLogger(__name__)

_OF_OPTIMIZER = ("momentum", "weight_decay")
_SETTINGS = {"base_lrs": "learning rates", "milestones": "", "gamma": "gamma"}
_SETTINGS |= {"momentum": "momentum", "weight_decay": "weight decay"}
_WARMUP = {"warmup_iters": "steps of warm-up", "warmup_factor": "factor of warm-up"}
"""Settings of schedule and optimizer, and what they are called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A position in a run: epoch and step."""

    epoch: int = 0
    step: int = 0
    """Steps of that epoch that are done; if all are, it is trained but not validated."""
    num_steps: int = 0
    """Steps of an epoch at the batch and world size it was trained with; 0 at the start of an epoch."""
    bad_clips: int = 0
    """Clips of the epoch that could not be decoded, on rank 0."""
    train_sec: float = 0.0
    """Seconds that its steps took."""

    @property
    def is_trained(self) -> bool:
        """Whether only the validation of the epoch is left."""
        return 0 < self.num_steps == self.step


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What to load, and where to continue."""

    position: Position
    content: dict[str, Any] | None = None
    """Checkpoint to load; None: begin with initial weights."""
    where: str = ""
    """Its address, for messages."""
    is_own: bool = False
    """Whether it is this run's own, so that the configuration's schedule applies."""
    sha256: str | None = None
    """Of another run's checkpoint."""


def unvalidated_epochs(run: StoredRun) -> list[int]:
    """Epochs with a checkpoint but without results, except the one that the newest state will validate.

    A crash between the two leaves such an epoch.
    """
    records = run.epochs()
    state = run.latest_state()
    pending = state.epoch if state is not None else None
    return [epoch for epoch in sorted(run.checkpoints()) if epoch not in records and epoch != pending]


def find_start(run: StoredRun, config: RunConfig, folder: Path) -> Start:
    """The start of rank 0: the newest state or epoch of this run, else ``config.resume``, else nothing.

    Args: folder, for downloads.
    Raises: ConfigError, StoreError.
    """
    done = max(run.certain_epochs(), default=-1)
    own = _from_state(run, done, folder) or _from_epoch(run, done, folder)
    if own is not None:
        return own
    if config.resume is not None:
        return _from_elsewhere(config, folder)
    return Start(position=Position(epoch=config.start_epoch or 0))


def _from_state(run: StoredRun, done: int, folder: Path) -> Start | None:
    """The newest mid-epoch state, unless a published epoch is newer."""
    meta = run.latest_state()
    if meta is None or meta.epoch < done:
        return None
    path = folder / "state.pth"
    try:
        meta = run.download_state(path)
        content = checkpoint.read(path)
        position = Position(**content["progress"])
    except StoreUnreachableError:
        raise
    except (StoreError, ConfigError, KeyError, TypeError) as error:
        logger.warning("the newest state is unusable, continuing from the last epoch: %s", error)
        return None
    finally:
        path.unlink(missing_ok=True)
    if position.epoch == done and position.is_trained:
        position = Position(epoch=done + 1)
    elif position.epoch <= done:
        return None
    return Start(position=position, content=content, where=run.address(meta.key), is_own=True)


def _from_epoch(run: StoredRun, done: int, folder: Path) -> Start | None:
    """The last published epoch."""
    if done < 0:
        return None
    path = folder / "resume.pth"
    try:
        run.download_epoch(done, path)
        content = checkpoint.read(path)
    finally:
        path.unlink(missing_ok=True)
    return Start(
        position=Position(epoch=done + 1), content=content, where=run.address(f"epoch_{done}.pth"), is_own=True
    )


def _from_elsewhere(config: RunConfig, folder: Path) -> Start:
    """The checkpoint that the configuration names, of this or of the original system."""
    where = config.resume or ""
    path = fetch_object(where, folder / "fetched", settings=config.store)
    content = checkpoint.read(path)
    epoch = config.start_epoch if config.start_epoch is not None else int(content["epoch"]) + 1
    if epoch >= config.schedule.epochs:
        raise ConfigError(
            f"{where} is already trained for {epoch} epochs, and --epochs is {config.schedule.epochs}: give a "
            "larger --epochs, or a --start-epoch"
        )
    return Start(position=Position(epoch=epoch), content=content, where=where, sha256=sha256_of(path))


def position_here(start: Start, sizes: EffectiveSizes, num_steps: int) -> Position:
    """The position in an epoch of ``num_steps`` steps, when batch or world size may have changed.

    Keeps the finished share of the epoch, rounded down to whole steps.
    """
    position = start.position
    if position.num_steps in (0, num_steps):
        return replace(position, num_steps=num_steps if position.step else 0)
    step = num_steps if position.is_trained else position.step * num_steps // position.num_steps
    logger.warning(
        "epoch %d continues at step %d of %d with a global batch of %d: it had %d steps before, so the order of "
            "its clips differs from that of an uninterrupted run",
        position.epoch, step, num_steps, sizes.global_batch, position.num_steps,
    )  # fmt: skip
    return replace(position, step=step, num_steps=num_steps)


def set_schedule(
    scheduler: WarmupMultiStepLR,
    fresh: dict[str, Any],
    start: Start,
    position: Position,
    sizes: EffectiveSizes,
    num_steps: int,
) -> None:
    """Set the schedule after a checkpoint was loaded.

    Args: fresh, the settings of schedule and optimizer according to the configuration. A checkpoint of this run with
    another batch or world size gets the configuration's schedule at this position. A checkpoint from elsewhere keeps
    its own schedule, as in the original code, moved if another epoch was requested.
    """
    content = start.content or {}
    if start.is_own:
        if _sizes_of(content) != (sizes.world_size, sizes.batch_per_gpu):
            scheduler.load_state_dict(fresh)  # which knows its own settings among them
            scheduler.move_to(position.epoch * num_steps + position.step)
        return
    if position.epoch != int(content["epoch"]) + 1:
        scheduler.move_to(position.epoch * num_steps)
    if differences := _differences(settings_of(scheduler), fresh, num_steps):
        logger.warning(
            "the optimizer and its schedule are those of %s, not of this run's configuration: %s; to begin with its "
            "weights alone, give it to --pretrained",
            start.where, "; ".join(differences),
        )  # fmt: skip


def settings_of(scheduler: WarmupMultiStepLR) -> dict[str, Any]:
    """The state of a schedule, with the settings of its optimizer that a checkpoint replaces, too."""
    (group, *_) = scheduler.optimizer.param_groups
    return deepcopy({**scheduler.state_dict(), **{name: group[name] for name in _OF_OPTIMIZER}})


def _differences(settings: dict[str, Any], fresh: dict[str, Any], num_steps: int) -> list[str]:
    """What a checkpoint's settings are and what the configuration's are, but for a warm-up that is over."""
    names = {**_SETTINGS, "milestones": f"milestones in steps ({num_steps} an epoch here)"}
    if settings["last_epoch"] < max(settings["warmup_iters"], fresh["warmup_iters"]):
        names |= _WARMUP
    return [
        f"{title} {settings[name]}, not {fresh[name]}" for name, title in names.items() if settings[name] != fresh[name]
    ]


def _sizes_of(content: dict[str, Any]) -> tuple[int | None, int | None]:
    args = content.get("args", argparse.Namespace())
    return getattr(args, "world_size", None), getattr(args, "batch_size", None)


def state_extras(position: Position, scaler: dict[str, Any]) -> dict[str, Any]:
    """The keys of a mid-epoch state in addition to a checkpoint's."""
    return {"progress": asdict(position), "scaler": scaler}
