"""The configuration of a run: one frozen object, validated when built, saved beside every checkpoint.

It travels from the command line through the chart's values to the pod, as JSON. Paths inside ``data`` are
relative to ``data.root``. It never holds credentials.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from tsp.config.address import FETCHED, STORED, check_addresses, check_scheme
from tsp.config.backbones import DEFAULT_BACKBONE, Backbone
from tsp.config.bounds import check_numbers, number, require
from tsp.config.codec import flat, from_dict, json_text, to_dict
from tsp.config.run_name import check_run_name
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

LOCAL_PATHS = {
    "data.root": "--data",
    "model.pretrained": "--pretrained",
    "resume": "--resume",
    "data.cache_dir": "--set data.cache_dir",
}
"""Key that may hold a path of this machine -> option that sets it."""

Method = Literal["tsp", "tac"]
GvfPool = Literal["max", "avg", "none"]
Conv2d = Literal["off", "spatial", "all"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Downscale = Literal["auto", "1", "2", "4"]
BadClipPolicy = Literal["fail", "resample", "skip"]

ACTION_COLUMN = "action-label"
REGION_COLUMN = "temporal-region-label"
DOWNSCALES = (1, 2, 4)

_SHA256 = re.compile(r"[0-9a-fA-F]{8,64}")

# A shape that cannot be trained is refused here, not by an exception deep inside a network.
MIN_CROP_PX = 16
MOST_FPS = 1000
MOST_CLIP_FRAMES = 10_000
"""Beyond these, a mistyped number would fill the memory with frames that repeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipConfig:
    """How clips are cut from a segment and what the encoder sees of them."""

    length_frames: int = number("clips.length_frames", 16, at_least=1, at_most=MOST_CLIP_FRAMES)
    """Frames per clip that the encoder sees."""
    rate_fps: float = number("clips.rate_fps", 15.0, above=0, at_most=MOST_FPS)
    """Rate at which a clip's frames are sampled, whatever the file's own."""
    per_segment: int = number("clips.per_segment", 5, at_least=1, at_most=10_000)
    """Clips drawn from each segment in an epoch."""
    resize_height_px: int = number("clips.resize_height_px", 128, at_least=1)
    resize_width_px: int = number("clips.resize_width_px", 171, at_least=1)
    """Frames are resized to this; the aspect ratio is not kept."""
    crop_px: int = 112
    """Side of the square crop: random in training, central in validation."""
    flip_probability: float = number("clips.flip_probability", 0.5, at_least=0, at_most=1)
    """Chance of a horizontal flip in training."""

    def __post_init__(self) -> None:
        check_numbers(self)
        require(
            MIN_CROP_PX <= self.crop_px <= min(self.resize_height_px, self.resize_width_px),
            f"clips.crop_px must lie between {MIN_CROP_PX} and the resized frame "
            f"({self.resize_height_px}x{self.resize_width_px}), got {self.crop_px}",
        )

    @property
    def duration_sec(self) -> float:
        """Seconds of video a clip spans: ``length_frames / rate_fps``."""
        return self.length_frames / self.rate_fps


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetConfig:
    """One subset of a data set: its annotation table and its videos."""

    csv: str
    """Ground-truth CSV, relative to ``data.root``."""
    videos: str
    """Folder of the videos, relative to ``data.root``."""
    gvf: str | None = None
    """H5 of global video features, relative to ``data.root``; needed only with ``model.gvf``."""

    def __post_init__(self) -> None:
        check_addresses(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where the data set is and how it is read."""

    name: str
    """Name of the data set, part of the run's default name."""
    root: str
    """Folder or ``s3://`` URI that every path of the data set is relative to."""
    train: SubsetConfig
    valid: SubsetConfig
    workers: int | None = number("data.workers", None, at_least=0)
    """Data worker processes per rank; 0 reads in the training process; null: by the rank's CPUs.

    Their number changes no result.
    """
    bad_clips: BadClipPolicy = "resample"
    """What to do with a clip that cannot be decoded: end the run, draw another of its segment, or leave it out."""
    max_bad_share: float = number("data.max_bad_share", 0.1, at_least=0, at_most=1)
    """A run ends with a data error when more than this share of an epoch's clips could not be decoded."""
    one_pass: bool = False
    """Decode all clips of a segment in one pass and mix them through a shuffle buffer: faster, another order."""
    training_copy: bool = False
    """Read the training copy that ``tspctl data standardize --training-copy`` writes next to the videos."""
    batch_deadline_sec: float = number("data.batch_deadline_sec", 300.0, above=0)
    """How long a rank waits for its next batch before the attempt fails."""
    height_px: int = number("data.height_px", 720, at_least=1)
    """Height of most videos; only the forecast of whether decoding keeps up with a GPU uses it."""
    cache_dir: str | None = None
    """Folder of the bounded local cache for videos read from ``s3://``; default: below the user's cache folder."""
    cache_mib: int = number("data.cache_mib", 20480, at_least=1)
    """Size limit of that cache."""

    def __post_init__(self) -> None:
        check_addresses(self)
        require(
            bool(self.root),
            "data.root is empty: give the data set's folder or s3:// URI with --data "
            "(chart value: data.uri, or data.claim)",
        )
        check_scheme("--data", self.root, *STORED)
        check_scheme("data.cache_dir", self.cache_dir)
        check_numbers(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """One classification head."""

    label_column: str
    """Column of the ground-truth CSV this head learns."""
    labels: str
    """JSON list of class names, relative to ``data.root``; the index is the class id."""
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        check_addresses(self)
        require(
            math.isfinite(self.loss_weight) and self.loss_weight >= 0,
            f"loss weight of {self.label_column} must be finite and at least 0, got {self.loss_weight}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Encoder, heads and how they are computed."""

    backbone: Backbone = DEFAULT_BACKBONE
    heads: tuple[HeadConfig, ...]
    gvf: GvfPool = "none"
    """The global video feature that the temporal-region head gets in addition to the clip feature."""
    pretrained: str = "default"
    """Initial encoder weights: ``default`` (the published ones), ``none``, a file, ``s3://`` or ``https://``."""
    pretrained_sha256: str | None = None
    """Digest the weights are checked against."""
    sync_batch_norm: bool = False
    precision: Precision = "auto"
    """``auto``: bf16 on GPUs that have it, else fp16 on GPUs, fp32 on CPU."""
    compile: bool = False
    """``torch.compile`` the model."""
    conv2d: Conv2d = "off"
    """Compute R(2+1)D's factorised convolutions as 2-D ones on views of the same memory: those in space, or all."""
    gradients: Literal["fp32", "bf16"] = "fp32"
    """Format in which ranks exchange gradients; bf16 halves the traffic at the cost of rounding."""
    activation_checkpointing: bool = False
    """Recompute block activations in the backward pass: less memory, about a third more compute."""

    def __post_init__(self) -> None:
        check_addresses(self)
        check_scheme("--pretrained", self.pretrained, *FETCHED)
        digest = self.pretrained_sha256
        require(
            digest is None or _SHA256.fullmatch(digest) is not None,
            f"--pretrained-sha256 must be the 64 hexadecimal digits of a SHA-256, or its first (8 or more): {digest!r}",
        )
        columns = [head.label_column for head in self.heads]
        require(1 <= len(columns) <= 2, f"a model has one or two heads, got {len(columns)}")
        require(len(set(columns)) == len(columns), f"two heads learn the same column {columns[0]!r}")
        require(
            self.gvf == "none" or REGION_COLUMN in columns,
            f"--gvf {self.gvf} needs the {REGION_COLUMN} head, the only one that sees the global video feature; "
            f"use --gvf none or --heads all|region",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """SGD. Learning rates are the recipe's, before the world size and the downscale factor."""

    backbone_lr: float = number("optim.backbone_lr", 1e-4, at_least=0)
    head_lr: float = number("optim.head_lr", 2e-3, at_least=0)
    stem_lr: float = number("optim.stem_lr", 0.0, at_least=0)
    """The stem's weights stay; its batch-norm statistics still move."""
    momentum: float = number("optim.momentum", 0.9, at_least=0, at_most=1)
    weight_decay: float = number("optim.weight_decay", 0.005, at_least=0)

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Linear warm-up, then steps down. All epochs here count in iterations of the training loader."""

    epochs: int = number("schedule.epochs", 8, at_least=1)
    warmup_epochs: int = number("schedule.warmup_epochs", 2, at_least=0)
    warmup_factor: float = number("schedule.warmup_factor", 1e-5, at_least=0, at_most=1)
    milestones: tuple[int, ...] = (4, 6)
    """Epochs at whose start the learning rates are multiplied by ``gamma``."""
    gamma: float = number("schedule.gamma", 0.01, at_least=0)

    def __post_init__(self) -> None:
        check_numbers(self)
        require(
            all(before < after for before, after in pairwise((0, *self.milestones))),
            f"schedule.milestones must be above 0 and increasing, got {list(self.milestones)}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The whole configuration of a run."""

    name: str
    method: Method
    data: DataConfig
    model: ModelConfig
    store: StoreConfig
    clips: ClipConfig = field(default_factory=ClipConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    gpus: int = number("--gpus", 1, at_least=1)
    """Ranks: one GPU each, or one CPU process each where there is no GPU."""
    batch_per_gpu: int = number("batch_per_gpu", 32, at_least=1)
    """Clips per rank and step before the downscale factor."""
    downscale: Downscale = "auto"
    """1, 2 or 4: divides batch and learning rates; ``auto`` takes it from the smallest GPU's memory."""
    seed: int = 42
    state_every_sec: float = number("state_every_sec", 600.0, above=0)
    """Seconds between mid-epoch saves."""
    metrics_every_sec: float = number("metrics_every_sec", 10.0, above=0)
    """Seconds between two lines of the history of metrics, or ``metrics_every_steps`` if those come first."""
    metrics_every_steps: int = number("metrics_every_steps", 50, at_least=1)
    peer_timeout_sec: float = number("peer_timeout_sec", 300.0, above=0)
    """How long a rank waits for another one, or for a step, before the attempt is ended and retried."""
    rendezvous_timeout_sec: float = number("rendezvous_timeout_sec", 900.0, above=0)
    """How long ranks wait for each other at the start; then they give their GPUs back to other runs, and try again."""
    placement_timeout_sec: float = number("placement_timeout_sec", 3600.0, above=0)
    """How long in total, over all tries, ranks wait for others without a GPU; then the run ends and releases its
    GPUs."""
    max_attempts: int = number("max_attempts", 20, at_least=1)
    """Attempts, restarts included, before the run fails for good."""
    keep_epochs: int = number("keep_epochs", 0, at_least=0)
    """Epoch checkpoints kept besides the best one; 0 keeps all."""
    resume: str | None = None
    """Checkpoint (file, ``s3://``, ``https://``) of any run, ours or the original's, to resume from."""
    start_epoch: int | None = None
    """First epoch to train after ``resume``; default: the one after the checkpoint's."""

    def __post_init__(self) -> None:
        check_addresses(self)
        check_run_name(self.name)
        check_numbers(self)
        check_scheme("--resume", self.resume, *FETCHED)
        require(0 <= self.seed < 2**63, f"seed must lie in [0, 2^63), got {self.seed}")
        require(
            self.start_epoch is None or 0 <= self.start_epoch < self.schedule.epochs,
            f"--start-epoch must lie in [0, {self.schedule.epochs}), got {self.start_epoch}",
        )
        if self.model.gvf != "none":
            for subset_name, subset in (("train", self.data.train), ("valid", self.data.valid)):
                require(
                    subset.gvf is not None,
                    f"the data set {self.data.name} names no GVF file for its {subset_name} subset, but "
                    f"--gvf is {self.model.gvf}: add data.{subset_name}.gvf, build one with 'tspctl gvf', "
                    f"or use --gvf none",
                )


def local_paths(config: RunConfig) -> dict[str, str]:
    """Key -> path or URI, of the keys of ``LOCAL_PATHS`` that hold one."""
    values = flat(to_dict(config))
    return {key: values[key] for key in LOCAL_PATHS if values.get(key) not in (None, "", "default", "none")}


def to_json(config: RunConfig) -> str:
    """The run's configuration as JSON text, keys in declaration order."""
    return json_text(to_dict(config))


def from_json(text: str) -> RunConfig:
    """The run's configuration from JSON text.

    Raises: ConfigError if the text is no JSON or does not fit.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"config is not JSON: {error}") from error
    return from_dict(RunConfig, raw)
