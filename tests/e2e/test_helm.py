"""The chart without ``tspctl``: three values, ``helm test``, and nothing left behind."""

import json

import pytest

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import true_conditions, wait_for
from tests.e2e.tspctl import SECRET, Tspctl

pytestmark = pytest.mark.e2e

KINDS = "pytorchjobs,jobs,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,persistentvolumeclaims"


def objects(tspctl: Tspctl) -> set[str]:
    """What is in the namespace."""
    return {f"{thing['kind'].lower()}/{thing['metadata']['name']}" for thing in tspctl.kubectl.items(KINDS)}


def install(tspctl: Tspctl, name: str, **values: str) -> None:
    assignments = [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]
    arguments = ("install", name, str(tspctl.chart), "-f", str(tspctl.site_values()), *assignments)
    try:
        tspctl.helm(*arguments)
    except AssertionError as error:
        # Trainer's webhook looks for the runtime in a cache that may not have it yet, a moment after Helm has made it.
        if "specified trainingRuntime must be created before the TrainJob" not in str(error):
            raise
        tspctl.helm("uninstall", name, "--wait")
        tspctl.helm(*arguments)


def test_three_values_make_a_run_that_tests_succeeds_and_leaves_nothing(tspctl: Tspctl):
    before = objects(tspctl)
    store = f"s3://{tspctl.s3.bucket}/{tspctl.prefix}"
    install(tspctl, "plain", dataset="demo", method="tac", store__uri=store)
    assert "Succeeded" in tspctl.helm("test", "plain")
    wait_for(
        lambda: true_conditions(tspctl.kubectl.get("pytorchjob", "plain")) & {"Succeeded", "Failed"},
        timeout_sec=420,
        what="end of the run",
        describe=lambda: what_happened(tspctl.kubectl),
    )
    assert "Succeeded" in true_conditions(tspctl.kubectl.get("pytorchjob", "plain")), what_happened(tspctl.kubectl)
    # a run that helm made is a run like any other
    (row,) = json.loads(tspctl.run("list", "-o", "json"))
    assert (row["name"], row["state"], row["progress"]) == ("plain", "succeeded", "4/4")
    assert " % (epoch " in row["best"]
    assert tspctl.epochs_in_results("plain") == [0, 1, 2, 3]
    # a run is what it was started as: the same values change nothing, others are refused
    same = ("plain", str(tspctl.chart), "--reuse-values")
    tspctl.helm("upgrade", *same)
    with pytest.raises(AssertionError, match="immutable"):
        tspctl.helm("upgrade", *same, "--set", "epochs=9")
    tspctl.helm("uninstall", "plain", "--wait")
    wait_for(
        lambda: objects(tspctl) == before,
        what="namespace as it was before",
        describe=lambda: str(objects(tspctl) - before),
    )


def test_the_release_test_fails_where_the_credentials_are_wrong(tspctl: Tspctl):
    tspctl.make_secret(SECRET, tspctl.s3.access_key, "not-the-secret")
    store = f"s3://{tspctl.s3.bucket}/{tspctl.prefix}"
    install(tspctl, "locked-out", dataset="demo", method="tac", store__uri=store, runPolicy__suspend="true")
    with pytest.raises(AssertionError, match="helm test"):
        tspctl.helm("test", "locked-out")
    wait_for(
        lambda: any("refused" in log or "credentials" in log for log in pod_logs(tspctl)),
        what="log that says why",
        describe=lambda: what_happened(tspctl.kubectl),
    )


def pod_logs(tspctl: Tspctl) -> list[str]:
    names = [pod["metadata"]["name"] for pod in tspctl.kubectl.items("pods")]
    return [tspctl.kubectl.try_run("logs", name).stdout for name in names]
