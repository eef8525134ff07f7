"""Everyday options of pods, each one line over a value of the chart."""

import pytest

from k8s.pod_options import PodOptions, with_pod_options
from tsp.errors import ConfigError

OWN = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ({}, {}, {}),
        ({}, {"priority": "high"}, {"priorityClassName": "high"}),
        ({"queue": "q"}, {"priority": "high"}, {"queue": "q", "labels": {"kueue.x-k8s.io/priority-class": "high"}}),
        ({}, {"deadline_sec": 90}, {"runPolicy": {"activeDeadlineSeconds": 90}}),
        (
            {"queue": "q", "labels": {"a": "b"}},
            {"deadline_sec": 90},
            {"queue": "q", "labels": {"a": "b", "kueue.x-k8s.io/max-exec-time-seconds": "90"}},
        ),
        ({"job": {"kind": "train"}}, {"job_api": "trainjob"}, {"job": {"kind": "train", "api": "trainjob"}}),
        ({}, {"gpus_per_pod": 4, "gang": "volcano"}, {"gpusPerPod": 4, "gang": "volcano"}),
        ({"queue": "q"}, {"gang": "kueue"}, {"queue": "q", "gang": "kueue"}),
        (
            {},
            {"tolerations": ("team=video:NoExecute", "spot")},
            {"tolerations": [OWN, {"key": "team", "operator": "Equal", "value": "video", "effect": "NoExecute"},
                             {"key": "spot", "operator": "Exists"}]},
        ),
        ({"tolerations": []}, {"tolerations": ("spot",)}, {"tolerations": [{"key": "spot", "operator": "Exists"}]}),
        ({"nodeSelector": {"a": "1"}}, {"node_selector": ("b=x", "nvidia.com/gpu.product=A_100-SXM4.40GB", "empty=")},
         {"nodeSelector": {"a": "1", "b": "x", "nvidia.com/gpu.product": "A_100-SXM4.40GB", "empty": ""}}),
        ({"image": {"tag": "t"}}, {"pull_secrets": ("s",)}, {"image": {"tag": "t", "pullSecrets": ["s"]}}),
        ({}, {"env": ("A=b=c", "E=")}, {"extraEnv": [{"name": "A", "value": "b=c"}, {"name": "E", "value": ""}]}),
        (
            {},
            {"volumes": ("videos:/videos:ro", "out:/out")},
            {
                "extraVolumes": [
                    {"name": "volume-0", "persistentVolumeClaim": {"claimName": "videos"}},
                    {"name": "volume-1", "persistentVolumeClaim": {"claimName": "out"}},
                ],
                "extraVolumeMounts": [
                    {"name": "volume-0", "mountPath": "/videos", "readOnly": True},
                    {"name": "volume-1", "mountPath": "/out"},
                ],
            },
        ),
    ],
)  # fmt: skip
def test_an_option_sets_its_value_and_adds_to_lists(values, options, expected):
    assert with_pod_options(values, PodOptions(**options)) == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tolerations": ("a:Never",)}, "--toleration a:Never"),
        ({"tolerations": ("=b",)}, "--toleration =b"),
        ({"node_selector": ("zone",)}, "--node-selector zone"),
        ({"tolerations": ("a b c",)}, "--toleration a b c: 'a b c' cannot be the key of a taint"),
        ({"tolerations": ("a/b/c:NoSchedule",)}, "'a/b/c' cannot be the key of a taint"),
        ({"tolerations": ("a=b c:NoSchedule",)}, "'b c' cannot be the value of a taint"),
        ({"tolerations": ("a" * 64,)}, "cannot be the key of a taint"),
        ({"node_selector": ("b=x=y",)}, "--node-selector b=x=y: 'x=y' cannot be the value of a label"),
        ({"node_selector": ("-b=x",)}, "'-b' cannot be the key of a label"),
        ({"priority": "High priority"}, "--priority 'High priority' cannot be the name of a class"),
        ({"pull_secrets": ("My_Secret",)}, "--image-pull-secret 'My_Secret' cannot be the name of a Secret"),
        ({"volumes": ("My Claim:/a",)}, "'My Claim' cannot be the name of a volume claim"),
        ({"env": ("A",)}, "--env A: expected KEY=VALUE"),
        ({"env": ("1A=b",)}, "not a valid variable name"),
        ({"env": ("RANK=3",)}, "--env RANK: tspctl sets this variable for each rank"),
        ({"volumes": ("claim",)}, "--volume claim"),
        ({"gang": "kueue"}, "--gang kueue needs --queue"),
        ({"volumes": ("claim:relative",)}, "--volume claim:relative"),
        ({"volumes": ("claim:/a:rw",)}, "--volume claim:/a:rw"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_option(options, named):
    with pytest.raises(ConfigError) as refused:
        with_pod_options({}, PodOptions(**options))
    assert named in str(refused.value)
