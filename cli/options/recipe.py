"""Options of ``tspctl submit`` that choose a recipe and change its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cli.options.locations import LOCATION, complete_datasets
from cli.options.numbers import FiniteRange
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
        """Name of the keyword argument that click passes."""
        return self.flag.lstrip("-").partition("/")[0].replace("-", "_")


# The bounds of the fields, which are not loaded for --help (tests/cli/options/test_bounds.py compares the two).
_AT_LEAST_0, _AT_LEAST_1, _RATE = click.IntRange(0), click.IntRange(1), FiniteRange(0)
RECIPE_OPTIONS = (
    RecipeOption(
        "--backbone",
        "model.backbone",
        click.Choice(list(BACKBONES)),
        "Encoder; tiny is for trials.",
    ),
    RecipeOption(
        "--pretrained",
        "model.pretrained",
        LOCATION,
        "Initial weights: default, none, a file, s3://, https://, or a released name.",
        "URI",
    ),
    RecipeOption("--pretrained-sha256", "model.pretrained_sha256", str, "SHA-256 of those weights.", "HEX"),
    RecipeOption(
        "--precision", "model.precision", click.Choice(["auto", "fp32", "bf16", "fp16"]), "Precision of the model."
    ),
    RecipeOption("--compile/--no-compile", "model.compile", bool, "Compile the model with torch.compile."),
    RecipeOption(
        "--sync-batch-norm/--no-sync-batch-norm",
        "model.sync_batch_norm",
        bool,
        "Synchronise batch norm over all ranks.",
    ),
    RecipeOption(
        "--activation-checkpointing/--no-activation-checkpointing",
        "model.activation_checkpointing",
        bool,
        "Use less memory for about a third more compute.",
    ),
    RecipeOption("--epochs", "schedule.epochs", _AT_LEAST_1, "Epochs to train."),
    RecipeOption("--batch-per-gpu", "batch_per_gpu", _AT_LEAST_1, "Clips per rank and step, before downscaling."),
    RecipeOption("--backbone-lr", "optim.backbone_lr", _RATE, "Encoder's learning rate, before scaling."),
    RecipeOption("--head-lr", "optim.head_lr", _RATE, "Heads' learning rate, before scaling."),
    RecipeOption(
        "--downscale",
        "downscale",
        click.Choice(["auto", "1", "2", "4"]),
        "Factor that divides batch and learning rates; auto: chosen by the smallest GPU's memory.",
    ),
    RecipeOption(
        "--clips-per-segment",
        "clips.per_segment",
        click.IntRange(1, 10_000),
        "Clips drawn from each segment per epoch.",
    ),
    RecipeOption("--seed", "seed", _AT_LEAST_0, "Seed of all randomness."),
    RecipeOption(
        "--workers",
        "data.workers",
        _AT_LEAST_0,
        "Data workers per rank; default: one less than its CPUs, at most 8.",
    ),
    RecipeOption(
        "--bad-clips",
        "data.bad_clips",
        click.Choice(["fail", "resample", "skip"]),
        "What to do with a clip that cannot be decoded.",
    ),
    RecipeOption(
        "--one-pass/--no-one-pass", "data.one_pass", bool, "Decode all clips of a segment in one pass, which is faster."
    ),
    RecipeOption(
        "--training-copy/--no-training-copy", "data.training_copy", bool, "Read the training copies of the videos."
    ),
    RecipeOption(
        "--resume", "resume", LOCATION, "Continue from this checkpoint, of tspctl or of the original code.", "URI"
    ),
    RecipeOption("--start-epoch", "start_epoch", _AT_LEAST_0, "First epoch to train after --resume."),
    RecipeOption("--keep-epochs", "keep_epochs", _AT_LEAST_0, "Checkpoints to keep besides the best; 0 keeps all."),
    RecipeOption("--max-attempts", "max_attempts", _AT_LEAST_1, "Attempts before the run fails."),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every option of ``RECIPE_OPTIONS`` to a command; an option that is not given is None."""
    return some_recipe_options(*(option.flag for option in RECIPE_OPTIONS))(command)


def some_recipe_options(*flags: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of ``RECIPE_OPTIONS`` with these flags to a command."""
    return lambda command: _add_options(command, [option for option in RECIPE_OPTIONS if option.flag in flags])


def _add_options(command: Callable[..., Any], options: Sequence[RecipeOption]) -> Callable[..., Any]:
    for option in reversed(options):
        if option.type is bool:
            command = click.option(option.flag, default=None, help=option.help)(command)
        else:
            command = click.option(option.flag, type=option.type, metavar=option.metavar, help=option.help)(command)
    return command


def dataset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a recipe: data set, method, heads, GVF, and --set for other values."""
    return _dataset_options(command, required=True, unless="")


def like_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same if an earlier run may provide them: data set and method are optional."""
    return _dataset_options(command, required=False, unless="; default: RUN's own")


def submit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same if a file or an earlier run may provide them."""
    return _dataset_options(command, required=False, unless="; default: that of --file or --like")


def _dataset_options(command: Callable[..., Any], *, required: bool, unless: str) -> Callable[..., Any]:
    for option in (
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any configuration value."),
        click.option("--gvf", type=click.Choice(["max", "avg", "none"]), help="Pooling of the global video features."),
        click.option("--heads", type=click.Choice(["all", "action", "region"]), help="Heads to train."),
        click.option("--data", "data_root", type=LOCATION, metavar="URI", help="Folder or s3:// URI of the data set."),
        click.option(
            "--gpus",
            type=_AT_LEAST_1,
            metavar="N",
            help="Number of ranks, one GPU each (CPU processes where there is no GPU).",
        ),
        click.option(
            "--method", type=click.Choice(["tsp", "tac"]), required=required, help=f"TSP, or its baseline TAC{unless}."
        ),
        click.option(
            "--dataset",
            required=required,
            help=f"thumos14, activitynet, demo, or your own YAML file{unless}.",
            shell_complete=complete_datasets,
        ),
    ):
        command = option(command)
    return command
