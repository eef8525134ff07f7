"""One configuration object, refused when it cannot work, the same after a trip through JSON."""

import dataclasses
import json
import typing

import pytest

from tsp.config.recipes import load_dataset, resolve, shipped_datasets
from tsp.config.run import LOCAL_PATHS, ClipConfig, OptimConfig, RunConfig, from_json, to_json
from tsp.errors import ConfigError


def make(dataset: str = "thumos14", method: str = "tsp", **options: object) -> RunConfig:
    options.setdefault("name", "my-run")
    return resolve(load_dataset(dataset), method, store={"uri": "s3://b/p"}, root="/data", **options)


@pytest.mark.parametrize("dataset", shipped_datasets())
@pytest.mark.parametrize("method", ["tsp", "tac"])
def test_a_configuration_survives_json_unchanged(dataset, method):
    config = make(dataset, method)
    assert from_json(to_json(config)) == config


def test_an_unknown_key_is_refused_by_its_full_name():
    raw = json.loads(to_json(make()))
    raw["optim"]["learning_rate"] = 1
    with pytest.raises(ConfigError, match=r"config\.optim has an unknown key 'learning_rate'; known: backbone_lr"):
        from_json(json.dumps(raw))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gpus", "two", r"config\.gpus must be of type int, got 'two'"),
        ("gpus", True, r"config\.gpus must be of type int"),
        ("gpus", 1.5, r"config\.gpus must be of type int"),
        ("seed", -1, "seed must lie in"),
        ("method", "tcp", r"config\.method must be one of tsp, tac, got 'tcp'"),
        ("downscale", 3, "must be one of auto, 1, 2, 4"),
        ("data", 7, r"config\.data must be a mapping"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key, value, message):
    raw = json.loads(to_json(make()))
    raw[key] = value
    with pytest.raises(ConfigError, match=message):
        from_json(json.dumps(raw))


def test_a_missing_key_is_named():
    raw = json.loads(to_json(make()))
    del raw["data"]["valid"]
    with pytest.raises(ConfigError, match=r"config\.data lacks the key 'valid'"):
        from_json(json.dumps(raw))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ConfigError, match="config is not JSON"):
        from_json("{")


@pytest.mark.parametrize(
    "name", ["", "Upper", "1st", "under_score", "dot.dot", "-dash", "dash-", "../up", "a" * 45, "a\n"]
)
def test_a_name_that_is_no_kubernetes_name_is_refused(name):
    with pytest.raises(ConfigError, match="run name"):
        make(name=name)


def test_the_longest_name_still_leaves_room_for_a_worker_number():
    name = make(name="a" * 44).name
    assert len(f"{name}-worker-99999999") <= 63
    assert len(name) <= 53  # a Helm release


def test_nothing_in_a_configuration_can_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().gpus = 3


@pytest.mark.parametrize("bad", [{"length_frames": 0}, {"rate_fps": 0}, {"crop_px": 200}, {"flip_probability": 1.5}])
def test_impossible_clips_are_refused(bad):
    with pytest.raises(ConfigError, match=f"clips.{next(iter(bad))}"):
        ClipConfig(**bad)


WITHIN_THE_DATA = {"csv", "videos", "gvf", "labels"}
"""Last names of keys that hold a path below the data set's root."""
NO_PATHS = {"name", "data.name", "model.pretrained_sha256", "label_column"}
OF_THE_STORE = {"store.uri", "store.endpoint_url", "store.region", "store.ca_bundle"}
"""Made absolute where settings become a store's."""


def _texts(config: type, above: str = "") -> list[str]:
    """Dotted keys of everything that may be any text."""
    found = []
    for name, hint in typing.get_type_hints(config).items():
        kinds = [hint, *typing.get_args(hint)]
        inner = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        found += _texts(inner, f"{above}{name}.") if inner else [f"{above}{name}"] if str in kinds else []
    return found


@pytest.mark.parametrize("key", _texts(RunConfig))
def test_every_text_is_known_to_be_a_path_of_this_machine_or_none(key):
    last = key.rpartition(".")[2]
    assert (key in LOCAL_PATHS) + (last in WITHIN_THE_DATA) + (key in OF_THE_STORE) + bool({key, last} & NO_PATHS) == 1


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_impossible_learning_rates_are_refused(value):
    with pytest.raises(ConfigError, match=r"optim\.head_lr"):
        OptimConfig(head_lr=value)


def _numbers(tree: object, above: str = "") -> list[str]:
    """Dotted keys of the numbers in a configuration."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = [entry for name, value in items for entry in _numbers(value, f"{above}.{name}".lstrip("."))]
    return found or ([above] if isinstance(tree, int | float) and not isinstance(tree, bool) else [])


@pytest.mark.parametrize("key", _numbers(json.loads(to_json(make()))))
def test_no_number_may_be_far_below_zero(key):
    with pytest.raises(
        ConfigError, match=r"loss weight" if "loss_weight" in key else key.split(".")[1 if "." in key else 0]
    ):
        make(overrides={key: -(10**6)})


ZERO_MEANS_SOMETHING = {
    "clips.flip_probability", "data.workers", "data.max_bad_share", "keep_epochs", "optim.backbone_lr", "optim.head_lr",
    "optim.momentum", "optim.stem_lr", "optim.weight_decay", "schedule.gamma", "schedule.warmup_epochs",
    "schedule.warmup_factor", "seed", "model.heads.0.loss_weight", "model.heads.1.loss_weight",
}  # fmt: skip
SHARES = ["clips.flip_probability", "data.max_bad_share", "optim.momentum", "schedule.warmup_factor"]


def _value(config: RunConfig, key: str) -> object:
    value: object = json.loads(to_json(config))
    for name in key.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


@pytest.mark.parametrize("key", ["data.workers", *_numbers(json.loads(to_json(make())))])
def test_zero_is_taken_where_it_means_something_and_refused_where_nothing_would_be_trained(key):
    if key in ZERO_MEANS_SOMETHING:
        assert _value(make(overrides={key: 0}), key) == 0
    else:
        with pytest.raises(ConfigError):
            make(overrides={key: 0})


@pytest.mark.parametrize("key", SHARES)
def test_a_share_may_be_the_whole_and_no_more(key):
    assert _value(make(overrides={key: 1}), key) == 1
    with pytest.raises(ConfigError, match=rf"{key} must lie in \[0, 1\], got 1\.01"):
        make(overrides={key: 1.01})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, 1) for key in ("gpus", "batch_per_gpu", "max_attempts", "metrics_every_steps", "data.cache_mib")),
        *((key, 1) for key in ("clips.length_frames", "clips.per_segment", "schedule.epochs")),
        *((key, 0.01) for key in ("clips.rate_fps", "state_every_sec", "metrics_every_sec", "peer_timeout_sec")),
        *((key, 0.01) for key in ("rendezvous_timeout_sec", "placement_timeout_sec", "data.batch_deadline_sec")),
        ("seed", 2**63 - 1),
        ("clips.crop_px", 16),
        ("clips.crop_px", 128),
    ],
)
def test_the_least_and_the_most_that_work_are_taken(key, value):
    assert _value(make(overrides={key: value}), key) == value


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 2**63), ("seed", 2**64), ("clips.crop_px", 15), ("clips.crop_px", 129)]
)
def test_what_lies_just_beyond_is_refused(key, value):
    with pytest.raises(ConfigError, match=key):
        make(overrides={key: value})


def test_a_run_waits_saves_and_gives_up_as_documented_unless_it_is_told_otherwise():
    config = make()
    assert (config.gpus, config.downscale, config.seed) == (1, "auto", 42)
    assert (config.state_every_sec, config.metrics_every_sec, config.metrics_every_steps) == (600, 10, 50)
    assert (config.peer_timeout_sec, config.data.batch_deadline_sec) == (300, 300)
    assert (config.rendezvous_timeout_sec, config.placement_timeout_sec) == (15 * 60, 60 * 60)
    assert (config.max_attempts, config.keep_epochs) == (20, 0)
    assert (config.data.workers, config.data.bad_clips, config.data.max_bad_share) == (None, "resample", 0.1)
    assert (config.data.one_pass, config.data.training_copy, config.data.cache_mib) == (False, False, 20 << 10)
    assert (config.store.path_style, config.store.checksums) == (True, "auto")
    assert (config.model.precision, config.model.compile, config.model.activation_checkpointing) == (
        "auto",
        False,
        False,
    )


@pytest.mark.parametrize("columns", [[], ["action-label", "temporal-region-label", "scene"], ["scene", "scene"]])
def test_a_model_has_one_head_or_two_of_different_columns(columns):
    heads = [{"label_column": column, "labels": "a.json"} for column in columns]
    with pytest.raises(ConfigError, match=r"a model has one or two heads|two heads learn the same column 'scene'"):
        make(overrides={"model.heads": heads, "model.gvf": "none"})


@pytest.mark.parametrize("text", ["010", "1:30", "inf", "nan", "1_0", "0x10", "１", " 1", "", "1e", "ten"])
@pytest.mark.parametrize("key", ["optim.head_lr", "clips.rate_fps"])
def test_text_is_a_number_only_where_it_can_mean_one_thing(key, text):
    with pytest.raises(ConfigError, match=rf"config\.{key} must be a number, got the text '{text}'"):
        make(overrides={key: text})


def test_numbers_that_yaml_reads_as_text_are_numbers():
    optim = make(overrides={"optim.head_lr": "1e-4", "optim.backbone_lr": "+2E-3", "optim.momentum": "0."}).optim
    assert (optim.head_lr, optim.backbone_lr, optim.momentum) == (1e-4, 2e-3, 0.0)


@pytest.mark.parametrize("milestones", [[3, 1], [2, 2], [0, 2], [-1]])
def test_milestones_are_above_zero_and_rise(milestones):
    with pytest.raises(ConfigError, match=r"schedule\.milestones must be above 0 and increasing"):
        make(overrides={"schedule.milestones": milestones})


def test_a_start_epoch_past_the_end_is_refused():
    with pytest.raises(ConfigError, match=r"--start-epoch must lie in \[0, 8\), got 8"):
        make(overrides={"start_epoch": 8})


@pytest.mark.parametrize("epoch", [0, 7, None])
def test_a_start_epoch_of_the_schedule_is_taken(epoch):
    assert make(overrides={"start_epoch": epoch, "resume": "a.pth"}).start_epoch == epoch


def test_no_field_of_the_configuration_could_hold_a_credential():
    names = " ".join(_keys(json.loads(to_json(make()))))
    assert not any(word in names for word in ("secret", "password", "token", "access_key"))


def _keys(tree: object) -> list[str]:
    if isinstance(tree, dict):
        return [key for name, value in tree.items() for key in (name, *_keys(value))]
    if isinstance(tree, list):
        return [key for value in tree for key in _keys(value)]
    return []


def test_yaml_numbers_without_a_point_are_still_numbers():
    assert make(overrides={"optim.head_lr": "4e-3"}).optim.head_lr == 0.004


@pytest.mark.parametrize("digest", ["", "xyz", "abc123", "g" * 64, "0" * 65, "sha256:" + "0" * 64])
def test_a_digest_that_no_file_can_have_is_refused(digest):
    with pytest.raises(ConfigError, match="--pretrained-sha256 must be the 64 hexadecimal digits"):
        config_with({"model.pretrained_sha256": digest})


def test_a_digest_may_be_cut_short_and_in_upper_case():
    assert config_with({"model.pretrained_sha256": "ABCDEF01"}).model.pretrained_sha256 == "ABCDEF01"


def config_with(overrides):
    return resolve(load_dataset("thumos14"), "tac", name="r", store={"uri": "s3://b"}, root="/d", overrides=overrides)
