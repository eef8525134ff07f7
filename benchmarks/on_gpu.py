"""All measurements that need a GPU, in one command that ends within ten minutes and writes results as it runs.

    python -m benchmarks.on_gpu [--quick] [--folder DIR]     on a machine with a GPU: benchmarks/gpu-<card>.md and .json
    python -m benchmarks.on_gpu --dry --folder DIR           the same program on the CPU with the tiny encoder

It first checks that a GPU gives the CPU's results, and that runs end correctly (resume, out of memory, a stopped peer);
then it measures speed and memory of each variant of a step, data wait, and extraction. A failing part becomes a row
with the failure; a part for which no time remains is named and skipped. Each row is in both files before the next part
begins.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.bench_step import data_wait, measure, synchronize
from benchmarks.report import Report
from benchmarks.small_runs import Runs
from benchmarks.step_memory import measured
from benchmarks.step_variants import ORIGINAL, Shape, Variant, make_model, random_batch
from cli.backends.local.ranks import free_port
from tsp.config.cpus import auto_workers, usable_cpus
from tsp.config.jobs import DemoJob
from tsp.config.recipes import load_dataset, resolve
from tsp.data.batch import ClipBatch
from tsp.data.transforms import pixels_on_device
from tsp.extract.encoder import Encoder
from tsp.model.device import card_of, choose_device, driver_version
from tsp.model.gpu_errors import is_out_of_memory
from tsp.prepare.demo import draw_demo

HERE = Path(__file__).parent
FULL_SEC, QUICK_SEC = 560.0, 170.0
PIXEL_BOUND, LOGIT_BOUND, COSINE_BOUND = 1e-5, 1e-3, 0.9999
VARIANTS = (
    ORIGINAL,
    Variant("ours, fp32"),
    Variant("ours, bf16", "bf16"),
    Variant("ours, bf16, conv2d spatial", "bf16", conv2d="spatial"),
    Variant("ours, bf16, conv2d all", "bf16", conv2d="all"),
    Variant("ours, fp16", "fp16"),
    Variant("ours, bf16, compiled", "bf16", compile=True),
    Variant("ours, bf16, conv2d all, compiled", "bf16", conv2d="all", compile=True),
)


@dataclass
class Bench:
    """What to measure, and on which device."""

    device: torch.device
    backbone: str
    shape: Shape
    steps: int
    workers: int
    scratch: Path
    end: float
    """When the time is up, by the monotonic clock."""

    @property
    def on_gpu(self) -> bool:
        """Whether this is no dry run."""
        return self.device.type == "cuda"

    @cached_property
    def videos(self) -> Path:
        """The demo's, drawn once."""
        folder = self.scratch / "videos"
        draw_demo(folder, DemoJob(dest=str(folder), num_train_videos=16 if self.on_gpu else 1, num_valid_videos=1))
        return folder


Row = tuple[str, str]


def main(argv: list[str] | None = None) -> int:
    """Run all parts; returns 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three minutes: fewer variants and steps")
    parser.add_argument("--dry", action="store_true", help="on the CPU, tiny: only whether the program works")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the tables are written")
    arguments = parser.parse_args(argv)
    device = torch.device("cpu") if arguments.dry else choose_device(0)
    if device.type == "cpu" and not arguments.dry:
        parser.error("there is no GPU here; --dry runs the program on the CPU")
    card = card_of(device)
    name = card.name if card else "dry-run"
    facts = {"torch": str(torch.__version__), "CUDA": str(torch.version.cuda), "cuDNN": str(_cudnn(device))}
    facts |= {"driver": driver_version() or "none", "card": str(card or "the CPU")}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    report = Report(arguments.folder / f"gpu-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}", f"On {name}", facts)
    end = time.monotonic() + (QUICK_SEC if arguments.quick else FULL_SEC)
    with tempfile.TemporaryDirectory(prefix="on-gpu-") as scratch:
        shape = Shape(2, 8, 32) if arguments.dry else Shape(32, 16, 112)
        steps = 2 if arguments.dry else 5 if arguments.quick else 10
        backbone = "tiny" if arguments.dry else "r2plus1d_34"
        workers = 0 if arguments.dry else auto_workers(usable_cpus())
        bench = Bench(device, backbone, shape, steps, workers, Path(scratch), end)
        for part, run in parts(quick=arguments.quick or arguments.dry):
            if time.monotonic() > end:
                report.add(part, "left out", "the time is up")
                continue
            try:
                for what, result in run(bench):
                    report.add(part, what, result)
                    if time.monotonic() > end:
                        report.add(part, "cut short", "the time is up")
                        break
            except Exception as error:
                lines = str(error).splitlines() or [""]
                report.add(part, "FAILED", f"{type(error).__name__}: {lines[0][:200]}")
    return int(any("FAILED" in row["what"] + row["result"] for row in report.rows))


def _cudnn(device: torch.device) -> object:
    return torch.backends.cudnn.version() if device.type == "cuda" else None


def parts(*, quick: bool) -> list[tuple[str, Callable[[Bench], Iterator[Row]]]]:
    """What is done, the most telling first."""
    first = VARIANTS[1:5] if quick else VARIANTS[:6]
    later: list[tuple[str, Callable[[Bench], Iterator[Row]]]] = [
        ("memory", largest_batch), ("compiled", lambda bench: step_times(bench, VARIANTS[6:])),
    ]  # fmt: skip
    return [
        ("transforms", check_transforms),
        ("logits", check_logits),
        ("step", lambda bench: step_times(bench, first)),
        ("features", features),
        ("ends", check_ends),
        ("data wait", data_waits),
        *([] if quick else later),
    ]


def judged(value: float, bound: float, *, least: bool = False) -> str:
    """A figure with its bound, and whether it keeps it."""
    kept = value >= bound if least else value <= bound
    return f"{value:.3g} ({'at least' if least else 'at most'} {bound:g}){'' if kept else ' FAILED'}"


def check_transforms(bench: Bench) -> Iterator[Row]:
    """Pixels on the device against the CPU's."""
    side, generator = bench.shape.side_px, torch.Generator().manual_seed(0)
    shape = (2, bench.shape.frames, 2 * side, 2 * side, 4)
    batch = ClipBatch(
        pixels=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        row_weights=torch.rand(2, side, generator=generator),
        column_weights=torch.rand(2, side, generator=generator),
        targets=torch.zeros(2, 2, dtype=torch.int64),
        gvf=None,
        items=torch.arange(2),
        names=("a", "b"),
        num_bad=0,
    )
    here, there = pixels_on_device(batch, "cpu"), pixels_on_device(batch, bench.device).cpu()
    yield "largest difference from the CPU", judged(float((here - there).abs().max()), PIXEL_BOUND)


def check_logits(bench: Bench) -> Iterator[Row]:
    """A validation step on the device against the CPU's, of the same weights and clips."""
    cpu = torch.device("cpu")
    batch = random_batch(Shape(2, bench.shape.frames, bench.shape.side_px), cpu, torch.channels_last_3d)
    with torch.inference_mode():
        expected = make_model(bench.backbone, Variant(""), cpu)[0].eval()(batch.clips, batch.gvf)
        for variant in (Variant("fp32"), Variant("fp32, conv2d all", conv2d="all")):
            model, numerics = make_model(bench.backbone, variant, bench.device)
            with numerics.autocast():
                assert batch.gvf is not None
                found = model.eval()(batch.clips.to(bench.device), batch.gvf.to(bench.device))
            difference = max(float((a - b.cpu()).abs().max()) for a, b in zip(expected, found, strict=True))
            yield f"{variant.name}: largest difference from the CPU", judged(difference, LOGIT_BOUND)


def step_times(bench: Bench, variants: tuple[Variant, ...]) -> Iterator[Row]:
    """Time, clips/s and memory of a training step."""
    for variant in variants:
        try:
            took_sec, begin_sec, peak_mib = measure(bench.backbone, bench.shape, variant, bench.device, bench.steps)
        except RuntimeError as error:
            if not is_out_of_memory(error) and not variant.compile:
                raise
            yield variant.name, f"does not run: {str(error).splitlines()[0][:120]}"
            continue
        peak = "" if peak_mib is None else f", peak {peak_mib:.0f} MiB"
        speed = f"{1000 * took_sec:.1f} ms, {bench.shape.batch / took_sec:.1f} clips/s"
        yield variant.name, f"{speed}{peak}, first steps {begin_sec:.1f} s"


def features(bench: Bench) -> Iterator[Row]:
    """Extraction's encoder: speed, and features against the CPU's in fp32."""
    network = make_model(bench.backbone, Variant(""), torch.device("cpu"))[0].features
    few = random_batch(Shape(2, bench.shape.frames, bench.shape.side_px), torch.device("cpu"), torch.channels_last_3d)
    exact = Encoder(network, torch.device("cpu"), "fp32")(few.clips)
    many = random_batch(bench.shape, bench.device, torch.channels_last_3d).clips
    for precision in ("fp32", "fp16", "bf16") if bench.on_gpu else ("fp32",):
        encoder = Encoder(network, bench.device, precision)
        found = encoder(few.clips.to(bench.device, encoder.dtype)).cpu()
        cosine = float(torch.cosine_similarity(exact, found).min())
        clips = many.to(encoder.dtype)
        encoder(clips)
        synchronize(bench.device)
        started = time.perf_counter()
        for _ in range(bench.steps):
            encoder(clips)
        synchronize(bench.device)
        speed = bench.steps * len(clips) / (time.perf_counter() - started)
        bound = judged(cosine, COSINE_BOUND, least=True) if precision != "bf16" else f"{cosine:.6f}"
        yield precision, f"{speed:.1f} clips/s, cosine with the CPU's {bound}"


def check_ends(bench: Bench) -> Iterator[Row]:
    """Exit codes of real ranks: terminated and resumed, out of memory, a stopped peer."""
    with Runs(bench.scratch, bench.videos, is_dry=not bench.on_gpu, end=bench.end) as runs:
        first = runs.start("resumed", HOLD="1")
        runs.wait_for(first, "begins at epoch")
        first.terminate()
        codes = [runs.end_of(first), runs.end_of(runs.start("resumed"))]
        yield "SIGTERM, then resumed", f"{codes[0]}, {codes[1]} (143, 0){'' if codes == [143, 0] else ' FAILED'}"
        if bench.on_gpu:
            code = runs.end_of(runs.start("memory", MEMORY_MIB="48"))
            yield "out of memory", f"{code} (6){'' if code == 6 else ' FAILED'}"
        pair = {"WORLD_SIZE": "2", "MASTER_PORT": str(free_port())}
        ranks = [runs.start("peers", epochs=500, RANK=str(rank), **pair) for rank in range(2)]
        runs.wait_for(ranks[0], "begins at epoch")
        runs.stop(ranks[1])
        code = runs.end_of(ranks[0])
        yield "a stopped peer", f"{code} (150){'' if code == 150 else ' FAILED'}"


def data_waits(bench: Bench) -> Iterator[Row]:
    """The share of an epoch in which the loop waits for clips from the demo's H.264 videos."""
    folder = str(bench.videos)
    config = resolve(
        load_dataset("demo"), "tsp", name="bench", store={"uri": folder}, root=folder,
        overrides={"data.workers": bench.workers, "clips.per_segment": 20 if bench.on_gpu else 2},
    )  # fmt: skip
    batch = 32 if bench.on_gpu else 2
    for variant in (Variant("ours, bf16", "bf16"),) if bench.on_gpu else (Variant("ours, fp32"),):
        clips_per_sec, share = data_wait(bench.backbone, batch, variant, bench.device, config)
        yield f"{variant.name}, {bench.workers} workers", f"{clips_per_sec:.1f} clips/s, waits {100 * share:.1f} %"


def largest_batch(bench: Bench) -> Iterator[Row]:
    """What a clip costs in memory, and how many fit this card."""
    card = card_of(bench.device)
    for variant in (
        Variant("ours, fp32"),
        Variant("ours, bf16", "bf16"),
        Variant("ours, bf16, recomputed", "bf16", recompute=True),
    ):
        cost = measured(bench.backbone, variant, bench.device)
        fits = cost.largest_batch(round((card.memory_mib if card else 0) / 1024))
        yield variant.name, f"{cost.fixed_mib:.0f} MiB and {cost.per_clip_mib:.0f} a clip: {fits} clips fit"


if __name__ == "__main__":
    sys.exit(main())
