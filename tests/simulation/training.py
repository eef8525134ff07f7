"""What stands for training: weights that are a digest of the steps that made them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.scheduler import Process
from tests.stores import epoch_record
from tsp.errors import DataError, TerminatedError
from tsp.run.records import EpochRecord, Progress, StateMeta
from tsp.run.stored_run import StoredRun
from tsp.run.uploader import Uploader
from tsp.store.base import sha256_of
from tsp.train.resume import Position, find_start, unvalidated_epochs

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

EPOCHS, STEPS = 3, 3
ACCURACY = (50.0, 70.0, 60.0)
RUN = "my-run"


class ViolationError(AssertionError):
    """An invariant does not hold."""


def require(condition: object, message: str) -> None:
    """Raises: ViolationError."""
    if not condition:
        raise ViolationError(message)


def trained(value: str, epoch: int, step: int) -> str:
    """What a step makes of the weights."""
    return hashlib.sha256(f"{value} {epoch} {step}".encode()).hexdigest()[:16]


@functools.cache
def weights_after(epoch: int, steps: int = STEPS) -> str:
    """The weights of an undisturbed run."""
    value = "initial"
    for each in range(epoch + 1):
        for step in range(steps if each == epoch else STEPS):
            value = trained(value, each, step)
    return value


def record_of(epoch: int, path: Path) -> EpochRecord:
    """The record of a checkpoint."""
    return epoch_record(epoch, path, ACCURACY[epoch])


def progress_of(position: Position, attempt: int) -> Progress:
    """Where it stands."""
    return Progress(
        phase="training", epoch=position.epoch, epochs=EPOCHS, step=position.step, steps=STEPS, clips_per_sec=1.0,
        eta_sec=None, attempt=attempt, world_size=1, downscale=1, batch_per_gpu=1, global_batch=1, backbone_lr=0.1,
        head_lr=0.1,
    )  # fmt: skip


class FakeTraining:
    """One attempt at a schedule's run, by one process."""

    def __init__(self, schedule: Schedule, process: Process, run: StoredRun, attempt: int) -> None:
        self.schedule, self.process, self.run, self.attempt = schedule, process, run, attempt
        self.world = schedule.world
        self.folder = Path(tempfile.mkdtemp(dir=schedule.folder))
        self.numbers = itertools.count()

    def __call__(self) -> None:
        """Raises: TerminatedError, PeerLostError, DataError."""
        run, config = self.run, self.schedule.config
        self.uploader = Uploader(run, keep_epochs=config.keep_epochs, give_up_after_sec=30.0)
        with contextlib.closing(self.uploader):
            for epoch in unvalidated_epochs(run):
                path = self.folder / f"epoch_{epoch}.pth"
                run.store.download(run.key(f"epoch_{epoch}.pth"), path)
                run.publish_record(record_of(epoch, path))
            start = find_start(run, config, self.folder)
            position, value = start.position, start.content["value"] if start.content else "initial"
            while position.epoch < EPOCHS:
                if not position.is_trained:
                    position, value = self._train_epoch(position, value)
                self.world.pause(self.world.now + 0.5)
                self._stop_here(value, position)
                path, _ = self._write({"epoch": position.epoch, "value": value})
                self.uploader.submit_epoch(path, record_of(position.epoch, path))
                position = Position(epoch=position.epoch + 1)
            self.uploader.drain()

    def _train_epoch(self, position: Position, value: str) -> tuple[Position, str]:
        draw = self.world.random
        for step in range(position.step, STEPS):
            self.world.pause(self.world.now + 0.5)
            value = trained(value, position.epoch, step)
            position = Position(epoch=position.epoch, step=step + 1, num_steps=STEPS)
            self.schedule.shippers[self.process][0].write(f"epoch {position.epoch} step {step}\n")
            self.uploader.submit_progress(progress_of(position, self.attempt))
            self._stop_here(value, position)
            if draw.random() < self.schedule.bad_data_chance:
                raise DataError("a clip cannot be decoded")
            if draw.random() < 0.4:
                self._save_state(value, position)
        return position, value

    def _write(self, content: dict[str, Any]) -> tuple[Path, str]:
        path = self.folder / f"{next(self.numbers)}.pth"
        path.write_bytes(json.dumps({**content, "padding": "x" * 150}).encode())
        return path, sha256_of(path)

    def _save_state(self, value: str, position: Position) -> None:
        path, digest = self._write({"value": value, "progress": dataclasses.asdict(position)})
        size = path.stat().st_size
        meta = StateMeta(epoch=position.epoch, step=position.step, attempt=self.attempt, sha256=digest, size_bytes=size)
        self.uploader.submit_state(path, meta)

    def _stop_here(self, value: str, position: Position) -> None:
        self.schedule.check_peers(self.process)
        if self.process.terminate:
            self._save_state(value, position)
            self.uploader.drain(120.0)
            raise TerminatedError("SIGTERM")
