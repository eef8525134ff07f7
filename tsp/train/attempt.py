"""One attempt of a run: the ranks meet, agree on sizes and number format, train, and record the outcome.

Problem: ranks start minutes apart on machines that may differ, the store may be unreachable, any rank may fail, and the
controller that restarts them sees only an exit code.
Idea: only rank 0 counts attempts and writes to the store; ranks exchange the properties of their GPUs and derive batch,
learning rates and number format from all of them; every end has an exit code of ``tsp.errors``, and codes from 128 up
mean that another attempt is worthwhile.
Invariants: all ranks train with the same sizes; a run that has succeeded or used up its attempts is not trained again;
an outcome that ends the run is in the store before its process ends, unless the store is unreachable.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import torch

from tsp.config.run import RunConfig
from tsp.errors import NotPlacedError, PeerLostError, StoreError, TerminatedError, TspError, exit_code_of
from tsp.model.device import card_of, choose_device
from tsp.model.gpu_errors import explain, gpu_errors
from tsp.run.ownership import HeldElsewhereError, check_still, take
from tsp.run.records import Outcome
from tsp.run.status import is_permanent
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store
from tsp.train.agreement import agree
from tsp.train.context import TrainingContext
from tsp.train.distributed import Group, RankEnv
from tsp.train.loop import Training
from tsp.train.placement import Placement
from tsp.train.rendezvous import join
from tsp.train.stop_signal import Stop

logger = logging.getLogger(__name__)

_SHORTEST_MEETING_SEC = 1.0


class GaveUpError(TspError):
    """The run has used up its attempts."""


def train(
    config: RunConfig,
    rank_env: RankEnv,
    stop: Stop,
    *,
    log_into: Callable[[StoredRun, int], None],
    end: Callable[[int], object] = os._exit,
) -> None:
    """Make one attempt of a run, as one of its ranks.

    Args: log_into, called with the run and the attempt's number once that is known; end, ends the process with an exit
        code, when this thread is stuck in a library and cannot return.
    Raises: TspError; its outcome is written to the store if another attempt cannot help.
    """
    run = StoredRun(open_store(config.store), config.name)
    attempt = 0
    try:
        if rank_env.rank == 0:
            take(run, rank_env.owner)
        if _is_done(run):
            # Every rank sees that for itself: the others of a rank that was restarted at the very end are gone.
            return
        if rank_env.rank == 0:
            attempt = _count_attempt(run, config)
            check_still(run, rank_env.owner)
            log_into(run, attempt)
        _train_with_peers(config, rank_env, stop, run, attempt, log_into, end)
    except HeldElsewhereError:
        # Another's run has not failed.
        raise
    except TspError as error:
        if rank_env.rank == 0 and is_permanent(exit_code_of(error)):
            _write_failure(run, str(error), exit_code_of(error), attempt)
        raise
    except Exception as error:
        if rank_env.rank == 0:
            _write_failure(run, f"unexpected {type(error).__name__}: {error}", exit_code_of(error), attempt)
        raise


def _is_done(run: StoredRun) -> bool:
    outcome = run.read_outcome()
    if outcome is None or outcome.state != "succeeded":
        return False
    logger.info("the run at %s has already succeeded: nothing to do", run.address())
    return True


def _count_attempt(run: StoredRun, config: RunConfig) -> int:
    """Raises: GaveUpError if there were too many; StoreError if the store cannot be written."""
    run.store.check_writable()
    attempt = run.start_attempt()
    if attempt > config.max_attempts:
        reason = _reason_of(run, attempt - 1)
        first = f"{reason}; " if reason else ""
        raise GaveUpError(
            f"{first}attempt {attempt} of {config.max_attempts}: the run keeps being interrupted; check the logs "
            "of earlier attempts ('tspctl logs'), then submit it again with a higher max_attempts"
        )
    return attempt


def _reason_of(run: StoredRun, attempt: int) -> str | None:
    """The last error in rank 0's log of an attempt: it stays the reason when no attempts are left."""
    try:
        text = run.store.read(run.log_key(attempt, 0)).decode(errors="replace")
    except StoreError:
        return None
    errors = [line.split(" ERROR ", 1)[1] for line in text.splitlines() if " ERROR " in line]
    return errors[-1] if errors else None


def _write_failure(run: StoredRun, reason: str, exit_code: int, attempt: int) -> None:
    try:
        run.write_outcome(Outcome(state="failed", exit_code=exit_code, reason=reason, attempt=attempt))
    except StoreError as failure:
        logger.error("the outcome could not be written: %s", failure)


def _train_with_peers(
    config: RunConfig,
    rank_env: RankEnv,
    stop: Stop,
    run: StoredRun,
    attempt: int,
    log_into: Callable[[StoredRun, int], None],
    end: Callable[[int], object],
) -> None:
    # The first calls that touch a card already tell whether it is lost, or full of another process's memory.
    with gpu_errors(_remedies(config)):
        device = choose_device(rank_env.local_rank)
        group = _meet(config, rank_env, device, stop, run, end)

    def leave_word(error: TspError) -> None:
        group.report_failure(str(error), exit_code_of(error))
        if group.is_main and is_permanent(exit_code_of(error)):
            _write_failure(run, str(error), exit_code_of(error), attempt)

    group.watchdog.last_words.append(leave_word)
    try:
        attempt = group.from_main(attempt)
        if not group.is_main:
            log_into(run, attempt)
        sizes, numerics = agree(config, group)
        if group.is_main:
            run.ensure(config, sizes)
        Training(
            TrainingContext(
                config=config, run=run, sizes=sizes, numerics=numerics, group=group, stop=stop, attempt=attempt
            )
        )()
        _succeed(run, group, attempt)
    except PeerLostError as error:
        raise _explain(error, group, stop) from error
    except TspError as error:
        group.report_failure(str(error), exit_code_of(error))
        raise
    except Exception as error:
        failure = explain(error, _remedies(config, device), device)
        if failure is None:
            group.report_failure(f"unexpected {type(error).__name__}: {error}", exit_code_of(error))
            raise
        group.report_failure(str(failure), failure.exit_code)
        raise failure from error
    finally:
        group.unwatch()
    group.leave()


def _succeed(run: StoredRun, group: Group, attempt: int) -> None:
    """Record the success, and only then let the other ranks end. A rank that has succeeded is never restarted: if the
    others were gone when rank 0 died during its last upload, it would wait for them in every later attempt.
    """
    if group.is_main:
        record_success(run, attempt)
    try:
        group.from_main("done")
    except PeerLostError as error:
        if not group.is_main:
            raise
        # It finds the run done when it is started again.
        logger.warning("%s; the run is done anyway", error)


def record_success(run: StoredRun, attempt: int) -> None:
    """Write that a run is trained to its end, and remove what only another attempt would need."""
    # An attempt killed between the last record and this file has left an old one.
    run.rebuild_results()
    run.write_outcome(Outcome(state="succeeded", exit_code=0, reason="trained to the end", attempt=attempt))
    run.clear_state()


def _meet(
    config: RunConfig,
    rank_env: RankEnv,
    device: torch.device,
    stop: Stop,
    run: StoredRun,
    end: Callable[[int], object],
) -> Group:
    """Join the other ranks.

    Raises: PeerLostError if some did not come in time; NotPlacedError if that was the last time; TerminatedError.
    """
    meet_sec, peer_sec = config.rendezvous_timeout_sec, config.peer_timeout_sec
    if rank_env.world_size == 1:
        return join(rank_env, device, stop, rendezvous_sec=meet_sec, peer_sec=peer_sec, end=end)
    placement = Placement(run, limit_sec=config.placement_timeout_sec, meet_sec=meet_sec)
    wait_sec = min(meet_sec, max(placement.left_sec, _SHORTEST_MEETING_SEC))
    try:
        group = join(rank_env, device, stop, rendezvous_sec=wait_sec, peer_sec=peer_sec, end=end)
    except PeerLostError as error:
        if not placement.is_over:
            raise
        placement.forget()
        raise NotPlacedError(
            f"{error}; some ranks have held GPUs for {config.placement_timeout_sec:.0f} s in total "
            f"(placement_timeout_sec), so the run ends and releases them: 'tspctl resume {config.name}' tries "
            "again; with --queue or --gang all ranks start or none"
        ) from error
    except TerminatedError:
        placement.forget()
        raise
    if rank_env.rank == 0:
        placement.forget()
    return group


def _explain(lost: PeerLostError, group: Group, stop: Stop) -> TspError:
    """Why a rank was lost: its own report, or a signal that stopped every rank."""
    stop.check("a rank had already ended")
    failure = group.failure_elsewhere()
    return lost if failure is None else failure.error()


def _remedies(config: RunConfig, device: torch.device | None = None) -> str:
    """Advice for running out of memory."""
    card = None if device is None else card_of(device)
    size = f"{card.memory_mib} MiB, " if card is not None else ""
    return (
        f"choose a larger --downscale, --precision bf16, or --set model.activation_checkpointing=true ({size}"
        f"{config.model.backbone}, --precision {config.model.precision})"
    )
