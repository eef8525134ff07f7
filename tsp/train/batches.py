"""Turns the loader's batches into the model's input on the device; on a GPU, copies overlap with computing."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from tsp.data.batch import ClipBatch
from tsp.data.transforms import pixels_on_device
from tsp.errors import StalledError
from tsp.train.data_wait import DataWait
from tsp.train.stop_signal import Stop


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """B clips, ready for the model."""

    clips: Tensor
    """float32 [B, 3, T, H, W], normalised."""
    gvf: Tensor | None
    """float32 [B, 512] or None."""
    targets: Tensor
    """int64 [B, heads]; -1 where unlabelled."""
    names: tuple[str, ...]
    num_bad: int

    def __len__(self) -> int:
        return len(self.names)


def on_device(
    batches: Iterable[ClipBatch], device: torch.device, *, stop: Stop, wait: DataWait | None = None
) -> Generator[DeviceBatch]:
    """The loader's batches on the device.

    Args: wait, measures the time spent waiting for the loader.
    On a GPU a batch is copied and blended on a side stream while the previous step is still computing.
    Raises: TspError of the data; TerminatedError if a data worker was ended because all are to stop.
    """
    wait = wait or DataWait()
    side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    iterator = iter(batches)
    while True:
        try:
            with wait():
                batch = next(iterator, None)
        except StalledError:
            stop.check("reading clips")  # the whole process group was told to stop, the data workers too
            raise
        if batch is None:
            return
        with _on(side):
            ready = _moved(batch, device)
        if side is not None:
            _hand_over(ready, side, torch.cuda.current_stream(device))
        yield ready


def _on(side: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    return torch.cuda.stream(side)


def _moved(batch: ClipBatch, device: torch.device) -> DeviceBatch:
    batch = batch.to(device, non_blocking=True)
    return DeviceBatch(pixels_on_device(batch, device), batch.gvf, batch.targets, batch.names, batch.num_bad)


def _hand_over(batch: DeviceBatch, side: torch.cuda.Stream, user: torch.cuda.Stream) -> None:
    user.wait_stream(side)
    for tensor in (batch.clips, batch.gvf, batch.targets):
        if tensor is not None:
            tensor.record_stream(user)  # keeps its memory from being reused while that stream reads it
