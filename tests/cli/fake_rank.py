"""Stands for ``tsp.entrypoint`` where its training does not matter: same environment, same files, same exit codes.

FAKE_RANK (JSON): epochs, step_sec, exit {rank: code} (on every attempt), exit_once {rank: code} (on the first only),
words (of that error), kill_once rank, best (progress names it),
hold (a step goes on while that file is there), deaf (SIGTERM is not heard), answer (of a job), job_exit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsp.run.stored_run import StoredRun

PLAN = {"epochs": 1, "step_sec": 0.0, "hold": "", **json.loads(os.environ.get("FAKE_RANK", "{}"))}


def say(text: str) -> None:
    now = datetime.now().isoformat(sep=" ", timespec="milliseconds").replace(".", ",")
    level, _, words = text.partition(" ")
    print(f"{now} rank {os.environ['RANK']} {level} fake.rank: {words}", file=sys.stderr, flush=True)


def do_job(kind: str) -> None:
    job = json.load(sys.stdin)
    print(f"working on {kind}", file=sys.stderr)
    Path(f"{kind}-{job.get('shard')}-{job.get('merge_only')}.json").write_text(
        json.dumps({**job, "lines are of": os.environ.get("JOB_COMPLETION_INDEX")})
    )
    print(json.dumps(PLAN.get("answer", {"kind": kind, "job": job})))
    sys.exit(PLAN.get("job_exit", 0))


def train() -> None:
    from tsp.config.run import from_json
    from tsp.run.stored_run import StoredRun
    from tsp.store.open import open_store

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    config = from_json(Path(os.environ["TSP_CONFIG"]).read_text())
    run = StoredRun(open_store(config.store), config.name)
    stopped = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if PLAN.get("deaf") else lambda *_: stopped.append(True))
    attempt = run.start_attempt() if rank == 0 else 0
    say(f"INFO rank {rank} of {world_size} threads {os.environ['TSP_NUM_THREADS']} pid {os.getpid()}")
    first = not (Path(os.environ["TSP_CONFIG"]).parent / f"seen-{rank}").exists()
    (Path(os.environ["TSP_CONFIG"]).parent / f"seen-{rank}").touch()
    if first and PLAN.get("kill_once") == rank:
        # Before it looks what is done: on a busy machine the other rank may have finished everything.
        os.kill(os.getpid(), signal.SIGKILL)
    for epoch in range(len(run.epochs()), PLAN["epochs"]):
        for step in range(5):
            if rank == 0:
                write_progress(run, epoch, step, attempt, world_size)
            end = time.monotonic() + PLAN["step_sec"]
            while not stopped and (os.path.exists(PLAN["hold"]) or time.monotonic() < end):
                time.sleep(min(0.05, PLAN["step_sec"]))
            if stopped:
                say("INFO state saved")
                sys.exit(143)
            code = PLAN.get("exit", {}).get(str(rank)) or (first and PLAN.get("exit_once", {}).get(str(rank)))
            if code:
                say(f"ERROR rank {rank} cannot go on: {PLAN.get('words', 'clip 7 of video_3.mp4 is broken')}")
                sys.exit(code)
        say(f"INFO rank {rank} epoch {epoch} done")
        if rank == 0:
            publish_epoch(run, epoch)


def write_progress(run: StoredRun, epoch: int, step: int, attempt: int, world_size: int) -> None:
    from tsp.run.records import Progress

    run.write_progress(
        Progress(
            phase="training", epoch=epoch, epochs=PLAN["epochs"], step=step, steps=5, clips_per_sec=12.5,
            eta_sec=75.0, attempt=attempt, world_size=world_size, downscale=2, batch_per_gpu=16,
            global_batch=16 * world_size, backbone_lr=1e-4, head_lr=2e-3,
            best_epoch=1 if PLAN.get("best") else None, best_accuracy_percent=75.0,
        )
    )  # fmt: skip


def publish_epoch(run: StoredRun, epoch: int) -> None:
    from tsp.run.records import EpochRecord
    from tsp.run.results import EpochResult, HeadResult, format_line
    from tsp.store.base import sha256_of

    accuracy = [50.0, 75.0, 62.5][epoch % 3]
    result = EpochResult(epoch, (HeadResult("action-label", accuracy, 0.5),), 0.5, accuracy)
    path = Path(os.environ["TSP_CONFIG"]).parent / "epoch.pth"
    path.write_bytes(b"checkpoint %d" % epoch)
    run.publish_epoch(
        path,
        EpochRecord(
            epoch=epoch, size_bytes=path.stat().st_size, sha256=sha256_of(path),
            results_line=format_line(result), result=result, clips_per_sec=1.0, duration_sec=1.0,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        do_job(sys.argv[1])
    train()
