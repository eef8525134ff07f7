"""The trained objects: model, optimizer and schedule, built from a configuration and restored from a checkpoint."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsp.config.backbones import published_weights
from tsp.config.run import REGION_COLUMN, ModelConfig, RunConfig
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.model.conv_views import convolve_on_views
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.recompute import recompute_blocks
from tsp.model.weights import load_pretrained
from tsp.store.base import sha256_of
from tsp.store.fetch import fetch_object
from tsp.store.scratch import cache_folder
from tsp.train import checkpoint
from tsp.train.distributed import Group
from tsp.train.precision import Numerics
from tsp.train.resume import Position, Start, position_here, set_schedule, settings_of
from tsp.train.schedule import WarmupMultiStepLR, build_optimizer, build_scheduler
from tsp.train.step import Stepper

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """A run's trainable state on one rank."""

    model: TspModel
    optimizer: torch.optim.SGD
    scheduler: WarmupMultiStepLR
    stepper: Stepper
    args: argparse.Namespace
    position: Position

    def snapshot(self, epoch: int) -> dict[str, Any]:
        """A copy in main memory of a checkpoint's content, for the epoch last trained."""
        return checkpoint.snapshot(self.model, self.optimizer, self.scheduler, epoch=epoch, args=self.args)


def build_model(config: ModelConfig, num_classes: Sequence[int], *, seed: int) -> TspModel:
    """The model of a configuration, with initial weights that depend only on the seed."""
    torch.manual_seed(seed)
    heads = [
        HeadSpec(
            label_column=head.label_column,
            num_classes=count,
            sees_gvf=config.gvf != "none" and head.label_column == REGION_COLUMN,
        )
        for head, count in zip(config.heads, num_classes, strict=True)
    ]
    return TspModel(config.backbone, heads)


def load_initial_weights(model: TspModel, config: RunConfig, cache_dir: Path | None = None) -> str | None:
    """The encoder weights that ``model.pretrained`` names: the published ones, none, a file or an address.

    Only rank 0 needs them: the others receive its weights. Downloaded once per machine.
    Returns: the SHA-256 of the file; None for random weights.
    Raises: ConfigError, StoreError.
    """
    uri, digest = config.model.pretrained, config.model.pretrained_sha256
    if uri == "none":
        logger.info("the encoder starts from random weights")
        return None
    if uri == "default":
        published = published_weights(config.model.backbone)
        uri, digest = published.url, digest or published.sha256_prefix
    try:
        path = fetch_object(uri, cache_dir or cache_folder("weights"), settings=config.store, sha256=digest)
    except StoreUnreachableError as error:
        if not uri.startswith("http"):
            raise
        # A cluster without internet access has none at the next attempt either.
        raise StoreError(str(error)) from error
    load_pretrained(model, path)
    logger.info("the encoder starts from %s", uri)
    return sha256_of(path)


def build_training_state(
    config: RunConfig,
    model: TspModel,
    start: Start,
    *,
    sizes: EffectiveSizes,
    num_steps: int,
    labels: Sequence[Sequence[str]],
    numerics: Numerics,
    group: Group,
) -> TrainingState:
    """Model on its device, wrapped for the ranks, with optimizer and schedule at the run's position.

    Args: model, with initial weights on rank 0; start, the same on every rank; num_steps, of an epoch;
        labels, class names of each head.
    Raises: ConfigError for options that cannot be combined, or a checkpoint of another model.
    """
    _check_compile(config.model, numerics.device)
    _prepare(model, config.model, numerics, group)
    optimizer = build_optimizer(model, sizes, config.optim)
    scheduler = build_scheduler(optimizer, config.schedule, num_steps=num_steps)
    fresh = settings_of(scheduler)
    position = position_here(start, sizes, num_steps)
    if start.content is not None:
        checkpoint.restore(start.content, model, optimizer, scheduler, where=start.where)
        set_schedule(scheduler, fresh, start, position, sizes, num_steps)
    elif position.epoch:
        scheduler.move_to(position.epoch * num_steps)
    wrapped = group.wrap(model, gradients=config.model.gradients)
    stepper = Stepper(
        _compiled(wrapped) if config.model.compile else wrapped,
        optimizer,
        scheduler,
        loss_weights=[head.loss_weight for head in config.model.heads],
        numerics=numerics,
        group=group,
    )
    if start.content is not None and start.content.get("scaler"):
        stepper.scaler.load_state_dict(start.content["scaler"])
    return TrainingState(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        stepper=stepper,
        args=checkpoint.run_args(config, sizes, labels),
        position=position,
    )


def _prepare(model: TspModel, config: ModelConfig, numerics: Numerics, group: Group) -> None:
    """On its device, with layers that compute as configured."""
    numerics.prepare(model)
    convolve_on_views(model.features, config.conv2d)
    if config.sync_batch_norm and group.world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if config.activation_checkpointing:
        recompute_blocks(model.features)


def _check_compile(config: ModelConfig, device: torch.device) -> None:
    """Raises: ConfigError unless there is a compiler: for C with a GPU, where Triton uses it, for C++ on the CPU."""
    if not config.compile:
        return
    if config.activation_checkpointing:
        raise ConfigError("model.compile and model.activation_checkpointing cannot be combined: choose one")
    language, variable, names = ("C", "CC", ("cc", "gcc", "clang"))
    if device.type == "cpu":
        language, variable, names = ("C++", "CXX", ("c++", "g++", "clang++"))
    if not any(shutil.which(name) for name in (os.environ.get(variable) or names[0], *names)):
        raise ConfigError(
            f"model.compile needs a {language} compiler, but there is none ({', '.join(names)}): use an image that "
            "has one (image/build.sh --compile), or set model.compile=false"
        )


def _compiled(network: nn.Module) -> nn.Module:
    """The wrapped model, compiled. Inside the wrapper, all gradients would arrive at the end, without overlap.

    An epoch's last, smaller batch is compiled separately: otherwise all later batches would use code for any size.
    """
    compiled: nn.Module = torch.compile(network, dynamic=False)  # type: ignore[assignment]
    return compiled
