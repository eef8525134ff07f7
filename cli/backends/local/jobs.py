"""Auxiliary jobs on this machine: processes in the foreground, JSON in, JSON out."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cli.backends.base import JobEnd
from cli.signals import ToldToEndError
from tsp.config.codec import to_dict
from tsp.config.job import INDEX_VARIABLE, Job, written_addresses
from tsp.config.jobs import EncodingJob, MergedJob, StandardizeJob
from tsp.errors import TspError
from tsp.run.rank_group import end_with
from tsp.store.turns import in_turn

logger = logging.getLogger(__name__)

CTRL_C_SEC = 3.0
"""How long a job may take to end at Ctrl-C, which its terminal sends to all processes."""


def run_job_here(command: Sequence[str], job: Job, *, gpus: int, devices: Sequence[str]) -> JobEnd:
    """Run a job in one process, or as one shard per GPU and a merge at the end.

    Args: command, the program, which gets the job's kind; devices, CUDA devices of this machine.
    Returns: exit code and answer; the processes log to our stderr.
    """
    with _saying_what_continues(job), in_turn(written_addresses(job), _tell) as locks:
        if not isinstance(job, MergedJob) or gpus == 1:
            return _finish(_start(command, job, devices[0] if devices else None, locks))
        shards = [replace(job, shards=gpus, shard=shard) for shard in range(gpus)]
        started = [_start(command, shard, devices[i] if devices else None, locks) for i, shard in enumerate(shards)]
        ends = [_finish(process) for process in started]
        failed = [end for end in ends if end.exit_code]
        if failed:
            return failed[0]
        return _finish(_start(command, replace(job, shards=gpus, shard=None, merge_only=True), None, locks))


@contextmanager
def _saying_what_continues(job: Job) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(job, StandardizeJob | EncodingJob):
            error.add_note("the same command continues with what is left")
        raise


def _tell(address: str) -> None:
    logger.warning("another tspctl on this machine is writing to %s: waiting until it ends", address)


def _start(command: Sequence[str], job: Job, device: str | None, locks: tuple[int, ...]) -> subprocess.Popen[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device if device is not None else ""}
    if isinstance(job, MergedJob) and job.shard is not None:
        environment[INDEX_VARIABLE] = str(job.shard)  # names the shard in its log lines
    process = subprocess.Popen(
        [*command, job.kind],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=locks,
        preexec_fn=end_with(os.getpid()),
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(to_dict(job)))
        process.stdin.close()
    except BrokenPipeError:
        # It exited before reading; its exit code and stderr show the reason.
        return process
    return process


def _finish(process: subprocess.Popen[str]) -> JobEnd:
    """Wait for the process. It gets Ctrl-C by itself, as it is in our foreground process group; a SIGINT to this
    process alone, or another signal, is passed on as SIGTERM. If this process is killed, the kernel does that.
    """
    assert process.stdout is not None
    try:
        text = process.stdout.read()
        code = process.wait()
    except KeyboardInterrupt as error:
        try:
            process.wait(0 if isinstance(error, ToldToEndError) else CTRL_C_SEC)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
        raise
    return JobEnd(code if code >= 0 else 128 - code, _answer(text, code))


def _answer(text: str, code: int) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        if code:
            return None
        raise TspError(f"the job's answer is not a JSON object: {text[:200]!r}")
    return answer
