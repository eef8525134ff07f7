"""One training step, without waiting for the device.

The facts that the host needs about a step (is the loss finite, must any rank stop, how large is the loss) go into a
small report on the device, which is copied back asynchronously and read once it has arrived: at once on the CPU, two
steps later on a GPU. A step whose loss or gradient is not finite changes no weight, on any rank.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsp.model.losses import head_loss, total_loss
from tsp.train.batches import DeviceBatch
from tsp.train.distributed import AGREE_SEC, Group, lost_peers
from tsp.train.precision import Numerics
from tsp.train.schedule import WarmupMultiStepLR

GPU_DELAY_STEPS = 2
"""Steps the host may run ahead of a GPU. Every rank reads a report at the same step, so all of them act alike."""

SMALLEST_LOSS_SCALE = 2.0**-10
"""fp16's loss scale is halved at each overflow; below this, the scale is not the cause."""


FIRST_STEPS = 3
"""The first steps, in which libraries benchmark algorithms and code may be compiled, may take minutes."""
USUAL_STEPS = 3
"""Added to the deadline: this many times the longest step so far."""
STOP_AFTER_SEC = 30.0
"""How long a step may still take after a signal to end."""
POLL_SEC = 0.001


@dataclass(frozen=True, slots=True)
class StepReport:
    """The outcome of a step."""

    step: int
    loss: float
    """Of this rank's clips."""
    losses: tuple[float, ...]
    """Each head's."""
    gradient_norm: float
    """Of the averaged gradient; NaN where it is not computed (fp16, whose gradients are scaled)."""
    loss_scale: float
    """Of fp16; 1 otherwise."""
    bad_here: bool
    """Whether this rank's loss is NaN or infinite."""
    bad_anywhere: bool
    """Whether any rank's loss, or the averaged gradient, is."""
    stop_anywhere: bool
    """Whether any rank must stop."""
    names: tuple[str, ...]


class Stepper:
    """Makes training steps. The model is the wrapped one; its parameters are the optimizer's."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: WarmupMultiStepLR,
        *,
        loss_weights: Sequence[float],
        numerics: Numerics,
        group: Group,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.loss_weights = tuple(loss_weights)
        self.numerics = numerics
        self.group = group
        self.scaler = numerics.scaler()
        self._parameters = [item for part in optimizer.param_groups for item in part["params"] if item.requires_grad]
        self._one, self._unknown = torch.tensor([1.0, math.nan], device=numerics.device).unbind()
        self._delay = GPU_DELAY_STEPS if numerics.device.type == "cuda" else 0
        self._num_made, self._longest_sec = 0, 0.0
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None, tuple[str, ...]]] = deque()

    def __call__(self, step: int, batch: DeviceBatch, *, stop: bool) -> list[StepReport]:
        """Train on one batch.

        Args: step, its number, for the report; stop, whether this rank must stop.
        Returns: the reports that have arrived, oldest first; on the CPU this step's.
        Raises: PeerLostError.
        """
        started = time.monotonic()
        with self._watched(f"step {step}"), lost_peers(f"making step {step}"):
            losses, loss, is_bad = self._forward(batch)
            flags = torch.stack([is_bad, torch.full_like(is_bad, float(stop))])
            agreement = self.group.start_maximum(flags)
            self._backward(loss, is_bad)
            self.group.finish(agreement)
            bad_anywhere, norm, scale = self._update(flags[0])
            self.scheduler.step()
            with torch.no_grad():
                figures = torch.stack([loss, *losses, norm, scale, is_bad, bad_anywhere, flags[1]])
            self._send_report(step, figures, batch.names)
            reports = self._read_reports(keep=self._delay)
        self._num_made += 1
        if self._num_made > FIRST_STEPS:
            self._longest_sec = max(self._longest_sec, time.monotonic() - started)
        return reports

    def _watched(self, what: str) -> AbstractContextManager[None]:
        """Context of a step, with a deadline for whatever may hang: the host, the device or another rank."""
        usual_sec = USUAL_STEPS * self._longest_sec
        limit_sec = self.group.peer_sec + usual_sec if self._num_made > FIRST_STEPS else AGREE_SEC
        return self.group.waiting(what, limit_sec, stop_after_sec=STOP_AFTER_SEC + usual_sec)

    def flush(self) -> list[StepReport]:
        """The pending reports; waits for the device."""
        with self._watched("the last steps"):
            return self._read_reports(keep=0)

    def is_going_wrong(self) -> bool:
        """Whether a pending report has a loss that is not finite; waits for the device."""
        for _, _, event, _ in self._waiting:
            self._await(event)
        return any(report[-2].item() for _, report, _, _ in self._waiting)

    def _forward(self, batch: DeviceBatch) -> tuple[list[Tensor], Tensor, Tensor]:
        """Losses of the heads, the total loss, and 1.0 if that is not finite."""
        with self.numerics.autocast():
            outputs = self.model(batch.clips, batch.gvf)
        losses = [head_loss(logits, target) for logits, target in zip(outputs, batch.targets.unbind(1), strict=True)]
        loss = total_loss(losses, self.loss_weights)
        return losses, loss, (~torch.isfinite(loss.detach())).float()

    def _backward(self, loss: Tensor, is_bad: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():
            # The scaler checks gradients only, and an infinite loss may have finite ones.
            loss = loss * torch.ones_like(is_bad).masked_fill(is_bad > 0, float("nan"))
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _update(self, loss_is_bad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step the optimizer unless loss or gradient is not finite; returns 1.0 if so, gradient norm, scale."""
        if self.scaler.is_enabled():
            # The scaler skips steps whose scaled gradients overflow: that is normal and no reason to end.
            self.scaler.step(self.optimizer)
            self.scaler.update()
            scale = self.scaler._scale
            if scale is None:
                return loss_is_bad, self._unknown, self._one
            return torch.maximum(loss_is_bad, (scale < SMALLEST_LOSS_SCALE).float()), self._unknown, scale
        gradients = [item.grad for item in self._parameters if item.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        is_bad = torch.maximum(loss_is_bad, (~torch.isfinite(norm)).float())
        # The fused optimizer reads this on the device, and changes nothing if it is 1.
        self.optimizer.grad_scale, self.optimizer.found_inf = None, is_bad  # type: ignore[attr-defined]
        self.optimizer.step()
        return is_bad, norm, self._one

    def _send_report(self, step: int, report: Tensor, names: tuple[str, ...]) -> None:
        event = None
        if report.is_cuda:
            on_host = torch.empty(report.shape, dtype=report.dtype, pin_memory=True)
            report = on_host.copy_(report, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._waiting.append((step, report, event, names))

    def _await(self, event: torch.cuda.Event | None) -> None:
        """Wait for the device while checking the watchdog; torch's own wait spins a core and cannot be interrupted."""
        while event is not None and not event.query():  # type: ignore[no-untyped-call]
            self.group.watchdog.check()
            time.sleep(POLL_SEC)

    def _read_reports(self, *, keep: int) -> list[StepReport]:
        reports = []
        while len(self._waiting) > keep:
            step, report, event, names = self._waiting.popleft()
            self._await(event)
            loss, *losses, norm, scale, bad_here, bad_anywhere, stop_anywhere = report.tolist()
            flags = bool(bad_here), bool(bad_anywhere), bool(stop_anywhere)
            reports.append(StepReport(step, loss, tuple(losses), norm, scale, *flags, names))
        return reports
