"""Validation, with results that do not depend on the world size.

Batches are cut from the global order and distributed to the ranks. Each rank fills its own rows of a table that is zero
elsewhere, and counts its clips by class; tables and counts of all ranks are summed, which changes no row, and the
results are computed from the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsp.model.heads import TspModel
from tsp.model.losses import UNLABELLED, head_loss, total_loss
from tsp.run.class_counts import ClassCounts
from tsp.run.results import EpochResult, HeadResult
from tsp.train.batches import DeviceBatch
from tsp.train.distributed import AGREE_SEC, Group
from tsp.train.precision import Numerics

_COLUMNS_PER_HEAD = 2
"""Mean loss, and whether any clip is labelled."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The sums of a validation, or one rank's share of them: adding the shares in any order gives the same sums."""

    losses: Tensor
    """float64 [batches, 2 x heads + 1], a row a batch of all ranks: per head its mean loss and whether any clip is
    labelled, then the total loss."""
    counts: tuple[Tensor, ...]
    """Per head int64 [K * K + 1]: clips by true class and predicted class; the last are those without a label."""

    @classmethod
    def empty(cls, num_batches: int, num_classes: Sequence[int], device: torch.device | str = "cpu") -> Tally:
        """Nothing found yet."""
        columns = _COLUMNS_PER_HEAD * len(num_classes) + 1
        return cls(
            torch.zeros(num_batches, columns, dtype=torch.float64, device=device),
            tuple(torch.zeros(size * size + 1, dtype=torch.int64, device=device) for size in num_classes),
        )

    def add(self, batch: int, outputs: Sequence[Tensor], targets_BH: Tensor, loss_weights: Sequence[float]) -> None:
        """Enter one batch. Nothing waits for the device.

        Args: batch, its number among those of all ranks; outputs, logits [B, K] of each head.
        """
        row, losses = [], []
        for logits, target, counts in zip(outputs, targets_BH.unbind(1), self.counts, strict=True):
            is_labelled = target != UNLABELLED
            loss = head_loss(logits, target)
            row += [loss, is_labelled.any().float()]
            losses.append(loss)
            cells = torch.where(is_labelled, target * logits.shape[1] + logits.argmax(1), len(counts) - 1)
            counts.index_add_(0, cells, torch.ones_like(cells))
        self.losses[batch] = torch.stack([*row, total_loss(losses, loss_weights)]).double()

    def joined(self, group: Group) -> Tally:
        """The sum of every rank's share, on the CPU. One collective: counts are far below 2^53."""
        parts = [self.losses.flatten(), *(counts.double() for counts in self.counts)]
        whole = torch.split(group.add_up(torch.cat(parts)), [len(part) for part in parts])
        return Tally(whole[0].view(self.losses.shape), tuple(counts.long() for counts in whole[1:]))

    def matrices(self) -> list[Tensor]:
        """Per head int64 [K, K]: clips by true class and predicted class."""
        sizes = [round((len(counts) - 1) ** 0.5) for counts in self.counts]
        return [counts[:-1].view(size, size) for counts, size in zip(self.counts, sizes, strict=True)]

    def result(self, epoch: int, label_columns: Sequence[str]) -> EpochResult:
        """Results of the whole validation.

        Accuracy is over labelled clips; a head's loss is the mean over the batches in which it has a label; the total
        loss is the mean over all batches. A head without any label has NaN for both.
        Source: TSP; leaving out batches without a label is ours (the original gives NaN).
        """
        heads = []
        for index, (column, matrix) in enumerate(zip(label_columns, self.matrices(), strict=True)):
            start = _COLUMNS_PER_HEAD * index
            loss, has_label = self.losses[:, start : start + _COLUMNS_PER_HEAD].sum(dim=0).unbind()
            correct, labelled = matrix.trace().double(), matrix.sum().double()
            heads.append(HeadResult(column, float(100 * correct / labelled), float(loss / has_label)))
        average = sum(head.accuracy_percent for head in heads) / len(heads)
        return EpochResult(epoch, tuple(heads), float(self.losses[:, -1].mean()), average)

    def classes(self, label_columns: Sequence[str], labels: Sequence[Sequence[str]]) -> tuple[ClassCounts, ...]:
        """The counts by class of the whole validation.

        Args: labels, class names of each head.
        """
        matrices = [matrix.tolist() for matrix in self.matrices()]
        return tuple(map(ClassCounts.of, label_columns, labels, matrices))


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The validation in an epoch's record."""

    result: EpochResult
    classes: tuple[ClassCounts, ...]
    bad_clips: int
    """Clips that could not be decoded, on all ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validator:
    """A validation's settings apart from the model and the batches."""

    loss_weights: Sequence[float]
    numerics: Numerics
    group: Group

    def __call__(
        self,
        model: TspModel,
        batches: Iterable[DeviceBatch],
        *,
        num_batches: int,
        after_batch: Callable[[int], None],
    ) -> Tally:
        """What all ranks found together, equal on every rank.

        Args: as ``share``, for this rank.
        Raises: PeerLostError.
        """
        self.group.share_buffers(model)
        numbers = range(self.group.rank, num_batches, self.group.world_size)
        return self.share(model, batches, numbers, num_batches=num_batches, after_batch=after_batch).joined(self.group)

    def share(
        self,
        model: TspModel,
        batches: Iterable[DeviceBatch],
        numbers: Sequence[int],
        *,
        num_batches: int,
        after_batch: Callable[[int], None],
    ) -> Tally:
        """What some of the batches give.

        Args: model, not wrapped; numbers, of these batches among all ``num_batches``; after_batch, called with the
            number that is done, may raise to end early.
        """
        tally = Tally.empty(num_batches, [head.num_classes for head in model.heads], self.numerics.device)
        was_training = model.training
        model.eval()
        try:
            # Waits for batches are nested in this one, and restart its clock.
            with torch.inference_mode(), self.group.waiting("a validation step", AGREE_SEC):
                for done, (number, batch) in enumerate(zip(numbers, batches, strict=True), start=1):
                    tally.add(number, self._forward(model, batch), batch.targets, self.loss_weights)
                    after_batch(done)
        finally:
            model.train(was_training)
        return tally

    def _forward(self, model: nn.Module, batch: DeviceBatch) -> tuple[Tensor, ...]:
        with self.numerics.autocast():
            outputs: tuple[Tensor, ...] = model(batch.clips, batch.gvf)
        return outputs
