"""What doctor and submit say of a namespace: Secrets and claims of the settings, sidecars, names that are taken."""

import pytest

from cli.backends.cluster.backend import ClusterBackend
from cli.options.settings import Settings
from cli.stores import Stores
from tests.cli.backends.cluster.test_one_install import SUBMIT
from tests.cli.backends.cluster.test_one_install import api as api
from tests.cli.backends.cluster.test_one_install import tspctl as tspctl
from tests.k8s.serving import gpu_node

SECRET = "/api/v1/namespaces/video/secrets/s3-login"
CLAIM = "/api/v1/namespaces/video/persistentvolumeclaims/videos"
NAMESPACE = "/api/v1/namespaces/video"


@pytest.fixture
def findings(api, cluster, real_helm):
    """Findings of doctor by what they are about, with a Secret and a claim in the settings."""

    def examine():
        values = {"store.existingSecret": "s3-login", "data.claim": "videos"}
        backend = ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig, chart_values=values), Stores())
        return {finding.what: (finding.level, finding.message) for finding in backend.diagnose()}

    return examine


def test_the_doctor_looks_for_the_secret_and_the_claim_of_the_settings(api, findings):
    api.objects |= {SECRET: {"metadata": {}, "data": {}}, CLAIM: {"metadata": {}}}
    assert findings()["Secrets and claims"] == ("ok", "those in the settings exist")
    del api.objects[SECRET]
    level, message = findings()["secret"]
    assert (level, message) == ("error", "s3-login does not exist in namespace video, and the pods refer to it")
    api.objects[SECRET] = lambda *_: (403, {"message": "no"})
    level, message = findings()["secret"]
    assert (level, "no permission to check that it exists" in message) == ("warning", True), "that is not an error"
    api.objects[SECRET] = {"metadata": {}, "data": {}}
    api.objects[CLAIM] = {"metadata": {}, "status": {"phase": "Lost"}}
    assert findings()["volume claim"] == ("error", "videos has lost its volume")


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        ({}, "ok"),
        ({"istio-injection": "enabled"}, "warning"),
        ({"istio-injection": "disabled"}, "ok"),
        ({"linkerd.io/inject": "enabled"}, "warning"),
        ({"kuma.io/sidecar-injection": "enabled"}, "warning"),
    ],
)
def test_sidecars_are_warned_of_by_doctor_and_by_submit(tspctl, api, findings, labels, level):
    api.objects[NAMESPACE] = {"metadata": {"labels": labels}}
    found, message = findings()["sidecars"]
    assert found == level
    assert all(key in message for key in labels) or level == "ok"
    sent = tspctl(*SUBMIT)
    assert sent.code == 0, sent.err
    assert ("an injected container that keeps running would keep the job from ending" in sent.err) == (
        level == "warning"
    )


def test_a_name_that_is_taken_is_refused_for_jobs_as_for_runs(tspctl, api):
    api.objects[CLAIM] = {"metadata": {}}
    words = (
        "gvf",
        "/data/w.pth",
        "--data",
        "/data/v",
        "--metadata",
        "/data/m.csv",
        "--out",
        "/data/g.h5",
        "--name",
        "r1",
    )
    assert tspctl(*words).code == 0
    for again in (words, SUBMIT):
        refused = tspctl(*again)
        assert (refused.code, refused.out) == (2, ""), refused.err
        assert "namespace video already has a run 'r1': choose another --name" in refused.err
        assert "409" not in refused.err


def test_the_doctor_names_the_gpus_that_runs_do_not_ask_for(api, findings):
    parts = gpu_node("a", None)
    parts["status"]["allocatable"] = {"nvidia.com/mig-1g.5gb": "7"}
    api.objects["/api/v1/nodes"] = [parts]
    level, message = findings()["GPUs"]
    assert level == "warning"
    assert message.endswith("nodes have nvidia.com/mig-1g.5gb: to use one, set gpuResource (chart value)")
    api.objects["/api/v1/nodes"] = [parts, gpu_node("b", "16384")]
    assert "mig" not in findings()["GPUs"][1]
