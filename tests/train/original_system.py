"""Stands for the original training script: its optimizer groups, scheduler class and checkpoint, in the plainest form.

``save(folder)`` trains a few steps, writes a checkpoint in both formats that torch has had (zip.pth, old.pth) and goes
on; ``resume(path)`` loads one as the original does and goes on. Both return the rates and weights that come out.
"""

import argparse
from bisect import bisect_right
from itertools import chain

import torch

from tsp.model.heads import HeadSpec, TspModel

STEPS_PER_EPOCH = 3


class WarmupMultiStepLR(torch.optim.lr_scheduler._LRScheduler):
    def __init__(self, optimizer, milestones, gamma, warmup_factor, warmup_iters, last_epoch=-1):
        self.milestones, self.gamma = milestones, gamma
        self.warmup_factor, self.warmup_iters, self.warmup_method = warmup_factor, warmup_iters, "linear"
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        factor = 1
        if self.last_epoch < self.warmup_iters:
            alpha = float(self.last_epoch) / self.warmup_iters
            factor = self.warmup_factor * (1 - alpha) + alpha
        return [base * factor * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base in self.base_lrs]


def build():
    torch.manual_seed(7)
    heads = [HeadSpec(label_column="action-label", num_classes=3), HeadSpec(label_column="region", num_classes=2)]
    model = TspModel("tiny", heads)
    layers = (model.features.layer1, model.features.layer2, model.features.layer3, model.features.layer4)
    groups = [
        {"params": model.features.stem.parameters(), "lr": 0, "name": "stem"},
        {"params": chain(*(layer.parameters() for layer in layers)), "lr": 1e-2, "name": "backbone"},
        {"params": chain(model.fc1.parameters(), model.fc2.parameters()), "lr": 4e-2, "name": "fc"},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0.005)
    scheduler = WarmupMultiStepLR(
        optimizer, [4 * STEPS_PER_EPOCH, 6 * STEPS_PER_EPOCH], 0.01, 1e-5, 2 * STEPS_PER_EPOCH
    )
    return model, optimizer, scheduler


def train_step(model, optimizer, scheduler, number):
    generator = torch.Generator().manual_seed(number)
    clips = torch.randn(4, 3, 8, 32, 32, generator=generator)
    action, region = model.train()(clips)
    target = torch.arange(4) % 2
    loss = torch.nn.functional.cross_entropy(action, target) + torch.nn.functional.cross_entropy(region, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()


def go_on(parts):
    rates = []
    for number in range(STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH):
        rates.append([group["lr"] for group in parts[1].param_groups])
        train_step(*parts, number)
    return {
        "rates": rates,
        "weights": {name: value.double().sum().item() for name, value in parts[0].state_dict().items()},
    }


def save(folder):
    parts = model, optimizer, scheduler = build()
    for number in range(STEPS_PER_EPOCH):
        train_step(*parts, number)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 0,
        "args": argparse.Namespace(backbone="tiny", lr_milestones=[4, 6], distributed=True, gpu=0, output_dir=None),
    }
    torch.save(content, f"{folder}/zip.pth")
    torch.save(content, f"{folder}/old.pth", _use_new_zipfile_serialization=False)
    return go_on(parts)


def resume(path):
    parts = model, optimizer, scheduler = build()
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler.load_state_dict(checkpoint["lr_scheduler"])
    return {"epoch": checkpoint["epoch"], "backbone": checkpoint["args"].backbone, **go_on(parts)}
