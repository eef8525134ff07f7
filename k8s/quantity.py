"""Quantities as Kubernetes writes them: ``500m``, ``2Gi``, ``1e3``, ``1E``. Pure."""

from __future__ import annotations

import math
import re

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
