"""A run whose ranks are placed only in part gives its GPUs back for good, after a time that is a setting."""

import os
import time

import pytest

from tests.s3_servers import free_port
from tests.train.worlds import config_for
from tsp.errors import NotPlacedError, PeerLostError, TerminatedError
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store
from tsp.train.attempt import train
from tsp.train.distributed import RankEnv
from tsp.train.placement import MARK, Placement
from tsp.train.stop_signal import Stop


@pytest.fixture
def half_placed(tiny_data, tmp_path):
    """One attempt of a rank whose peer has no GPU. Returns: the run, and a function that makes the attempt."""
    config = config_for(tiny_data, tmp_path, gpus=2, rendezvous_timeout_sec=0.2, placement_timeout_sec=60.0)
    run = StoredRun(open_store(config.store), config.name)

    def attempt(rank=0, stop=None):
        env = RankEnv(rank=rank, world_size=2, master_port=free_port())
        train(config, env, stop or Stop(), log_into=lambda *_: None)

    return run, attempt


def waited(run, seconds):
    """As if the run had waited so long by now."""
    began = time.time() - seconds
    os.utime(run.store.local_path(run.key(MARK)), (began, began))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_waits_try_after_try_and_then_ends_for_good(half_placed, rank):
    run, attempt = half_placed
    with pytest.raises(PeerLostError, match="within 0 s"):
        attempt(rank)
    waited(run, 30)
    with pytest.raises(PeerLostError):
        attempt(rank)
    waited(run, 61)
    with pytest.raises(NotPlacedError) as ended:
        attempt(rank)
    assert ended.value.exit_code == 7
    assert "60 s in total (placement_timeout_sec)" in str(ended.value)
    assert f"'tspctl resume {run.name}'" in str(ended.value)
    outcome = run.read_outcome()
    assert (outcome is None) if rank else (outcome.state, outcome.exit_code) == ("failed", 7)
    # who resumes it has the whole time again
    with pytest.raises(PeerLostError):
        attempt(rank)


def test_a_run_that_is_stopped_while_it_waits_has_the_whole_time_when_it_goes_on(half_placed):
    run, attempt = half_placed
    with pytest.raises(PeerLostError):
        attempt()
    waited(run, 61)
    stop = Stop()
    stop.signal_name = "SIGTERM"
    with pytest.raises(TerminatedError):
        attempt(stop=stop)
    assert not run.store.exists(run.key(MARK))


def test_a_mark_that_a_killed_rank_has_left_long_ago_does_not_count(half_placed):
    run, attempt = half_placed
    with pytest.raises(PeerLostError):
        attempt()
    waited(run, 24 * 3600)
    with pytest.raises(PeerLostError):
        attempt()
    waited(run, 1)
    with pytest.raises(PeerLostError):
        attempt()


@pytest.mark.parametrize(
    ("age_sec", "left_sec"),
    [(None, 60), (0, 60), (20, 40), (59, 1), (61, 0), (400, 0), (690, 0), (690.5, 60), (24 * 3600, 60)],
)
def test_the_time_left_counts_from_the_mark_until_it_is_too_old_for_ranks_that_come_back(
    half_placed, monkeypatch, age_sec, left_sec
):
    """60 s to be placed, 30 s to meet, 600 s to be started again."""
    monkeypatch.setattr(Placement, "_waited_sec", lambda self: age_sec)
    placement = Placement(half_placed[0], limit_sec=60.0, meet_sec=30.0)
    assert placement.left_sec == left_sec
    assert placement.is_over or left_sec > 0
