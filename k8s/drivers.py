"""Whether the nodes' NVIDIA drivers run the CUDA version of an image, by the labels of GPU feature discovery. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from k8s.quantity import allocatable
from tsp.config.cards import driver_for
from tsp.run.status import Finding
from tsp.wording import first_and_more

FLAVOUR_CUDA = {"cu130": "13.0", "cu126": "12.6", "cpu": None}
"""Flavour of our images (``image/build.sh``) -> its CUDA version; None: it has none."""
DEFAULT_FLAVOUR = "cu130"
DRIVER_LABELS = ("nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver.major")
"""Major version of a node's driver; the older of the two names is still set beside the newer one."""
_SHOWN_NODES = 4


def cuda_of(image: str | None) -> str | None:
    """The CUDA version of an image by its name: our flavours, or for example cuda12.4; None for one without CUDA. Other
    names count as the default flavour.
    """
    match = re.search(r"[-:](?:cu(?:da)?-?(\d\d)\.?(\d)|cpu)(?=[-.:@]|$)", (image or "").rpartition("/")[2])
    if match is None:
        return FLAVOUR_CUDA[DEFAULT_FLAVOUR]
    return f"{match[1]}.{match[2]}" if match[1] else None


def check_drivers(nodes: Iterable[Mapping[str, Any]], image: str | None, *, gpu_resource: str) -> Iterator[Finding]:
    """Are the drivers of GPU nodes new enough for the image? Nothing for an image without CUDA, or without labels."""
    cuda = cuda_of(image)
    needed = driver_for(cuda) if cuda is not None else None
    drivers = dict(_drivers(nodes, gpu_resource))
    if needed is None or not drivers:
        return
    old = {name: major for name, major in sorted(drivers.items()) if major < needed}
    if not old:
        yield Finding("GPU drivers", "ok", f"{min(drivers.values())} or newer; CUDA {cuda} needs {needed}")
        return
    shown = first_and_more([f"{name} {major}" for name, major in old.items()], _SHOWN_NODES)
    needs = {flavour: driver_for(version) for flavour, version in FLAVOUR_CUDA.items() if version}
    fits = next((flavour for flavour, driver in needs.items() if driver and driver <= min(old.values())), None)
    cure = f"an image of flavour {fits}" if fits else "newer drivers"
    yield Finding(
        "GPU drivers",
        "error" if len(old) == len(drivers) else "warning",
        f"too old for CUDA {cuda} of {image or 'the default image'}, which needs {needed}: {shown}; use {cure}, "
        f"or keep runs off these nodes with --node-selector",
    )


def _drivers(nodes: Iterable[Mapping[str, Any]], gpu_resource: str) -> Iterator[tuple[str, int]]:
    """Name and driver of the nodes with GPUs and a driver label."""
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        major = next((labels[name] for name in DRIVER_LABELS if name in labels), "")
        if allocatable(node, gpu_resource) and major.isdecimal() and int(major):  # 0: the labeller could not tell
            yield str(node["metadata"]["name"]), int(major)
