"""Secrets that are planted in options, files and variables come out nowhere."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tests.config.test_address import SECRET, SIGNED, WITH_PASSWORD

OPTIONS = ["--pretrained", "--resume", "--data", "--store", "--endpoint-url"]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("backend", ["kubernetes", "local"])
@pytest.mark.parametrize("address", [WITH_PASSWORD[0], WITH_PASSWORD[9], SIGNED[0]])
def test_nothing_planted_in_an_option_comes_out(
    tspctl: Tspctl, home: Path, option: str, backend: str, address: str
) -> None:
    given = {"--store": str(home / "store"), "--data": str(home), option: address}
    words = [word for pair in given.items() for word in pair]
    for more in (["--dry-run"], []):
        ended = tspctl("submit", "--dataset", "demo", "--method", "tac", "--backend", backend, *words, *more)
        assert ended.code == 2, ended
        assert SECRET not in ended.out + ended.err
    assert not [path for path in home.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]


def test_nothing_planted_in_a_data_set_file_or_a_variable_comes_out(
    tspctl: Tspctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = {
        "name": "mine", "root": f"s3://me:{SECRET}@bucket/data", "labels": {"action-label": "labels.json"},
        "train": {"csv": "a.csv", "videos": "v"}, "valid": {"csv": "a.csv", "videos": "v"},
    }  # fmt: skip
    (home / "mine.yaml").write_text(json.dumps(dataset))
    submit = ["submit", "--method", "tac", "--backend", "local", "--store", str(home / "store"), "--dry-run"]
    ended = tspctl(*submit, "--dataset", str(home / "mine.yaml"))
    assert (ended.code, SECRET in ended.out + ended.err) == (2, False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://me:{SECRET}@host:9000")
    ended = tspctl("list", "--backend", "local", "--store", "s3://bucket/x")
    assert (ended.code, SECRET in ended.out + ended.err) == (2, False)
