"""What the tests of training train on, and ways to run it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.s3_servers import free_port
from tsp.config.run import (
    ClipConfig,
    DataConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    SubsetConfig,
)
from tsp.config.store import StoreConfig
from tsp.data.loader import build_loader
from tsp.data.video.encode import write_video
from tsp.model.weights import load_model_state
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store
from tsp.train import checkpoint
from tsp.train.attempt import train
from tsp.train.batches import on_device
from tsp.train.distributed import RankEnv
from tsp.train.precision import choose_numerics
from tsp.train.rendezvous import join
from tsp.train.stop_signal import Stop
from tsp.train.training_state import build_model
from tsp.train.validate import Tally, Validator

EPOCHS, STEPS = 3, 4
"""Of the run that ``config_for`` asks for, and of each epoch of it."""
FPS = 30
SEGMENT_SEC = 1.2
COLUMNS = (
    "video-name", "t-start", "t-end", "action-label", "video-duration", "filename", "fps", "video-frames",
    "temporal-region-label",
)  # fmt: skip
LABELS = {"actions": ["stripes", "checks", "rings"], "regions": ["Action", "No action"]}


def segments_of(index: int) -> list[tuple[float, float, str, str]]:
    """Background and actions in turn: start and end in seconds, action (empty for background), region."""
    actions = [LABELS["actions"][(index + number) % 3] for number in range(2)]
    kinds = [("", "No action"), (actions[0], "Action"), ("", "No action"), (actions[1], "Action")]
    return [(number * SEGMENT_SEC, (number + 1) * SEGMENT_SEC, *kind) for number, kind in enumerate(kinds)]


def write_clip_video(path: Path, segments: list[tuple[float, float, str, str]], *, seed: int) -> int:
    """H.264 of 96x64; each class has a texture of its own. Returns the number of frames."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :96]
    textures = {
        "stripes": (columns // 6) % 2 * 200,
        "checks": ((columns // 8 + rows // 8) % 2) * 200,
        "rings": (np.hypot(rows - 32, columns - 48) // 6) % 2 * 200,
        "": np.full((64, 96), 60),
    }
    actions = [action for start, end, action, _ in segments for _ in range(round((end - start) * FPS))]

    def frames() -> Iterator[np.ndarray]:
        for number, action in enumerate(actions):
            noise = random.integers(0, 40, (64, 96, 1))
            image = np.clip(textures[action][..., None] + noise, 0, 255).astype(np.uint8).repeat(3, axis=2)
            yield np.roll(image, number, axis=1)

    return write_video(path, frames(), fps=FPS, options={"g": "15"})


def config_for(root: Path, store: Path | str, **changes: Any) -> RunConfig:
    """Two heads with GVF, 8-frame clips of 32 pixels, 16 clips an epoch in batches of 4; ``changes`` by dotted key."""
    config = RunConfig(
        name="run",
        method="tsp",
        data=DataConfig(
            name="tiny",
            root=str(root),
            train=SubsetConfig(csv="train.csv", videos="train", gvf="gvf.h5"),
            valid=SubsetConfig(csv="valid.csv", videos="valid", gvf="gvf.h5"),
            workers=0,
        ),
        model=ModelConfig(
            backbone="tiny",
            heads=(
                HeadConfig(label_column="action-label", labels="actions.json"),
                HeadConfig(label_column="temporal-region-label", labels="regions.json"),
            ),
            gvf="max",
            pretrained="none",
        ),
        store=StoreConfig(uri=str(store)),
        clips=ClipConfig(length_frames=8, per_segment=2, resize_height_px=36, resize_width_px=48, crop_px=32),
        optim=OptimConfig(backbone_lr=0.02, head_lr=0.02),
        schedule=ScheduleConfig(epochs=EPOCHS, warmup_epochs=1, milestones=(2,), gamma=0.1),
        batch_per_gpu=4,
        metrics_every_steps=1,
    )
    for key, value in changes.items():
        config = _changed(config, key.split("__"), value)
    return config


def _changed(config: Any, way: list[str], value: Any) -> Any:
    if len(way) > 1:
        value = _changed(getattr(config, way[0]), way[1:], value)
    return dataclasses.replace(config, **{way[0]: value})


def run_of(config: RunConfig) -> StoredRun:
    return StoredRun(open_store(config.store), config.name)


def train_here(config: RunConfig, launch: RankEnv | None = None, stop: Stop | None = None) -> StoredRun:
    """One attempt by one rank, in this process."""
    train(config, launch or RankEnv(), stop or Stop(), log_into=lambda run, attempt: None)
    return run_of(config)


class StopAt(Stop):
    """Hears SIGTERM when it has been asked a number of times."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    @property
    def requested(self) -> bool:
        self._count()
        return self.signal_name is not None

    def check(self, doing: str) -> None:
        self._count()
        super().check(doing)

    def _count(self) -> None:
        self.left -= 1
        if self.left <= 0:
            self.signal_name = "SIGTERM"


def _rank_main(function: Any, launch: RankEnv, arguments: tuple[Any, ...], answers: Any) -> None:
    torch.set_num_threads(1)
    try:
        answers.put((launch.rank, function(launch, *arguments), None))
    except BaseException as error:
        traceback.print_exc()
        answers.put((launch.rank, None, f"{type(error).__name__}: {error}"))


def on_ranks(world_size: int, function: Any, *arguments: Any, timeout_sec: float = 900.0) -> list[tuple[Any, Any]]:
    """(answer, error text) of ``function(launch, *arguments)`` by each rank, in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    answers = context.Queue()
    port = free_port()
    processes = [
        context.Process(
            target=_rank_main,
            args=(function, RankEnv(rank=rank, world_size=world_size, master_port=port), arguments, answers),
        )
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    found = {}
    for _ in processes:
        rank, answer, error = answers.get(timeout=timeout_sec)
        found[rank] = (answer, error)
    for process in processes:
        process.join(timeout_sec)
    return [found[rank] for rank in range(world_size)]


def train_rank(launch: RankEnv, config: RunConfig) -> None:
    """One attempt by one of several ranks."""
    train(config, launch, Stop(), log_into=lambda run, attempt: None)


def validate_rank(launch: RankEnv, config: RunConfig, weights: Path) -> Tally:
    """What validation finds of a checkpoint, as one of several ranks computes it."""
    device = torch.device("cpu")
    numerics = choose_numerics(device, config.model, [])
    group = join(launch, device, Stop())
    batch = config.batch_per_gpu
    loader = build_loader(config, "valid", batch=batch, rank=launch.rank, world_size=launch.world_size)
    model = build_model(config.model, loader.data.num_classes, seed=launch.rank)
    if weights.is_file():
        load_model_state(model, checkpoint.read(weights)["model"], where=str(weights))
    numerics.prepare(model)
    validator = Validator(
        loss_weights=[head.loss_weight for head in config.model.heads],
        numerics=numerics,
        group=group,
    )
    num_batches = -(-len(loader.dataset) // batch)
    batches = on_device(loader, device, stop=Stop())
    tally = validator(model, batches, num_batches=num_batches, after_batch=lambda done: None)
    group.leave()
    return tally


def plain_tally(launch: RankEnv, config: RunConfig, weights: Path) -> list[list[Any]]:
    """The same as numbers, which outlive the process."""
    tally = validate_rank(launch, config, weights)
    return [values.tolist() for values in (tally.losses, *tally.counts)]


def final_weights(run: StoredRun, epoch: int) -> dict[str, torch.Tensor]:
    """The model part of a published checkpoint."""
    path = Path(run.store.local_path(run.key(f"epoch_{epoch}.pth")))
    return checkpoint.read(path)["model"]


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(value, other[name]) for name, value in one.items())
