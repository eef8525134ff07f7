"""The program in a pod: one rank of a training run, or an auxiliary job.

    python -m tsp.entrypoint                  trains; the configuration is the JSON file that TSP_CONFIG names. In a
                                              pod with several GPUs it starts a rank for each (tsp.run.pod_ranks).
    python -m tsp.entrypoint KIND < JOB.json  runs a job; its answer is one JSON object on standard output

Log lines go to standard error; training also sends them to the run's log in the store. The exit code says whether
another attempt can help: 0 done, 1-127 permanent, 128 and above retried (see tsp.errors).
"""

from __future__ import annotations

from tsp.signals import end_on_signals, end_on_sigterm, heed_ctrl_c

if __name__ == "__main__":
    end_on_signals()  # the imports below take long enough for a pod to be deleted meanwhile

import argparse
import atexit
import importlib
import json
import logging
import logging.handlers
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from tsp.config.address import MaskingFormatter
from tsp.config.cards import NEEDS_GPU
from tsp.config.cpus import THREADS_BESIDE_GPU, usable_cpus
from tsp.config.job import INDEX_VARIABLE, Answer, Job, own_share
from tsp.config.jobs import JOBS, job_from_dict
from tsp.config.pod_request import config_from_pod
from tsp.config.run import RunConfig
from tsp.config.text_file import decoded, read_file
from tsp.config.variables import whole_number
from tsp.errors import INTERRUPTED_EXIT_CODE, ConfigError, TspError, exit_code_of, interruption
from tsp.imports import heavy_imports
from tsp.run.pod_ranks import PodRanks, pod_environment, ranks_per_pod, run_ranks

if TYPE_CHECKING:
    from tsp.run.stored_run import StoredRun

logger = logging.getLogger("tsp.entrypoint")

DEFAULT_CONFIG = "/etc/tsp/config.json"
RANK_COMMAND = (sys.executable, "-P", "-m", "tsp.entrypoint")
"""Of each rank of a pod that has several; -P as nothing may hide this package."""
TORCH_ENVIRONMENT = {
    # Warnings of its C++ parts go straight to the console, past every filter.
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # The older of torch's NCCL backends: the newer one blocks the stream for each bucket of gradients, and aborts the
    # process when a peer is lost. Read when torch.distributed is imported.
    "TORCH_DIST_USE_NCCL2": "0",
    # Nor may this one abort: our own watchdog ends a rank with the right exit code.
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
}
"""Settings of torch; a pod's environment overrides them."""
MOST_THREADS = 4096
"""More than any machine has CPUs; torch ends the process if the system refuses it a thread."""
LINGER_SEC = 30.0
"""How long threads and libraries may take to end once the work is done."""


def main(argv: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tsp.entrypoint", description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=sorted(JOBS), help="a job; without one: train")
    parser.add_argument("-v", "--verbose", action="store_true", help="more narration, and tracebacks")
    options = parser.parse_args(argv)
    env = pod_environment(env)
    verbose = options.verbose or bool(env.get("TSP_VERBOSE"))
    early = _set_up_logging(env, options.kind, verbose)
    with ExitStack() as stack:
        try:
            if options.kind is not None:
                return _do_job(options.kind, env)
            if ranks_per_pod(env) > 1:
                return run_ranks(PodRanks.from_env(env), RANK_COMMAND)
            return _train(env, early, stack)
        except TspError as error:
            logger.error("%s", error, exc_info=verbose)
            return exit_code_of(error)
        except (KeyboardInterrupt, Exception) as error:
            if interruption(error):
                # Of a job in a terminal: the command line, which gets it as well, says so.
                return INTERRUPTED_EXIT_CODE
            logger.exception("this is a bug: please report it with these lines")
            return exit_code_of(error)


def _set_up_logging(env: Mapping[str, str], kind: str | None, verbose: bool) -> logging.handlers.MemoryHandler:
    """Log to standard error; returns the handler that keeps the first lines for the log in the store."""
    rank = env.get("RANK") or env.get(INDEX_VARIABLE)
    # a job without a rank runs in a terminal
    origin = "" if kind and rank is None else f"%(asctime)s.%(msecs)03dZ rank {rank or 0} "
    formatter = MaskingFormatter(f"{origin}%(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    console = logging.StreamHandler(sys.stderr)
    early = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root = logging.getLogger()
    root.handlers[:] = [console, early]
    for handler in root.handlers:
        handler.setFormatter(formatter)
    root.setLevel(logging.INFO)
    logging.getLogger("tsp").setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in ("botocore", "boto3", "urllib3", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return early


def read_config(env: Mapping[str, str]) -> RunConfig:
    """The run's configuration from the file that TSP_CONFIG names.

    Raises: ConfigError.
    """
    path = Path(env.get("TSP_CONFIG") or DEFAULT_CONFIG)
    name = f"the configuration {path} (TSP_CONFIG)"
    text = decoded(read_file(path, name, ConfigError), name, ConfigError)
    try:
        return config_from_pod(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _train(env: Mapping[str, str], early: logging.handlers.MemoryHandler, stack: ExitStack) -> int:
    config = read_config(env)
    for name, value in TORCH_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Slow to import: a bad configuration is refused first.
    with heavy_imports():
        import torch._dynamo  # optimizers would import it  # noqa: F401

        from tsp.train.attempt import train
        from tsp.train.distributed import RankEnv
        from tsp.train.stop_signal import Stop

    stop = Stop()
    stop.install()
    stack.callback(stop.uninstall)
    rank_env = RankEnv.from_env(env)
    _set_threads(env)

    def end(code: int) -> None:
        """Exit from another thread when this one is stuck in a library, after sending the log's last lines."""
        stack.close()
        os._exit(code)

    train(config, rank_env, stop, log_into=_log_shipping(stack, early, rank_env.rank), end=end)
    return 0


def _log_shipping(
    stack: ExitStack, early: logging.handlers.MemoryHandler, rank: int
) -> Callable[[StoredRun, int], None]:
    """A function that also sends the log, from its first line on, to the store until the stack ends."""

    def log_into(run: StoredRun, attempt: int) -> None:
        from tsp.run.log_shipper import LogShipper

        shipper = LogShipper(run.store, run.log_key(attempt, rank))
        handler = logging.StreamHandler(shipper)
        handler.setFormatter(early.formatter)
        early.setTarget(handler)
        early.flush()
        root = logging.getLogger()
        root.removeHandler(early)
        root.addHandler(handler)
        stack.callback(shipper.close)
        stack.callback(root.removeHandler, handler)

    return log_into


def _set_threads(env: Mapping[str, str]) -> None:
    """Set torch's threads: TSP_NUM_THREADS, else the container's CPU quota, and only a few beside a GPU.

    By default torch starts a thread for each core of the node; in a pod these throttle each other.
    """
    wanted = whole_number(env, "TSP_NUM_THREADS", 0, least=1, most=MOST_THREADS)
    import torch

    most = THREADS_BESIDE_GPU if env.get(NEEDS_GPU) else torch.get_num_threads()
    torch.set_num_threads(wanted or min(torch.get_num_threads(), usable_cpus(), most))


def _do_job(kind: str, env: Mapping[str, str]) -> int:
    """Run the job on standard input; returns the exit code of its answer."""
    job = own_share(_read_job(kind), env)
    end_on_sigterm()
    if job.needs_gpu:
        _set_threads(env)
    module, _, name = job.function.partition(":")
    with heavy_imports():
        run: Callable[[Job], Answer] = getattr(importlib.import_module(module), name)
    # Nothing but the answer may reach standard output.
    with redirect_stdout(sys.stderr):
        answer = run(job)
    try:
        print(json.dumps(answer.to_dict()), flush=True)
    except BrokenPipeError:  # the command line was killed; what is written is complete
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return answer.exit_code


def _read_job(kind: str) -> Job:
    try:
        raw = json.load(sys.stdin)
    except ValueError as error:
        raise ConfigError(f"the {kind} job on standard input is not JSON: {error}") from error
    return job_from_dict(kind, raw)


def _end(code: int) -> None:
    """Exit with that code without delay: library threads may hang, and unloading torch takes seconds."""
    timer = threading.Timer(LINGER_SEC, os._exit, (code,))
    timer.daemon = True
    timer.start()
    atexit._run_exitfuncs()  # data workers, temporary files and logs are cleaned up as usual
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    heed_ctrl_c()
    _end(main())
