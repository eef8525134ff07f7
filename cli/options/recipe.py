"""Options of ``tspctl submit`` that choose a recipe and change its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from tsp.config.backbones import BACKBONES


@dataclass(frozen=True, slots=True)
class RecipeOption:
    """An option that sets one key of the configuration."""

    flag: str
    key: str
    type: Any
    help: str
    metavar: str | None = None

    @property
    def parameter(self) -> str:
        """Name of the function's argument."""
        return self.flag.lstrip("-").partition("/")[0].replace("-", "_")


_AT_LEAST_0, _AT_LEAST_1 = click.IntRange(0), click.IntRange(1)
RECIPE_OPTIONS = (
    RecipeOption(
        "--backbone",
        "model.backbone",
        click.Choice(list(BACKBONES)),
        "Encoder; tiny is for trying things out.",
    ),
    RecipeOption(
        "--pretrained",
        "model.pretrained",
        str,
        "Initial weights: default, none, a file, s3://, https://, a released name.",
        "URI",
    ),
    RecipeOption("--pretrained-sha256", "model.pretrained_sha256", str, "Digest of those weights.", "HEX"),
    RecipeOption(
        "--precision", "model.precision", click.Choice(["auto", "fp32", "bf16", "fp16"]), "Arithmetic of the model."
    ),
    RecipeOption("--compile/--no-compile", "model.compile", bool, "torch.compile the model."),
    RecipeOption("--sync-batch-norm/--no-sync-batch-norm", "model.sync_batch_norm", bool, "Batch norm over all ranks."),
    RecipeOption(
        "--activation-checkpointing/--no-activation-checkpointing",
        "model.activation_checkpointing",
        bool,
        "Less memory, about a third more compute.",
    ),
    RecipeOption("--epochs", "schedule.epochs", _AT_LEAST_1, "Epochs to train."),
    RecipeOption("--batch-per-gpu", "batch_per_gpu", _AT_LEAST_1, "Clips per rank and step, before the factor."),
    RecipeOption("--backbone-lr", "optim.backbone_lr", float, "Encoder's learning rate, before world size and factor."),
    RecipeOption("--head-lr", "optim.head_lr", float, "Heads' learning rate, before world size and factor."),
    RecipeOption(
        "--downscale",
        "downscale",
        click.Choice(["auto", "1", "2", "4"]),
        "Divides batch and learning rates; auto: from the smallest GPU's memory.",
    ),
    RecipeOption("--clips-per-segment", "clips.per_segment", _AT_LEAST_1, "Clips drawn from a segment in an epoch."),
    RecipeOption("--seed", "seed", _AT_LEAST_0, "All randomness follows from it."),
    RecipeOption("--workers", "data.workers", _AT_LEAST_0, "Data worker processes per rank."),
    RecipeOption(
        "--bad-clips",
        "data.bad_clips",
        click.Choice(["fail", "resample", "skip"]),
        "What to do with a clip that cannot be decoded.",
    ),
    RecipeOption("--one-pass/--no-one-pass", "data.one_pass", bool, "Decode all clips of a segment in one go: faster."),
    RecipeOption(
        "--training-copy/--no-training-copy", "data.training_copy", bool, "Read the small training copy of the videos."
    ),
    RecipeOption("--resume", "resume", str, "Go on from this checkpoint, ours or the original's.", "URI"),
    RecipeOption("--start-epoch", "start_epoch", _AT_LEAST_0, "First epoch to train after --resume."),
    RecipeOption("--keep-epochs", "keep_epochs", _AT_LEAST_0, "Checkpoints kept besides the best; 0 keeps all."),
    RecipeOption("--max-attempts", "max_attempts", _AT_LEAST_1, "Starts before the run is given up."),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of ``RECIPE_OPTIONS``; what is not given is None."""
    for option in reversed(RECIPE_OPTIONS):
        if option.type is bool:
            command = click.option(option.flag, default=None, help=option.help)(command)
        else:
            command = click.option(option.flag, type=option.type, metavar=option.metavar, help=option.help)(command)
    return command


def dataset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose a recipe: data set, method, heads, GVF, and everything else by --set."""
    for option in (
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any configuration value."),
        click.option("--gvf", type=click.Choice(["max", "avg", "none"]), help="Global video feature."),
        click.option("--heads", type=click.Choice(["all", "action", "region"]), help="What to learn."),
        click.option("--data", "data_root", metavar="URI", help="Folder or s3:// URI of the data set."),
        click.option("--gpus", type=int, metavar="N", help="Ranks: one GPU each (CPU processes where there is none)."),
        click.option("--method", type=click.Choice(["tsp", "tac"]), required=True, help="TSP, or its baseline TAC."),
        click.option("--dataset", required=True, help="thumos14, activitynet, demo, or a YAML file of your own."),
    ):
        command = option(command)
    return command
