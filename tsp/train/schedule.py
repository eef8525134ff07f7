"""SGD's parameter groups and the schedule of their learning rates, counted in iterations."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from tsp.config.run import OptimConfig, ScheduleConfig
from tsp.config.sizing import EffectiveSizes
from tsp.model.heads import TspModel

GROUPS = ("stem", "backbone", "fc")
"""Parameter groups in the original's order; both heads share the last one."""


class WarmupMultiStepLR(LRScheduler):
    """Linear warm-up, then a factor at each milestone; a step is an iteration.

    At iteration i a group's rate is ``base x warmup(i) x gamma ** (milestones passed)``, where warmup rises linearly
    from ``warmup_factor`` to 1 over ``warmup_iters``. The state dict has the original's fields, so that either
    loads the other's.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        milestones: list[int],
        *,
        gamma: float,
        warmup_factor: float,
        warmup_iters: int,
    ) -> None:
        self.milestones = list(milestones)
        self.gamma = gamma
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = "linear"
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates of the groups at iteration ``last_epoch`` (torch's name; here it counts iterations)."""
        warmup = 1.0
        if self.last_epoch < self.warmup_iters:
            share = self.last_epoch / self.warmup_iters
            warmup = self.warmup_factor * (1 - share) + share
        decay = self.gamma ** bisect_right(self.milestones, self.last_epoch)
        return [base_lr * warmup * decay for base_lr in self.base_lrs]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state, whichever torch version or class of this name wrote it.

        The groups' rates are set too, since a checkpoint's optimizer and scheduler may disagree.
        """
        known = {name: value for name, value in state_dict.items() if name in self.state_dict()}
        milestones = known.get("milestones", self.milestones)
        if isinstance(milestones, Counter):
            milestones = milestones.elements()
        self.__dict__.update(known)
        self.milestones = sorted(milestones)
        self.apply()

    def move_to(self, iteration: int) -> None:
        """Move to an iteration, as after that many steps."""
        self.last_epoch = iteration
        self._step_count = iteration + 1
        self.apply()

    def apply(self) -> None:
        """Set the groups' rates to those of the current iteration."""
        rates = self.get_lr()
        for group, base_lr, rate in zip(self.optimizer.param_groups, self.base_lrs, rates, strict=True):
            group["initial_lr"], group["lr"] = base_lr, rate
        self._last_lr = rates


def build_optimizer(model: TspModel, sizes: EffectiveSizes, config: OptimConfig) -> torch.optim.SGD:
    """Fused SGD over the groups stem, backbone, fc.

    With a stem rate of 0 the stem is frozen: the weights are the same, and its large activations need not be kept. Its
    batch-norm statistics are still updated.
    """
    stem = list(model.get_submodule("features.stem").parameters())
    in_stem = {id(parameter) for parameter in stem}
    for parameter in stem:
        parameter.requires_grad_(sizes.stem_lr > 0)
    backbone = [parameter for parameter in model.features.parameters() if id(parameter) not in in_stem]
    heads = [parameter for module in model.head_modules() for parameter in module.parameters()]
    rates = (sizes.stem_lr, sizes.backbone_lr, sizes.head_lr)
    groups = [
        {"params": parameters, "lr": rate, "name": name}
        for parameters, rate, name in zip((stem, backbone, heads), rates, GROUPS, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    start_momentum(optimizer)
    return optimizer


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give every trained parameter without momentum one of zero, which the first step turns into its gradient.

    torch's fused step would allocate it uninitialised, and not write it in a masked step, as the first ones in fp16
    often are: the next step would then add garbage to the weights.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if parameter.requires_grad and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def build_scheduler(optimizer: torch.optim.Optimizer, config: ScheduleConfig, *, num_steps: int) -> WarmupMultiStepLR:
    """The recipe's schedule for a training loader of ``num_steps`` batches an epoch."""
    return WarmupMultiStepLR(
        optimizer,
        [epoch * num_steps for epoch in config.milestones],
        gamma=config.gamma,
        warmup_factor=config.warmup_factor,
        warmup_iters=config.warmup_epochs * num_steps,
    )


def group_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Current learning rate of each group by name."""
    return {str(group.get("name")): float(group["lr"]) for group in optimizer.param_groups}
