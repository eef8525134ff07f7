"""One rank's loaders, epoch by epoch; the next training epoch's loader starts while an epoch is validated."""

from __future__ import annotations

import torch

from tsp.config.run import RunConfig
from tsp.config.sizing import EffectiveSizes
from tsp.data.loader import ClipLoader, Subset, SubsetData, build_loader, load_subset
from tsp.train.distributed import Group
from tsp.train.precision import Numerics
from tsp.train.resume import Position


class EpochLoaders:
    """The loaders of an attempt, over tables that are read once."""

    def __init__(self, config: RunConfig, sizes: EffectiveSizes, group: Group, numerics: Numerics) -> None:
        self.config, self.sizes, self.group, self.numerics = config, sizes, group, numerics
        # Read once: a table that changes, or a store outage, must not affect an attempt that is running.
        self.data: dict[Subset, SubsetData] = {
            "train": load_subset(config, "train"),
            "valid": load_subset(config, "valid"),
        }
        self._next: ClipLoader | None = None

    def build(self, subset: Subset, *, epoch: int, start_step: int = 0) -> ClipLoader:
        """This rank's batches of an epoch."""
        return build_loader(
            self.config,
            subset,
            batch=self.sizes.batch_per_gpu,
            rank=self.group.rank,
            world_size=self.group.world_size,
            epoch=epoch,
            start_step=start_step,
            pin_memory=self.numerics.device.type == "cuda",
            data=self.data[subset],
        )

    def take(self, position: Position) -> ClipLoader:
        """The training loader from a position on: the prepared one, if there is one."""
        loader, self._next = self._next, None
        return loader or self.build("train", epoch=position.epoch, start_step=position.step)

    def prepare(self, epoch: int) -> None:
        """Start the data workers of an epoch, unless the run has ended by then or they are started already."""
        if self._next is None and epoch < self.config.schedule.epochs:
            with torch.inference_mode(False):  # else tensors made in a validation could not be written later
                self._next = self.build("train", epoch=epoch)
            self._next.start(self.numerics.device)

    def close(self) -> None:
        """End the data workers of a prepared epoch."""
        if self._next is not None:
            self._next.close()
