"""``tspctl gpus`` on this machine; on a cluster see tests/k8s/test_gpus.py."""

import json
import socket

import pytest

from cli.backends.local import backend as local_backend
from cli.backends.local.gpus import Gpu
from cli.backends.run_status import RankStatus, RunStatus
from tests.cli.conftest import Tspctl

CARDS = [Gpu("0", "A10", 23028), Gpu("1", "A10", 23028), Gpu("2", "T4", None)]


def test_cards_of_this_machine_are_held_by_the_runs_that_compute_on_them(
    tspctl: Tspctl, local: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        def __init__(self, name: str, state: str) -> None:
            self.name, self.state = name, state

    def status(run: Known) -> RunStatus:
        ranks = (RankStatus(rank=0, state="running", gpu="cuda:1"),)
        return RunStatus(name=run.name, state=run.state, ranks=ranks)

    monkeypatch.setattr(local_backend, "gpus_here", lambda: CARDS)
    monkeypatch.setattr(local_backend, "known_runs", lambda: [Known("old", "succeeded"), Known("now", "running")])
    monkeypatch.setattr(local_backend, "local_status", status)
    shown = tspctl("gpus", "-o", "json").json
    assert {row["node"] for row in shown} == {socket.gethostname()}
    assert [(row["gpu"], row["memory"], row["total"], row["free"], row["held_by"]) for row in shown] == [
        ("A10", "23028 MiB", 2, 1, {"now": 1}),
        ("T4", None, 1, 1, {}),
    ]


def test_a_machine_without_gpus_says_so(tspctl: Tspctl, local: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_backend, "gpus_here", list)
    ended = tspctl("gpus")
    assert (ended.code, ended.out, ended.err) == (0, "", "no GPUs\n")
    assert json.loads(tspctl("gpus", "-o", "json").out) == []
