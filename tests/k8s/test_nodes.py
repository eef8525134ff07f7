"""Which nodes ranks can land on, and the downscale factor that follows."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.node_plan import plan_nodes
from k8s.nodes import GpuNode, left_out, nodes_for, with_room
from k8s.quantity import parse_quantity
from k8s.scheduling import can_land
from tests.k8s import serving
from tsp.errors import ConfigError


def node(name="n", *, labels=None, gpus="4", memory=None, **spec):
    own = {"nvidia.com/gpu.memory": memory} if memory else {}
    return {
        "metadata": {"name": name, "labels": {**own, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": {"nvidia.com/gpu": gpus}},
    }


def affinity(*terms):
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


NVIDIA = {"gpu_resource": "nvidia.com/gpu", "memory_label": "nvidia.com/gpu.memory"}
TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("found", "pod", "lands"),
    [
        (node(), {}, True),
        (node(unschedulable=True), {}, False),
        (node(labels={"zone": "a"}), {"nodeSelector": {"zone": "a"}}, True),
        (node(labels={"zone": "b"}), {"nodeSelector": {"zone": "a"}}, False),
        (node(), {"nodeSelector": {"zone": "a"}}, False),
        (node(taints=[TAINT]), {}, False),
        (node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), {}, True),
        (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "operator": "Exists"}]}, True),
        (node(taints=[TAINT]), {"tolerations": [{"operator": "Exists"}]}, True),
        (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}, True),
        (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "value": "no"}]}, False),
        (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoExecute"}]}, False),
        (node(taints=[TAINT, {**TAINT, "key": "x"}]), {"tolerations": [{"key": "gpu", "operator": "Exists"}]}, False),
        (node(labels={"zone": "a"}), affinity(expression("zone", "In", "a", "b")), True),
        (node(labels={"zone": "c"}), affinity(expression("zone", "In", "a", "b")), False),
        (node(labels={"zone": "c"}), affinity(expression("zone", "In", "a"), expression("zone", "NotIn", "a")), True),
        (node(), affinity(expression("zone", "NotIn", "a")), True),
        (node(), affinity(expression("zone", "Exists")), False),
        (node(), affinity(expression("zone", "DoesNotExist")), True),
        (node(labels={"gen": "9"}), affinity(expression("gen", "Gt", "8")), True),
        (node(labels={"gen": "8"}), affinity(expression("gen", "Gt", "8")), False),
        (node(labels={"gen": "7"}), affinity(expression("gen", "Lt", "8")), True),
        (node(labels={"gen": "8"}), affinity(expression("gen", "Lt", "8")), False),
        (node(labels={"gen": "9"}), affinity(expression("gen", "Lt", "8")), False),
        (node(labels={"gen": "7"}), affinity(expression("gen", "Gt", "8")), False),
        (node(labels={"gen": "1000"}), affinity(expression("gen", "Gt", "1000")), False),
        (node(labels={"gen": "1000"}), affinity(expression("gen", "Lt", "1000")), False),
        (node(labels={"gen": "80Gi"}), affinity(expression("gen", "Lt", "8")), False),
        (node(), affinity({}), False),
        (node("n1"), affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), True),
        (node("n2"), affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), False),
    ],
)
def test_the_schedulers_rules_decide_where_a_pod_can_land(found, pod, lands):
    assert can_land(found, pod) is lands


@pytest.mark.parametrize(
    ("gpus", "per_pod", "ranks"), [("8", 1, 8), ("8", 4, 8), ("6", 4, 4), ("3", 4, 0), ("8", 8, 8)]
)
def test_a_node_holds_ranks_in_whole_pods(gpus, per_pod, ranks):
    (found,) = nodes_for([node(gpus=gpus, memory="81559")], {}, **NVIDIA, gpus_per_pod=per_pod)
    assert (found.gpus, found.ranks) == (int(gpus), ranks)
    assert bool(with_room([found], per_pod)[0]) == (ranks > 0)


def test_cpu_and_memory_are_a_pods_and_not_a_ranks():
    found = node(gpus="8", memory="81559")
    found["status"]["allocatable"] |= {"cpu": "20", "memory": "1Ti"}
    pod = {"containers": [{"resources": {"requests": {"cpu": "10"}}}]}
    (able,) = nodes_for([found], pod, **NVIDIA, gpus_per_pod=2)
    assert able.ranks == 4
    pod["containers"].append({"name": "sidecar"})
    (able,) = nodes_for([found], pod, **NVIDIA, gpus_per_pod=2)
    assert able.ranks == 4, "a container that asks for nothing takes nothing"
    assert able.cpus == 20 / 8
    del found["status"]["allocatable"]["cpu"]
    assert nodes_for([found], pod, **NVIDIA)[0].cpus == 0


@pytest.mark.parametrize(
    ("product", "replicas", "slots"),
    [("Tesla-T4-SHARED", None, 2), ("Tesla-T4-SHARED", "3", 3), ("Tesla-T4-SHARED", "1", 2), ("Tesla-T4", "0", 1),
     ("Tesla-T4", "2", 2), (None, "2", 2)],
)  # fmt: skip
def test_a_card_has_as_many_slots_as_its_labels_say(product, replicas, slots):
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.replicas": replicas}
    (found,) = nodes_for([node(labels={k: v for k, v in labels.items() if v}, memory="16384")], {}, **NVIDIA)
    assert (found.slots, found.memory_mib) == (slots, 16384 // slots)


@pytest.mark.parametrize(
    ("major", "minor", "compute"), [("8", "6", (8, 6)), ("8", "x", (8, 0)), ("x", "6", None), ("9", None, (9, 0))]
)
def test_the_compute_capability_is_what_can_be_read_of_the_labels(major, minor, compute):
    labels = {"nvidia.com/gpu.product": "A", "nvidia.com/gpu.compute.major": major}
    labels |= {"nvidia.com/gpu.compute.minor": minor} if minor else {}
    (found,) = nodes_for([node(labels=labels)], {}, **NVIDIA)
    assert found.card.compute == compute


def test_where_no_node_has_the_gpus_of_a_pod_the_largest_is_named():
    nodes = nodes_for([node("a", gpus="2"), node("b", gpus="4")], {}, **NVIDIA, gpus_per_pod=8)
    assert with_room(nodes, 8) == ([], ("no node has the 8 GPUs of a pod; b has the most, 4",))
    assert with_room([], 8) == ([], ())


def test_only_nodes_with_gpus_count_and_units_are_repaired():
    nodes = [
        node("c", memory="42505273344"),
        node("a", memory="80Gi", gpus="8"),
        node("b", memory="16384"),
        node("none", memory="16384", gpus="0"),
        node("one", memory="16384", gpus="1"),
        node("odd", memory="a lot"),
        node("plain"),
    ]
    found = nodes_for(nodes, {}, gpu_resource="nvidia.com/gpu", memory_label="nvidia.com/gpu.memory")
    assert [(item.name, item.gpus, item.memory_mib) for item in found] == [
        ("a", 8, 81920),
        ("b", 4, 16384),
        ("c", 4, 40536),
        ("odd", 4, None),
        ("one", 1, 16384),
        ("plain", 4, None),
    ]


def gpu_node(name, memory_mib, gpus=4, ranks=4):
    label = None if memory_mib is None else str(memory_mib)
    return GpuNode(name=name, gpus=gpus, ranks=ranks, label=label, memory_mib=memory_mib)


@pytest.mark.parametrize(
    ("allocatable", "requests", "ranks"),
    [
        ({"cpu": "16", "memory": "64Gi"}, {"cpu": "500m", "memory": "2Gi"}, 8),
        ({"cpu": "15890m", "memory": "64Gi"}, {"cpu": "4", "memory": "2Gi"}, 3),
        ({"cpu": "16", "memory": "32986204Ki"}, {"cpu": "1", "memory": "16Gi"}, 1),
        ({"cpu": "2"}, {"cpu": "4"}, 0),
        ({}, {"cpu": "4"}, 8),
        ({"cpu": "16"}, {}, 8),
        ({"cpu": "plenty"}, {"cpu": "4"}, 8),
        ({"cpu": "8"}, {"cpu": "2"}, 4),
        ({"cpu": "7"}, {"cpu": "2"}, 3),
        ({"memory": "7999"}, {"memory": "1k"}, 7),
        ({"memory": "8000"}, {"memory": "1k"}, 8),
    ],
)
def test_as_many_ranks_fit_on_a_node_as_gpus_cpu_and_memory_allow(allocatable, requests, ranks):
    found = node("a", memory="16384", gpus="8")
    found["status"]["allocatable"] |= allocatable
    # Containers beside it that request nothing take nothing.
    pod = {"containers": [{"resources": {"requests": requests}}, {"resources": {}}, {"resources": None}, {}]}
    (found,) = nodes_for([found], pod, gpu_resource="nvidia.com/gpu", memory_label="nvidia.com/gpu.memory")
    assert (found.gpus, found.ranks) == (8, ranks)


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", 0.5), ("2Gi", 2**31), ("1.5", 1.5), ("1e3", 1000), ("16", 16), (4, 4), ("100k", 1e5), ("", None),
     ("x", None), ("2GB", None)],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_does(text, number):
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    ("sizes", "factor", "values"),
    [
        ([81559], 1, ("81559",)),
        ([16384, 16384], 2, ("16384",)),
        ([7680], 4, ("7680",)),
        ([81559, 15109], 2, ("15109", "81559")),
        ([81559, 15109, 7680], 4, ("15109", "7680", "81559")),
        ([81559, 4096], 1, ("81559",)),
        ([81559, None], 1, ("81559",)),
        ([None, None], None, ()),
        ([29000, 14000], 2, ("14000", "29000")),
        ([13999], 4, ("13999",)),
        ([], None, ()),
    ],
)
def test_auto_takes_the_worst_factor_that_can_be_hit(sizes, factor, values):
    nodes = [gpu_node(f"n{index}", size) for index, size in enumerate(sizes)]
    plan = plan_nodes(nodes, gpus=4, downscale="auto")
    assert (plan.downscale, plan.memory_values) == (factor, values)


def test_the_explanation_names_the_nodes_that_decide_and_the_way_out():
    plan = plan_nodes([gpu_node("big", 81559), gpu_node("old", 15109), gpu_node("toy", 4096)], gpus=4, downscale="auto")
    assert plan.explanation == (
        "downscale factor 2: the smallest GPU that ranks can use has 15109 MiB: old (4 x 15109 MiB)",
        "ranks avoid toy (4 x 4096 MiB)",
        "with --downscale 1, ranks would run only on big (4 x 81559 MiB)",
    )


def test_no_way_out_is_shown_where_the_larger_gpus_are_too_few():
    plan = plan_nodes([gpu_node("big", 81559), gpu_node("old", 15109)], gpus=8, downscale="auto")
    assert len(plan.explanation) == 1


def test_a_factor_of_ones_own_keeps_to_the_gpus_that_can_hold_it():
    plan = plan_nodes([gpu_node("big", 81559), gpu_node("old", 15109)], gpus=8, downscale="1")
    assert (plan.downscale, plan.memory_values, plan.gpus) == (1, ("81559",), 4)
    assert plan.explanation[0] == "downscale factor 1: as requested; ranks run on big (4 x 81559 MiB)"


def test_unknown_memory_leaves_it_to_the_pods_where_the_known_gpus_are_too_few():
    plan = plan_nodes([gpu_node("big", 81559), gpu_node("plain", None)], gpus=8, downscale="auto")
    assert (plan.downscale, plan.memory_values, plan.gpus, plan.ranks) == (None, (), 8, 8)
    assert "plain (4 GPUs) is unknown" in plan.explanation[0]


@pytest.mark.parametrize("memory", [None, 7680])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_factor_of_ones_own_stands_whatever_is_known_of_the_nodes(memory, factor):
    nodes = [gpu_node("big", 81559), gpu_node("other", memory)]
    assert plan_nodes(nodes, gpus=8, downscale=str(factor)).downscale == factor
    nothing = plan_nodes([], gpus=8, downscale=str(factor))
    assert (nothing.downscale, nothing.gpus, nothing.ranks) == (factor, 0, 0)


@pytest.mark.parametrize(
    ("count", "end"), [(4, "n3 (4 x 16384 MiB)"), (5, " and 1 more node"), (6, " and 2 more nodes")]
)
def test_as_many_nodes_are_named_as_fit_on_a_line(count, end):
    nodes = [gpu_node(f"n{index}", 16384) for index in range(count)]
    assert plan_nodes(nodes, gpus=1, downscale="auto").explanation[0].endswith(end)


def test_a_long_list_of_nodes_is_cut():
    nodes = [gpu_node(f"n{index}", 16384) for index in range(9)]
    assert plan_nodes(nodes, gpus=1, downscale="auto").explanation[0].endswith("n3 (4 x 16384 MiB) and 5 more nodes")


@pytest.mark.parametrize(
    ("downscale", "message"),
    [("auto", "has 7000 MiB: toy .* or set --downscale yourself"), ("1", "has 29000 MiB: .* a larger --downscale")],
)
def test_gpus_that_are_all_too_small_are_refused(downscale, message):
    with pytest.raises(ConfigError, match=message):
        plan_nodes([gpu_node("toy", 4096)], gpus=1, downscale=downscale)


def card_node(name, product, major, minor, memory):
    labels = {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
    }
    return node(name, labels=labels, memory=memory)


T4_NODE = card_node("t4", "Tesla-T4", "7", "5", "15360")
A100_NODE = card_node("a100", "NVIDIA-A100-SXM4-80GB", "8", "0", "81920")


def planned(nodes, **options):
    found = nodes_for(nodes, {}, gpu_resource="nvidia.com/gpu", memory_label="nvidia.com/gpu.memory")
    return plan_nodes(found, **{"gpus": 2, "downscale": "auto", **options})


def test_the_plan_says_which_number_format_the_cards_share():
    assert planned([A100_NODE, T4_NODE]).explanation[-1] == (
        "number format fp16: the weakest GPU is the Tesla-T4 (compute capability 7.5)"
    )
    only = planned([A100_NODE])
    assert (only.explanation[-1].split(":")[0], only.compute_majors) == ("number format bf16", ())


def test_a_number_format_that_is_asked_for_keeps_ranks_off_the_cards_that_lack_it():
    plan = planned([A100_NODE, T4_NODE], precision="bf16")
    assert (plan.compute_majors, plan.memory_values, plan.downscale) == (("8",), ("81920",), 1)
    assert plan.explanation[-1] == "for bf16, ranks avoid t4 (4 x 15360 MiB)"
    with pytest.raises(ConfigError, match="bf16: the Tesla-T4"):
        planned([T4_NODE], precision="bf16")


def test_nodes_without_labels_of_their_cards_are_left_in_and_nothing_is_said():
    plan = planned([node("bare", memory="15360")], precision="bf16")
    assert (plan.compute_majors, plan.memory_values) == ((), ("15360",))
    assert not any("number format" in line for line in plan.explanation)


def test_time_sliced_cards_share_their_memory_and_carry_one_rank():
    """NVIDIA's device plugin multiplies the card; its label still has the memory of the whole."""
    labels = {"nvidia.com/gpu.product": "Tesla-T4-SHARED", "nvidia.com/gpu.replicas": "4"}
    (found,) = nodes_for([node(labels=labels, memory="32510", gpus="4")], {}, **NVIDIA)
    assert (found.slots, found.memory_mib) == (4, 8127)
    assert plan_nodes([found], gpus=1, downscale="auto").downscale == 4
    with pytest.raises(ConfigError, match=r"n \(4 x 8127 MiB\) are time-sliced, and NCCL refuses two ranks"):
        plan_nodes([found], gpus=2, downscale="auto")


@pytest.mark.parametrize("labels", [{}, {"nvidia.com/gpu.replicas": "1"}, {"nvidia.com/gpu.replicas": "x"}])
def test_whole_cards_are_not_taken_for_shared_ones(labels):
    (found,) = nodes_for([node(labels=labels, memory="16384")], {}, **NVIDIA)
    assert (found.slots, found.memory_mib) == (1, 16384)


def test_the_parts_of_a_card_that_mig_makes_have_a_resource_and_a_label_of_their_own():
    resource = "nvidia.com/mig-3g.40gb"
    found = node(labels={f"{resource}.memory": "40192"}, memory="81559")
    found["status"]["allocatable"] = {resource: "2", "nvidia.com/gpu": "0"}
    (part,) = nodes_for([found], {}, gpu_resource=resource, memory_label=f"{resource}.memory")
    assert (part.gpus, part.memory_mib) == (2, 40192)


NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda pair: f"{pair[0]}.{pair[1]}"),
    st.integers(0, 999).map(lambda number: f"{number}."),
    st.integers(0, 999).map(lambda number: f".{number}"),
)
SCALES = {
    "n": "1e-9", "u": "1e-6", "m": "1e-3", "": "1", "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12", "P": "1e15",
    "E": "1e18", "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip


@given(sign=st.sampled_from(["", "+", "-"]), number=NUMBERS, suffix=st.sampled_from(list(SCALES)))
def test_every_quantity_of_the_grammar_is_read(sign, number, suffix):
    expected = Decimal(sign + number) * Decimal(SCALES[suffix])
    assert parse_quantity(sign + number + suffix) == pytest.approx(float(expected), rel=1e-12)


@given(number=NUMBERS, exponent=st.integers(-30, 30), letter=st.sampled_from("eE"))
def test_an_exponent_takes_the_place_of_a_suffix(number, exponent, letter):
    assert parse_quantity(f"{number}{letter}{exponent}") == pytest.approx(float(Decimal(f"{number}e{exponent}")))


@pytest.mark.parametrize(
    "text", ["", ".", "1 Gi", " 1", "1K", "1mi", "1gi", "1e", "1Eik", "1e3Gi", "--1", "1_0", "\u0661", "1EE3", "Gi"]
)
def test_what_kubernetes_refuses_is_no_quantity(text):
    assert parse_quantity(text) is None


@pytest.mark.parametrize(("text", "number"), [("1e300", 1e300), ("1e-300", 1e-300), ("1e999", None), ("1e1000", None)])
def test_a_quantity_that_no_machine_has_is_none(text, number):
    assert parse_quantity(text) == number


def test_exa_is_no_exponent():
    assert (parse_quantity("1E"), parse_quantity("1Ei"), parse_quantity("5."), parse_quantity("1E3")) == (
        1e18,
        2.0**60,
        5.0,
        1e3,
    )


def test_nodes_that_are_left_out_say_why():
    nodes = [serving.gpu_node(name, "16384", zone="a") for name in ("cordoned", "elsewhere", "tainted", "well")]
    nodes[0]["spec"] = {"unschedulable": True}
    nodes[1]["metadata"]["labels"]["zone"] = "b"
    nodes[2]["spec"] = {"taints": [{"key": "team", "value": "other", "effect": "NoSchedule"}]}
    without_gpus = {"metadata": {"name": "cpu", "labels": {}}, "spec": {}, "status": {"allocatable": {}}}
    pod = {"nodeSelector": {"zone": "a"}}
    said = left_out([*nodes, without_gpus], pod, gpu_resource="nvidia.com/gpu")
    assert said == (
        "left out: cordoned is cordoned, elsewhere lacks the label zone=a, tainted has the taint team=other:NoSchedule"
    )
    assert left_out(nodes[3:], pod, gpu_resource="nvidia.com/gpu") is None
    many = [serving.gpu_node(f"n{number}", "16384") for number in range(9)]
    assert left_out(many, pod, gpu_resource="nvidia.com/gpu").endswith("n2 lacks the label zone=a and 6 more")
    nowhere = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    assert left_out(nodes[3:], {"affinity": nowhere}, gpu_resource="nvidia.com/gpu") == (
        "left out: well does not match the node affinity"
    )
