"""The downscale factor in the chart: the same rule as tsp.config.sizing, and nodes that keep to it."""

import json
import random
import shutil
import subprocess

import pytest
import yaml

from k8s.node_plan import plan_nodes
from k8s.nodes import nodes_for
from tests.chart.conftest import CHART, HelmError
from tests.chart.fake_cluster import fake_cluster, node
from tsp.config.sizing import downscale_for, gpu_memory_mib
from tsp.errors import ConfigError, GpuMemoryError

SEEN = [
    "15109", "15360", "7680", "16384", "23034", "16160", "32510", "32768", "22731", "11019", "11264", "7982", "8192",
    "39538", "40536", "81920", "81559", "42505273344", "80Gi", "16Gi", "16GiB", "16GB", "32000M", "15109MiB", "7000",
    "6999", "13999", "14000", "28999", "29000", " 16384 ", "1.5Gi", "12.25 Gi", "16384Mi", "17179869184", "16777216Ki",
    "268435455", "268435456", "1Ti", "0.1t", "40g", "80 gib",
]  # fmt: skip
PROBE = """
answers:
{{- range .Values.labels }}
- mib: {{ include "tsp.gpu.memoryMib" . }}
  {{- if ge (include "tsp.gpu.memoryMib" . | int) 7000 }}
  downscale: {{ include "tsp.gpu.downscale" (include "tsp.gpu.memoryMib" .) }}
  {{- end }}
{{- end }}
"""


def test_the_chart_repairs_units_and_chooses_factors_as_sizing_does(helm, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: probe, version: 0.1.0}")
    shutil.copy(CHART / "templates" / "_gpu.tpl", tmp_path / "templates")
    (tmp_path / "templates" / "probe.yaml").write_text(PROBE)
    draw = random.Random(0)
    labels = (
        SEEN + [f"{draw.uniform(0, 200):.2f}Gi" for _ in range(100)] + [str(draw.randrange(10**11)) for _ in range(100)]
    )
    done = subprocess.run(
        [helm, "template", "probe", tmp_path, "-f", "-"],
        input=json.dumps({"labels": labels}),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = yaml.load(done.stdout, yaml.CSafeLoader)["answers"]
    for label, answer in zip(labels, answers, strict=True):
        mib = gpu_memory_mib(label)
        assert answer["mib"] == mib, label
        if mib >= 7000:
            assert answer["downscale"] == downscale_for(mib), label
        else:
            with pytest.raises(GpuMemoryError):
                downscale_for(mib)


@pytest.mark.parametrize(("memory", "factor"), [("81559", "1"), (16384, "2"), (42505273344, "1"), ("8Gi", "4")])
def test_known_gpu_memory_decides_the_factor(render, memory, factor):
    assert json.loads(render(gpuMemory=memory).config)["request"]["downscale"] == factor


def test_a_factor_of_ones_own_wins_over_gpu_memory(render):
    assert json.loads(render(gpuMemory="16384", downscale=1).config)["request"]["downscale"] == "1"


def test_without_a_hint_the_pods_decide_and_may_land_anywhere(render):
    rendered = render()
    assert json.loads(rendered.config)["request"]["downscale"] == "auto"
    assert "nodeAffinity" not in rendered.pod["affinity"]


@pytest.mark.parametrize("memory", ["4096", "a lot", "-1"])
def test_gpus_that_are_too_small_or_no_size_are_refused_as_in_python(render, memory):
    with pytest.raises((GpuMemoryError, ConfigError)):
        downscale_for(gpu_memory_mib(memory))
    with pytest.raises(HelmError, match=r"too small|not a size"):
        render(gpuMemory=memory)


def test_the_plan_narrows_where_pods_may_land(render):
    terms = node_terms(render(plan={"memoryValues": ["16384", "15109"]}).pod)
    assert terms == [{"matchExpressions": [requirement("16384", "15109")]}]


def test_the_plan_joins_every_alternative_of_an_affinity(render):
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    field = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    affinity = {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [zone]}, {"matchFields": [field]}]
            },
        },
    }
    pod = render(affinity=affinity, plan={"memoryValues": ["16384"]}).pod
    assert node_terms(pod) == [
        {"matchExpressions": [zone, requirement("16384")]},
        {"matchFields": [field], "matchExpressions": [requirement("16384")]},
    ]
    assert pod["affinity"]["podAntiAffinity"] == affinity["podAntiAffinity"]


def test_a_job_without_a_gpu_may_land_anywhere(render):
    assert "affinity" not in render(job={"kind": "probe", "request": "{}"}, plan={"memoryValues": ["16384"]}).pod


def requirement(*values):
    return {"key": "nvidia.com/gpu.memory", "operator": "In", "values": list(values)}


def node_terms(pod):
    return pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]


def install_on(helm, tmp_path, nodes, **values):
    """Render with ``lookupNodes`` against an API server that has these nodes."""
    values = {
        "dataset": "thumos14",
        "method": "tac",
        "gpus": 2,
        "store": {"uri": "s3://b"},
        "lookupNodes": True,
        **values,
    }
    with fake_cluster(nodes) as kubeconfig:
        (tmp_path / "kubeconfig").write_text(kubeconfig)
        command = [
            helm,
            "template",
            "my-run",
            CHART,
            "--dry-run=server",
            # Helm 4 would ask the server for its schemas.
            "--disable-openapi-validation",
            "--kubeconfig",
            tmp_path / "kubeconfig",
            "-f",
            "-",
        ]
        done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmError(done.stderr)
    objects = {item["kind"]: item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item}
    request = json.loads(objects["ConfigMap"]["data"]["config.json"])["request"]
    return request, objects["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]


def test_lookup_takes_the_smallest_gpu_that_pods_can_land_on(helm, tmp_path):
    nodes = [
        node("big", memory="81559"),
        node("bytes", memory="42505273344"),
        node("small", memory="15109"),
        node("tiny", memory="4096"),
        node("closed", memory="7680", unschedulable=True),
        node("tainted", memory="7680", taints=[{"key": "team", "value": "other", "effect": "NoSchedule"}]),
        node("tolerated", memory="16384", taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]),
        node("full", memory="7680", gpus="0"),
        node("elsewhere", memory="7680", labels={"zone": "b"}),
        node("unlabelled"),
    ]
    for item in nodes[:4] + nodes[6:8]:
        item["metadata"]["labels"]["zone"] = "a"
    request, pod = install_on(helm, tmp_path, nodes, nodeSelector={"zone": "a"})
    assert request["downscale"] == "2"
    assert node_terms(pod) == [{"matchExpressions": [requirement("15109", "16384", "42505273344", "81559")]}]


def test_lookup_keeps_a_factor_of_ones_own_to_the_gpus_that_can_hold_it(helm, tmp_path):
    nodes = [node("big", memory="81559"), node("small", memory="15109")]
    request, pod = install_on(helm, tmp_path, nodes, downscale="1")
    assert request["downscale"] == "1"
    assert node_terms(pod) == [{"matchExpressions": [requirement("81559")]}]


def test_lookup_on_a_cluster_without_labels_leaves_it_to_the_pods(helm, tmp_path):
    request, pod = install_on(helm, tmp_path, [node("unlabelled")])
    assert request["downscale"] == "auto"
    assert "nodeAffinity" not in pod["affinity"]


A100 = {"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.compute.major": "8"}
T4 = {"nvidia.com/gpu.product": "Tesla-T4-SHARED"}
KINDS = {
    "a thousand slices": ([node("n", memory="81920", gpus="1k")], {}),
    "slices": ([node("n", memory="32510", labels={**A100, "nvidia.com/gpu.replicas": "4"})], {}),
    "slices by the product's name": ([node("n", memory="32510", labels=T4)], {}),
    "slices beside a whole card": (
        [node("n", memory="32510", labels={"nvidia.com/gpu.replicas": "2"}), node("w", memory="15109")],
        {},
    ),
    "no size on one": ([node("n", memory="unknown"), node("w", memory="15109")], {}),
    "no size on any": ([node("n", memory="unknown")], {}),
    "renamed slices": ([node("n", memory="81920", labels={"nvidia.com/gpu.replicas": "8"})], "nvidia.com/gpu.shared"),
    "parts": ([node("n", labels={"nvidia.com/mig-3g.40gb.memory": "40192"})], "nvidia.com/mig-3g.40gb"),
    "slices of parts": (
        [node("n", labels={"nvidia.com/mig-3g.40gb.memory": "40192", "nvidia.com/mig-3g.40gb.replicas": "2"})],
        "nvidia.com/mig-3g.40gb",
    ),
    "renamed slices of parts": (
        [node("n", labels={"nvidia.com/mig-3g.40gb.memory": "40192", "nvidia.com/mig-3g.40gb.replicas": "2"})],
        "nvidia.com/mig-3g.40gb.shared",
    ),
    "parts of a node whose whole cards are sliced": (
        [node("n", labels={"nvidia.com/mig-3g.40gb.memory": "40192", "nvidia.com/gpu.replicas": "4"})],
        "nvidia.com/mig-3g.40gb",
    ),
}


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize(("nodes", "resource"), KINDS.values(), ids=KINDS)
def test_lookup_finds_what_tspctl_plans_on_the_same_nodes(helm, tmp_path, nodes, resource, gpus):
    resource = resource or "nvidia.com/gpu"
    nodes = json.loads(json.dumps(nodes))
    for item in nodes:
        item["status"]["allocatable"] = {resource: item["status"]["allocatable"]["nvidia.com/gpu"]}
    label = "nvidia.com/gpu.memory" if "mig" not in resource else "nvidia.com/mig-3g.40gb.memory"
    found = nodes_for(nodes, {}, gpu_resource=resource, memory_label=label)
    assert len(found) == len(nodes)
    if gpus > 1 and any(item.slots > 1 for item in found):
        with pytest.raises(ConfigError, match="are time-sliced, and NCCL refuses two ranks"):
            plan_nodes(found, gpus=gpus, downscale="auto")
        with pytest.raises(HelmError, match="are time-sliced, and NCCL refuses two ranks"):
            install_on(helm, tmp_path, nodes, gpuResource=resource, gpus=gpus)
        return
    plan = plan_nodes(found, gpus=gpus, downscale="auto")
    request, pod = install_on(helm, tmp_path, nodes, gpuResource=resource, gpus=gpus)
    assert request["downscale"] == str(plan.downscale or "auto")
    if plan.memory_values:
        values = [{"key": label, "operator": "In", "values": list(plan.memory_values)}]
        assert node_terms(pod) == [{"matchExpressions": values}]
    else:
        assert "nodeAffinity" not in pod.get("affinity", {})
