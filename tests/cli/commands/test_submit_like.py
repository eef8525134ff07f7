"""Runs that start from a file or from an earlier run."""

import hashlib
import json
import os
from types import SimpleNamespace

import pytest
import yaml

from cli.runs.earlier import EarlierRun, report_origins
from tsp.config.recipes import load_dataset, resolve
from tsp.run.origins import tables_of
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


def test_a_pipe_is_a_file_too(tspctl, data_root, tmp_path):
    options = ("--dataset", "demo", "--method", "tsp", "--data", data_root, "--store", tmp_path / "runs")
    printed = dry_run(tspctl, *options, "--name", "a-run").out
    reading, writing = os.pipe()
    with open(reading), open(writing, "w") as pipe:
        pipe.write(printed)
        pipe.close()
        assert dry_run(tspctl, "-f", f"/dev/fd/{reading}").out == printed


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (
            lambda tree: tree.update(name="other"),
            2,
            "name is 'other', but config.name is 'a-run': give both the same value",
        ),
        (lambda tree: tree.update(epochs=3), 2, "has an unknown key 'epochs'; known: name, effective, config"),
        (
            lambda tree: tree["effective"].update(global_batch=999),
            0,
            "effective.global_batch is recomputed: 16, was 999",
        ),
        (lambda tree: tree["config"].update(gpus=None), 2, "gpus must be of type int, got None"),
    ],
)
def test_nothing_that_was_changed_in_a_file_is_passed_over(tspctl, data_root, tmp_path, change, code, said):
    options = ("--dataset", "demo", "--method", "tac", "--data", data_root, "--store", tmp_path / "runs")
    tree = yaml.safe_load(dry_run(tspctl, *options, "--name", "a-run").out)
    change(tree)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    done = tspctl("submit", *LOCAL, "-f", tmp_path / "run.yaml", "--dry-run")
    assert done.code == code
    assert said in done.err


def test_a_key_that_a_file_gives_twice_is_refused(tspctl, data_root, tmp_path):
    options = ("--dataset", "demo", "--method", "tac", "--data", data_root, "--store", tmp_path / "runs")
    text = dry_run(tspctl, *options).out.replace("  seed: 42\n", "  seed: 42\n  seed: 43\n")
    (tmp_path / "run.yaml").write_text(text)
    done = tspctl("submit", *LOCAL, "-f", tmp_path / "run.yaml", "--dry-run")
    assert done.code == 2
    assert "'seed' is given twice" in done.err


@pytest.fixture
def old(data_root, tmp_path):
    """A run of this machine whose tables and weights are still as it found them."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    overrides = {"optim.head_lr": 0.5, "model.pretrained": str(weights)}
    config = resolve(load_dataset("demo"), "tac", name="old", store={"uri": str(tmp_path / "runs")},
                     root=str(data_root), overrides=overrides)  # fmt: skip
    run = StoredRun(LocalStore(tmp_path / "runs"), "old")
    run.create(config, None)
    digests = {name: hashlib.sha256((data_root / name).read_bytes()).hexdigest() for name in tables_of(config)}
    digests["pretrained"] = hashlib.sha256(b"weights").hexdigest()
    run.record_origins(versions={"tspctl": "0.0.9"}, machine={"image": "tsp:old"}, digests=digests)
    return run


def test_a_run_like_an_earlier_one_has_its_values_and_a_name_of_its_own(tspctl, old, tmp_path):
    done = dry_run(tspctl, "--like", "old", "--store", tmp_path / "runs", "--set", "seed=7")
    new = yaml.safe_load(done.out)["config"]
    assert (new["optim"]["head_lr"], new["seed"], new["method"]) == (0.5, 7, "tac")
    assert new["name"] != "old"
    assert "old was made with tspctl 0.0.9" in done.err
    assert "--like old: seed is 7, was 42" in done.err


def test_data_and_weights_are_compared_with_those_that_are_there_now(tspctl, old, data_root, tmp_path):
    words = ("--like", "old", "--store", tmp_path / "runs")
    done = dry_run(tspctl, *words)
    assert "the same as for old (SHA-256): demo_train_tsp_groundtruth.csv, " in done.err
    assert "the initial weights" in done.err
    assert "is not the file" not in done.err
    (data_root / "demo_valid_tsp_groundtruth.csv").open("a").write("a.mp4,3,6,9,Bouncing,Action\n")
    (tmp_path / "weights.pth").write_bytes(b"others")
    (data_root / "demo_action_label_mapping.json").unlink()
    done = dry_run(tspctl, *words)
    assert "demo_valid_tsp_groundtruth.csv is not the file that old was made with: SHA-256" in done.err
    assert "the initial weights is not the file that old was made with" in done.err
    assert "not compared with old: demo_action_label_mapping.json" in done.err
    assert "the same as for old (SHA-256): demo_train_tsp_groundtruth.csv\n" in done.err


def test_on_a_cluster_images_are_compared_and_what_only_pods_see_is_named(old, caplog):
    backend = SimpleNamespace(sees_paths=False, versions=lambda: {"chart": "tsp 1", "image": "tsp:new"})
    earlier = EarlierRun("old", old.config(), old.about())
    for image, shown in ((None, "tsp:new"), ("tsp:mine", "tsp:mine")):
        caplog.clear()
        report_origins(SimpleNamespace(backend=backend), earlier, old.config(), image=image)
        assert f"old was made with image tsp:old, this is {shown}" in caplog.text
        assert "not compared with old: demo_train_tsp_groundtruth.csv, " in caplog.text
        assert "in the pods' file system" in caplog.text


LOADED = "sha256:" + "ef" * 32
RAN, OTHER = "tsp@sha256:" + "ab" * 32, "tsp@sha256:" + "cd" * 32


@pytest.mark.parametrize(
    ("images", "image", "said"),
    [
        ((), "tsp:old", None),
        ((), RAN, f"made with image tsp:old, this is {RAN}"),
        ((RAN,), RAN, None),
        ((RAN,), f"mirror/{RAN}", None),
        ((RAN,), "tsp:old", f"the pods of old ran {RAN}; to use the same image, give --image {RAN}"),
        ((RAN,), "tsp:new", "made with image tsp:old, this is tsp:new"),
        ((RAN,), "tsp:new", f"--image {RAN}"),
        ((RAN,), OTHER, f"made with image tsp:old, this is {OTHER}"),
        ((OTHER, RAN), RAN, None),
        (
            (OTHER, RAN),
            "tsp:old",
            f"the pods of old ran {OTHER}, then {RAN}; to use the same image, give --image {RAN}",
        ),
        (
            (LOADED,),
            "tsp:old",
            f"the pods of old ran image ID {LOADED} (from no registry), which --image cannot refer to",
        ),
        ((LOADED,), RAN, f"made with image tsp:old, this is {RAN}"),
        ((RAN, LOADED), RAN, None),
    ],
)
def test_images_are_compared_by_their_digests_where_they_are_known(old, caplog, images, image, said):
    backend = SimpleNamespace(sees_paths=False, versions=lambda: {"image": "tsp:default"})
    earlier = EarlierRun("old", old.config(), old.about(), images)
    report_origins(SimpleNamespace(backend=backend), earlier, old.config(), image=image)
    assert said in caplog.text if said else "image" not in caplog.text


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [("2.15.0+cu132", "2.15.0", True), ("2.15.0", "2.15.0+cpu", True), ("2.15.0+cu132", "2.15.0+cpu", False),
     ("2.15.0", "2.15.1", False), ("2.15.0+cu132", "2.14.0", False), ("2.15.0", "not installed", False)],
)  # fmt: skip
def test_a_version_without_its_build_is_that_version(old, caplog, before, now, same):
    about = {**old.about(), "versions": {"torch": before}}
    backend = SimpleNamespace(sees_paths=True, versions=lambda: {"torch": now})
    report_origins(SimpleNamespace(backend=backend), EarlierRun("old", old.config(), about), old.config(), image=None)
    assert (f"made with torch {before}, this is {now}" not in caplog.text) is same


def test_a_run_of_a_version_that_recorded_no_digests_says_that_nothing_is_compared(tspctl, old, tmp_path):
    about = {key: value for key, value in old.about().items() if key not in ("versions", "machine", "digests")}
    old.store.write(old.key("run.json"), json.dumps({**about, "versions": None, "data_digest": None}).encode())
    done = dry_run(tspctl, "--like", "old", "--store", tmp_path / "runs")
    assert "old has no recorded digests of its data and weights: they are not compared" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [("config: [", "cannot be read as YAML or JSON"), ("a: 1", "has no 'config'"), ("", "has no 'config'"),
     ("config: {}", "name"),
     ("config: {name: a, colour: red}", "colour"), ("\udcff", "is not UTF-8 text")],
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
     (("-f", "a", "--like", "b"), "are mutually exclusive"), (("-f", "nowhere.yaml"), "nowhere.yaml")],
)  # fmt: skip
def test_a_run_needs_a_recipe_a_file_or_an_earlier_run(tspctl, words, message):
    done = tspctl("submit", *LOCAL, *words)
    assert done.code == 2
    assert message in done.err
