"""Local runs where the file system refuses locks, or grants them to everybody: NFS and some FUSE mounts."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.backends.local.claim import CLAIM, claimed
from cli.backends.local.run_folder import LocalRun, local_run
from tests.cli.conftest import FAKE_RANK, Tspctl, kill_supervisor
from tests.waiting import wait_until
from tsp.errors import ConfigError
from tsp.run.processes import is_alive
from tsp.store import locks

SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--gpus", "2", "--name", "a")
Plan = Callable[..., None]
SHIM = {
    "locks": "",
    "refused": """
import errno, fcntl
def flock(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
""",
    "granted to all": """
import fcntl
fcntl.flock = lambda *_: None
""",
}
COMMAND = f"""
import sys
from cli import main
from cli.backends.local import launch
launch.ENTRYPOINT = (sys.executable, "-P", {str(FAKE_RANK)!r})
main.main()
"""


@pytest.fixture(params=SHIM)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """How locks behave, in this process and in every one that it starts."""
    kind = str(request.param)
    folder = tmp_path / "shim"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SHIM[kind])
    monkeypatch.setenv("PYTHONPATH", str(folder))
    if kind != "locks":
        space: dict[str, object] = {}
        monkeypatch.setattr(locks.fcntl, "flock", locks.fcntl.flock)  # put back after the test
        exec(SHIM[kind], space)
    return kind


def supervisors(name: str) -> list[int]:
    """Processes that supervise a run."""
    folder = str(local_run(name).folder)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "cli.backends.local.supervisor" in words and folder in words:
            found.append(int(path.parent.name))
    return found


def test_a_run_goes_through_its_life(tspctl: Tspctl, local: Path, plan_ranks: Plan, file_system: str) -> None:
    plan_ranks(epochs=1000, step_sec=0.05)
    assert tspctl(*SUBMIT).code == 0
    wait_until((local / "a" / "progress.json").exists, "it runs")
    assert [(row["name"], row["state"]) for row in tspctl("list", "-o", "json").json] == [("a", "running")]
    assert tspctl(*SUBMIT).code == 2
    assert tspctl("resume", "a").code == 2
    assert len(supervisors("a")) == 1
    assert tspctl("suspend", "a").code == 0
    assert tspctl("status", "a", "-o", "json").json["state"] == "suspended"
    plan_ranks(epochs=2)
    assert tspctl("resume", "a").code == 0
    assert tspctl("wait", "a").code == 0
    assert [(row["name"], row["state"]) for row in tspctl("list", "-o", "json").json] == [("a", "succeeded")]
    assert tspctl("cancel", "a").code == 2
    assert tspctl("delete", "a", "--yes").code == 0
    assert tspctl("list", "-o", "name").out == ""


def test_a_second_supervisor_gives_up_and_harms_nothing(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, file_system: str
) -> None:
    plan_ranks(epochs=1000, step_sec=0.05)
    assert tspctl(*SUBMIT).code == 0
    wait_until((local / "a" / "progress.json").exists, "it runs")
    before = local_run("a").supervised()
    folder = local_run("a").folder
    second = subprocess.run(
        [sys.executable, "-m", "cli.backends.local.supervisor", str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (second.returncode, "already has a supervisor" in second.stderr) == (1, True)
    assert before is not None
    assert all(is_alive(rank.process) for rank in before.ranks)
    assert tspctl("cancel", "a").code == 0
    assert tspctl("status", "a", "-o", "json").json["state"] == "cancelled"


def test_of_several_that_resume_at_once_one_does(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, file_system: str
) -> None:
    plan_ranks(epochs=1000, step_sec=0.05)
    assert tspctl(*SUBMIT).code == 0
    wait_until((local / "a" / "progress.json").exists, "it runs")
    killed = kill_supervisor("a")
    wait_until(lambda: not any(is_alive(rank.process) for rank in killed.ranks), "ranks end too")

    def resume(_: int) -> int:
        command = [sys.executable, "-c", COMMAND, "resume", "a"]
        return subprocess.run(command, capture_output=True, check=False, timeout=300).returncode

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(resume, range(4)))
    assert sorted(codes) == [0, 2, 2, 2]
    assert len(supervisors("a")) == 1
    assert not (local_run("a").folder / CLAIM).is_symlink()
    assert tspctl("cancel", "a").code == 0


def test_a_claim_of_a_process_that_is_gone_is_taken_over_and_one_of_a_live_one_is_not(tmp_path: Path) -> None:
    run = LocalRun(tmp_path)
    os.symlink("4194999 some boot 1", tmp_path / CLAIM)
    with claimed(run):
        assert os.readlink(tmp_path / CLAIM).startswith(f"{os.getpid()} ")
        with pytest.raises(ConfigError, match=f"another tspctl .process {os.getpid()}. is changing run"), claimed(run):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_claim_is_named(tmp_path: Path) -> None:
    (tmp_path / CLAIM).write_text("")
    with pytest.raises(ConfigError, match="was not written by tspctl: remove it"), claimed(LocalRun(tmp_path)):
        pass
