"""The program that measures a card, run dry on the CPU: it works, keeps its bounds and writes as it goes."""

import json

import pytest

from benchmarks import on_gpu


@pytest.fixture(autouse=True)
def _all_the_time_in_the_world(monkeypatch):
    """A part that no longer fits is left out; on a busy machine every part may take long."""
    monkeypatch.setattr(on_gpu, "FULL_SEC", 3600.0)


def dry_run(folder):
    assert on_gpu.main(["--dry", "--folder", str(folder)]) == 0, (folder / "gpu-dry-run.md").read_text()
    rows = json.loads((folder / "gpu-dry-run.json").read_text())["rows"]
    table = (folder / "gpu-dry-run.md").read_text()
    assert all(row["result"] in table for row in rows)
    return rows


def test_the_dry_run_computes_what_it_says_and_keeps_its_bounds(tmp_path, monkeypatch):
    light = [(name, part) for name, part in on_gpu.parts(quick=True) if name not in ("ends", "data wait")]
    monkeypatch.setattr(on_gpu, "parts", lambda *, quick: light)
    rows = dry_run(tmp_path / "made for it")
    assert list(dict.fromkeys(row["part"] for row in rows)) == ["transforms", "logits", "step", "features"]
    assert sum("clips/s" in row["result"] for row in rows) == 5


@pytest.mark.slow(seconds=25)
def test_the_dry_run_starts_ranks_ends_them_and_feeds_them(tmp_path, monkeypatch):
    heavy = [(name, part) for name, part in on_gpu.parts(quick=True) if name in ("ends", "data wait")]
    monkeypatch.setattr(on_gpu, "parts", lambda *, quick: heavy)
    rows = dry_run(tmp_path)
    assert {row["what"]: row["result"] for row in rows if row["part"] == "ends"} == {
        "SIGTERM, then resumed": "143, 0 (143, 0)",
        "a stopped peer": "150 (150)",
    }
    assert "clips/s, waits" in rows[-1]["result"]


def test_a_part_that_fails_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    def broken(bench):
        yield "before", "good"
        raise RuntimeError("no such kernel\nmore")

    monkeypatch.setattr(
        on_gpu, "parts", lambda *, quick: [("first", broken), ("second", lambda bench: iter([("x", "1")]))]
    )
    assert on_gpu.main(["--dry", "--folder", str(tmp_path)]) == 1
    rows = json.loads((tmp_path / "gpu-dry-run.json").read_text())["rows"]
    assert [(row["part"], row["what"], row["result"]) for row in rows] == [
        ("first", "before", "good"),
        ("first", "FAILED", "RuntimeError: no such kernel"),
        ("second", "x", "1"),
    ]


def test_what_no_longer_fits_the_time_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(on_gpu, "FULL_SEC", -1.0)
    on_gpu.main(["--dry", "--folder", str(tmp_path)])
    rows = json.loads((tmp_path / "gpu-dry-run.json").read_text())["rows"]
    assert {row["result"] for row in rows} == {"the time is up"}


def test_without_a_gpu_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(on_gpu, "choose_device", lambda rank: on_gpu.torch.device("cpu"))
    with pytest.raises(SystemExit):
        on_gpu.main(["--folder", str(tmp_path)])
    assert "there is no GPU here" in capsys.readouterr().err
