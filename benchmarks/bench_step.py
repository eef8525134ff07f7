"""Time of a training step: the original's step in plain fp32, and each of our options, in one run.

    python -m benchmarks.bench_step [--backbone tiny ...] [--batch N] [--steps N] [--memory-only]

On a GPU: every published encoder at batch 32, the memory of a batch, and the batch that fits each GPU; all of it is
written to benchmarks/step-<card>.md. On a CPU: the tiny encoder and r3d_18 in small batches; memory is computed for the
published encoders and written to benchmarks/memory.md. Data wait is measured on the demo's videos.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.step_memory import WORKSPACE_MIB, memory_table
from benchmarks.step_variants import (
    GPU_VARIANTS,
    ORIGINAL,
    VARIANTS,
    Shape,
    Variant,
    make_model,
    make_step,
    make_stepper,
    stepper_of,
)
from tsp.config.jobs import DemoJob
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.data.loader import build_loader
from tsp.model.device import choose_device
from tsp.prepare.demo import draw_demo
from tsp.store.base import sha256_of
from tsp.train import checkpoint
from tsp.train.batches import DeviceBatch, on_device
from tsp.train.step import Stepper
from tsp.train.stop_signal import Stop

PUBLISHED = ("r2plus1d_34", "r2plus1d_18", "r3d_18")
HERE = Path(__file__).parent
COMPUTED_VARIANTS = (
    Variant("plain, fp32, stem trained", trains_stem=True),
    Variant("plain, bf16, stem trained", "bf16", trains_stem=True),
    *(variant for variant in (*VARIANTS, *GPU_VARIANTS) if variant is not ORIGINAL),
)


def main() -> None:
    """Measure and print; write the tables."""
    parser = argparse.ArgumentParser(description="What a training step costs, the original's and ours.")
    parser.add_argument("--backbone", nargs="*", help="encoders; default: what the device can carry")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the tables are written")
    arguments = parser.parse_args()
    device = choose_device(0)
    on_gpu = device.type == "cuda"
    card = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    variants = [
        variant
        for variant in (*VARIANTS, *(GPU_VARIANTS if on_gpu else ()))
        if not (variant.compile and arguments.no_compile)
    ]
    table = Table(arguments.folder / f"step-{card.replace(' ', '-')}.md" if on_gpu else None)
    table.add([f"# Training step on {card}", "", f"torch {torch.__version__}; medians of {arguments.steps} steps.", ""])
    if not arguments.memory_only:
        for backbone in arguments.backbone or (PUBLISHED if on_gpu else ("tiny", "r3d_18")):
            shape = Shape(arguments.batch or (32 if on_gpu else 8 if backbone == "tiny" else 2), 16, 112)
            table.add(step_table(backbone, shape, variants, device, arguments.steps))
        table.add(data_wait_table(variants, device, arguments.workers))
        table.add(save_lines(device))
    memory = table if on_gpu else Table(arguments.folder / "memory.md")
    memory.add([] if on_gpu else memory_heading())
    for backbone in arguments.backbone if on_gpu and arguments.backbone else PUBLISHED:
        memory.add(memory_table(backbone, variants if on_gpu else COMPUTED_VARIANTS, device))


class Table:
    """Lines of Markdown, printed and written as they come: what is measured stays if the program does not."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines: list[str] = []

    def add(self, lines: Iterable[str]) -> None:
        """Print lines, and rewrite the file if there is one."""
        for line in lines:
            print(line, flush=True)
            self._lines.append(line)
            if self._path is not None:
                self._path.write_text("\n".join(self._lines).rstrip() + "\n")


def step_table(
    backbone: str, shape: Shape, variants: Sequence[Variant], device: torch.device, steps: int
) -> Iterator[str]:
    """Markdown: step time, clips/s and memory of each variant; what compiling costs and whether it pays."""
    yield from (
        f"## {backbone}, batch {shape.batch}, {shape.frames}x{shape.side_px}x{shape.side_px}",
        "",
        "| variant | step ms | clips/s | of the original | peak MiB |",
        "|---|---|---|---|---|",
    )
    notes: list[str] = []
    step_sec: dict[tuple[str, bool], float] = {}
    original_sec = None
    for variant in variants:
        try:
            took_sec, begin_sec, peak_mib = measure(backbone, shape, variant, device, steps)
        except RuntimeError as error:  # out of memory, or no compiler
            yield f"| {variant.name} | {str(error).splitlines()[0][:60]} | | | |"
            continue
        original_sec = original_sec or took_sec
        memory = "" if peak_mib is None else f"{peak_mib:.0f}"
        speed = f"{shape.batch / took_sec:.1f} | {original_sec / took_sec:.2f}x"
        yield f"| {variant.name} | {1000 * took_sec:.1f} | {speed} | {memory} |"
        if not variant.is_original and not variant.recompute:
            step_sec[variant.precision, variant.compile] = took_sec
        if variant.compile and (variant.precision, False) in step_sec:
            notes += [compile_note(variant.precision, begin_sec, step_sec[variant.precision, False], took_sec), ""]
    yield from ("", *notes)


def compile_note(precision: str, begin_sec: float, plain_sec: float, compiled_sec: float) -> str:
    """Whether compiling pays."""
    what = f"Compiling {precision} takes {begin_sec:.0f} s before the first step and makes a step "
    what += f"{plain_sec / compiled_sec:.2f}x as fast: "
    if compiled_sec >= plain_sec:
        return what + "it does not pay."
    return what + f"it pays after {begin_sec / (plain_sec - compiled_sec):.0f} steps."


def measure(
    backbone: str, shape: Shape, variant: Variant, device: torch.device, steps: int
) -> tuple[float, float, float | None]:
    """Median seconds of a step, seconds of the first three (compiling, trying out), and peak MiB on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    torch._dynamo.reset()
    step = make_step(backbone, shape, variant, device)
    started = time.perf_counter()
    for _ in range(3):
        step()
    synchronize(device)
    begin_sec = time.perf_counter() - started
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(steps):
        synchronize(device)
        started = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - started)
    peak_mib = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return statistics.median(times), begin_sec, peak_mib


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def data_wait_table(variants: Sequence[Variant], device: torch.device, workers: int) -> Iterator[str]:
    """Markdown: share of an epoch over real videos in which the loop waits for the next batch, for each of our
    variants."""
    on_gpu = device.type == "cuda"
    backbone, batch = ("r2plus1d_34", 32) if on_gpu else ("tiny", 8)
    yield from ("## Data wait", "", f"{backbone}, batch {batch}, {workers} data workers, H.264 of the demo.", "")
    yield from ("| variant | clips/s | waiting for data |", "|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        draw_demo(Path(folder), DemoJob(dest=folder, num_train_videos=16, num_valid_videos=1))
        overrides = {"data.workers": workers, "clips.per_segment": 20 if on_gpu else 5}
        config = resolve(
            load_dataset("demo"), "tsp", name="bench", store={"uri": folder}, root=folder, overrides=overrides
        )
        for variant in variants:
            if variant.is_original:
                continue
            try:
                clips_per_sec, share = data_wait(backbone, batch, variant, device, config)
            except RuntimeError as error:  # out of memory, or no compiler
                yield f"| {variant.name} | {str(error).splitlines()[0][:60]} | |"
            else:
                yield f"| {variant.name} | {clips_per_sec:.1f} | {100 * share:.1f} % |"
    yield ""


def data_wait(
    backbone: str, batch: int, variant: Variant, device: torch.device, config: RunConfig
) -> tuple[float, float]:
    """Clips a second, and the share of the time in which the next batch is waited for."""
    gc.collect()
    torch._dynamo.reset()
    loader = build_loader(config, "train", batch=batch, pin_memory=device.type == "cuda")
    stepper = make_stepper(backbone, batch, variant, device)
    batches = on_device(loader, device, stop=Stop())
    first = next(batches)
    for _ in range(3):
        stepper(0, first, stop=False)
    synchronize(device)
    started, waited_sec, count = time.perf_counter(), 0.0, 0
    for item, wait_sec in timed(batches):
        if len(item) < batch:
            break  # another shape: cuDNN and the compiler would try it out within the time
        waited_sec += wait_sec
        count += len(item)
        stepper(0, item, stop=False)
    stepper.flush()
    total_sec = time.perf_counter() - started
    return count / total_sec, waited_sec / total_sec


def timed(batches: Iterator[DeviceBatch]) -> Iterator[tuple[DeviceBatch, float]]:
    """Batches, each with the seconds it was waited for."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started


def save_lines(device: torch.device) -> list[str]:
    """What a mid-epoch state of the largest encoder costs the training thread, and the threads beside it."""
    variant = Variant("")
    model, numerics = make_model("r2plus1d_34", variant, device)
    stepper = stepper_of(model, 32, variant, numerics, Stepper)
    every_sec = RunConfig.__dataclass_fields__["state_every_sec"].default
    assert isinstance(every_sec, float)
    copied_sec = []
    for _ in range(3):
        synchronize(device)
        started = time.perf_counter()
        content = checkpoint.snapshot(model, stepper.optimizer, stepper.scheduler, epoch=0, args=argparse.Namespace())
        copied_sec.append(time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        path = checkpoint.write(content, Path(folder) / "state.pth")
        sha256_of(path)
        beside_sec = time.perf_counter() - started
        size_mib = path.stat().st_size / 2**20
    held_sec = statistics.median(copied_sec)
    return [
        "## Mid-epoch state",
        "",
        f"r2plus1d_34, {size_mib:.0f} MiB: copying it holds training up for {1000 * held_sec:.0f} ms, "
        f"{100 * held_sec / every_sec:.3f} % of the {every_sec:.0f} s between two; writing and hashing take "
        f"{beside_sec:.1f} s beside it ({100 * (held_sec + beside_sec) / every_sec:.2f} % with them).",
        "",
    ]


def memory_heading() -> list[str]:
    """What the computed tables are."""
    return [
        "# Memory of a training step, computed",
        "",
        "These figures are computed from the tensors of a simulated step, not measured on a GPU: the step runs over",
        "tensors that have shapes but no values, and the storages that are alive at each moment are added up. The same",
        f"step over real tensors adds up to the same bytes. {WORKSPACE_MIB} MiB for workspaces of cuDNN (in the fixed",
        "part) and 8 % of the GPU's memory for CUDA and the gaps of its allocator are assumed. Clips of 16x112x112,",
        "one GPU.",
        "`python -m benchmarks.bench_step` writes this table; on a GPU it measures and writes step-<card>.md instead.",
        "",
        "Kept: activations between the forward and the backward pass. At the peak: memory of a clip at the moment of",
        "the largest use.",
        "Fixed: weights, gradients, momentum, weights in the format of the step.",
        "",
    ]


if __name__ == "__main__":
    main()
