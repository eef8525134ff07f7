"""``tspctl`` in this process, with folders of its own, and ranks that only pretend to train."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.backends.local import launch as local_launch
from cli.backends.local.records import Supervised
from cli.backends.local.run_folder import known_runs, local_run
from tsp.errors import ConfigError
from tsp.run.processes import send

FAKE_RANK = Path(__file__).with_name("fake_rank.py")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Tspctl = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and current folder; no settings but these."""
    for variable in [name for name in os.environ if name.startswith(("TSPCTL_", "AWS_", "XDG_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tspctl(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tspctl:
    """Run a command line; returns exit code, stdout and stderr."""
    from cli.main import main

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tspctl", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A demo data set as far as the preflight looks: tables, videos, label maps, GVF."""
    root = tmp_path / "demo"
    for folder in ("train", "valid"):
        (root / folder).mkdir(parents=True)
    columns = "filename,t-start,t-end,video-duration,action-label,temporal-region-label"
    for name in ("train_tsp_groundtruth.csv", "valid_tsp_groundtruth.csv"):
        (root / f"demo_{name}").write_text(f"{columns}\na.mp4,0,3,9,Bouncing,Action\n")
    (root / "demo_action_label_mapping.json").write_text('["Bouncing"]')
    (root / "demo_temporal_region_label_mapping.json").write_text('["Action", "No action"]')
    (root / "tiny-max_gvf.h5").write_bytes(b"")
    return root


@pytest.fixture
def plan_ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the pretended ranks do from now on (see fake_rank)."""

    def plan(**what: Any) -> None:
        monkeypatch.setenv("FAKE_RANK", json.dumps(what))

    return plan


@pytest.fixture
def local(home: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Settings for local runs of pretended ranks, ended with the test. Returns: the store's folder."""
    monkeypatch.setenv("TSPCTL_BACKEND", "local")
    monkeypatch.setenv("TSPCTL_DATA", str(data_root))
    monkeypatch.setenv("TSPCTL_STORE", str(home / "store"))
    monkeypatch.setattr(local_launch, "ENTRYPOINT", (sys.executable, "-P", str(FAKE_RANK)))
    for module in ("launch", "lifecycle"):  # a busy machine takes long to start a supervisor
        monkeypatch.setattr(f"cli.backends.local.{module}.START_TIMEOUT_SEC", 600.0)
    yield home / "store"
    for run in known_runs():
        supervised = None
        with contextlib.suppress(ConfigError):
            supervised = run.supervised()
        if supervised is not None and supervised.pid != os.getpid():
            send(supervised.process, signal.SIGKILL)
            for rank in supervised.ranks:
                send(rank.process, signal.SIGKILL)


def kill_supervisor(name: str) -> Supervised:
    """Kill the supervisor of a run by force; returns what it supervised."""
    supervised = local_run(name).supervised()
    assert supervised is not None
    os.kill(supervised.pid, signal.SIGKILL)
    return supervised
