"""Turns the loader's batches into the model's input on the device; on a GPU, copies overlap with computing."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tsp.data.batch import ClipBatch
from tsp.data.transforms import pixels_on_device
from tsp.errors import StalledError
from tsp.model.side_stream import SideStream
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
    side = SideStream(device)
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
        with side():
            ready = _moved(batch, device)
        side.hand_over(ready.clips, ready.gvf, ready.targets)
        yield ready


def _moved(batch: ClipBatch, device: torch.device) -> DeviceBatch:
    batch = batch.to(device)
    return DeviceBatch(pixels_on_device(batch, device), batch.gvf, batch.targets, batch.names, batch.num_bad)
