"""Results and downloads, of our runs and of folders that the original scripts wrote."""

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cli.runs.download import keep_weights
from tests.cli.conftest import Tspctl
from tests.limits import files_of_at_most
from tsp.config.recipes import load_dataset, resolve
from tsp.errors import StoreError
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore

RESULTS = """\
** Valid Epoch 0:  <action-label> Accuracy 40.000 Loss 1.990; <temporal-region-label> Accuracy 60.000 Loss nan; \
Total Loss nan Avg Accuracy 50.000
** Valid Epoch 1:  <action-label> Accuracy 80.000 Loss 0.990; <temporal-region-label> Accuracy 81.667 Loss 0.634; \
Total Loss 1.623 Avg Accuracy 80.833
** Valid Epoch 2:  <action-label> Accuracy 95.000 Loss 0.990; <temporal-region-label> Accuracy 95.000 Loss 0.634; \
Total Loss 1.623 Avg Accuracy 95.000
** Valid Epoch 2:  <action-label> Accuracy 55.000 Loss 0.990; <temporal-region-label> Accuracy 55.000 Loss 0.634; \
Total Loss 1.623 Avg Accuracy 55.000
"""


@pytest.fixture
def original(home: Path) -> Path:
    """An output folder of the original scripts: a repeated epoch, a nan, a name that is none of ours."""
    folder = home / "Output_TSP" / "r2plus1d_34-tsp_on_thumos14"
    folder.mkdir(parents=True)
    (folder / "results.txt").write_text(RESULTS)
    for epoch in range(3):
        (folder / f"epoch_{epoch}.pth").write_bytes(b"epoch %d" % epoch * 1000)
    return folder


@pytest.mark.parametrize("spelling", ["{0}", "{0}/", "file://{0}", "./Output_TSP/r2plus1d_34-tsp_on_thumos14"])
def test_an_original_folder_has_results_and_a_best_epoch(tspctl: Tspctl, original: Path, spelling: str) -> None:
    run = spelling.format(original)
    results = tspctl("results", run, "-o", "json").json
    assert results["best_epoch"] == 1
    assert [epoch["avg_accuracy_percent"] for epoch in results["epochs"]] == [50.0, 80.833, 55.0]
    assert results["epochs"][0]["heads"][1]["loss"] is None
    fetched = tspctl("fetch-best", run, "-d", "out")
    assert fetched.code == 0
    assert fetched.out == "out/r2plus1d_34-tsp_on_thumos14-epoch_1.pth\n"
    assert Path(fetched.out.strip()).read_bytes() == b"epoch 1" * 1000


def test_the_current_folder_can_be_the_run(tspctl: Tspctl, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original)
    assert tspctl("results", ".", "-o", "json").json["best_epoch"] == 1
    assert tspctl("status", ".").out.startswith("Run ")
    assert tspctl("cancel", ".").code == 2


def test_the_table_marks_the_best_epoch(tspctl: Tspctl, original: Path) -> None:
    lines = tspctl("results", original).out.splitlines()
    assert lines[0].split()[:3] == ["EPOCH", "AVG", "ACCURACY"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]
    assert [line.endswith("best") for line in lines[1:]] == [False, True, False]
    assert "nan" in lines[1]
    assert "\x1b" not in "".join(lines)


def test_the_plot_is_a_picture(tspctl: Tspctl, original: Path) -> None:
    pytest.importorskip("matplotlib")
    assert tspctl("results", original, "--plot", "curves.png").code == 0
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    assert tspctl("results", original, "--plot", "new/folder/curves.png").code == 0
    assert Path("new/folder/curves.png").exists(), "folders are made as for other outputs"
    refused = tspctl("results", original, "--plot", "curves.png/curves.png")
    assert (refused.code, "curves.png/curves.png" in refused.err) == (2, True)


def test_without_matplotlib_the_plot_says_how_to_get_it(
    tspctl: Tspctl, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = tspctl("results", original, "--plot", "curves.png")
    assert (refused.code, "tspctl[plot]" in refused.err) == (2, True)


def test_fetch_takes_an_epoch_or_everything(tspctl: Tspctl, original: Path) -> None:
    assert tspctl("fetch", original).code == 2
    assert tspctl("fetch", original, "--epoch", "2").out == f"{original.name}-epoch_2.pth\n"
    missing = tspctl("fetch", original, "--epoch", "7")
    assert (missing.code, "there are: 0, 1, 2" in missing.err) == (5, True)
    assert tspctl("fetch", original, "--features").code == 3
    everything = tspctl("fetch", original, "--all", "-d", "copy", "-o", "json").json["paths"]
    assert sorted(Path(path).name for path in everything) == [
        "epoch_0.pth",
        "epoch_1.pth",
        "epoch_2.pth",
        "results.txt",
    ]
    assert (Path("copy") / original.name / "results.txt").read_text() == RESULTS


@pytest.mark.parametrize("command", [("fetch-best",), ("fetch", "--epoch", "1")])
def test_a_file_that_is_no_checkpoint_is_not_overwritten(
    tspctl: Tspctl, original: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    table, earlier = tmp_path / "train.csv", tmp_path / "best.PTH"
    for file in (table, earlier):
        file.write_text("precious")
    refused = tspctl(*command, original, "-d", table)
    assert (refused.code, refused.out, table.read_text()) == (2, "", "precious")
    assert "train.csv: this file exists and its name is not that of a checkpoint" in refused.err
    assert tspctl(*command, original, "-d", earlier).code == 0
    assert earlier.read_bytes() == b"epoch 1" * 1000


def test_no_finished_epoch_is_a_data_error(tspctl: Tspctl, original: Path) -> None:
    (original / "results.txt").write_text("")
    ended = tspctl("fetch-best", original)
    assert (ended.code, "no epoch has been validated yet" in ended.err) == (3, True)
    (original / "results.txt").write_text(RESULTS.splitlines()[0].replace("50.000", "nan"))
    assert tspctl("fetch-best", original).code == 3
    assert tspctl("results", original).code == 0


def test_an_unwritable_destination_is_named(tspctl: Tspctl, original: Path) -> None:
    Path("file").write_text("")
    ended = tspctl("fetch-best", original, "-d", "file/below")
    assert (ended.code, "file/below" in ended.err) == (2, True)


def test_weights_only_leaves_model_epoch_and_args(tspctl: Tspctl, original: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoint = {"model": {"fc.bias": torch.ones(3)}, "optimizer": {"x": 1}, "lr_scheduler": {}, "epoch": 1}
    torch.save({**checkpoint, "args": argparse.Namespace(lr=0.1)}, original / "epoch_1.pth")
    path = tspctl("fetch-best", original, "--weights-only").out.strip()
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(path, weights_only=True)
    assert set(loaded) == {"model", "epoch", "args"}
    assert torch.equal(loaded["model"]["fc.bias"], torch.ones(3))


def test_weights_that_do_not_fit_beside_the_checkpoint_are_told_as_a_full_disk(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch, which only has to write here, is a small program: it takes two seconds to import."""
    (home / "torch.py").write_text(
        "import contextlib, types\nserialization = types.SimpleNamespace(safe_globals=contextlib.nullcontext)\n"
        "def load(path, **_): return {}\ndef save(content, file): file.write(bytes(10_000))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(home))
    path = home / "e.pth"
    path.write_bytes(b"whole")
    with files_of_at_most(1000), pytest.raises(StoreError, match=f"^{path} would be larger"):
        keep_weights(path)
    assert path.read_bytes() == b"whole"
    keep_weights(path)
    assert len(path.read_bytes()) == 10_000


def test_weights_only_runs_nothing_that_a_checkpoint_hides(tspctl: Tspctl, original: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"model": {}, "args": _Evil()}, original / "epoch_1.pth")
    ended = tspctl("fetch-best", original, "--weights-only")
    assert ended.code == 3
    assert not Path("evil").exists()
    assert not list(Path().glob(".*weights"))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, ("touch evil",)


def test_fetching_never_loads_torch(original: Path) -> None:
    program = (
        "import sys; from cli.main import main\ntry: main()\n"
        "except SystemExit: print('torch' in sys.modules, 'boto3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "fetch-best", str(original)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"


def _stored_run(home: Path, num_files: int) -> LocalStore:
    store = LocalStore(home / "store")
    run = StoredRun(store, "my-run")
    run.create(resolve(load_dataset("demo"), "tac", name="my-run", store={"uri": store.uri}, root="/data"), None)
    for number in range(num_files):
        store.write(f"my-run/features/{number % 7}/{number}.bin", str(number).encode() * 50)
    return store


def test_many_files_are_fetched_at_once_and_shown_as_one(
    tspctl: Tspctl, home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stored_run(home, 60)
    read, at_once, seen = LocalStore.read, threading.Barrier(8, timeout=120), threading.local()

    def wait_for_the_others(self: LocalStore, key: str, *, offset_bytes: int = 0) -> bytes:
        if key.endswith(".bin") and not hasattr(seen, "first"):
            seen.first = key
            at_once.wait()
        return read(self, key, offset_bytes=offset_bytes)

    monkeypatch.setattr(LocalStore, "read", wait_for_the_others)
    with caplog.at_level("INFO", logger="cli"):
        ended = tspctl("fetch", str(home / "store/my-run"), "--all", "-d", str(home / "here"), "-o", "json")
    paths = [Path(path) for path in ended.json["paths"]]
    assert len(paths) == 61
    assert {path.read_bytes() for path in paths} >= {str(number).encode() * 50 for number in range(60)}
    said = [record.getMessage() for record in caplog.records if "%" in record.getMessage()]
    assert all(line.startswith("61 files: ") for line in said), said
    assert len(said) <= 11


def test_one_file_that_cannot_be_fetched_does_not_keep_the_others(
    tspctl: Tspctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stored_run(home, 20)
    read = LocalStore.read

    def refuse(self: LocalStore, key: str, *, offset_bytes: int = 0) -> bytes:
        if key.endswith("/3.bin"):
            raise StoreError(f"{key} is refused")
        return read(self, key, offset_bytes=offset_bytes)

    monkeypatch.setattr(LocalStore, "read", refuse)
    ended = tspctl("fetch", str(home / "store/my-run"), "--features", "-d", str(home / "here"))
    assert ended.code == 5
    assert "3.bin is refused" in ended.err
    assert len([path for path in (home / "here").rglob("*.bin")]) == 19


def test_a_run_that_may_be_writing_is_deleted_only_by_force(tspctl: Tspctl, home: Path) -> None:
    store = _stored_run(home, 1)
    words = ("delete", "my-run", "--backend", "local", "--store", store.uri, "--yes")
    ended = tspctl(*words)
    assert ended.code == 2
    assert "by the store's clock: stop it where it is running, or use --force" in ended.err
    old = time.time() - 3600
    for path in (home / "store").rglob("*"):
        os.utime(path, (old, old))
    assert store.exists("my-run/run.json")
    assert tspctl(*words).code == 0
    assert not store.exists("my-run/run.json")
    store = _stored_run(home, 1)
    assert tspctl(*words, "--force").code == 0
    assert list(store.list()) == []
