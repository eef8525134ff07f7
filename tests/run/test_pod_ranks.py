"""A pod with several GPUs: which ranks it has, what each is told, and how their end is the pod's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until
from tsp.config.cpus import usable_cpus
from tsp.errors import ConfigError
from tsp.run.pod_ranks import PodRanks, pod_environment

OPERATOR = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "a-master-0", "MASTER_PORT": "23456"}
TRAINER = {
    "PET_NODE_RANK": "1",
    "PET_NNODES": "3",
    "PET_MASTER_ADDR": "a-node-0-0.a",
    "PET_MASTER_PORT": "29500",
    "JOB_COMPLETION_INDEX": "1",
}


@pytest.mark.parametrize("controller", [OPERATOR, TRAINER], ids=["operator", "trainer"])
@pytest.mark.parametrize("per_pod", [1, 2, 8])
def test_ranks_are_counted_through_the_pods_whichever_controller_made_them(
    controller: dict[str, str], per_pod: int
) -> None:
    ranks = PodRanks.from_env(pod_environment({**controller, "TSP_RANKS_PER_POD": str(per_pod)}))
    assert list(ranks.ranks) == list(range(per_pod, 2 * per_pod))
    for local in range(per_pod):
        own = ranks.environment_of(local)
        assert (own["RANK"], own["LOCAL_RANK"], own["WORLD_SIZE"]) == (str(per_pod + local), "0", str(3 * per_pod))
        assert own["CUDA_VISIBLE_DEVICES"] == str(local)
        assert own["MASTER_ADDR"] == controller.get("MASTER_ADDR", controller.get("PET_MASTER_ADDR"))
        assert own["MASTER_PORT"] == controller.get("MASTER_PORT", controller.get("PET_MASTER_PORT"))
        # or each rank would start ranks of its own
        assert own["TSP_RANKS_PER_POD"] == "1"


def test_what_the_operator_says_is_not_overridden() -> None:
    both = pod_environment({**TRAINER, **OPERATOR, "WORLD_SIZE": "7"})
    assert (both["RANK"], both["WORLD_SIZE"], both["MASTER_PORT"]) == ("1", "7", "23456")


def test_ranks_share_the_cpus_of_their_pod_unless_told_otherwise() -> None:
    own = {**OPERATOR, "TSP_RANKS_PER_POD": "2"}
    assert PodRanks.from_env(own).environment_of(0)["TSP_NUM_THREADS"] == str(max(1, usable_cpus() // 2))
    told = PodRanks.from_env({**own, "TSP_NUM_THREADS": "3", "TSP_NEEDS_GPU": "1"})
    assert told.environment_of(1)["TSP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("cpus", "per_pod", "expected"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (7, 4, 1), (2, 4, 1), (1, 8, 1)]
)
def test_every_rank_has_its_whole_share_of_the_cpus_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, cpus: int, per_pod: int, expected: int
) -> None:
    monkeypatch.setattr("tsp.run.pod_ranks.usable_cpus", lambda: cpus)
    monkeypatch.setattr("tsp.run.pod_ranks.rank_cpus", lambda _: cpus)
    ranks = PodRanks.from_env({**OPERATOR, "TSP_RANKS_PER_POD": str(per_pod)})
    assert (ranks._threads(), ranks._cpus()) == (expected, expected)


def test_cards_that_the_pod_names_are_given_out_in_their_order() -> None:
    ranks = PodRanks.from_env({**OPERATOR, "TSP_RANKS_PER_POD": "2", "CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"})
    assert [ranks.environment_of(local)["CUDA_VISIBLE_DEVICES"] for local in (0, 1)] == ["GPU-b", "GPU-a"]


@pytest.mark.parametrize("value", ["0", "-1", "two", "²", "1.5"])
def test_a_number_of_ranks_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="TSP_RANKS_PER_POD must be a whole number from 1 to"):
        PodRanks.from_env({**OPERATOR, "TSP_RANKS_PER_POD": value})


def pod(program: str, **environment: str) -> subprocess.Popen[str]:
    """The first process of a pod with two ranks, second of two pods, whose ranks run a program instead of training."""
    lead = (
        "import os, sys\n"
        "from tsp.run import rank_group\n"
        "from tsp.run.pod_ranks import PodRanks, run_ranks\n"
        # However slowly a rank starts, the others wait for what it says.
        "rank_group._AFTER_PEER_LOST_SEC = 600.0\n"
        "command = (sys.executable, '-c', os.environ['PROGRAM'])\n"
        "sys.exit(run_ranks(PodRanks.from_env(os.environ), command))\n"
    )
    own = {"RANK": "1", "WORLD_SIZE": "2", "TSP_RANKS_PER_POD": "2", "PROGRAM": program, **environment}
    return subprocess.Popen([sys.executable, "-c", lead], env={**os.environ, **own}, stderr=subprocess.PIPE, text=True)


def test_every_line_says_which_rank_wrote_it() -> None:
    program = (
        "import os, sys\n"
        "rank = os.environ['RANK']\n"
        "print(f'2030-01-01T00:00:00.000Z rank {rank} INFO starts', file=sys.stderr, flush=True)\n"
        "print('rank 9 is not mine', flush=True)\n"
        "sys.stdout.write('no end')\n"
    )
    process = pod(program)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    for rank in (2, 3):
        own = [line for line in said.splitlines() if f"rank {rank} " in line]
        assert own == [
            f"2030-01-01T00:00:00.000Z rank {rank} INFO starts",
            f"rank {rank} rank 9 is not mine",
            f"rank {rank} no end",
        ]


def test_a_rank_that_fails_ends_the_others_and_the_pod_as_it_did() -> None:
    program = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '3':\n"
        "    print('2030Z rank 3 ERROR clip 7 is broken', flush=True)\n"
        "    sys.exit(3)\n"
        "time.sleep(3600)\n"
    )
    process = pod(program)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 3
    last = said.splitlines()[-1]
    assert last.endswith("Z rank 3 ERROR ended with exit code 3 (bad data): clip 7 is broken")


def test_a_killed_rank_is_blamed_and_not_the_ones_that_lost_it() -> None:
    program = (
        "import os, signal, sys, time\n"
        "if os.environ['RANK'] == '3':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(0.3)\n"
        "sys.exit(150)\n"
    )
    process = pod(program)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 137, said
    assert "rank 3 ERROR ended with exit code 137" in said


def test_a_pod_that_is_told_to_end_has_its_ranks_save_first(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys, time\n"
        "folder = pathlib.Path(os.environ['FOLDER'])\n"
        "def save(*_):\n"
        "    time.sleep(0.5)\n"
        "    (folder / f\"saved-{os.environ['RANK']}\").touch()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "(folder / f\"ready-{os.environ['RANK']}\").touch()\n"
        "time.sleep(3600)\n"
    )
    process = pod(program, FOLDER=str(tmp_path))
    wait_until(lambda: len(list(tmp_path.glob("ready-*"))) == 2, "both ranks listen")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=900)
    assert process.returncode == 143
    assert sorted(path.name for path in tmp_path.glob("saved-*")) == ["saved-2", "saved-3"]


def test_a_command_gets_the_environment_of_one_rank() -> None:
    own = {**TRAINER, "TSP_RANKS_PER_POD": "2"}
    command = ["sh", "-c", "echo $RANK of $WORLD_SIZE on $CUDA_VISIBLE_DEVICES; exit 7"]
    done = subprocess.run(
        [sys.executable, "-m", "tsp.run.pod_ranks", "1", *command],
        env={**os.environ, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("3 of 6 on 1\n", 7), done.stderr
