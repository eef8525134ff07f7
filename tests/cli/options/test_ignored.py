"""An option that would do nothing is refused: silence would pass for obedience."""

from pathlib import Path

import pytest

from cli.options.without_effect import OF_TRAINING
from tests.cli.backends.local.test_backend import Plan
from tests.cli.conftest import Tspctl
from tsp.config.backbones import BACKBONES, Backbone
from tsp.config.codec import flat, to_dict
from tsp.config.recipes import load_dataset, resolve

EVALUATE = ("evaluate", "c.pth", "--dataset", "demo", "--method", "tac")
SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name", "a")


REPLACED = (
    "optim.backbone_lr=1", "optim.head_lr=1", "optim.stem_lr=1", "optim.momentum=0.5", "optim.weight_decay=0",
    "schedule.milestones=[1]", "schedule.gamma=0.5", "schedule.warmup_epochs=0", "schedule.warmup_factor=0.5",
)  # fmt: skip
"""What a checkpoint to resume from brings along."""


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ((*SUBMIT, "--image", "x"), "--image"),
        ((*SUBMIT, "--queue", "x"), "--queue"),
        ((*SUBMIT, "--chart-value", "a=b"), "--chart-value"),
        ((*SUBMIT, "--chart-values", "f.yaml"), "--chart-values"),
        ((*SUBMIT, "--dry-run=server"), "--dry-run=server"),
        ((*SUBMIT, "--dry-run", "--follow"), "--follow"),
        ((*SUBMIT, "-n", "video"), "--namespace"),
        ((*SUBMIT, "--set", "name=b"), "--name"),
        (("list", "--context", "c"), "--context"),
        (("status", "a", "--kubeconfig", "k"), "--kubeconfig"),
        (("data", "probe", "videos", "--name", "x"), "--name"),
        (("data", "probe", "videos", "--queue", "x"), "--queue"),
        (("data", "standardize", "a", "b", "--shards", "2"), "--shards"),
        (("extract", "m.pth", "--epoch", "1", "--data", "v", "--metadata", "m.csv"), "--epoch"),
        (("logs", "a", "--all", "--rank", "0"), "--all"),
        (("logs", "a", "--previous", "-f"), "--previous"),
        ((*SUBMIT, "--pretrained", "w.pth", "--resume", "c.pth"), "--pretrained"),
        ((*SUBMIT, "--pretrained-sha256", "01234567", "--resume", "c.pth"), "--pretrained-sha256"),
        *(((*SUBMIT, "--resume", "c.pth", "--set", typed), f"--set {typed.partition('=')[0]}") for typed in REPLACED),
        ((*SUBMIT, "--pretrained-sha256", "01234567", "--pretrained", "none"), "--pretrained-sha256"),
        ((*SUBMIT, "--backbone", "tiny", "--set", "model.conv2d=all"), "--set model.conv2d"),
        ((*SUBMIT, "--backbone", "r3d_18", "--set", "model.conv2d=spatial"), "--set model.conv2d"),
        ((*SUBMIT, "--bad-clips", "fail", "--set", "data.max_bad_share=0.5"), "--set data.max_bad_share"),
        ((*EVALUATE, "--set", "optim.head_lr=1"), "--set optim.head_lr"),
        ((*EVALUATE, "--set", "schedule.epochs=2"), "--set schedule.epochs"),
        ((*EVALUATE, "--set", "model.compile=true"), "--set model.compile"),
        ((*EVALUATE, "--set", "downscale=2"), "--set downscale"),
        (("evaluate", "c.pth", "--show", "--gpus", "2", "--clips-per-segment", "1"), "--gpus, --clips-per-segment"),
        (("evaluate", "c.pth", "--show", "--set", "seed=1"), "--set"),
        (("evaluate", "c.pth", "--show", "--out", "e.json", "--dataset", "demo"), "--dataset"),
        (("evaluate", "a", "--show", "--out", "e.json", "--epoch", "1"), "--epoch"),
        (("tensorboard", "a", "--export", "events", "--port", "7"), "--port"),
        (("tensorboard", "a", "--export", "events", "--every", "7"), "--every"),
        (("models", "--sizes", "list"), "--sizes"),
        (("models", "-o", "json", "list"), "--output"),
        (("models", "--endpoint-url", "http://mirror", "pull", "x"), "--endpoint-url"),
        (("fetch", "a", "--epoch", "1", "--logs", "-d", "best.pth"), "-d best.pth"),
        (("data", "probe", "videos", "--backend", "kubernetes"), "--backend"),
        (("data", "probe", "videos", "--backend", "kubernetes", "-n", "video"), "--backend"),
        (("features", "info", "f.h5", "--backend", "kubernetes", "--kubeconfig", "k"), "--backend"),
        (("data", "probe", "videos", "--backend", "local", "--on-cluster"), "--on-cluster"),
        (("extract", "c.pth", "--data", "v", "--metadata", "m", "--backend", "local", "--on-cluster"), "--on-cluster"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    tspctl: Tspctl, local: Path, arguments: tuple[str, ...], option: str
) -> None:
    ended = tspctl(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert option in ended.err
    assert tspctl("list", "-o", "name").out == ""


def test_a_setting_for_clusters_does_not_stand_in_the_way_here(tspctl: Tspctl, local: Path, home: Path) -> None:
    """A settings file may serve both backends; only what was typed is refused."""
    (home / "tspctl.toml").write_text('image = "x"\nqueue = "team"\nnamespace = "video"\n')
    assert tspctl(*SUBMIT, "--dry-run").code == 0


def test_a_store_that_is_not_the_runs_is_refused(tspctl: Tspctl, local: Path, home: Path, plan_ranks: Plan) -> None:
    assert tspctl(*SUBMIT, "--follow").code == 0
    other = tspctl("results", "a", "--store", home / "other")
    assert (other.code, str(local) in other.err) == (2, True)
    assert tspctl("results", "a", "--store", local).code == 0


def test_who_names_a_backend_means_no_run_of_another(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    assert tspctl(*SUBMIT, "--follow").code == 0
    ended = tspctl("status", "a", "--backend", "kubernetes", "--kubeconfig", "/nonexistent/config")
    assert ended.code in (2, 4)
    assert "succeeded" not in ended.out


def test_every_key_that_validation_does_not_read_is_named_as_the_configuration_names_it() -> None:
    keys = flat(to_dict(resolve(load_dataset("demo"), "tac", name="a", store={"uri": "/s"}, root="/d")))
    for start in OF_TRAINING:
        assert any(key.startswith(start) for key in keys), start


@pytest.mark.parametrize("backbone", ["r2plus1d_34", "r2plus1d_18", "r3d_18", "tiny"])
def test_encoders_with_factorised_convolutions_are_known_without_torch(backbone: Backbone) -> None:
    pytest.importorskip("torch")
    from tsp.model.backbone import build_backbone
    from tsp.model.conv_views import convolve_on_views

    assert (convolve_on_views(build_backbone(backbone), "spatial") > 0) == BACKBONES[backbone].is_factorised
