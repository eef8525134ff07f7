"""Configuration objects to plain data and back: nothing is taken for something else, and what is wrong is named."""

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import pytest

from tsp.config.codec import flat, from_dict, json_text, set_dotted, split_dotted, to_dict
from tsp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Shelf:
    boards: int


@dataclass(frozen=True, kw_only=True)
class Cupboard:
    name: str
    shelves: tuple[Shelf, ...] = ()
    width: float = 1.0
    doors: int = 2
    locked: bool = False
    wood: Literal["oak", "2"] = "oak"
    owner: str | None = None
    labels: dict[str, int] = field(default_factory=dict)
    anything: Any = None


FULL = Cupboard(
    name="c", shelves=(Shelf(boards=1), Shelf(boards=2)), width=0.5, doors=0, locked=True, wood="2", owner="me",
    labels={"a": 1}, anything=[{"x": None}],
)  # fmt: skip


def test_an_object_survives_json_unchanged():
    assert from_dict(Cupboard, json.loads(json.dumps(to_dict(FULL)))) == FULL


def test_plain_data_has_lists_for_tuples_and_text_for_keys():
    assert to_dict(FULL)["shelves"] == [{"boards": 1}, {"boards": 2}]
    assert to_dict(Cupboard(name="c", anything={1: (2, 3)}))["anything"] == {"1": [2, 3]}


def test_what_json_cannot_hold_is_not_turned_into_something_else():
    with pytest.raises(TypeError):
        to_dict(Cupboard(name="c", anything=PurePosixPath("a")))


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("width", 2, 2.0), ("width", "1e-4", 1e-4), ("width", "-.5e1", None), ("width", "+3.", 3.0), ("doors", -3, -3),
        ("locked", False, False), ("wood", 2, "2"), ("owner", None, None), ("labels", {"b": 2}, {"b": 2}),
        ("labels", {1: 2}, {"1": 2}), ("shelves", [], ()),
    ],
)  # fmt: skip
def test_a_value_is_read_as_its_type_says(key, value, read):
    if read is None and value is not None:
        with pytest.raises(ConfigError, match=f"cupboard.{key} must be a number"):
            from_dict(Cupboard, {"name": "c", key: value}, where="cupboard")
        return
    found = getattr(from_dict(Cupboard, {"name": "c", key: value}), key)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("doors", 1.0, r"cupboard\.doors must be of type int, got 1\.0"),
        ("doors", True, r"cupboard\.doors must be of type int, got True"),
        ("doors", "2", r"cupboard\.doors must be of type int, got '2'"),
        ("doors", None, r"cupboard\.doors must be of type int, got None"),
        ("width", True, r"cupboard\.width must be of type float, got True"),
        ("width", "nan", r"cupboard\.width must be a number, got the text 'nan'"),
        ("width", [], r"cupboard\.width must be of type float, got \[\]"),
        ("locked", 1, r"cupboard\.locked must be of type bool, got 1"),
        ("locked", "true", r"cupboard\.locked must be of type bool, got 'true'"),
        ("name", 3, r"cupboard\.name must be of type str, got 3"),
        ("owner", 3, r"cupboard\.owner must be of type str, got 3"),
        ("wood", "elm", r"cupboard\.wood must be one of oak, 2, got 'elm'"),
        ("labels", ["a"], r"cupboard\.labels must be a mapping \(a table in TOML\), got \['a'\]"),
        ("labels", {"a": "b"}, r"cupboard\.labels\.a must be of type int, got 'b'"),
        ("shelves", {"boards": 1}, r"cupboard\.shelves must be a list"),
        ("shelves", [{"boards": 1}, {}], r"cupboard\.shelves\[1\] lacks the key 'boards'"),
        ("shelves", [{"boards": 1, "legs": 4}], r"cupboard\.shelves\[0\] has an unknown key 'legs'; known: boards"),
        ("shelves", [3], r"cupboard\.shelves\[0\] must be a mapping, got 3"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(key, value, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Cupboard, {"name": "c", key: value}, where="cupboard")


def test_records_may_hold_figures_that_are_none_and_configurations_may_not():
    for text in ("nan", "inf", "-inf"):
        read = from_dict(Cupboard, {"name": "c", "width": text}, non_finite=True)
        assert repr(read.width) == text
        with pytest.raises(ConfigError, match="must be a number"):
            from_dict(Cupboard, {"name": "c", "width": text})


@pytest.mark.parametrize(
    ("key", "path"), [("a", ["a"]), ("a.b", ["a", "b"]), ("a.b\\.c.d", ["a", "b.c", "d"]), ("a\\.b", ["a.b"])]
)
def test_a_dot_within_a_name_is_written_as_helm_has_it(key, path):
    assert split_dotted(key) == path


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("x", {"a": {"b": 1}, "l": [{"c": 1}, 5], "x": 9}),
        ("a.b", {"a": {"b": 9}, "l": [{"c": 1}, 5]}),
        ("a.n.m", {"a": {"b": 1, "n": {"m": 9}}, "l": [{"c": 1}, 5]}),
        ("l.0.c", {"a": {"b": 1}, "l": [{"c": 9}, 5]}),
        ("l.1", {"a": {"b": 1}, "l": [{"c": 1}, 9]}),
    ],
)
def test_a_dotted_key_sets_one_value(key, expected):
    tree = {"a": {"b": 1}, "l": [{"c": 1}, 5]}
    set_dotted(tree, key, 9)
    assert tree == expected


@pytest.mark.parametrize(("key", "name"), [("l.2", "2"), ("l.2.c", "2"), ("l.-1", "-1"), ("l.x", "x"), ("s.n", "n")])
def test_a_dotted_key_that_leads_nowhere_is_refused_by_its_first_wrong_name(key, name):
    with pytest.raises(ConfigError, match=f"--set {key}: there is no '{name}'; --dry-run"):
        set_dotted({"l": [{"c": 1}, 5], "s": 3}, key, 9)


def test_nested_values_by_dotted_key():
    assert flat({"a": {"b": 1, "c": [2, {"d": 3}]}, "e": None}) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": 3, "e": None}
    assert flat({}) == {}


def test_json_has_a_value_a_line():
    assert json_text({"a": [1, "b"], "c": {}}) == '{\n  "a": [\n    1,\n    "b"\n  ],\n  "c": {}\n}\n'
