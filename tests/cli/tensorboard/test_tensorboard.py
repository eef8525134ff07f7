"""Event files as TensorBoard's own reader and server see them."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.tensorboard.events import EventMirror
from tests.cli.commands.test_metrics import run as run
from tests.cli.commands.test_metrics import write


def read(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def points(folder, tag):
    return [(event.step, pytest.approx(event.value)) for event in read(folder).Scalars(tag)]


def test_every_line_is_a_point_and_what_was_lost_is_forgotten(run, tmp_path):
    write(run, 1, 2, 4, 6)
    mirror = EventMirror(run, tmp_path / "events")
    assert mirror.refresh() == 4
    assert points(tmp_path / "events", "train/loss") == [(2, 1.25), (4, 0.625), (6, 2.5 / 6)]
    write(run, 2, 5, start=4)
    assert mirror.refresh() == 2
    assert mirror.refresh() == 0
    mirror.close()
    assert points(tmp_path / "events", "train/loss") == [(2, 1.25), (4, 0.625), (5, 0.5)]
    assert points(tmp_path / "events", "train/loss/action-label")[-1] == (5, 0.5)
    assert points(tmp_path / "events", "learning_rate/heads") == [(2, 2e-3), (4, 2e-3), (5, 2e-3)]


def test_the_configuration_is_there_as_text_and_as_hyperparameters(run, tmp_path):
    EventMirror(run, tmp_path / "events").close()
    found = read(tmp_path / "events")
    (shown,) = found.Tensors("configuration")
    assert "| model.backbone | r2plus1d_34 |" in shown.tensor_proto.string_val[0].decode()
    assert found.SummaryMetadata("configuration").plugin_data.plugin_name == "text"
    assert "_hparams_/session_start_info" in found.Tags()["tensors"]


def test_a_run_of_the_original_scripts_shows_its_epochs(tspctl, tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    line = "** Valid Epoch {}:  <action-label> Accuracy {}.500 Loss 2.000; Total Loss 2.000 Avg Accuracy {}.500\n"
    (folder / "results.txt").write_text("".join(line.format(n, 10 + n, 10 + n) for n in range(3)))
    done = tspctl("tensorboard", folder, "--export", tmp_path / "events")
    assert done.code == 0, done.err
    assert points(tmp_path / "events" / "output", "valid/accuracy_percent") == [(0, 10.5), (1, 11.5), (2, 12.5)]


def test_the_server_shows_the_runs_on_loopback_and_ctrl_c_ends_it_and_its_files(run, home, tmp_path):
    write(run, 1, 2, 4)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "tspctl", "tensorboard", "first", "--backend", "local", "--store",
               str(tmp_path / "runs"), "--port", "0"]  # fmt: skip
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as shown:
        try:
            address = next(found[0] for line in shown.stderr if (found := re.search(r"http://localhost:\d+/", line)))
            with urllib.request.urlopen(f"{address}data/plugin/scalars/tags") as answer:
                tags = json.load(answer)
            assert "train/loss" in tags["first"]
            assert list(temporary.glob("tspctl-*/*/first/events*"))
        finally:
            shown.send_signal(signal.SIGINT)
            assert shown.wait(600) == 0
    assert list(temporary.glob("tspctl-*/[!.]*")) == []


def test_two_runs_of_one_name_have_folders_of_their_own(run, tspctl, tmp_path):
    write(run, 1, 2)
    other = tmp_path / "other" / "first"
    other.mkdir(parents=True)
    (other / "results.txt").write_text("")
    done = tspctl("tensorboard", tmp_path / "runs/first", other, "--export", tmp_path / "events")
    assert done.code == 0, done.err
    folders = {str(path.parent.relative_to(tmp_path / "events")) for path in (tmp_path / "events").rglob("events*")}
    assert folders == {str(path).strip("/") for path in (tmp_path / "runs/first", other)}


def test_without_tensorboard_it_says_what_to_install(run, tspctl, tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name))
    done = tspctl("tensorboard", tmp_path / "runs/first", "--export", tmp_path / "events")
    assert done.code == 2
    assert "tspctl[tensorboard]" in done.err
