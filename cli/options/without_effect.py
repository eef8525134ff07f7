"""Refuses values that were typed for a run but that another value of the same run makes meaningless.

Only typed ones: a settings file may serve several kinds of runs, and a run that is repeated brings all its values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cli.options.recipe import RECIPE_OPTIONS
from tsp.config.backbones import BACKBONES
from tsp.config.run import RunConfig
from tsp.errors import ConfigError

_FACTORISED = [name for name, row in BACKBONES.items() if row.is_factorised]


@dataclass(frozen=True, slots=True)
class _Rule:
    keys: tuple[str, ...]
    applies: Callable[[RunConfig], bool]
    because: str


_RULES = (
    _Rule(
        ("model.pretrained", "model.pretrained_sha256"),
        lambda config: config.resume is not None,
        "with --resume: all weights are those of that checkpoint",
    ),
    _Rule(
        tuple(f"optim.{name}" for name in ("backbone_lr", "head_lr", "stem_lr", "momentum", "weight_decay"))
        + tuple(f"schedule.{name}" for name in ("warmup_epochs", "warmup_factor", "milestones", "gamma")),
        lambda config: config.resume is not None,
        "with --resume: the optimizer and its schedule are those of that checkpoint; to begin with its weights alone, "
        "give it to --pretrained",
    ),
    _Rule(
        ("model.pretrained_sha256",),
        lambda config: config.model.pretrained == "none",
        "with --pretrained none: there is no file to check",
    ),
    _Rule(
        ("model.conv2d",),
        lambda config: config.model.conv2d != "off" and config.model.backbone not in _FACTORISED,
        f"with other encoders than {' and '.join(_FACTORISED)}, which have factorised convolutions",
    ),
    _Rule(
        ("data.max_bad_share",),
        lambda config: config.data.bad_clips == "fail",
        "with --bad-clips fail, which allows no bad clip",
    ),
)


OF_TRAINING = (
    "optim.", "schedule.", "data.train.", "data.one_pass", "clips.flip_probability", "model.pretrained",
    "model.compile", "model.gradients", "model.activation_checkpointing", "model.sync_batch_norm", "downscale",
    "resume", "start_epoch", "keep_epochs", "max_attempts", "state_every_sec", "metrics_every_", "peer_timeout_sec",
    "rendezvous_timeout_sec", "placement_timeout_sec",
)  # fmt: skip
"""What the keys begin with that validation alone does not read."""


def refuse_training_values(typed: Collection[str]) -> None:
    """Check the typed keys of an evaluation.

    Raises: ConfigError naming the first that only training reads.
    """
    for key in typed:
        if key.startswith(OF_TRAINING):
            raise ConfigError(f"--set {key} has no effect on an evaluation: only training reads it")


def refuse_without_effect(config: RunConfig, typed: Collection[str]) -> None:
    """Check the typed keys of a configuration.

    Raises: ConfigError naming the first that has no effect, as an option where there is one.
    """
    options = {option.key: option.flag for option in RECIPE_OPTIONS}
    for rule in _RULES:
        for key in rule.keys:
            if key in typed and rule.applies(config):
                raise ConfigError(f"{options.get(key, f'--set {key}')} has no effect {rule.because}")
