"""Runs that start from a file or from an earlier run."""

import json

import pytest
import yaml

from tsp.config.recipes import load_dataset, resolve
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore

LOCAL = ("--backend", "local", "--gpus", "1")


def dry_run(tspctl, *words):
    done = tspctl("submit", *LOCAL, *words, "--dry-run", "-o", "yaml")
    assert done.code == 0, done.err
    return done


def test_what_a_dry_run_prints_is_a_file_that_submit_takes_as_it_is(tspctl, data_root, tmp_path):
    options = ("--dataset", "demo", "--method", "tsp", "--data", data_root, "--store", tmp_path / "runs")
    first = dry_run(tspctl, *options, "--set", "optim.head_lr=0.0625", "--name", "a-run")
    (tmp_path / "run.yaml").write_text(first.out)
    assert dry_run(tspctl, "-f", tmp_path / "run.yaml").out == first.out
    (tmp_path / "run.json").write_text(json.dumps(yaml.safe_load(first.out)))
    assert dry_run(tspctl, "--file", tmp_path / "run.json").out == first.out


def test_options_win_over_the_file_and_what_differs_is_said(tspctl, data_root, tmp_path):
    options = ("--dataset", "demo", "--method", "tsp", "--data", data_root, "--store", tmp_path / "runs")
    (tmp_path / "run.yaml").write_text(dry_run(tspctl, *options, "--name", "a-run").out)
    done = dry_run(tspctl, "-f", tmp_path / "run.yaml", "--set", "seed=7", "--backbone", "r3d_18", "--name", "b-run")
    config = yaml.safe_load(done.out)["config"]
    assert (config["name"], config["seed"], config["model"]["backbone"]) == ("b-run", 7, "r3d_18")
    assert "seed is 7, was 42" in done.err
    assert "model.backbone is r3d_18, was tiny" in done.err


def test_a_run_like_an_earlier_one_has_its_values_and_a_name_of_its_own(tspctl, data_root, tmp_path):
    config = resolve(load_dataset("demo"), "tac", name="old", store={"uri": str(tmp_path / "runs")},
                     root=str(data_root), overrides={"optim.head_lr": 0.5})  # fmt: skip
    run = StoredRun(LocalStore(tmp_path / "runs"), "old")
    run.create(config, None, versions={"tspctl": "0.0.9"}, data_digest="ab" * 32)
    done = dry_run(tspctl, "--like", "old", "--store", tmp_path / "runs", "--set", "seed=7")
    new = yaml.safe_load(done.out)["config"]
    assert (new["optim"]["head_lr"], new["seed"], new["method"]) == (0.5, 7, "tac")
    assert new["name"] != "old"
    assert "old was made with tspctl 0.0.9" in done.err
    assert "digest abababab" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [("config: [", "neither YAML nor JSON"), ("a: 1", "has no 'config'"), ("", "has no 'config'"),
     ("config: {}", "name"),
     ("config: {name: a, colour: red}", "colour"), ("\udcff", "cannot be read")],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_refused_by_name(tspctl, tmp_path, content, message):
    (tmp_path / "run.yaml").write_bytes(content.encode("utf-8", "surrogateescape"))
    done = tspctl("submit", *LOCAL, "-f", tmp_path / "run.yaml")
    assert done.code == 2
    assert "run.yaml" in done.err
    assert message in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "Missing option '--dataset'"), (("--dataset", "demo"), "Missing option '--method'"),
     (("-f", "a", "--like", "b"), "exclude each other"), (("-f", "nowhere.yaml"), "nowhere.yaml")],
)  # fmt: skip
def test_a_run_needs_a_recipe_a_file_or_an_earlier_run(tspctl, words, message):
    done = tspctl("submit", *LOCAL, *words)
    assert done.code == 2
    assert message in done.err
