"""Variables of pods and ranks: what is no number, or contradicts another, is refused by name and never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tsp.config.job import own_share
from tsp.config.jobs import ProbeJob, StandardizeJob
from tsp.config.variables import whole_number
from tsp.errors import ConfigError
from tsp.run.pod_ranks import PodRanks, member_of, pod_environment

SECOND = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "23456"}


def rank_env(environment: Mapping[str, str]) -> object:
    pytest.importorskip("torch")
    from tsp.train.distributed import RankEnv

    return RankEnv.from_env(pod_environment(environment))


def pod(environment: Mapping[str, str]) -> object:
    ranks = PodRanks.from_env(pod_environment({"TSP_RANKS_PER_POD": "2", **environment}))
    return [ranks.environment_of(local) for local in range(ranks.per_pod)]


def shard(environment: Mapping[str, str]) -> object:
    return own_share(StandardizeJob(source="/a", dest="/b"), environment)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "1_0", "²", "٣", "0x1", "1e1", "99999999999999999999", "+1"])
@pytest.mark.parametrize(
    ("read", "name", "others"),
    [
        *((read, name, SECOND) for read in (rank_env, pod) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")),
        (rank_env, "LOCAL_RANK", SECOND),
        (pod, "TSP_RANKS_PER_POD", SECOND),
        (shard, "JOB_COMPLETION_INDEX", {"TSP_NUM_SHARDS": "2"}),
        (shard, "TSP_NUM_SHARDS", {"JOB_COMPLETION_INDEX": "0"}),
    ],
)
def test_what_is_no_number_is_refused_by_name(
    read: Callable[[Mapping[str, str]], Any], name: str, others: dict[str, str], text: str
) -> None:
    read({**others, **({} if name in others else {name: "1"})})
    with pytest.raises(ConfigError, match=f"variable {name} (must be a whole number|is)"):
        read({**others, name: text})


@pytest.mark.parametrize("read", [rank_env, pod])
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": ""}, "WORLD_SIZE is 2, but RANK is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
        ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is 1"),
        ({**SECOND, "MASTER_PORT": "0"}, "MASTER_PORT must be a whole number from 1 to 65535"),
        ({**SECOND, "MASTER_PORT": "65536"}, "MASTER_PORT must be a whole number from 1 to 65535"),
    ],
)
def test_members_that_contradict_each_other_are_refused(
    read: Callable[[Mapping[str, str]], Any], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read(environment)


def test_an_empty_rank_does_not_hide_the_one_that_the_trainer_gave() -> None:
    """Each pod would otherwise be rank 0 of a run of its own."""
    assert member_of(pod_environment({"RANK": "", "PET_NODE_RANK": "1", "PET_NNODES": "2"})) == (1, 2)


def test_what_is_empty_is_not_set() -> None:
    assert (whole_number({}, "A", 7), whole_number({"A": " "}, "A", 7), whole_number({"A": " 3 "}, "A", 7)) == (7, 7, 3)
    assert pod({**SECOND, "MASTER_PORT": "", "MASTER_ADDR": ""})[0]["MASTER_ADDR"] == "127.0.0.1"  # type: ignore[index]
    probe = ProbeJob(videos="/a")
    assert own_share(probe, {"JOB_COMPLETION_INDEX": "x"}) is probe
