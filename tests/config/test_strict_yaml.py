"""YAML of data sets and runs is refused where YAML 1.1 reads something else than its reader."""

import pytest
import yaml

from tsp.config.recipes import load_dataset
from tsp.config.strict_yaml import load_yaml
from tsp.errors import ConfigError

DATASET = "name: mine\ntrain: {csv: a.csv, videos: v}\nvalid: {csv: b.csv, videos: v}\nlabels: {action-label: a.json}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "'a' is given twice"),
        ("x:\n  a: 1\n  b: 2\n  a: 1", "'a' is given twice"),
        ('{"a": 1, "b": 2, "a": 1}', "'a' is given twice"),
        ("- {a: 1, a: 1}", "'a' is given twice"),
        *(
            (f"{key}: 1\n{key}: 2", f"'{key}' is given twice")
            for key in ("7", "-3", "1.5", "true", "null", "2024-01-01")
        ),
        *(
            (f"a: {text}", f"the number {text} is ambiguous")
            for text in ("010", "-010", "0_7", "1:30", "1:30.5", "0b11", "00")
        ),
        ("[" * 5000, "nested too deeply"),
        ("a: 2024-13-41", "month must be in 1..12"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: 1\n---\na: 2", "expected a single document"),
    ],
)
def test_what_means_two_things_is_refused(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        load_yaml(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-3", -3), ("1_000", 1000), ("0.5", 0.5), ("1.0e-3", 1e-3), ("10", 10), ("0x1F", 31),
        ("'010'", "010"),
        ("12:ab", "12:ab"), ("{a: {x: 1}, b: {x: 1}}", {"a": {"x": 1}, "b": {"x": 1}}),
        ("x: &base {a: 1, b: 2}\ny: {<<: *base, a: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 3, "b": 2}}),
    ],
)  # fmt: skip
def test_what_means_one_thing_is_read_as_yaml_has_it(text, value):
    assert load_yaml(text) == value == yaml.safe_load(text)


@pytest.mark.parametrize(
    "line", ["recipes: {all: {optim.head_lr: 010}}", "name: other", "recipes: {all: {seed: 1:30}}"]
)
def test_a_data_set_file_that_means_two_things_is_refused_with_its_name(tmp_path, line):
    path = tmp_path / "mine.yaml"
    path.write_text(DATASET + line + "\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml cannot be read as YAML or JSON: .*(is ambiguous|given twice)"):
        load_dataset(str(path))
