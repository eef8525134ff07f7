"""A namespace with a thousand runs, listed. Comes last: the operator is busy with them for a minute."""

import json
import time

import pytest

from tests.e2e.kubectl import Object
from tests.e2e.test_reasons import install_demo
from tests.e2e.tspctl import Tspctl

pytestmark = pytest.mark.e2e

NUM_RUNS = 1000
LIMIT_SEC = 2.0


def others_like(job: Object) -> list[Object]:
    """What users' other runs look like to the API server: as large as that one, each with a name of its own."""
    kept = {key: job["metadata"][key] for key in ("labels", "annotations")}
    spec = {key: job[key] for key in ("apiVersion", "kind", "spec")}
    return [{**spec, "metadata": {**kept, "name": f"run-{number}"}} for number in range(1, NUM_RUNS)]


def test_a_thousand_runs_are_listed_in_two_seconds(tspctl: Tspctl):
    install_demo(tspctl, "first", runPolicy__suspend="true")
    others = others_like(tspctl.kubectl.get("pytorchjob", "first"))
    stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": others})
    tspctl.kubectl.run("create", "-f", "-", stdin=stdin, timeout_sec=300)
    took_sec: list[float] = []
    # the quickest counts: what else the machine does at the time, the operator first of all, is not the program's
    while len(took_sec) < 3 or (min(took_sec) >= LIMIT_SEC and len(took_sec) < 8):
        started = time.monotonic()
        rows = json.loads(tspctl.run("list", "-o", "json"))
        took_sec.append(time.monotonic() - started)
        assert {row["name"] for row in rows} == {"first", *(job["metadata"]["name"] for job in others)}
    print(f"seconds of 'tspctl list' with {NUM_RUNS} runs: {', '.join(f'{took:.2f}' for took in took_sec)}")
    assert min(took_sec) < LIMIT_SEC, took_sec
