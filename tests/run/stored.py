"""What tests of a stored run share: its progress, how an epoch and a state are made, a process that ends midway."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tsp.run.records import EpochRecord, Progress, StateMeta
from tsp.store.base import Store

MakeEpoch = Callable[..., tuple[Path, EpochRecord]]
MakeState = Callable[..., tuple[Path, StateMeta]]

PROGRESS = Progress(
    phase="training", epoch=0, epochs=8, step=1, steps=10, clips_per_sec=1.0, eta_sec=9.0, attempt=1, world_size=1,
    downscale=1, batch_per_gpu=32, global_batch=32, backbone_lr=1e-5, head_lr=2e-3,
)  # fmt: skip


class CrashError(Exception):
    """Stands for the end of the process."""


def crash_at(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the store's n-th change from now on, and all after it, crash before it happens."""
    left = [number]
    for verb in ("write", "upload", "delete"):
        original = getattr(store, verb)

        def change(*args: object, original: Callable[..., None] = original, **kwargs: object) -> None:
            if left[0] == 0:
                raise CrashError
            left[0] -= 1
            original(*args, **kwargs)

        monkeypatch.setattr(store, verb, change)
