"""Default names of runs: method, data set, encoder, differences from the recipe, and the time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from tsp.config.backbones import BACKBONES
from tsp.config.recipes import COLUMNS_OF_HEADS, GVF_OF_METHOD, HEADS_OF_METHOD, heads_of
from tsp.config.run import REGION_COLUMN, RunConfig
from tsp.config.run_name import MAX_RUN_NAME_CHARS

_REPEAT_CHARS = 3
"""Room for a suffix when two runs start in the same second."""


def name_words(config: RunConfig) -> list[str]:
    """What differs from the method's recipe: heads and GVF."""
    words: list[str] = []
    heads = heads_of(config)
    if heads != HEADS_OF_METHOD[config.method]:
        words.append(heads)
    own_gvf = GVF_OF_METHOD[config.method] if REGION_COLUMN in COLUMNS_OF_HEADS[heads] else "none"
    if config.model.gvf != own_gvf:
        words.append("nogvf" if config.model.gvf == "none" else config.model.gvf)
    return words


def default_names(config: RunConfig, now: datetime) -> Iterator[str]:
    """Names to try in order: ``tsp-thumos14-r2plus1d-34-nogvf-20260728-093000``, then with -2, -3, ...

    The encoder is abbreviated and the data set's name cut if the name would be too long.
    """
    stem = default_stem(config, now)
    yield stem
    for number in range(2, 100):
        yield f"{stem[: MAX_RUN_NAME_CHARS - _REPEAT_CHARS]}-{number}"


def default_stem(config: RunConfig, now: datetime) -> str:
    """The preferred name, shortened to leave room for a suffix."""
    stamp = now.strftime("%Y%m%d-%H%M%S")
    dataset = re.sub(r"[^a-z0-9]+", "-", config.data.name.lower()).strip("-") or "data"
    backbone = config.model.backbone.replace("_", "-")
    words = name_words(config)
    name = "-".join([config.method, dataset, backbone, *words, stamp])
    if len(name) <= MAX_RUN_NAME_CHARS - _REPEAT_CHARS:
        return name
    rest = "-".join([BACKBONES[config.model.backbone].short_name, *words, stamp])
    room = MAX_RUN_NAME_CHARS - _REPEAT_CHARS - len(f"{config.method}--{rest}")
    return f"{config.method}-{dataset[:room].rstrip('-')}-{rest}"
