"""Quantities as Kubernetes writes them: ``500m``, ``2Gi``, ``1e3``, ``1E``. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60}
_SUFFIXES = {**_DECIMAL, **_BINARY}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3})|([numkMGTPE]?|[KMGTPE]i))")
"""The grammar of k8s.io/apimachinery, resource.Quantity: a number, and a decimal exponent or a suffix."""


def parse_quantity(text: str | int | float) -> float | None:
    """Bytes, cores or pieces; None for an invalid quantity."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return None
    number = float(match[1]) * _SUFFIXES[match[3]] if match[2] is None else float(f"{match[1]}e{match[2]}")
    return number if math.isfinite(number) else None


def quantity_text(amount: float, *, is_bytes: bool) -> str:
    """An amount as a Quantity; of bytes with the largest suffix that keeps it whole: ``1536Mi``."""
    for suffix, unit in reversed(_BINARY.items() if is_bytes else ()):
        if amount >= unit and (amount / unit).is_integer():
            return f"{amount / unit:.0f}{suffix}"
    return f"{amount:.0f}" if amount.is_integer() else f"{amount:.3g}"


def allocatable(node: Mapping[str, Any], resource: str) -> int:
    """Whole pieces of a resource that a node's pods may have; 0 if the node has none."""
    return pieces((node.get("status") or {}).get("allocatable", {}).get(resource, 0))


def pieces(text: str | int) -> int:
    """Whole pieces, as of GPUs, of which the API server writes a thousand as ``1k``; 0 for an invalid quantity."""
    return int(parse_quantity(text) or 0)
