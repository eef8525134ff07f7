"""Everything that the chart can render, for tests that judge objects rather than values."""

from __future__ import annotations

from typing import Any

EVERYTHING: dict[str, Any] = {
    "data": {"claim": "videos"},
    "cache": {"claim": "cache"},
    "store": {"uri": "s3://b", "existingSecret": "s3-login", "caConfigMap": "ca"},
    "image": {"pullSecrets": ["pull"]},
    "queue": "team",
    "nodeSelector": {"zone": "a"},
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "plan": {"memoryValues": ["16384"]},
    "numThreads": 2,
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "x", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    "runPolicy": {"suspend": True, "backoffLimit": 0, "activeDeadlineSeconds": 9, "ttlSecondsAfterFinished": 0},
}
"""Every group of values that adds something to an object."""
EXTRACT = {"kind": "extract", "request": "{}", "shards": 2, "gpu": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "one GPU": {"gpus": 1},
    "a run": {},
    "a run with everything": EVERYTHING,
    "several GPUs a pod": {"gpusPerPod": 4},
    "a TrainJob": {"job": {"api": "trainjob"}},
    "a TrainJob with everything": {**EVERYTHING, "job": {"api": "trainjob"}, "runPolicy": {"suspend": True}},
    "a job": {"job": EXTRACT},
    "a job with everything": {**EVERYTHING, "job": EXTRACT},
}
