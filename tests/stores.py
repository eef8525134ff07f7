"""Stores of every kind, empty, and small things to put in them."""

import dataclasses
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.s3_servers import S3Server
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.config.store import StoreConfig
from tsp.run.records import EpochRecord, StateMeta
from tsp.run.results import EpochResult, HeadResult, format_line
from tsp.run.stored_run import StoredRun
from tsp.store.base import Store, sha256_of
from tsp.store.open import open_store
from tsp.store.retry import RetryPolicy

QUICK = RetryPolicy(attempts=4, first_delay_sec=0.01)
PART_BYTES = 5 << 20


@pytest.fixture(params=["local", "rclone", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(StoreConfig(uri=str(tmp_path / "store")))
    server: S3Server = request.getfixturevalue("s3_servers")(request.param)
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return s3_store(server)


def s3_store(server: S3Server, **changes: object) -> Store:
    """A store below a prefix of its own."""
    return open_store(server.config(f"team/{uuid.uuid4().hex[:8]}", **changes), retry=QUICK, part_bytes=PART_BYTES)


@pytest.fixture
def config() -> RunConfig:
    """Any valid configuration, of a run called first-run."""
    return resolve(load_dataset("thumos14"), "tac", name="first-run", store={"uri": "s3://runs"}, root="/data")


@pytest.fixture
def run(store: Store) -> StoredRun:
    """A run of which nothing is stored yet."""
    return StoredRun(store, "first-run")


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """An empty store in a folder, for what does not depend on the kind of store."""
    return open_store(StoreConfig(uri=str(tmp_path / "local-store")))


@pytest.fixture
def local_run(local_store: Store) -> StoredRun:
    """A run of which nothing is stored yet, in a folder."""
    return StoredRun(local_store, "first-run")


@pytest.fixture
def make_epoch(tmp_path: Path) -> Callable[..., tuple[Path, EpochRecord]]:
    """Makes a checkpoint file and its record."""

    def make(epoch: int, accuracy: float = 50.0, content: bytes = b"") -> tuple[Path, EpochRecord]:
        path = tmp_path / f"made-{uuid.uuid4().hex[:6]}.pth"
        path.write_bytes(content or f"weights of epoch {epoch}".encode())
        return path, epoch_record(epoch, path, accuracy)

    return make


@pytest.fixture
def make_state(tmp_path: Path) -> Callable[..., tuple[Path, StateMeta]]:
    """Makes a state file and what is known of it."""

    def make(epoch: int, step: int, attempt: int = 1) -> tuple[Path, StateMeta]:
        path = tmp_path / f"state-{uuid.uuid4().hex[:6]}.pth"
        path.write_bytes(f"state at {epoch}.{step}".encode() * 100)
        size_bytes = path.stat().st_size
        return path, StateMeta(epoch=epoch, step=step, attempt=attempt, sha256=sha256_of(path), size_bytes=size_bytes)

    return make


def epoch_record(epoch: int, path: Path, accuracy: float = 50.0) -> EpochRecord:
    """The record of a checkpoint."""
    result = EpochResult(epoch, (HeadResult("action-label", accuracy, 1.25),), 1.25, accuracy)
    return EpochRecord(
        epoch=epoch,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        results_line=format_line(result),
        result=result,
        clips_per_sec=12.5,
        duration_sec=60.0,
    )


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The same configuration with another seed."""
    return dataclasses.replace(config, seed=seed)
