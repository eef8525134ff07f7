"""Checkpoints: their content, written atomically and read as untrusted input.

The format is the original's: ``model``, ``optimizer``, ``lr_scheduler``, ``epoch``, ``args``. A mid-epoch state
also has ``progress`` and ``scaler``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from tsp.config.run import RunConfig, to_json
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError, StoreError
from tsp.model.heads import TspModel
from tsp.model.weights import load_model_state, read_file
from tsp.store.atomic import new_file
from tsp.store.sink import Sink
from tsp.train.schedule import WarmupMultiStepLR, start_momentum

KEYS = ("model", "optimizer", "lr_scheduler", "epoch")
"""What a checkpoint must hold to be resumed from; ``args`` is for people."""

_IMPLEMENTATION_KEYS = ("fused", "foreach")
"""Settings of a group that choose an implementation of the step; not portable."""


def snapshot(
    model: TspModel,
    optimizer: torch.optim.Optimizer,
    scheduler: WarmupMultiStepLR,
    *,
    epoch: int,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """A copy of the training state in main memory; training may continue while it is written.

    Args: epoch, the last one trained (or being trained).
    """
    return {
        "model": _copied(model.state_dict()),
        "optimizer": _portable(_copied(optimizer.state_dict())),
        "lr_scheduler": _copied(scheduler.state_dict()),
        "epoch": epoch,
        "args": args,
    }


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def _portable(state: dict[str, Any]) -> dict[str, Any]:
    for group in state["param_groups"]:
        group.update(dict.fromkeys(_IMPLEMENTATION_KEYS))
    return state


def run_args(config: RunConfig, sizes: EffectiveSizes, labels: Sequence[Sequence[str]]) -> argparse.Namespace:
    """The run's configuration under the original's option names, and complete as JSON under ``tspctl_config``.

    Args: labels, class names of each head: an evaluation compares them with its label maps.
    """
    heads = config.model.heads
    return argparse.Namespace(
        backbone=config.model.backbone,
        label_columns=[head.label_column for head in heads],
        loss_alphas=[head.loss_weight for head in heads],
        global_video_features=config.data.train.gvf if config.model.gvf != "none" else None,
        clip_len=config.clips.length_frames,
        frame_rate=config.clips.rate_fps,
        clips_per_segment=config.clips.per_segment,
        batch_size=sizes.batch_per_gpu,
        world_size=sizes.world_size,
        epochs=config.schedule.epochs,
        backbone_lr=sizes.backbone_lr / sizes.world_size,
        fc_lr=sizes.head_lr / sizes.world_size,
        momentum=config.optim.momentum,
        weight_decay=config.optim.weight_decay,
        lr_warmup_epochs=config.schedule.warmup_epochs,
        lr_milestones=list(config.schedule.milestones),
        lr_gamma=config.schedule.gamma,
        sync_bn=config.model.sync_batch_norm,
        resume=config.resume or "",
        start_epoch=config.start_epoch or 0,
        tspctl_config=to_json(config),
        tspctl_labels=[list(names) for names in labels],
    )


def write(content: Mapping[str, Any], path: Path) -> Path:
    """Write a checkpoint to a local file, atomically.

    Raises: StoreError if the disk is full or refuses.
    """
    try:
        with new_file(path) as part, Sink(part) as file:
            torch.save(dict(content), cast(IO[bytes], file))
    except StoreError as error:
        raise StoreError(f"cannot write a checkpoint, {error} (TMPDIR sets it)") from error
    return path


def read(path: Path) -> dict[str, Any]:
    """A checkpoint, of ours or of the original code, with its tensors on the CPU.

    Raises: ConfigError if the file is not a complete checkpoint, or contains more than tensors and plain values.
    """
    content = read_file(path)
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ConfigError(
            f"{path} is not a checkpoint to resume from: it lacks {', '.join(missing)}; for a file with only "
            "encoder weights use --pretrained"
        )
    return content


def restore(
    content: Mapping[str, Any],
    model: TspModel,
    optimizer: torch.optim.Optimizer,
    scheduler: WarmupMultiStepLR,
    *,
    where: str,
) -> None:
    """Set model, optimizer and schedule to a checkpoint's.

    Raises: ConfigError naming ``where`` if it is of another model.
    """
    load_model_state(model, content["model"], where=where)
    own = [{key: group[key] for key in _IMPLEMENTATION_KEYS} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(dict(content["optimizer"]))
    except (ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{where} contains the optimizer of another model: {error}") from error
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
        for parameter in group["params"]:
            _match_layout(optimizer.state[parameter], parameter)
    start_momentum(optimizer)
    try:
        scheduler.load_state_dict(content["lr_scheduler"])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where} contains a schedule other than warm-up and steps: {error}") from error


def _match_layout(state: dict[str, Any], parameter: Tensor) -> None:
    """Give the momentum the memory layout of its parameter: the fused step walks both in parallel."""
    momentum = state.get("momentum_buffer")
    if momentum is not None and momentum.stride() != parameter.stride():
        state["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
