"""What a training step costs: the original's way in plain fp32, and each option of ours, in one run.

    python -m benchmarks.bench_step [--backbone tiny ...] [--batch N] [--steps N] [--write benchmarks/step-DEVICE.md]

On a GPU: every published encoder at batch 32, what a batch costs in memory, and which batch fits which card. On a CPU:
the tiny encoder, and r3d_18 on clips of 56 pixels. Data wait is measured on the demo's videos, which are drawn first.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsp.model.heads import HeadSpec, TspModel
from tsp.model.recompute import recompute_blocks
from tsp.prepare.demo import draw_demo
from tsp.run.config import OptimConfig, ScheduleConfig
from tsp.run.jobs import DemoJob
from tsp.run.recipes import load_dataset, resolve
from tsp.run.sizing import EffectiveSizes
from tsp.train.batches import DeviceBatch, on_device
from tsp.train.distributed import Group, Launch
from tsp.train.precision import Numerics, choose_device, choose_numerics
from tsp.train.schedule import build_optimizer, build_scheduler
from tsp.train.step import Stepper
from tsp.train.stop import Stop

HEADS = (
    HeadSpec(label_column="action-label", num_classes=20),
    HeadSpec(label_column="temporal-region-label", num_classes=2, sees_gvf=True),
)
CARDS_GIB = (8, 16, 24, 32, 80)
MEMORY_BATCHES = (4, 12)
RESERVED_SHARE = 0.08
"""Of a card's memory: CUDA's own context, cuDNN's workspaces, what the allocator cannot use."""


@dataclass(frozen=True)
class Way:
    """One way of making a step."""

    name: str
    precision: str = "fp32"
    compile: bool = False
    recompute: bool = False
    is_original: bool = False


WAYS = (
    Way("original: fp32, waits for the device", is_original=True),
    Way("ours, fp32"),
    Way("ours, fp32, recomputed", recompute=True),
    Way("ours, bf16", "bf16"),
    Way("ours, bf16, recomputed", "bf16", recompute=True),
    Way("ours, bf16, compiled", "bf16", compile=True),
)
GPU_WAYS = (Way("ours, fp16", "fp16"), Way("ours, fp16, compiled", "fp16", compile=True))


@dataclass(frozen=True)
class Shape:
    """A batch of clips."""

    batch: int
    frames: int
    side_px: int


def main() -> None:
    """Measure and print; write the tables where asked."""
    parser = argparse.ArgumentParser(description="What a training step costs, the original's way and ours.")
    parser.add_argument("--backbone", nargs="*", help="encoders; default: what the device can carry")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--write", type=Path, help="Markdown file; on a GPU benchmarks/step-<card>.md")
    arguments = parser.parse_args()
    device = choose_device(0)
    on_gpu = device.type == "cuda"
    card = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    lines = [f"# Training step on {card}", "", f"torch {torch.__version__}; medians of {arguments.steps} steps.", ""]
    ways = [way for way in (*WAYS, *(GPU_WAYS if on_gpu else ())) if not (way.compile and arguments.no_compile)]
    for backbone in arguments.backbone or (("r2plus1d_34", "r2plus1d_18", "r3d_18") if on_gpu else ("tiny", "r3d_18")):
        side_px = 112 if on_gpu or backbone == "tiny" else 56
        shape = Shape(arguments.batch or (32 if on_gpu else 8 if backbone == "tiny" else 2), 16, side_px)
        lines += step_table(backbone, shape, ways, device, arguments.steps)
        if on_gpu:
            lines += memory_table(backbone, ways, device)
    lines += data_wait_lines(device, arguments.workers)
    print("\n".join(lines))
    path = arguments.write or (Path("benchmarks") / f"step-{card.replace(' ', '-')}.md" if on_gpu else None)
    if path is not None:
        path.write_text("\n".join(lines) + "\n")


def step_table(backbone: str, shape: Shape, ways: Sequence[Way], device: torch.device, steps: int) -> list[str]:
    """Markdown: step time, clips/s and memory of each way."""
    lines = [
        f"## {backbone}, batch {shape.batch}, {shape.frames}x{shape.side_px}x{shape.side_px}",
        "",
        "| way | step ms | clips/s | of the original | peak MiB |",
        "|---|---|---|---|---|",
    ]
    original_sec = None
    for way in ways:
        try:
            step_sec, peak_mib = measure(backbone, shape, way, device, steps)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            lines.append(f"| {way.name} | {str(error).splitlines()[0][:60]} | | | |")
            continue
        original_sec = original_sec or step_sec
        memory = "" if peak_mib is None else f"{peak_mib:.0f}"
        speed = f"{shape.batch / step_sec:.1f} | {original_sec / step_sec:.2f}x"
        lines.append(f"| {way.name} | {1000 * step_sec:.1f} | {speed} | {memory} |")
    return [*lines, ""]


def measure(backbone: str, shape: Shape, way: Way, device: torch.device, steps: int) -> tuple[float, float | None]:
    """Median seconds of a step, and peak MiB on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    make_step = original_step if way.is_original else our_step
    step = make_step(backbone, shape, way, device)
    for _ in range(3):
        step()
    times = []
    for _ in range(steps):
        synchronize(device)
        started = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return statistics.median(times), peak


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_batch(shape: Shape, device: torch.device, layout: torch.memory_format) -> DeviceBatch:
    """Clips of noise with labels and GVF."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(shape.batch, 3, shape.frames, shape.side_px, shape.side_px, generator=generator)
    targets = torch.stack([torch.arange(shape.batch) % 20, torch.arange(shape.batch) % 2], dim=1)
    names = ("noise",) * shape.batch
    clips = clips.to(device).contiguous(memory_format=layout)
    return DeviceBatch(clips, torch.rand(shape.batch, 512).to(device), targets.to(device), names, 0)


def our_step(backbone: str, shape: Shape, way: Way, device: torch.device) -> Callable[[], object]:
    """A step as the training loop makes it."""
    stepper = make_stepper(backbone, shape.batch, way, device)
    batch = random_batch(shape, device, torch.channels_last_3d)
    return lambda: stepper(0, batch, stop=False)


def make_stepper(backbone: str, batch: int, way: Way, device: torch.device) -> Stepper:
    """Model, optimizer and schedule in the way asked for."""
    torch.manual_seed(0)
    model = TspModel(backbone, HEADS)
    config = resolve(load_dataset("demo"), "tsp", name="bench", store={"uri": "/tmp"}, root="/tmp").model
    choose_numerics(device, config)
    numerics = Numerics(device=device, precision=way.precision)
    numerics.place(model)
    if way.recompute:
        recompute_blocks(model.features)
    sizes = EffectiveSizes(
        downscale=1, world_size=1, batch_per_gpu=batch, global_batch=batch, backbone_lr=1e-4, head_lr=2e-3, stem_lr=0.0
    )
    optimizer = build_optimizer(model, sizes, OptimConfig())
    scheduler = build_scheduler(optimizer, ScheduleConfig(), num_steps=1000)
    network: nn.Module = torch.compile(model) if way.compile else model  # type: ignore[assignment]
    group = Group(Launch(), device, None)
    return Stepper(network, optimizer, scheduler, loss_weights=(1.0, 1.0), numerics=numerics, group=group)


def original_step(backbone: str, shape: Shape, way: Way, device: torch.device) -> Callable[[], object]:
    """A step as the original makes it: float clips from the host, plain layout, figures fetched after each step."""
    del way
    torch.manual_seed(0)
    model = TspModel(backbone, HEADS).to(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.005, foreach=False)
    batch = random_batch(shape, torch.device("cpu"), torch.contiguous_format)

    def step() -> float:
        clips, gvf, targets = batch.clips.to(device), batch.gvf.to(device), batch.targets.to(device)
        outputs: tuple[Tensor, ...] = model(clips, gvf)
        losses = [functional.cross_entropy(logits, targets[:, head]) for head, logits in enumerate(outputs)]
        loss = losses[0] + losses[1]
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        optimizer.step()
        accuracies = [
            (logits.argmax(1) == targets[:, head]).float().mean().item() for head, logits in enumerate(outputs)
        ]
        return sum(accuracies) + sum(part.item() for part in losses) + loss.item()

    return step


def memory_table(backbone: str, ways: Sequence[Way], device: torch.device) -> list[str]:
    """Markdown: MiB of a clip, and the largest batch that fits a card, from two measured batches."""
    cards = " | ".join(f"{size} GB" for size in CARDS_GIB)
    lines = [f"### {backbone}: the largest batch that fits", "", f"| way | fixed MiB | MiB a clip | {cards} |"]
    lines.append("|---|---|---|" + "---|" * len(CARDS_GIB))
    for way in ways:
        if way.compile:
            continue
        small, large = (measure(backbone, Shape(batch, 16, 112), way, device, 2)[1] or 0.0 for batch in MEMORY_BATCHES)
        per_clip = (large - small) / (MEMORY_BATCHES[1] - MEMORY_BATCHES[0])
        fixed = small - per_clip * MEMORY_BATCHES[0]
        fits = [int((size * 1024 * (1 - RESERVED_SHARE) - fixed) // per_clip) for size in CARDS_GIB]
        row = " | ".join(str(max(count, 0)) for count in fits)
        lines.append(f"| {way.name} | {fixed:.0f} | {per_clip:.0f} | {row} |")
    return [*lines, ""]


def data_wait_lines(device: torch.device, workers: int) -> list[str]:
    """Share of an epoch over real videos in which the loop waits for the next batch."""
    backbone, precision = ("r2plus1d_34", "bf16") if device.type == "cuda" else ("tiny", "fp32")
    batch = 32 if device.type == "cuda" else 8
    with tempfile.TemporaryDirectory() as folder:
        draw_demo(Path(folder), DemoJob(dest=folder, num_train_videos=16, num_valid_videos=1))
        overrides = {"data.workers": workers, "clips.per_segment": 20 if device.type == "cuda" else 5}
        config = resolve(
            load_dataset("demo"), "tsp", name="bench", store={"uri": folder}, root=folder, overrides=overrides
        )
        from tsp.data.loader import build_loader

        loader = build_loader(config, "train", batch=batch, pin_memory=device.type == "cuda")
        stepper = make_stepper(backbone, batch, Way("", precision), device)
        batches = on_device(loader, device, stop=Stop())
        stepper(0, next(batches), stop=False)
        synchronize(device)
        started, waited_sec, count = time.perf_counter(), 0.0, 0
        for item, wait_sec in timed(batches):
            waited_sec += wait_sec
            count += len(item)
            stepper(0, item, stop=False)
        stepper.flush()
        total_sec = time.perf_counter() - started
    where = f"{backbone}, {precision}, batch {batch}, {workers} data workers, H.264 of the demo"
    share = f"{100 * waited_sec / total_sec:.1f} % of the time waiting for data"
    return ["## Data wait", "", f"{where}: {count / total_sec:.1f} clips/s, {share}.", ""]


def timed(batches: Iterator[DeviceBatch]) -> Iterator[tuple[DeviceBatch, float]]:
    """Batches, each with the seconds it was waited for."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started


if __name__ == "__main__":
    main()
