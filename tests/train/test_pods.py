"""Two pods of two ranks each, as a controller starts them: the same run as four ranks that have a pod each."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from tests.s3_servers import free_port
from tests.train.worlds import config_for, final_weights, on_ranks, run_of, same_weights, train_rank
from tsp.config.run import to_json


class Pod:
    """The first process of a pod, with what it writes."""

    def __init__(self, config_path, environment):
        own = {"TSP_CONFIG": str(config_path), "TSP_RANKS_PER_POD": "2", "TSP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tsp.entrypoint"],
            env={**os.environ, **own}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines = []
        self.at_work = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if "begins at epoch 0" in line:
                self.at_work.set()

    def end(self):
        code = self.process.wait(timeout=900)
        self.reader.join()
        return code


def by_operator(index, port):
    return {"RANK": str(index), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def by_trainer(index, port):
    return {
        "PET_NODE_RANK": str(index),
        "PET_NNODES": "2",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        "JOB_COMPLETION_INDEX": str(index),
    }


def start_pods(folder, config, controller):
    path = folder / "config.json"
    path.write_text(to_json(config))
    port = free_port()
    return [Pod(path, controller(index, port)) for index in range(2)]


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


@pytest.mark.slow(seconds=60)
def test_two_pods_of_two_ranks_lose_one_go_on_and_train_what_four_pods_do(tiny_data, tmp_path):
    changes = {"gpus": 4, "schedule__epochs": 2, "clips__per_segment": 8}
    straight = config_for(tiny_data, tmp_path / "straight", **changes)
    assert [error for _, error in on_ranks(4, train_rank, straight)] == [None] * 4
    config = config_for(tiny_data, tmp_path / "store", **changes)

    pods = start_pods(tmp_path, config, by_operator)
    assert pods[0].at_work.wait(600), "".join(pods[0].lines)
    os.kill(children_of(pods[1].process.pid)[0], signal.SIGKILL)
    codes = [pod.end() for pod in pods]
    said = "".join(pods[0].lines + pods[1].lines)
    # the rank that was killed is to blame, and what it took with it is worth another attempt
    assert codes[1] == 137, said
    assert codes[0] >= 128, said
    assert re.search(r"rank 2 ERROR ended with exit code 137", pods[1].lines[-1])

    pods = start_pods(tmp_path, config, by_trainer)
    assert [pod.end() for pod in pods] == [0, 0], "".join(pods[0].lines + pods[1].lines)
    assert same_weights(final_weights(run_of(config), 1), final_weights(run_of(straight), 1))
    ranks_of_lines = [{re.search(r"rank (\d)", line)[1] for line in pod.lines} for pod in pods]
    assert ranks_of_lines == [{"0", "1"}, {"2", "3"}]
    run = run_of(config)
    for rank in range(4):
        assert f"rank {rank} of 4 met the others" in run.store.read(run.log_key(2, rank)).decode()
