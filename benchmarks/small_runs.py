"""Small runs of real ranks on the demo's videos."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import to_json

RANK = """
import os
from tsp import entrypoint
from tsp.imports import heavy_imports
with heavy_imports():
    import torch, torch._dynamo
    from tsp.train import distributed, peers, step, watchdog
distributed.BACKENDS["cuda"] = "gloo"
watchdog.SILENT_PEER_SEC, watchdog.GRACE_SEC, peers.EVERY_SEC, step.FIRST_STEPS = 10.0, 5.0, 0.5, 1
if os.environ.get("HOLD"):
    import time
    from tsp.train import loop
    real = loop.Training._train_epoch
    def hold(self, state, position):
        while not self.stop.requested:
            time.sleep(0.05)
        return real(self, state, position)
    loop.Training._train_epoch = hold
if os.environ.get("MEMORY_MIB"):
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(int(os.environ["MEMORY_MIB"]) * 2**20 / whole)
entrypoint._end(entrypoint.main([]))
"""
"""A rank; two of them share one card over gloo, since NCCL takes no card twice. HOLD: train only after SIGTERM."""


class Runs:
    """Ranks of small runs on the demo's videos; none outlives the ``with`` block."""

    def __init__(self, folder: Path, videos: Path, *, is_dry: bool, end: float) -> None:
        """Args: is_dry, tiny, on the CPU; end, when the time is up, by the monotonic clock."""
        self.folder, self.videos, self.is_dry, self.end = folder, videos, is_dry, end
        self.logs: dict[int, Path] = {}
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.kill()
            process.wait()

    def patience_sec(self, most_sec: float) -> float:
        """How long something may take; a dry run proves that the program works, on a machine as busy as it may be."""
        return 10 * most_sec if self.is_dry else min(most_sec, max(1.0, self.end - time.monotonic()))

    def start(self, name: str, *, epochs: int = 2, **environment: str) -> subprocess.Popen[str]:
        """A rank of a run of that name."""
        overrides = {
            "schedule.epochs": epochs, "schedule.warmup_epochs": 0, "schedule.milestones": (), "data.workers": 1,
            "model.pretrained": "none", "peer_timeout_sec": 30.0, "gpus": int(environment.get("WORLD_SIZE", "1")),
        }  # fmt: skip
        if self.is_dry:
            overrides |= {
                "clips.resize_height_px": 36, "clips.resize_width_px": 48, "clips.crop_px": 32, "clips.per_segment": 4,
                "data.workers": 0,
            }  # fmt: skip
        config = resolve(
            load_dataset("demo"), "tac", name=name, store={"uri": str(self.folder / "store")},
            root=str(self.videos), overrides=overrides,
        )  # fmt: skip
        path = self.folder / f"{name}-{environment.get('RANK', '0')}-{epochs}.json"
        path.write_text(to_json(config))
        own = {**os.environ, "TSP_CONFIG": str(path), "RANK": "0", "WORLD_SIZE": "1", "TSP_NUM_THREADS": "1"}
        if self.is_dry:
            own["CUDA_VISIBLE_DEVICES"] = ""
        log = path.with_suffix(".log")
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", RANK], env={**own, **environment}, stderr=file, stdout=file, text=True
            )
        self.logs[process.pid] = log
        self.started.append(process)
        return process

    def end_of(self, process: subprocess.Popen[str]) -> int:
        """Exit code of a rank, which must end by itself."""
        try:
            return process.wait(self.patience_sec(120.0))
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"a rank did not end: {self.logs[process.pid].read_text()[-300:]}") from None

    def wait_for(self, process: subprocess.Popen[str], text: str, within_sec: float = 120.0) -> None:
        """Wait until a rank has logged something."""
        end = time.monotonic() + self.patience_sec(within_sec)
        while text not in self.logs[process.pid].read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no {text!r} in the log: {self.logs[process.pid].read_text()[-300:]}")
            time.sleep(0.1)
