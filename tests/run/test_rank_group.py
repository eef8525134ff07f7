import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import wait_until
from tsp.run.processes import ProcessId, identify, is_alive, send, stop
from tsp.run.rank_group import RankCommand, RankGroup, judge, last_words, rank_environment
from tsp.run.status import RankEnd


def group_of(program: str, console: Path, *, ranks: int = 2, grace_sec: float = 5.0) -> RankGroup:
    """Ranks that run a Python program and write to files."""
    return RankGroup(
        (sys.executable, "-c", program),
        [RankCommand(rank=rank, environment={"RANK": str(rank)}) for rank in range(ranks)],
        output=lambda rank: (console / f"rank-{rank}.log").open("ab"),
        grace_sec=grace_sec,
    )


@pytest.mark.parametrize(
    ("ends", "kind", "cause"),
    [
        ([(0, 0), (1, 0)], "succeeded", 0),
        ([(0, 0), (1, 3)], "permanent", 1),
        ([(1, 3), (0, 150)], "permanent", 1),
        ([(0, 150), (1, 3)], "permanent", 1),
        ([(0, 150), (1, 137)], "retry", 1),
        ([(1, 137), (0, 1)], "retry", 1),
        ([(0, 150), (1, 150)], "retry", 0),
        ([(0, 143), (1, 143)], "retry", 0),
        ([(0, 143), (1, 2)], "permanent", 1),
        ([(0, 127)], "permanent", 0),
        ([(0, 128)], "retry", 0),
    ],
)
def test_the_first_end_that_blames_nobody_else_is_the_cause(ends: list[tuple[int, int]], kind: str, cause: int) -> None:
    verdict = judge([RankEnd(*end) for end in ends])
    assert (verdict.kind, verdict.cause.rank) == (kind, cause)


def test_a_rank_sees_one_card_wherever_it_runs() -> None:
    environment = rank_environment(1, 2, master_addr="here", master_port=7, device="3", num_threads=4, cpus=6)
    expected = {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "3", "MASTER_PORT": "7"}
    assert expected.items() <= environment.items()
    assert (environment["TSP_NUM_THREADS"], environment["TSP_CPUS"], environment["MASTER_ADDR"]) == ("4", "6", "here")
    on_cpu = rank_environment(0, 1, master_addr="here", master_port=7, device=None, num_threads=4, cpus=6)
    assert on_cpu["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", ""),
        ("a\nb\n", "b"),
        ("x ERROR tsp.train: it broke\nbye\n", "it broke"),
        ("ERROR first\nERROR second\n\n", "second"),
        ("ERROR " + 400 * "a", 300 * "a" + "..."),
    ],
)
def test_the_last_words_of_a_rank_are_its_last_error(written: str, words: str) -> None:
    assert last_words(written.splitlines()) == words


def test_ranks_that_lost_a_peer_wait_for_the_one_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsp.run.rank_group._AFTER_PEER_LOST_SEC", 600.0)
    program = "import os, sys, time; rank = int(os.environ['RANK']); time.sleep(rank * 0.6); sys.exit((150, 3)[rank])"
    group = group_of(program, tmp_path)
    assert judge(group.watch(lambda: False)).cause == RankEnd(1, 3)


def test_a_rank_and_its_children_are_killed_when_they_do_not_hear(tmp_path: Path) -> None:
    program = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    group = group_of(program, tmp_path, ranks=1, grace_sec=0.2)
    log = tmp_path / "rank-0.log"
    deadline = time.monotonic() + 600
    ends = group.watch(lambda: "\n" in log.read_text() or time.monotonic() > deadline)
    child = int(log.read_text())
    assert ends == [RankEnd(0, 137)]
    wait_until(lambda: identify(child) is None, "the child of the rank is gone")


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "os._exit(0)"])
def test_however_a_rank_ends_its_workers_end_with_it(tmp_path: Path, end: str) -> None:
    program = (
        "import os, signal, subprocess, sys, time\n"
        "worker = [sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)']\n"
        "print(*(subprocess.Popen(worker).pid for _ in range(2)), flush=True)\n"
        f"{end}\n"
    )
    group = group_of(program, tmp_path, ranks=1)
    group.watch(lambda: False)
    workers = [int(pid) for pid in (tmp_path / "rank-0.log").read_text().split()]
    assert len(workers) == 2
    wait_until(lambda: all(identify(pid) is None for pid in workers), "the workers are gone")


def test_a_pid_that_was_given_to_another_process_is_not_alive_and_gets_no_signal() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_alive(me)
    former = ProcessId(os.getpid(), "another boot 17")
    assert not is_alive(former)
    send(former, signal.SIGKILL)
    stop([former], grace_sec=0)


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait_until(lambda: identify(pid) is None, "the process is a zombie")
    os.waitpid(pid, 0)
