"""A run in a store as people have it, and what every command says of it."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.cli.conftest import Ended, Tspctl
from tests.s3_servers import S3Server
from tests.stores import epoch_record
from tsp.config.recipes import load_dataset, resolve
from tsp.run.metrics import MetricsLog
from tsp.run.records import Outcome
from tsp.run.stored_run import StoredRun
from tsp.store.base import Store
from tsp.store.open import open_store
from tsp.store.retry import RetryPolicy

OK, USAGE, STORE, FAILED, MISSING = 0, 2, 5, 100, 102
BEST = b"weights of epoch 1"

Answers = dict[str, tuple[int, str]]
"""Command -> exit code and a pattern in what it says."""

LINES = {
    "list": ("list",),
    "names": ("list", "-o", "name"),
    "status": ("status", "first"),
    "results": ("results", "first"),
    "metrics": ("metrics", "first"),
    "logs": ("logs", "first"),
    "follow": ("logs", "-f", "first"),
    "wait": ("wait", "first"),
    "fetch-best": ("fetch-best", "first", "-d", "out"),
    "fetch": ("fetch", "first", "--all", "-d", "all"),
    "report": ("report", "first", "--out", "page.html"),
    "doctor": ("doctor",),
    "resume": ("resume", "first"),
    "submit": ("submit", "--dataset", "demo", "--method", "tac", "--name", "new"),
    "delete": ("delete", "first", "--yes"),
}
READ = ("list", "names", "status", "results", "metrics", "logs", "follow", "wait", "fetch-best", "fetch", "report")
WHOLE: Answers = {
    "list": (OK, r"first +failed .*60\.000"), "names": (OK, "first"), "status": (OK, "epoch 1, Avg Accuracy 60"),
    "results": (OK, r"60\.000 .*best"), "metrics": (OK, "train"), "logs": (OK, "hello"), "follow": (FAILED, "boom"),
    "wait": (FAILED, "boom"), "fetch-best": (OK, "first-epoch_1.pth"), "fetch": (OK, "features/a.npy"),
    "report": (OK, "page.html"),
}  # fmt: skip


ANY = ("list", "status", "fetch-best", "submit")
"""Commands that first list, look at, and write an object."""


def every(code: int, pattern: str, *commands: str) -> Answers:
    """The same answer to several commands."""
    return dict.fromkeys(commands, (code, pattern))


def made_run(store: Store, folder: Path, **settings: Any) -> StoredRun:
    """A run that trained two epochs and failed."""
    run = StoredRun(store, "first")
    connection = {"uri": store.uri, "region": "us-east-1", **settings}
    config = resolve(load_dataset("demo"), "tac", name="first", store=connection, root="/data")
    run.create(config, None, owner="another user's machine")
    run.start_attempt()
    log = MetricsLog(run, 1)
    log.write("train", epoch=0, step=3, steps=10, loss=2.0, losses={"action-label": 2.0}, clips_per_sec=9.5)
    log.close()
    for epoch, accuracy in ((0, 40.0), (1, 60.0)):
        path = folder / f"made-{epoch}.pth"
        path.write_bytes(b"weights of epoch %d" % epoch)
        run.publish_epoch(path, epoch_record(epoch, path, accuracy))
    run.store.write(run.log_key(1, 0), b"2026-11-29 10:00:00,000 rank 0 INFO x: hello\n")
    run.store.write(run.key("features", "a.npy"), b"features")
    run.write_outcome(Outcome(state="failed", exit_code=1, reason="boom", attempt=1))
    return run


def settings_of(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    become(server, monkeypatch)
    monkeypatch.setattr("tsp.store.open.RetryPolicy", lambda: RetryPolicy(attempts=3, first_delay_sec=0.01))
    monkeypatch.setattr("cli.runs.outcome.POLL_SEC", 0.01)
    store = open_store(server.config(tmp_path.name))
    made_run(store, tmp_path, endpoint_url=server.endpoint_url)
    for name, value in {"STORE": store.uri, "ENDPOINT_URL": server.endpoint_url, "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"TSPCTL_{name}", value)
    return server


def become(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a key pair of the server."""
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)


def client_of(server: S3Server) -> Any:
    pair = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    return boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1", **pair)


def check(tspctl: Tspctl, answers: Answers) -> dict[str, Ended]:
    ended = {command: tspctl(*LINES[command]) for command in answers}
    for command, (code, pattern) in answers.items():
        said = ended[command].out + ended[command].err
        # doctor's table wraps
        assert re.search(pattern.replace(" ", r"\s+"), said, re.DOTALL), f"{command}: {said}"
        assert ended[command].code == code, f"{command}: {said}"
        assert "unexpected error:" not in said, command
        assert "Traceback" not in said, command
    return ended
