"""--set reads values as JSON and TOML do, and says what it took."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.options.assignment import describe_value, parse_assignment, parse_value
from tests.cli.conftest import Tspctl
from tsp.errors import ConfigError

DRY_RUN = ("submit", "--dataset", "demo", "--method", "tac", "--dry-run", "-o", "json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4e-3", 0.004),
        ("0.004", 0.004),
        ("8", 8),
        ("-1", -1),
        ("1_000", 1000),
        ("true", True),
        ("False", False),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('"8"', "8"),
        ("s3://bucket/x", "s3://bucket/x"),
        # What YAML 1.1 would make eight, ninety, a truth value, a date, a number and nothing.
        ("010", "010"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"),
        ("~", "~"),
        ("5.", "5."),
        (".5", ".5"),
    ],
)
def test_a_value_is_what_json_or_toml_calls_it(text: str, value: object) -> None:
    found = parse_value(text)
    assert (found, type(found)) == (value, type(value))


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()))
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_value(json.dumps(value)) == value


@given(st.from_regex(r"[+-]?[0-9_.eE:+-]{1,8}", fullmatch=True))
def test_a_number_is_one_to_toml_too(text: str) -> None:
    found = parse_value(text)
    if not isinstance(found, str):
        assert tomllib.loads(f"x = {text}")["x"] == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.head_lr", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("a=[1", "not JSON"),
        ("data.cache_dir=", "null"),
        ("name=b", "--name"),
        ("name=", "--name"),
        ("method=tac", "--method"),
        ("data.name=thumos14", "--dataset"),
        ("store.uri=s3://b", "--store"),
    ],
)
def test_what_would_be_ignored_or_cannot_be_read_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="--set") as error:
        parse_assignment(text)
    assert words in str(error.value)


def test_what_was_taken_is_said(tspctl: Tspctl, local: Path) -> None:
    ended = tspctl(*DRY_RUN, "--set", "schedule.epochs=8", "--set", "optim.head_lr=4e-3")
    assert "--set schedule.epochs: 8 (integer)" in ended.err
    assert "--set optim.head_lr: 0.004 (number)" in ended.err
    assert ended.json["config"]["schedule"]["epochs"] == 8
    assert describe_value("010") == '"010" (text)'


@pytest.mark.parametrize("text", ["schedule.epochs=010", "schedule.epochs=1:30", "model.compile=on"])
def test_a_text_where_a_number_belongs_is_a_usage_error(tspctl: Tspctl, local: Path, text: str) -> None:
    ended = tspctl(*DRY_RUN, "--set", text)
    assert (ended.code, ended.out) == (2, "")
    assert text.partition("=")[2] in ended.err


def test_a_setting_cannot_smuggle_in_a_name(tspctl: Tspctl, local: Path, home: Path) -> None:
    (home / "tspctl.toml").write_text('[set]\nname = "b"\n')
    ended = tspctl(*DRY_RUN)
    assert (ended.code, "--name" in ended.err) == (2, True)
