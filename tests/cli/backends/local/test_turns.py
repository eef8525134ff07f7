"""Two commands that write to one address do not do it at once."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tsp.store.turns import in_turn

DATABASE = {
    f"v{number}": {
        "subset": subset,
        "duration": 9.0,
        "annotations": [{"segment": [1.0, 3.0], "label": "Jump"}],
    }
    for number, subset in enumerate(("training", "validation"))
}


@pytest.mark.parametrize("written", ["loc.json", "{subset}.csv"])
def test_a_command_waits_until_another_has_written_and_keeps_what_it_wrote(
    tspctl: Tspctl, home: Path, written: str
) -> None:
    (home / "a.json").write_text(json.dumps({"database": DATABASE}))
    rows = "".join(f"{name}.mp4,9.0,30.0,270\n" for name in DATABASE)
    (home / "m.csv").write_text(f"filename,video-duration,fps,video-frames\n{rows}")

    for subset in ("training", "validation"):
        with ExitStack() as other:
            address = str(home / written.format(subset=subset))
            other.enter_context(in_turn([address], lambda _: None))
            threading.Timer(1.0, other.pop_all().close).start()
            end = tspctl(
                "data", "annotate", "a.json", "--metadata", "m.csv", "--subset", subset, "--out", f"{subset}.csv",
                "--json", "loc.json",
            )  # fmt: skip
        assert end.code == 0
        assert f"another tspctl on this machine is writing to {address}: waiting until it ends" in end.err
    assert json.loads((home / "loc.json").read_text())["database"].keys() == DATABASE.keys()
