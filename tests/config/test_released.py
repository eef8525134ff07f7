"""Released checkpoints: what their names say, and where they can be had."""

import pytest

from tsp.config.recipes import load_dataset, shipped_datasets
from tsp.config.released import INITIAL, PUBLISHED, RELEASED, RELEASES_URL, published, released
from tsp.errors import ConfigError


@pytest.mark.parametrize("name", RELEASED)
def test_a_name_says_what_the_row_says(name):
    row = RELEASED[name]
    words = {"max": "", "avg": "-avg_gvf", "none": "-no_gvf"} if row.method == "tsp" else {"none": ""}
    assert name == f"{row.backbone}-{row.method}_on_{row.dataset}{words[row.gvf]}"
    assert row.file.startswith(f"{row.backbone}-{row.method}_on_{row.dataset}-")
    assert len(row.sha256_prefix) == 8
    assert int(row.sha256_prefix, 16) >= 0
    assert row.file.endswith(f"-{row.sha256_prefix}.pth")


def test_there_are_thirteen_and_their_data_sets_ship_or_are_kinetics():
    assert len(RELEASED) == len({row.file for row in RELEASED.values()}) == 13
    assert {row.dataset for row in RELEASED.values()} <= {*shipped_datasets(), "kinetics"}
    assert load_dataset("thumos14").name == "thumos14"


def test_a_mirror_holds_the_files_under_their_names():
    row = released("r3d_18-tac_on_kinetics")
    assert row.address(None) == f"{RELEASES_URL}/r3d_18-tac_on_kinetics-dcd952c6.pth"
    assert row.address("s3://models/tsp/") == "s3://models/tsp/r3d_18-tac_on_kinetics-dcd952c6.pth"


def test_a_name_that_does_not_exist_is_answered_with_those_like_it():
    with pytest.raises(ConfigError, match="did you mean r2plus1d_34-tsp_on_thumos14"):
        released("r2plus1d_34-tsp_on_thumos")
    with pytest.raises(ConfigError, match="'tspctl models' lists them"):
        released("zzz")


def test_at_most_three_names_are_offered_for_one_that_does_not_exist():
    with pytest.raises(ConfigError) as caught:
        released("r2plus1d_34-tac_on_activitynet_")
    assert str(caught.value).count(" or ") == 2


def test_initial_weights_have_names_too_but_are_no_released_checkpoints():
    assert sorted(INITIAL) == ["r2plus1d_18-initial", "r2plus1d_34-initial", "r3d_18-initial"]
    assert published("r3d_18-initial").file == "r3d_18-b3b3357e.pth"
    assert [published(name) for name in PUBLISHED] == list(PUBLISHED.values())
    with pytest.raises(ConfigError, match="no released checkpoint is called 'r3d_18-initial'"):
        released("r3d_18-initial")
    with pytest.raises(ConfigError, match="did you mean r3d_18-initial"):
        published("r3d_18-initials")
