"""Small runs of real ranks on the demo's videos."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import to_json
from tsp.data.child_processes import end_with_parent, forkserver

if TYPE_CHECKING:
    from tsp.train.resume import Position
    from tsp.train.training_state import TrainingState

MODULES = ("benchmarks.small_runs", "tsp.entrypoint", "tsp.train.attempt", "torch._dynamo")
"""What the server imports that ranks are forked from, once for all of them."""


def run_rank(log: Path, environment: dict[str, str]) -> None:
    """What a rank's process does; two of them share one card over gloo, since NCCL takes no card twice.

    HOLD in the environment: train only after SIGTERM; MEMORY_MIB: how much of the card there is.
    """
    end_with_parent()
    os.environ.update(environment)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from tsp import entrypoint
    from tsp.train import distributed, loop, peers, step, watchdog

    distributed.BACKENDS["cuda"] = "gloo"
    watchdog.SILENT_PEER_SEC, watchdog.GRACE_SEC, peers.EVERY_SEC, step.FIRST_STEPS = 10.0, 5.0, 0.5, 1
    if "HOLD" in environment:
        real = loop.Training._train_epoch

        def hold(self: loop.Training, state: TrainingState, position: Position) -> Position:
            while not self.stop.requested:
                time.sleep(0.05)
            return real(self, state, position)

        loop.Training._train_epoch = hold  # type: ignore[method-assign]
    if "MEMORY_MIB" in environment:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(int(environment["MEMORY_MIB"]) * 2**20 / whole)
    entrypoint._end(entrypoint.main([]))


class Runs:
    """Ranks of small runs on the demo's videos; none outlives the ``with`` block."""

    def __init__(self, folder: Path, videos: Path, *, is_dry: bool, end: float) -> None:
        """Args: is_dry, tiny, on the CPU; end, when the time is up, by the monotonic clock."""
        self.folder, self.videos, self.is_dry, self.end = folder, videos, is_dry, end
        self.logs: dict[BaseProcess, Path] = {}

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.logs:
            process.kill()
            process.join()

    def patience_sec(self, most_sec: float) -> float:
        """How long something may take; a dry run proves that the program works, on a machine as busy as it may be."""
        return 10 * most_sec if self.is_dry else min(most_sec, max(1.0, self.end - time.monotonic()))

    def start(self, name: str, *, epochs: int = 2, **environment: str) -> BaseProcess:
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
        own = {"TSP_CONFIG": str(path), "RANK": "0", "WORLD_SIZE": "1", "TSP_NUM_THREADS": "1", **environment}
        if self.is_dry:
            own["CUDA_VISIBLE_DEVICES"] = ""
        log = path.with_suffix(".log")
        log.touch()
        process = forkserver(*MODULES).Process(target=run_rank, args=(log, own))
        process.start()
        self.logs[process] = log
        return process

    def end_of(self, process: BaseProcess) -> int:
        """Exit code of a rank, which must end by itself."""
        process.join(self.patience_sec(120.0))
        if process.exitcode is None:
            raise RuntimeError(f"a rank did not end: {self._said(process)}")
        return process.exitcode

    def wait_for(self, process: BaseProcess, text: str, within_sec: float = 120.0) -> None:
        """Wait until a rank has logged something."""
        end = time.monotonic() + self.patience_sec(within_sec)
        while text not in self.logs[process].read_text():
            if process.exitcode is not None or time.monotonic() > end:
                raise RuntimeError(f"no {text!r} in the log: {self._said(process)}")
            time.sleep(0.1)

    def stop(self, process: BaseProcess) -> None:
        """Let a rank go no further, and not end."""
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)

    def _said(self, process: BaseProcess) -> str:
        return self.logs[process].read_text()[-300:]
