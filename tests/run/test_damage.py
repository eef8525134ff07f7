"""Damaged, empty, foreign and cut files in a run's folder: named, never a traceback; a run at work gets over them."""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.runs.summary import summarize
from tests.cli.conftest import Tspctl
from tests.cli.conftest import home as home
from tests.cli.conftest import tspctl as tspctl
from tests.run.stored import PROGRESS, MakeEpoch, MakeState
from tsp.config.run import RunConfig
from tsp.errors import ConfigError, DataError, NoSuchRunError, StoreError
from tsp.run.records import Outcome
from tsp.run.stored_run import StoredRun
from tsp.store.base import Store

JSON_FILES = ("run.json", "progress.json", "outcome.json", "epoch_1.json", "state/latest.json", "state/attempt.json")
FOREIGN = [
    b"", b"\0" * 300, b"{", b"[]", b"null", b"5", b'"text"', b"{}", b"<html>login</html>", b"[" * 100_000,
    b"\xff\xfe{\0}\0", b'{"config": [], "created": 5}', b'{"config": {}, "created": "yesterday"}', b"9" * 5000,
    b'{"config": {}, "effective": 7}', b'{"attempt": null}', b'{"attempt": []}', b'{"epoch": 1e999}',
]  # fmt: skip


@pytest.fixture
def full_run(local_run: StoredRun, config: RunConfig, make_epoch: MakeEpoch, make_state: MakeState) -> StoredRun:
    """A run with everything that one can have."""
    local_run.create(config, None)
    local_run.start_attempt()
    for epoch in (0, 1):
        local_run.publish_epoch(*make_epoch(epoch))
    local_run.publish_state(*make_state(2, 5))
    local_run.write_progress(PROGRESS)
    local_run.write_outcome(Outcome(state="failed", exit_code=3, reason="bad data", attempt=1))
    return local_run


def _variants(content: bytes) -> list[bytes]:
    draw = random.Random(0)
    cut = [content[: draw.randrange(len(content))] for _ in range(15)]
    flipped = []
    for _ in range(40):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        flipped.append(bytes(damaged))
    return [*FOREIGN, *cut, *flipped]


@pytest.mark.parametrize("name", [*JSON_FILES, "results.txt"])
def test_whatever_is_in_a_file_reading_it_ends_with_an_error_of_ours(full_run: StoredRun, name: str) -> None:
    reads: list[Callable[[], Any]] = [
        full_run.about, full_run.config, full_run.effective, full_run.read_progress, full_run.read_outcome,
        full_run.results, full_run.best, full_run.last_attempt, full_run.latest_state, full_run.exists,
        lambda: summarize(full_run, None, None),
    ]  # fmt: skip
    content = full_run.store.read(full_run.key(name))
    for variant in _variants(content):
        full_run.store.write(full_run.key(name), variant)
        for read in reads:
            with contextlib.suppress(StoreError, DataError, ConfigError, NoSuchRunError):
                read()


@pytest.mark.parametrize("name", ["epoch_1.json", "state/latest.json"])
@pytest.mark.parametrize("content", FOREIGN[:4])
def test_a_run_at_work_gets_over_a_damaged_record(
    full_run: StoredRun, make_epoch: MakeEpoch, make_state: MakeState, name: str, content: bytes
) -> None:
    full_run.store.write(full_run.key(name), content)
    assert 1 not in full_run.certain_epochs() or name != "epoch_1.json"
    full_run.publish_epoch(*make_epoch(1))
    full_run.publish_epoch(*make_epoch(2))
    full_run.publish_state(*make_state(3, 1))
    assert list(full_run.epochs()) == [0, 1, 2]
    newest = full_run.latest_state()
    assert newest is not None
    assert newest.epoch == 3
    assert len(full_run.store.read(full_run.key("results.txt")).splitlines()) == 3


@pytest.mark.parametrize("name", ["run.json", "progress.json", "outcome.json", "epoch_1.json"])
def test_status_and_list_show_a_run_with_a_damaged_file_as_damaged_and_what_the_others_say(
    tspctl: Tspctl, home: Path, full_run: StoredRun, local_store: Store, name: str
) -> None:
    full_run.store.write(full_run.key(name), b"{")
    shown = tspctl("status", str(Path(local_store.uri) / full_run.name), "-o", "json")
    assert shown.code == 0, shown
    (listed,) = tspctl("list", "--backend", "local", "--store", local_store.uri, "-o", "json").json
    assert shown.json["state"] == listed["state"] == "damaged"
    assert shown.json["reason"] == listed["reason"]
    assert f"{name} is damaged" in shown.json["reason"]
    known = {"run.json": "dataset", "progress.json": "epoch", "outcome.json": "exit_code", "epoch_1.json": None}
    assert [key for key in known.values() if key and shown.json[key] is None] == [known[name]] * bool(known[name])


@pytest.mark.parametrize(
    ("words", "whole"),
    [(("results",), "50.000"), (("results", "-o", "json"), '"best_epoch": 0'), (("results", "-o", "csv"), "0,50.0"),
     (("fetch-best",), "epoch_0.pth"), (("status",), "epoch 0, Avg Accuracy 50"),
     (("report", "--out", "p.html"), "p.html")],
)  # fmt: skip
def test_beside_a_damaged_record_the_others_are_shown_and_fetched_and_it_is_named(
    tspctl: Tspctl, home: Path, full_run: StoredRun, local_store: Store, words: tuple[str, ...], whole: str
) -> None:
    full_run.store.write(full_run.key("epoch_1.json"), b"{")
    ended = tspctl(words[0], str(Path(local_store.uri) / full_run.name), *words[1:])
    assert whole in ended.out
    assert ended.code == (5 if words[0] in ("results", "fetch-best") else 0), ended
    said = Path("p.html").read_text() if words[0] == "report" else ended.err + ended.out
    assert "epoch_1.json is damaged" in said
    assert "delete it to continue without it" in said
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["results", "fetch-best"])
def test_without_a_whole_record_nothing_is_shown(
    tspctl: Tspctl, home: Path, full_run: StoredRun, local_store: Store, command: str
) -> None:
    for epoch in full_run.epochs():
        full_run.store.write(full_run.key(f"epoch_{epoch}.json"), b"{")
    ended = tspctl(command, str(Path(local_store.uri) / full_run.name))
    assert (ended.code, ended.out) == (5, "")
    assert "is damaged" in ended.err
