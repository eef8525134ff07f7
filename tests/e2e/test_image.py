"""The image: its own tests, in a pod as hardened as those of a run."""

from pathlib import Path

import pytest

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import Kubectl, Object, wait_for

pytestmark = pytest.mark.e2e

TESTS = Path(__file__).resolve().parents[2] / "image" / "tests" / "test_inside.py"
NUM_TESTS = TESTS.read_text().count("    def test_")


def pod(image: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "image-tests"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            # no user: the image's own is a number, which is what lets runAsNonRoot pass
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "tests",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "/tests/test_inside.py"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "tests", "mountPath": "/tests", "readOnly": True},
                        {"name": "tmp", "mountPath": "/tmp"},
                        {"name": "shm", "mountPath": "/dev/shm"},
                    ],
                }
            ],
            "volumes": [
                {"name": "tests", "configMap": {"name": "tests"}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
            ],
        },
    }


def test_the_images_own_tests_pass_inside_it(kubectl: Kubectl, image: str):
    kubectl.run("create", "configmap", "tests", f"--from-file={TESTS}")
    kubectl.apply(pod(image))
    wait_for(
        lambda: kubectl.get("pod", "image-tests")["status"]["phase"] in ("Succeeded", "Failed"),
        timeout_sec=400,
        what="end of the image's tests",
        describe=lambda: what_happened(kubectl),
    )
    said = kubectl.run("logs", "image-tests")
    assert f"Ran {NUM_TESTS} tests" in said, said
    # These need an image with a compiler; another one left out would hide a gap.
    num_skipped = TESTS.read_text().count("only in the image with a compiler")
    assert num_skipped == 2
    assert said.rstrip().endswith(f"\nOK (skipped={num_skipped})"), said
