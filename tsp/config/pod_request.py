"""What a pod reads as its configuration: a complete one, or a request that it resolves itself.

``tspctl`` sends the complete configuration. ``helm install`` with a data set, a method and a store cannot resolve the
recipe beforehand, so its ConfigMap holds ``{"request": {...}}`` and the pod looks the recipe up here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tsp.config.codec import from_dict, leaf_values
from tsp.config.recipes import Heads, load_dataset, resolve
from tsp.config.run import Downscale, Method, RunConfig
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the chart's values say about a run; everything else comes from the recipe."""

    dataset: str
    """Name of a data set that ships, or the path of a data-set file in the pod."""
    method: Method
    name: str
    store: StoreConfig
    gpus: int = 1
    data: str | None = None
    """Folder or URI of the data set; None: the data-set file's own."""
    heads: Heads | None = None
    gvf: str | None = None
    downscale: Downscale = "auto"


def config_from_pod(text: str) -> RunConfig:
    """The run's configuration from the text of the pod's ConfigMap.

    Args: text, JSON of a RunConfig, or of ``{"request": {...}}`` with the keys of Request and ``set``, which maps
        dotted keys to values that win over the recipe's.
    Raises: ConfigError naming the key.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the pod's configuration is not JSON: {error}") from error
    if not isinstance(raw, dict) or "request" not in raw:
        return from_dict(RunConfig, raw)
    unknown = sorted(set(raw) - {"request"})
    if unknown:
        raise ConfigError(f"config contains a request, which excludes {unknown[0]!r}")
    return _resolved(raw["request"])


def _resolved(raw: Any) -> RunConfig:
    values = dict(raw) if isinstance(raw, dict) else raw
    overrides = values.pop("set", {}) if isinstance(values, dict) else {}
    if not isinstance(overrides, dict):
        raise ConfigError(f"request.set must map dotted keys to values, got {overrides!r}")
    request = from_dict(Request, values, where="request")
    return resolve(
        load_dataset(request.dataset),
        request.method,
        name=request.name,
        store=asdict(request.store),
        root=request.data,
        heads=request.heads,
        gvf=request.gvf,
        overrides={
            "gpus": request.gpus,
            "downscale": request.downscale,
            **leaf_values(RunConfig, overrides, where="request.set."),
        },
    )
