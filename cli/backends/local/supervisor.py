"""The detached process in charge of one local run: ``python -m cli.backends.local.supervisor FOLDER``.

Problem: a run outlives the terminal it was submitted from, its ranks fail and must be restarted, and any process,
including this one, may be killed at any moment.
Idea: the supervisor starts the ranks, restarts them after exit codes of 128 and above with growing pauses, and writes
the outcome to the store and to the run's folder. On SIGTERM it stops the ranks, which save their state.
Invariants: one supervisor per run (lock and recorded process); ranks of an earlier supervisor have ended before new
ones start, since two groups must never write to one run; every end writes an outcome, except SIGKILL, after which the
run's state is crashed and its ranks get SIGTERM from the kernel.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Literal

from cli.backends.local.ranks import start_ranks
from cli.backends.local.records import Launch, Supervised
from cli.backends.local.run_folder import LocalRun
from cli.backends.log_lines import FolderLogs
from tsp.config.address import MaskingFormatter
from tsp.errors import TspError
from tsp.run.log_files import attempt_folder, log_name
from tsp.run.processes import POLL_SEC, identify, is_alive, stop
from tsp.run.rank_group import RankGroup, Verdict, judge, last_words
from tsp.run.records import Outcome
from tsp.run.status import TERMINATED, RankEnd, describe_end
from tsp.store.locks import Lock, lock_file
from tsp.wording import counted

logger = logging.getLogger(__name__)

MOST_BACKOFF_SEC = 60.0
_TAIL_BYTES = 16384


class Supervisor:
    """Supervises one run from its first attempt to its outcome."""

    def __init__(self, local: LocalRun, launch: Launch, me: Supervised) -> None:
        self.local = local
        self.launch = launch
        self.me = me
        self.stopping = False

    def heard(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM: stop the ranks at the next poll."""
        self.stopping = True

    def run(self) -> None:
        """Make attempts until the run has ended."""
        first = 1 + max(FolderLogs(self.local.console).attempts(), default=0)
        for attempt in range(first, first + self.launch.max_attempts):
            verdict = self._attempt(attempt)
            if verdict.kind == "succeeded":
                return self.end("succeeded", 0, "done", attempt)
            if self.stopping:
                return self._end_as_asked(attempt)
            reason = explain(verdict.cause, self.local.console / attempt_folder(attempt))
            if verdict.kind == "permanent":
                return self.end("failed", verdict.cause.code, reason, attempt)
            logger.warning("attempt %d: %s", attempt, reason)
            if attempt - first + 1 < self.launch.max_attempts:
                self._note(phase="restarting", ranks=(), reason=reason)
                if self._stopped_within(min(MOST_BACKOFF_SEC, self.launch.first_backoff_sec * 2 ** (attempt - first))):
                    return self._end_as_asked(attempt)
        return self.end("failed", verdict.cause.code, f"gave up after {attempt} attempts: {reason}", attempt)

    def _attempt(self, attempt: int) -> Verdict:
        console = self.local.console / attempt_folder(attempt)
        group = start_ranks(self.launch, config=self.local.config_path, console=console)
        self._note(phase="running", attempt=attempt, ranks=tuple(group.ranks), reason=None)
        logger.info("attempt %d: %s started", attempt, counted(len(group.ranks), "rank"))
        return judge(group.watch(lambda: self._is_stopping(group)))

    def _is_stopping(self, group: RankGroup) -> bool:
        if self.stopping and (request := self.local.stop_request()):
            group.grace_sec = request.grace_sec
        return self.stopping

    def _note(self, **changes: object) -> None:
        self.me = replace(self.me, **changes)  # type: ignore[arg-type]
        self.local.write_supervised(self.me)

    def _stopped_within(self, seconds: float) -> bool:
        """Wait, at most until SIGTERM. Returns: whether SIGTERM arrived."""
        deadline = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < deadline:
            time.sleep(POLL_SEC)
        return self.stopping

    def _end_as_asked(self, attempt: int) -> None:
        request = self.local.stop_request()
        reason = "stopped by request" if request else "the supervisor received SIGTERM (machine shut down?)"
        self.end(request.state if request else "suspended", TERMINATED, reason, attempt)

    def end(
        self, state: Literal["succeeded", "failed", "cancelled", "suspended"], code: int, reason: str, attempt: int
    ) -> None:
        """Record how the run ended, in the store and on this machine."""
        outcome = Outcome(state=state, exit_code=code, reason=reason, attempt=attempt)
        publish_outcome(self.launch, outcome)
        self.local.write_outcome(outcome)
        self._note(phase="ended", ranks=(), reason=reason)
        logger.info("%s: %s", state, reason)


def publish_outcome(launch: Launch, outcome: Outcome) -> None:
    """Write the outcome to the store, unless the run has another owner now; if that fails, warn."""
    from tsp.run.ownership import is_anothers
    from tsp.run.stored_run import StoredRun
    from tsp.store.open import open_store

    try:
        run = StoredRun(open_store(launch.store), launch.name)
        if is_anothers(run, launch.owner or None):
            logger.warning("the outcome is not stored: the run at %s is being trained elsewhere", run.address())
        else:
            run.write_outcome(outcome)
    except TspError as error:
        logger.warning("the outcome could not be stored: %s", error)


def explain(cause: RankEnd, console: Path) -> str:
    """One line: which rank, its exit code and meaning, and its last error message."""
    return describe_end(cause, _words_in(console / log_name(cause.rank)))


def _words_in(log: Path) -> str:
    """The last words of a rank's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return last_words(file.read().decode(errors="replace").splitlines())
    except FileNotFoundError:
        return ""


def main() -> None:
    """Supervise the run in the folder given as argument, unless it has a supervisor already."""
    local = LocalRun(Path(sys.argv[1]))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MaskingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    launch, process = local.launch(), identify(os.getpid())
    if launch is None or process is None:
        sys.exit(f"{local.folder} is not a run")
    with (local.folder / "lock").open("w") as lock:
        # The lock may be refused, or granted to everybody: the recorded process counts as well.
        before = local.supervised()
        is_supervised = before is not None and before.phase != "submitting" and is_alive(before.process)
        if is_supervised or lock_file(lock.fileno(), wait=False) is Lock.TAKEN:
            sys.exit("this run already has a supervisor")
        me = Supervised(pid=process.pid, started=process.started, ranks=before.ranks if before else ())
        supervisor = Supervisor(local, launch, me)
        signal.signal(signal.SIGTERM, supervisor.heard)
        signal.signal(signal.SIGINT, supervisor.heard)
        local.write_supervised(me)
        # Ranks of a killed supervisor may still be saving their state: two groups must never write to one run.
        stop([rank.process for rank in me.ranks], launch.grace_sec)
        try:
            supervisor.run()
        except Exception as error:
            logger.exception("the supervisor failed")
            supervisor.end("failed", 1, f"supervisor: {type(error).__name__}: {error}", supervisor.me.attempt)


if __name__ == "__main__":
    main()
