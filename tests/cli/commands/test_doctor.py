from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl


def test_doctor_names_what_is_wrong(tspctl: Tspctl, local: Path) -> None:
    good = tspctl("doctor", "-o", "json")
    assert good.code == 0
    assert {"python", "settings", "store", "torch", "GPUs"} <= {finding["what"] for finding in good.json}
    bad = tspctl("doctor", "--store", "/proc/store")
    assert (bad.code, "/proc/store" in bad.out) == (1, True)


def test_doctor_looks_at_data(tspctl: Tspctl, local: Path, data_root: Path) -> None:
    def found(*arguments: object) -> tuple[int, str, str]:
        ended = tspctl("doctor", "-o", "json", *map(str, arguments))
        ((level, message),) = [(item["level"], item["message"]) for item in ended.json if item["what"] == "data"]
        return ended.code, level, message

    assert found("--data", data_root) == (0, "ok", f"{data_root} is readable")
    code, level, message = found("--data", data_root / "nothing")
    assert (code, level, "does not exist" in message) == (1, "error", True)
    code, level, message = found("--data", "s3:/bucket/x")
    assert (code, level, "did you mean s3://bucket/x" in message) == (1, "error", True)
    assert "data" not in {item["what"] for item in tspctl("doctor", "-o", "json").json}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_tspctl(tspctl: Tspctl, shell: str) -> None:
    assert "_TSPCTL_COMPLETE" in tspctl("completion", shell).out
