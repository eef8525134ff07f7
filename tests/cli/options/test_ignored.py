"""An option that would do nothing is refused: silence would pass for obedience."""

from pathlib import Path

import pytest

from tests.cli.backends.local.test_backend import Plan
from tests.cli.conftest import Tspctl

SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name", "a")


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
