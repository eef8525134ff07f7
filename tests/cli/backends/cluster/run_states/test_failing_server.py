"""A server that fails at any one request of a command that changes a run, and one that stays away from then on."""

import copy

import pytest

from tests.cli.backends.cluster.run_states.installed import (
    JOB,
    NAME,
    at_work,
    ended,
    install_run,
    serve_changes,
    stopped,
)
from tests.k8s.fake_api import LOST, PASS

COMMANDS = {
    "cancel": (("cancel", NAME), at_work),
    "suspend": (("suspend", NAME), at_work),
    "resume": (("resume", NAME), stopped("suspended")),
    "delete": (("delete", NAME, "--yes"), ended("Failed")),
}
FAILURES = {"a webhook's failure": 500, "a lost answer": LOST}


@pytest.fixture
def attempt(api, tspctl, cluster, config, tmp_path, monkeypatch):
    """Run a command on a new run while these requests fail. Returns: how it ended, its requests, how the run stands."""
    monkeypatch.setattr("k8s.client._RETRY_AFTER_SEC", (0.0, 0.0, 0.0))
    first = install_run(api, cluster, config, tmp_path)
    objects = dict(api.objects)

    def run(command, failures):
        words, arrange = COMMANDS[command]
        api.objects.clear()
        api.objects |= {path: item if callable(item) else copy.deepcopy(item) for path, item in objects.items()}
        job = copy.deepcopy(first)
        serve_changes(api, job)
        arrange(api, job)
        api.requests.clear()
        api.failures = list(failures)
        done = tspctl(*words)
        api.failures = []
        return done, len(api.requests), lambda: standing(api, job)

    return run


def standing(api, job):
    """What is left of a run: whether its job is suspended, and why; None if it is gone; the other objects."""
    left = {path for path in api.objects if NAME in path and path != JOB}
    if JOB not in api.objects:
        return None, left
    return job["spec"]["runPolicy"].get("suspend"), job["metadata"]["annotations"].get("tspctl/stopped"), left


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("command", ["cancel", "suspend", "resume"])
def test_one_failure_at_any_request_of_a_command_changes_nothing(attempt, command, failure):
    undisturbed, num_requests, standing_of_undisturbed = attempt(command, [])
    assert undisturbed.code == 0, undisturbed.err
    expected = standing_of_undisturbed()
    assert num_requests > 2
    for number in range(num_requests):
        done, _, found = attempt(command, [*[PASS] * number, FAILURES[failure]])
        assert (done.code, found()) == (0, expected), (number, done.err)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_cut_short_by_a_server_that_stays_away_says_so_and_can_be_repeated(
    attempt,
    tspctl,
    command,
):
    """``delete`` asks in part by Helm, which repeats nothing."""
    undisturbed, num_requests, standing_of_undisturbed = attempt(command, [])
    assert undisturbed.code == 0, undisturbed.err
    expected = standing_of_undisturbed()
    num_cut_short = 0
    for number in range(num_requests):
        done, _, found = attempt(command, [*[PASS] * number, *[503] * 100])
        if done.code != 0:
            num_cut_short += 1
            assert (done.code, "error: " in done.err) == (4, True), (number, done.err)
            again = tspctl(*COMMANDS[command][0])
            # What is gone, or stands already as asked for, is said to.
            assert again.code in (0, 2, 102), (number, again.err)
        assert found() == expected, (number, done.err)
    assert num_cut_short > 1
