"""What ``helm test`` runs in a pod."""

import json
import subprocess
import sys

import pytest

from tsp.config.store import StoreConfig
from tsp.errors import StoreError
from tsp.store.check import check_round_trip, main
from tsp.store.open import open_store


def test_a_store_that_keeps_what_is_written_passes_and_is_left_empty(tmp_path, capsys):
    assert main([json.dumps({"uri": f"file://{tmp_path}/runs"})]) == 0
    assert "wrote 1024 bytes, read them back and deleted them" in capsys.readouterr().out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_changes_what_is_written_fails(tmp_path, monkeypatch):
    store = open_store(StoreConfig(uri=str(tmp_path)))
    monkeypatch.setattr(type(store), "read", lambda self, key: b"something else")
    with pytest.raises(StoreError, match="is not reliable"):
        check_round_trip(store)


def test_a_store_that_cannot_be_written_ends_with_the_store_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, "-m", "tsp.store.check", json.dumps({"uri": f"{tmp_path}/file/runs"})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == StoreError.exit_code
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("arguments", [[], ["{"], ['{"url": "s3://b"}']])
def test_bad_settings_are_a_configuration_error(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
