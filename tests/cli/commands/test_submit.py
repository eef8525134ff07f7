import os
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.backends.local import backend as local_backend
from cli.backends.local import preflight
from cli.backends.local.gpus import Gpu, parse, visible
from cli.options.recipe import RECIPE_OPTIONS, RecipeOption
from cli.options.run_names import default_names
from tests.cli.conftest import Tspctl
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import from_json
from tsp.config.run_name import MAX_RUN_NAME_CHARS, check_run_name

DEMO = ("submit", "--dataset", "demo", "--method")
THUMOS = ("submit", "--dataset", "thumos14", "--data", "/data", "--dry-run", "-o", "json", "--method")


def test_the_dry_run_shows_the_whole_configuration_and_what_it_comes_to(tspctl: Tspctl, local: Path) -> None:
    shown = tspctl(*THUMOS[:-1], "-o", "yaml", "--method", "tsp", "--gpus", "4", "--downscale", "2")
    assert shown.code == 0
    result = yaml.safe_load(shown.out)
    assert result["effective"] == {
        "downscale": 2,
        "world_size": 4,
        "batch_per_gpu": 16,
        "global_batch": 64,
        "backbone_lr": pytest.approx(2e-4),
        "head_lr": pytest.approx(8e-3),
        "stem_lr": 0.0,
    }
    assert result["config"]["model"]["heads"][1]["label_column"] == "temporal-region-label"
    assert result["config"]["data"]["train"]["gvf"] == "r2plus1d_34-max_gvf.h5"
    assert "downscale factor 2: as requested" in shown.err
    assert not local.exists()


def test_the_plain_dry_run_prints_the_file_that_ranks_read(tspctl: Tspctl, local: Path) -> None:
    assert from_json(tspctl(*THUMOS[:-3], "--method", "tac").out).method == "tac"


@pytest.mark.parametrize("option", RECIPE_OPTIONS, ids=lambda option: option.flag)
def test_every_recipe_option_sets_its_key(tspctl: Tspctl, local: Path, option: RecipeOption) -> None:
    values = {
        "backbone": "r3d_18",
        "downscale": "4",
        "bad_clips": "skip",
        "precision": "bf16",
        "resume": "s3://b/c.pth",
        "pretrained": "none",
        "pretrained_sha256": "0123abcd",
    }
    value = values.get(option.parameter, "3")
    flag = option.flag.partition("/")[0]
    arguments = [flag] if option.type is bool else [flag, value]
    found = tspctl(*THUMOS, "tac", *arguments).json["config"]
    for part in option.key.split("."):
        found = found[part]
    assert found is True if option.type is bool else str(found).removesuffix(".0") == value


def test_paths_of_this_machine_are_made_absolute(tspctl: Tspctl, local: Path) -> None:
    arguments = ("--resume", "~/c.pth", "--store", "results", "--set", "data.cache_dir=cache")
    config = tspctl(*THUMOS, "tac", "--data", "videos", *arguments).json["config"]
    here = str(Path.cwd())
    assert config["resume"] == str(Path.home() / "c.pth")
    assert tspctl(*THUMOS, "tac", "--pretrained", "w.pth").json["config"]["model"]["pretrained"] == f"{here}/w.pth"
    assert (config["store"]["uri"], config["data"]["root"]) == (f"{here}/results", f"{here}/videos")
    assert config["data"]["cache_dir"] == f"{here}/cache"


def test_options_win_over_variables_over_files_and_set_wins_over_all(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tspctl.toml").write_text('gpus = 2\nworkers = 9\n[set]\n"optim.momentum" = 0.5\nseed = 1\n')
    config = tspctl(*THUMOS, "tac").json["config"]
    assert (config["gpus"], config["data"]["workers"], config["optim"]["momentum"], config["seed"]) == (2, 9, 0.5, 1)
    monkeypatch.setenv("TSPCTL_GPUS", "3")
    assert tspctl(*THUMOS, "tac").json["config"]["gpus"] == 3
    config = tspctl(*THUMOS, "tac", "--gpus", "4", "--workers", "1", "--seed", "2", "--set", "seed=3").json["config"]
    assert (config["gpus"], config["data"]["workers"], config["seed"]) == (4, 1, 3)


def test_data_sets_are_found_by_their_table_then_by_the_pattern(tspctl: Tspctl, local: Path) -> None:
    os.environ.pop("TSPCTL_DATA")
    Path("tspctl.toml").write_text('data = "s3://bucket/{dataset}"\n[datasets]\ndemo = "~/my-demo"\n')
    arguments = ("--method", "tac", "--dry-run", "-o", "json", "--dataset")
    assert tspctl("submit", *arguments, "activitynet").json["config"]["data"]["root"] == "s3://bucket/activitynet"
    assert tspctl("submit", *arguments, "demo").json["config"]["data"]["root"] == str(Path.home() / "my-demo")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "tac", "--dataset", "imagenet"], 2, "thumos14"),
        (["--method", "tac", "--gpus", "0"], 2, "'--gpus': 0 is not in the range x>=1"),
        (["--method", "tac", "--name", "Has_Capitals"], 2, "lower-case"),
        (["--method", "tac", "--name", "a" * 45], 2, "at most 44"),
        (["--method", "tac", "--set", "optim.nonsense=1"], 2, "optim"),
        (["--method", "tac", "--set", "seed"], 2, "KEY=VALUE"),
        (["--method", "tac", "--gvf", "max"], 2, "--heads all|region"),
        (["--method", "tsp", "--gvf", "avg"], 2, "tiny-avg_gvf.h5"),
        (["--method", "tac", "--data", "missing"], 3, "tspctl data demo"),
        (["--method", "tac", "--store", "/proc/store"], 5, "/proc/store"),
        (["--method", "tac", "--store", "ftp://x/y"], 2, "s3://"),
        (["--method", "vit"], 2, "tsp"),
    ],
)
def test_bad_usage_ends_with_its_code_and_says_what_to_do(
    tspctl: Tspctl, local: Path, arguments: list[str], code: int, words: str
) -> None:
    ended = tspctl(*DEMO[:-1], *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err
    assert not list((Path.home() / ".local/state").glob("**/launch.json"))


def test_a_missing_table_is_a_data_error_and_a_missing_gvf_says_how_to_build_it(
    tspctl: Tspctl, local: Path, data_root: Path
) -> None:
    (data_root / "tiny-max_gvf.h5").unlink()
    refused = tspctl(*DEMO, "tsp")
    assert (refused.code, "tspctl gvf RUN --pool max" in refused.err, "--gvf none" in refused.err) == (2, True, True)
    (data_root / "demo_valid_tsp_groundtruth.csv").unlink()
    refused = tspctl(*DEMO, "tac")
    assert (refused.code, "demo_valid_tsp_groundtruth.csv" in refused.err) == (3, True)


def test_a_table_that_no_run_can_read_is_refused_with_its_row(tspctl: Tspctl, data_root: Path, local: Path) -> None:
    with (data_root / "demo_train_tsp_groundtruth.csv").open("a") as table:
        table.write("\nb.mp4,0,3,9,Jumping,Action\n")
    refused = tspctl(*DEMO, "tac")
    assert (refused.code, "row 4: action-label 'Jumping' is not in the label map" in refused.err) == (3, True)


def test_no_disk_left_is_a_store_error(tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "free_bytes", lambda store: 1 << 20)
    refused = tspctl(*DEMO, "tac", "--backbone", "r2plus1d_34")
    assert refused.code == 5
    assert "1.0 MiB left, but the run needs about 2.8 GiB" in refused.err


def test_missing_packages_are_named(tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MODULES", ("json", "no_such_module"))
    refused = tspctl(*DEMO, "tac")
    assert refused.code == 2
    assert "no_such_module: pip install 'tspctl[train]'" in refused.err


def test_cards_decide_the_factor_and_how_many_ranks_fit(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [Gpu("0", "T4", 15360), Gpu("1", "V100", 32510)]
    monkeypatch.setattr(local_backend, "gpus_here", lambda: cards)
    planned = tspctl(*THUMOS, "tac", "--gpus", "2")
    assert planned.json["effective"]["downscale"] == 2
    assert "smallest of 2 GPUs has 15360 MiB" in planned.err
    refused = tspctl(*DEMO, "tac", "--gpus", "3")
    assert (refused.code, "this machine has 2" in refused.err) == (2, True)


def test_cards_are_read_and_hidden_as_cuda_does() -> None:
    cards = parse("0, GPU-aaaa, NVIDIA A100-SXM4-80GB, 81920\n1, GPU-bbbb, Tesla T4, 15360\n2, GPU-c, GB10, [N/A]\n")
    everything = [Gpu("0", "NVIDIA A100-SXM4-80GB", 81920), Gpu("1", "Tesla T4", 15360), Gpu("2", "GB10", None)]
    assert visible(cards, None) == everything
    assert visible(cards, "1,GPU-aaaa") == [everything[1], everything[0]]
    assert visible(cards, "1,7,0") == [everything[1]]
    assert visible(cards, "") == []


def test_a_run_is_given_a_name_of_its_own(tspctl: Tspctl, local: Path) -> None:
    name = tspctl(*THUMOS, "tsp", "--gvf", "none").json["name"]
    assert name.startswith("tsp-thumos14-r34-nogvf-20")
    name = tspctl(*THUMOS, "tac").json["name"]
    assert name.startswith("tac-thumos14-r2plus1d-34-20")


@given(
    # Text with a user and a password in it is refused anywhere in a configuration.
    dataset=st.text(max_size=60).filter(lambda text: not set("@%=") & set(text)),
    backbone=st.sampled_from(["r2plus1d_34", "r2plus1d_18", "r3d_18", "tiny"]),
    heads=st.sampled_from(["all", "action", "region"]),
    gvf=st.sampled_from(["none", "avg", "max"]),
    method=st.sampled_from(["tsp", "tac"]),
)
def test_default_names_are_good_names_and_differ(
    dataset: str, backbone: str, heads: str, gvf: str, method: str
) -> None:
    config = resolve(
        load_dataset("thumos14"),
        method,
        name="x",
        store={"uri": "/s"},
        root="/d",
        heads=heads,
        gvf="none" if heads == "action" else gvf,
        overrides={"data.name": dataset, "model.backbone": backbone},
    )
    names = [name for name, _ in zip(default_names(config, datetime(2026, 7, 28, 9, 30)), range(12), strict=False)]
    assert len(set(names)) == len(names)
    for name in names:
        check_run_name(name)
        assert len(name) <= MAX_RUN_NAME_CHARS


def test_two_runs_of_one_second_get_two_names(tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = "tac-demo-tiny-20260728-093000"
    monkeypatch.setattr("cli.options.run_names.default_stem", lambda config, now: stem)
    names = [tspctl("submit", "--dataset", "demo", "--method", "tac").out for _ in range(2)]
    assert names == [f"{stem}\n", f"{stem}-2\n"]


def test_a_dry_run_asks_no_store(tspctl: Tspctl, local: Path) -> None:
    shown = tspctl(*THUMOS, "tac", "--store", "s3://bucket/x", "--endpoint-url", "http://127.0.0.1:9")
    assert (shown.code, shown.json["config"]["store"]["endpoint_url"]) == (0, "http://127.0.0.1:9")


def test_a_run_that_only_the_store_has_is_not_overwritten(tspctl: Tspctl, local: Path) -> None:
    (local / "a").mkdir(parents=True)
    (local / "a" / "results.txt").write_text("")
    refused = tspctl(*DEMO, "tac", "--name", "a")
    assert (refused.code, "never overwritten" in refused.err) == (2, True)
    assert os.listdir(local / "a") == ["results.txt"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--store", "s3://me:hidden@bucket/x"), ("--endpoint-url", "https://me:hidden@minio.example/")],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(
    tspctl: Tspctl, local: Path, option: str, value: str
) -> None:
    refused = tspctl(*THUMOS, "tac", option, value)
    assert (refused.code, refused.out) == (2, "")
    assert "contains a user name or password: on this machine, give credentials in AWS_ACCESS_KEY_ID" in refused.err
    assert "hidden" not in refused.err
