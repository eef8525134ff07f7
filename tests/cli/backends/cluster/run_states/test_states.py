"""Every state that a run of a cluster can be in x every command: what comes of it, and that the advice given works."""

import re

import pytest

from tests.cli.backends.cluster.run_states.installed import CONFIGMAP, JOB, NAME, RECORD, at_work, ended, stopped
from tests.k8s.fake_api import FakeLog
from tests.k8s.serving import JOBS

WORKLOADS = "/apis/kueue.x-k8s.io/v1beta1/namespaces/video/workloads"


def without_job(status):
    def arrange(api, job):
        del api.objects[JOB]
        del api.objects[JOBS]
        api.objects[RECORD]["metadata"]["labels"]["status"] = status

    return arrange


def held_without_queue(api, job):
    """By Kueue with manageJobsWithoutQueueName."""
    job["spec"]["runPolicy"]["suspend"] = True
    workload = {"metadata": {"name": "w", "labels": {"kueue.x-k8s.io/job-uid": "u"}}, "status": {}}
    api.objects |= {WORKLOADS: [workload], f"{WORKLOADS}/w": workload}
    job["metadata"]["uid"] = "u"


def lost(*paths, then=None):
    def arrange(api, job):
        for path in paths:
            del api.objects[path]
        if then is not None:
            then(api, job)

    return arrange


STATES = {
    "running": at_work,
    "pending": ended("Created"),
    "succeeded": ended("Succeeded"),
    "failed": ended("Failed"),
    "suspended": stopped("suspended"),
    "cancelled": stopped("cancelled"),
    "held by Kueue": held_without_queue,
    "half installed": without_job("pending-install"),
    "installation failed": without_job("failed"),
    "job deleted by hand": without_job("deployed"),
    "removal cut short": without_job("uninstalling"),
    "ConfigMap lost, suspended": lost(CONFIGMAP, then=stopped("suspended")),
    "record lost, succeeded": lost(RECORD, then=ended("Succeeded")),
    "record lost, suspended": lost(RECORD, then=stopped("suspended")),
    "record and ConfigMap lost, cancelled": lost(RECORD, CONFIGMAP, then=stopped("cancelled")),
}
SHOWN = {
    "held by Kueue": "suspended",
    "half installed": "crashed", "installation failed": "failed", "job deleted by hand": "crashed",
    "removal cut short": "crashed", "ConfigMap lost, suspended": "suspended", "record lost, succeeded": "succeeded",
    "record lost, suspended": "suspended", "record and ConfigMap lost, cancelled": "cancelled",
}  # fmt: skip
GONE, LIVES = "gone", "lives"
TABLE = {
    # state: (cancel, suspend, resume, delete): exit code, and what is left
    "running": ((0, LIVES), (0, LIVES), (2, LIVES), (2, LIVES)),
    "pending": ((0, LIVES), (0, LIVES), (2, LIVES), (2, LIVES)),
    "succeeded": ((2, LIVES), (2, LIVES), (2, LIVES), (0, GONE)),
    "failed": ((2, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "suspended": ((0, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "cancelled": ((2, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "held by Kueue": ((0, LIVES), (2, LIVES), (2, LIVES), (0, GONE)),
    "half installed": ((2, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "installation failed": ((2, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "job deleted by hand": ((2, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "removal cut short": ((2, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "ConfigMap lost, suspended": ((0, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "record lost, succeeded": ((2, LIVES), (2, LIVES), (2, LIVES), (0, GONE)),
    "record lost, suspended": ((0, LIVES), (2, LIVES), (0, LIVES), (0, GONE)),
    "record and ConfigMap lost, cancelled": ((2, LIVES), (2, LIVES), (4, LIVES), (0, GONE)),
}
COMMANDS = {
    "cancel": ("cancel", NAME),
    "suspend": ("suspend", NAME),
    "resume": ("resume", NAME),
    "delete": ("delete", NAME, "--yes", "--keep-store"),
}
CASES = [(state, command, *end) for state, ends in TABLE.items() for command, end in zip(COMMANDS, ends, strict=True)]


def what_is_left(api):
    return sorted(path for path in (JOB, CONFIGMAP, RECORD) if path in api.objects)


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_listed_and_explained(api, tspctl, installed, state):
    STATES[state](api, installed)
    listed = tspctl("list", "-o", "json")
    assert listed.code == 0, listed.err
    assert [(row["name"], row["state"]) for row in listed.json] == [(NAME, SHOWN.get(state, state))]
    shown = tspctl("status", NAME, "-o", "json")
    assert shown.code == 0, shown.err
    assert shown.json["state"] == SHOWN.get(state, state)
    if state not in ("running", "pending") and "succeeded" not in state and "cancelled" not in state:
        assert shown.json["reason"], "nothing explains it"


@pytest.mark.parametrize(("state", "command", "code", "left"), CASES, ids=[f"{case[1]} {case[0]}" for case in CASES])
def test_what_a_command_does_in_a_state(api, tspctl, installed, state, command, code, left):
    STATES[state](api, installed)
    done = tspctl(*COMMANDS[command])
    assert done.code == code, done.err
    assert "unexpected" not in done.err
    assert bool(what_is_left(api)) == (left is LIVES), what_is_left(api)
    if command == "resume" and code == 0:
        assert {JOB, CONFIGMAP} <= set(what_is_left(api)), "something that the pods need is missing"


UNADVISED = ("succeeded", "failed", "cancelled")
"""States in which nobody needs to be told what to do."""


def advised(text):
    """Commands of ours in a message, as one would type them."""
    return [found.split() for found in re.findall(r"'tspctl ([a-z-]+(?: [a-z0-9-]+)?)'", text)]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("state", STATES)
def test_every_command_that_a_message_names_works_in_that_state(api, tspctl, installed, state, which):
    """Of reasons and refusals alike. What it names is run in the state that it was named in."""
    STATES[state](api, installed)
    texts = [tspctl("status", NAME, "-o", "json").json["reason"] or ""]
    texts += [tspctl(*COMMANDS[name]).err for name, end in zip(COMMANDS, TABLE[state], strict=True) if end[0] == 2]
    commands = sorted({tuple(command) for text in texts for command in advised(text)})
    assert len(commands) <= 2, commands
    if which >= len(commands):
        assert which or state in UNADVISED or "lost" in state
        return
    more = ("--yes", "--keep-store") if commands[which][0] == "delete" else ()
    done = tspctl(*commands[which], *more)
    assert done.code == 0, (commands[which], done.err)


# Commands that only look

LOOKING = {
    "wait": ("wait", NAME, "--timeout", "0"),
    "logs": ("logs", NAME),
    "follow": ("logs", "-f", NAME),
    "exec": ("exec", NAME, "--", "true"),
    "results": ("results", NAME),
    "fetch": ("fetch-best", NAME),
}
# 0 done, 2 refused, 3 no epoch yet, 5 its files are gone, 100-103 outcomes; a run that still runs is not followed here.
LOOKS = """
state                  wait logs follow exec results fetch
running                101  0    -      0    3       3
pending                101  0    -      2    3       3
succeeded              0    0    0      2    5       5
failed                 100  0    100    2    3       3
suspended              101  0    101    2    3       3
cancelled              103  0    103    2    3       3
held-by-Kueue          101  0    101    2    3       3
half-installed         100  0    100    102  3       3
installation-failed    100  0    100    102  3       3
job-deleted-by-hand    100  0    100    102  3       3
removal-cut-short      100  0    100    102  3       3
ConfigMap-lost,-suspended 101 0  101    2    3       3
record-lost,-succeeded 0    0    0      2    5       5
record-lost,-suspended 101  0    101    2    3       3
record-and-ConfigMap-lost,-cancelled 103 0 103 2 3   3
"""


def looks():
    head, *lines = [line.split() for line in LOOKS.strip().splitlines()]
    return {line[0].replace("-", " "): dict(zip(head[1:], line[1:], strict=True)) for line in lines}


@pytest.mark.parametrize("state", STATES)
def test_looking_at_a_state_changes_nothing_and_ends_with_its_code(
    api, tspctl, installed, cluster, tmp_path, monkeypatch, state
):
    # What follows exec's -- belongs to its command.
    monkeypatch.setenv("KUBECONFIG", cluster.where.kubeconfig)
    monkeypatch.setenv("TSPCTL_STORE", f"file://{tmp_path}/store")
    monkeypatch.setattr("cli.backends.cluster.backend.run_in_pod", lambda *_: 0)
    monkeypatch.setattr("cli.runs.logs.STORE_POLL_SEC", 0.01)
    STATES[state](api, installed)
    api.logs["my-run-master-0"] = FakeLog([b"2030-01-01T00:00:02Z INFO step 1\n"])
    before = what_is_left(api)
    for command, code in looks()[state].items():
        if code == "-":
            continue
        ended = tspctl(*LOOKING[command])
        assert ended.code == int(code), f"{command}: {ended.err}"
        assert "unexpected" not in ended.err
        assert ended.code == 0 or ended.err.strip(), f"{command} says nothing"
    assert what_is_left(api) == before
