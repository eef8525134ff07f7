"""The published recipes, the ablations, and data sets of one's own."""

import json

import pytest

from tests.config.test_run import make
from tsp.config.codec import from_dict, to_dict
from tsp.config.recipes import heads_of, load_dataset, resolve
from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, RunConfig
from tsp.errors import ConfigError

PUBLISHED = {
    ("tsp", "activitynet"): (1e-4, 2e-3, "max", [ACTION_COLUMN, REGION_COLUMN]),
    ("tsp", "thumos14"): (1e-4, 4e-3, "max", [ACTION_COLUMN, REGION_COLUMN]),
    ("tac", "activitynet"): (1e-4, 2e-3, "none", [ACTION_COLUMN]),
    ("tac", "thumos14"): (1e-5, 2e-3, "none", [ACTION_COLUMN]),
}


@pytest.mark.parametrize(("method", "dataset"), PUBLISHED)
def test_each_recipe_has_the_published_values(method, dataset):
    config = make(dataset, method)
    found = (config.optim.backbone_lr, config.optim.head_lr, config.model.gvf)
    assert (*found, [head.label_column for head in config.model.heads]) == PUBLISHED[method, dataset]
    assert [head.loss_weight for head in config.model.heads] == [1.0] * len(config.model.heads)


@pytest.mark.parametrize(("method", "dataset"), PUBLISHED)
def test_what_all_recipes_share_is_the_published_value(method, dataset):
    config = make(dataset, method)
    assert config.model.backbone == "r2plus1d_34"
    assert (config.clips.length_frames, config.clips.rate_fps, config.clips.per_segment) == (16, 15.0, 5)
    assert (config.clips.resize_height_px, config.clips.resize_width_px, config.clips.crop_px) == (128, 171, 112)
    assert config.clips.flip_probability == 0.5
    assert (config.batch_per_gpu, config.schedule.epochs, config.optim.stem_lr) == (32, 8, 0.0)
    assert (config.optim.momentum, config.optim.weight_decay) == (0.9, 0.005)
    schedule = config.schedule
    assert (schedule.warmup_epochs, schedule.warmup_factor) == (2, 1e-5)
    assert (schedule.milestones, schedule.gamma) == ((4, 6), 0.01)
    assert config.model.sync_batch_norm is False


@pytest.mark.parametrize("method", ["tsp", "tac"])
@pytest.mark.parametrize(("dataset", "height_px"), [("activitynet", 720), ("thumos14", 180)])
def test_the_videos_are_as_high_as_published(method, dataset, height_px):
    assert make(dataset, method).data.height_px == height_px


def test_thumos14_trains_on_the_validation_subset_and_validates_on_the_test_subset():
    data = make("thumos14").data
    assert (data.train.csv, data.train.videos) == ("thumos14_valid_tsp_groundtruth.csv", "valid")
    assert (data.valid.csv, data.valid.videos) == ("thumos14_test_tsp_groundtruth.csv", "test")


@pytest.mark.parametrize("backbone", ["r2plus1d_34", "r2plus1d_18", "r3d_18"])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_the_gvf_file_follows_backbone_and_pooling(backbone, pool):
    config = make(gvf=pool, overrides={"model.backbone": backbone})
    assert config.data.train.gvf == config.data.valid.gvf == f"{backbone}-{pool}_gvf.h5"


def test_tsp_without_gvf_names_no_gvf_file():
    config = make(gvf="none")
    assert (config.model.gvf, config.data.train.gvf) == ("none", None)


def test_the_region_head_alone_keeps_the_gvf():
    config = make(heads="region")
    assert [head.label_column for head in config.model.heads] == [REGION_COLUMN]
    assert config.model.gvf == "max"


def test_the_action_head_alone_drops_the_gvf_that_only_the_method_asked_for():
    assert make(heads="action").model.gvf == "none"


def test_a_gvf_that_no_head_would_see_is_refused():
    with pytest.raises(ConfigError, match="needs the temporal-region-label head"):
        make("thumos14", "tac", gvf="max")


def test_options_win_over_the_data_sets_recipe():
    assert make(overrides={"optim.head_lr": 1.5}).optim.head_lr == 1.5


def test_an_override_reaches_into_a_list():
    assert make(overrides={"model.heads.1.loss_weight": 0.5}).model.heads[1].loss_weight == 0.5


@pytest.mark.parametrize("key", ["model.heads.2.loss_weight", "model.heads.x.labels", "optim.warmth", "nothing"])
def test_an_override_of_nothing_is_refused(key):
    with pytest.raises(ConfigError):
        make(overrides={key: 1})


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown data set 'kinetics': use activitynet, demo, thumos14, or a file"):
        load_dataset("kinetics")


def test_without_a_place_for_the_data_the_option_is_named():
    with pytest.raises(ConfigError, match="--data"):
        resolve(load_dataset("thumos14"), "tsp", name="x", store={"uri": "/s"})


OWN = """
name: mine
root: videos
train: {csv: a.csv, videos: train}
valid: {csv: b.csv, videos: valid, gvf: special.h5}
labels: {action-label: actions.json, temporal-region-label: regions.json}
gvf: "{backbone}-{pool}.h5"
recipes:
  all: {schedule.epochs: 3, schedule.milestones: [1, 2]}
  tac: {optim.head_lr: 5e-3}
"""


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    return path


def test_a_data_set_of_ones_own_is_a_yaml_file(own_file):
    config = resolve(load_dataset(str(own_file)), "tac", name="x", store={"uri": "/s"})
    assert config.data.root == str(own_file.parent / "videos")
    assert (config.schedule.epochs, config.schedule.milestones, config.optim.head_lr) == (3, (1, 2), 0.005)


def test_a_subset_may_have_a_gvf_file_of_its_own(own_file):
    data = resolve(load_dataset(str(own_file)), "tsp", name="x", store={"uri": "/s"}).data
    assert (data.train.gvf, data.valid.gvf) == ("r2plus1d_34-max.h5", "special.h5")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: mine\n", "", "lacks the key 'name'"),
        ("root:", "rooot:", "unknown key 'rooot'"),
        ("root:", "beside:", "unknown key 'beside'"),
        ("csv: a.csv, ", "", "train lacks the key 'csv'"),
        ("  tac:", "  tcp:", r"recipes\.tcp must be a mapping under all, tsp or tac"),
        ("name: mine", "name: [", "cannot be read as YAML"),
        (OWN, "- 3", "must be a mapping with name, train, valid and labels"),
        ("labels: {action-label: actions.json, temporal-region-label: regions.json}", "labels: 3", "labels must be"),
        ("action-label: actions.json", "action_label: actions.json", r"labels has an unknown column 'action_label'"),
        ("action-label: actions.json", "action-label:", r"labels\.action-label must be of type str, got None"),
        ("name: mine", "name:", r"name must be of type str, got None"),
        ("root: videos", "root: 12", r"root must be of type str, got 12; if it is text, write it in quotes"),
        ("name: mine", "name: no", r"name must be of type str, got False; if it is text, write it in quotes"),
        ("name: mine", "name: 2024-01-01", r"name must be of type str, got .*; if it is text, write it in quotes"),
        ('gvf: "{backbone}-{pool}.h5"', "gvf: [a.h5]", r"gvf must be of type str, got \['a\.h5'\]"),
        ("schedule.epochs: 3", "epochs: 3", r"recipes\.all\.epochs: there is no 'epochs'; known: name, method,"),
        (
            "schedule.epochs: 3",
            "schedule.epochs: three",
            r"all\.schedule\.epochs must be of type int, got 'thr",
        ),
        ("schedule.epochs: 3", "schedule: 3", r"recipes\.all\.schedule must be a mapping, got 3"),
        (
            "schedule.epochs: 3",
            "schedule: {epoch: 3}",
            r"all\.schedule\.epoch: there is no 'epoch'; known: epochs",
        ),
        ("schedule.epochs: 3", "model.backbone.x: 3", r"recipes\.all\.model\.backbone\.x: there is no 'x'"),
        ("schedule.epochs: 3", "7: 3", r"recipes\.all\.7: there is no '7'"),
        ("schedule.epochs: 3", "name: other", r"recipes\.all\.name is not a recipe value: .* --name"),
        (
            "schedule.epochs: 3",
            "store: {uri: /elsewhere}",
            r"all\.store\.uri is not a recipe value: .* --store",
        ),
        ("schedule.epochs: 3", "data.root: /elsewhere", r"recipes\.all\.data\.root is not a recipe value: .*'root'"),
        ("name: mine", "name: !!bool 3", "a tag .* does not match its value"),
        ("name: mine", "name: !!timestamp x", "a tag .* does not match its value"),
    ],
)
def test_a_broken_data_set_file_is_refused_by_file_and_key(own_file, old, new, message):
    own_file.write_text(OWN.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset(str(own_file))
    assert str(own_file) in str(caught.value)


def test_a_head_without_a_label_map_is_named(own_file):
    own_file.write_text(OWN.replace(", temporal-region-label: regions.json", ""))
    with pytest.raises(ConfigError, match="the data set mine names no label map for temporal-region-label"):
        resolve(load_dataset(str(own_file)), "tsp", name="x", store={"uri": "/s"})


def test_a_recipe_may_nest_its_keys_and_what_it_does_not_name_stays(own_file):
    own_file.write_text(OWN.replace("tac: {optim.head_lr: 5e-3}", "tac: {optim: {head_lr: 5e-3}}").replace(
        "all: {", "all: {optim.weight_decay: 0.25, "
    ))  # fmt: skip
    optim = resolve(load_dataset(str(own_file)), "tac", name="x", store={"uri": "/s"}).optim
    assert (optim.head_lr, optim.weight_decay, optim.momentum) == (0.005, 0.25, 0.9)


def test_gvf_of_an_option_wins_over_the_recipes_own(own_file):
    own_file.write_text(OWN.replace("all: {", "all: {model.gvf: avg, "))
    dataset = load_dataset(str(own_file))
    assert resolve(dataset, "tsp", name="x", store={"uri": "/s"}).data.train.gvf == "r2plus1d_34-avg.h5"
    assert resolve(dataset, "tsp", name="x", store={"uri": "/s"}, gvf="max").data.train.gvf == "r2plus1d_34-max.h5"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_data_set_file_may_have_a_byte_order_mark(own_file, encoding):
    own_file.write_bytes(OWN.replace("mine", "Übung").encode(encoding))
    assert load_dataset(str(own_file)).name == "Übung"


def test_a_data_set_file_in_another_encoding_is_refused_with_its_line(own_file):
    own_file.write_bytes(OWN.replace("mine", "Übung").encode("latin-1"))
    with pytest.raises(
        ConfigError, match=r"mine\.yaml is not UTF-8 text \(line 2 contains the byte 0x..\): save it as UTF-8"
    ):
        load_dataset(str(own_file))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "tiny", "config.model must be a mapping, got 'tiny'"),
        ("data", 3, "config.data must be a mapping, got 3"),
        ("data.train", "x.csv", "config.data.train must be a mapping, got 'x.csv'"),
        ("model.backbone", None, "config.model.backbone must be one of"),
        ("model.backbone", 3, "config.model.backbone must be one of"),
        ("clips.crop_px.x", 3, "config.clips.crop_px.x: there is no 'x'"),
    ],
)
def test_an_override_of_another_kind_is_refused_by_its_key(key, value, message):
    with pytest.raises(ConfigError, match=message):
        make(overrides={key: value})


def test_a_mapping_as_override_leaves_what_it_does_not_name():
    optim = make("thumos14", "tac", overrides={"optim": {"weight_decay": 0.25}}).optim
    assert (optim.backbone_lr, optim.weight_decay) == (1e-5, 0.25)


def test_a_missing_data_set_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the data-set file .*gone\.yaml: No such file"):
        load_dataset(str(tmp_path / "gone.yaml"))


def test_tsp_on_a_data_set_without_gvf_says_how_to_get_one(own_file):
    own_file.write_text(OWN.replace('gvf: "{backbone}-{pool}.h5"', ""))
    with pytest.raises(ConfigError, match="tspctl gvf"):
        resolve(load_dataset(str(own_file)), "tsp", name="x", store={"uri": "/s"})


def test_paths_that_begin_with_a_dot_are_relative_to_the_data_set_file_and_others_to_the_root(own_file):
    own_file.write_text(
        OWN.replace("csv: a.csv", "csv: ./tables/a.csv")
        .replace("action-label: actions.json", "action-label: ./actions.json")
        .replace('gvf: "{backbone}-{pool}.h5"', 'gvf: "./{backbone}-{pool}.h5"')
    )
    config = resolve(load_dataset(str(own_file)), "tsp", name="x", store={"uri": "/s"}, root="s3://bucket/data")
    here = own_file.parent.resolve()
    beside = [f"{here}/tables/a.csv", f"{here}/actions.json", f"{here}/{{backbone}}-{{pool}}.h5", f"{here}/videos"]
    assert sorted(load_dataset(str(own_file)).beside) == sorted(beside)
    assert config.data.train.csv == f"{here}/tables/a.csv"
    assert [head.labels for head in config.model.heads] == [f"{here}/actions.json", "regions.json"]
    assert config.data.train.gvf == f"{here}/r2plus1d_34-max.h5"
    assert (config.data.root, config.data.valid.videos) == (
        "s3://bucket/data",
        load_dataset(str(own_file)).valid.videos,
    )


@pytest.mark.parametrize("heads", ["all", "action", "region"])
def test_the_heads_of_a_configuration_are_known_by_what_they_predict(heads):
    config = resolve(load_dataset("thumos14"), "tsp", name="a", store={"uri": "s"}, root="/d", heads=heads)
    again = from_dict(RunConfig, json.loads(json.dumps(to_dict(config))), where="run.json")
    assert heads_of(again) == heads_of(config) == heads
    assert heads_of(resolve(load_dataset("thumos14"), "tac", name="a", store={"uri": "s"}, root="/d")) == "action"
