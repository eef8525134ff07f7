"""Nodes' NVIDIA drivers against the image's CUDA version, by their labels."""

import re
from pathlib import Path

import pytest

from k8s.drivers import FLAVOUR_CUDA, check_drivers, cuda_of
from tests.k8s.test_nodes import node
from tsp.config.cards import driver_for

ROOT = Path(__file__).resolve().parents[2]
OLDER, NEWER = "nvidia.com/cuda.driver.major", "nvidia.com/cuda.driver-version.major"


def found(*nodes, image=None):
    return [(finding.level, finding.message) for finding in check_drivers(nodes, image, gpu_resource="nvidia.com/gpu")]


def test_flavours_are_those_of_the_build_and_need_the_drivers_of_its_readme():
    script = (ROOT / "image" / "build.sh").read_text()
    assert set(re.search(r"--flavour (\S+)\]", script)[1].split("|")) == set(FLAVOUR_CUDA)
    rows = re.findall(
        r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| (\S+)", (ROOT / "image" / "README.md").read_text(), re.MULTILINE
    )
    needed = {flavour: str(driver_for(cuda)) if cuda else "none" for flavour, cuda in FLAVOUR_CUDA.items()}
    assert {flavour: driver for flavour, driver in rows if flavour in FLAVOUR_CUDA} == needed


@pytest.mark.parametrize(
    ("image", "cuda"),
    [
        (None, "13.0"),
        ("registry.example:5000/team/tspctl:0.2.0", "13.0"),
        ("tspctl:0.2.0-compile", "13.0"),
        ("tspctl:0.2.0-cu126", "12.6"),
        ("tspctl:0.2.0-cu126-compile", "12.6"),
        ("tspctl:0.2.0-cu126@sha256:" + 64 * "0", "12.6"),
        ("tspctl:0.2.0-cpu", None),
        ("tspctl:cu126", "12.6"),
        ("team/tspctl:mine-cu118", "11.8"),
        ("tspctl:cpu-compile", None),
        ("a-cu126-b/tspctl:0.2.0", "13.0"),
        ("localhost/tspctl-cu126:0.2.0", "12.6"),
        ("pytorch/pytorch:2.8.0-cuda12.4-cudnn9-runtime", "12.4"),
        ("nvcr.example/nvidia/pytorch:25.06-py3", "13.0"),
    ],
)
def test_an_images_cuda_version_is_read_off_its_tag(image, cuda):
    assert cuda_of(image) == cuda


def test_new_drivers_are_fine_and_nothing_is_said_where_no_label_tells():
    assert found(node("a", labels={NEWER: "580"}), node("b", labels={OLDER: "595"})) == [
        ("ok", "580 or newer; CUDA 13.0 needs 580")
    ]
    assert found(node("a"), node("b", labels={NEWER: "new"}), node("c", labels={NEWER: "470"}, gpus="0")) == []
    assert found(node("a", labels={NEWER: "470"}), image="tspctl:1-cpu") == []


def test_old_drivers_are_named_with_the_image_that_would_do():
    old, new = node("old", labels={OLDER: "535", NEWER: "535"}), node("new", labels={NEWER: "580"})
    ((level, message),) = found(old, new)
    assert level == "warning"
    assert message.startswith("too old for CUDA 13.0 of the default image, which needs 580: old 535; use an image of")
    assert "flavour cu126" in message
    assert found(old, new, image="tspctl:1-cu126") == [("ok", "535 or newer; CUDA 12.6 needs 525")]
    ((level, message),) = found(node("old", labels={NEWER: "470"}), image="tspctl:1-cu126")
    assert level == "error"
    assert "use newer drivers" in message


@pytest.mark.parametrize(
    ("driver", "cure"), [(579, "flavour cu126,"), (525, "flavour cu126,"), (524, "newer drivers,")]
)
def test_the_cure_is_an_image_that_the_oldest_driver_runs(driver, cure):
    ((_, message),) = found(node("new", labels={NEWER: "575"}), node("old", labels={NEWER: str(driver)}))
    assert cure in message
    assert found(node("a", labels={NEWER: "580"}), node("b", labels={NEWER: "0"})) == found(
        node("a", labels={NEWER: "580"})
    ), "0: the labeller could not tell"


@pytest.mark.parametrize(
    ("nodes", "shown"), [(4, "n3 550; use"), (5, "n3 550 and 1 more; use"), (1, "which needs 580: n0 550; use")]
)
def test_up_to_four_old_nodes_are_named(nodes, shown):
    ((_, message),) = found(*[node(f"n{number}", labels={NEWER: "550"}) for number in range(nodes)])
    assert shown in message


def test_many_old_nodes_are_counted():
    ((_, message),) = found(*[node(f"n{number}", labels={NEWER: "550"}) for number in range(6)])
    assert "n0 550, n1 550, n2 550, n3 550 and 2 more" in message
