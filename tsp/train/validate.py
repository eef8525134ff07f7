"""Validation: figures that depend on no world size.

Batches are cut from the global order and dealt to the ranks. Each fills its own rows of a table that is zero
elsewhere; the tables are added up, which changes no row, and the figures are computed from the whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsp.model.losses import head_loss, num_correct, num_labelled, total_loss
from tsp.run.results import EpochResult, HeadResult
from tsp.train.batches import DeviceBatch
from tsp.train.distributed import AGREE_SEC, Group
from tsp.train.precision import Numerics

_COLUMNS_PER_HEAD = 4
"""Correct clips, labelled clips, mean loss, and whether any clip is labelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validator:
    """What a validation needs besides the model and the batches."""

    label_columns: Sequence[str]
    loss_weights: Sequence[float]
    numerics: Numerics
    group: Group

    def __call__(
        self,
        model: nn.Module,
        batches: Iterable[DeviceBatch],
        *,
        epoch: int,
        num_batches: int,
        after_batch: Callable[[int], None] = lambda done: None,
    ) -> EpochResult:
        """Figures of an epoch, equal on every rank.

        Args: model, not wrapped; batches, this rank's (the b-th of all goes to rank b % world size); num_batches, of
            all ranks; after_batch, called with the number this rank has done, may raise to end early.
        Raises: PeerLostError.
        """
        self.group.share_buffers(model)
        num_columns = _COLUMNS_PER_HEAD * len(self.label_columns) + 1
        table = torch.zeros(num_batches, num_columns, dtype=torch.float64, device=self.numerics.device)
        was_training = model.training
        model.eval()
        try:
            # Waits for batches lie within this one, and begin it anew.
            with torch.inference_mode(), self.group.waiting("a validation step", AGREE_SEC):
                for number, batch in enumerate(batches):
                    table[self.group.rank + number * self.group.world_size] = self._row(model, batch)
                    after_batch(number + 1)
        finally:
            model.train(was_training)
        return epoch_result(epoch, self.label_columns, self.group.add_up(table))

    def _row(self, model: nn.Module, batch: DeviceBatch) -> Tensor:
        with self.numerics.autocast():
            outputs = model(batch.clips, batch.gvf)
        row, losses = [], []
        for logits, target in zip(outputs, batch.targets.unbind(1), strict=True):
            loss, labelled = head_loss(logits, target), num_labelled(target)
            row += [num_correct(logits, target), labelled, loss, (labelled > 0).float()]
            losses.append(loss)
        return torch.stack([*row, total_loss(losses, self.loss_weights)]).double()


def epoch_result(epoch: int, label_columns: Sequence[str], table: Tensor) -> EpochResult:
    """Figures from the table of all batches, float64 [batches, 4 x heads + 1].

    Accuracy is over labelled clips; a head's loss is the mean over the batches in which it has a label; the total loss
    is the mean over all batches. A head without any label has NaN for both.
    Source: TSP; leaving out batches without a label is ours (the original gives NaN).
    """
    heads = []
    for index, column in enumerate(label_columns):
        start = _COLUMNS_PER_HEAD * index
        correct, labelled, loss, has_label = table[:, start : start + _COLUMNS_PER_HEAD].sum(dim=0).unbind()
        heads.append(HeadResult(column, float(100 * correct / labelled), float(loss / has_label)))
    average = sum(head.accuracy_percent for head in heads) / len(heads)
    return EpochResult(epoch, tuple(heads), float(table[:, -1].mean()), average)
