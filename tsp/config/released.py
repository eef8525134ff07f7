"""Checkpoints that the authors of TSP released, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from tsp.config.backbones import BACKBONES, Backbone, PublishedWeights
from tsp.config.run import GvfPool, Method
from tsp.errors import ConfigError

RELEASES_URL = "https://github.com/HumamAlwassel/TSP/releases/download/model_weights"


@dataclass(frozen=True, slots=True)
class Released:
    """A released checkpoint: encoder and heads."""

    backbone: Backbone
    method: Method
    dataset: str
    gvf: GvfPool
    file: str

    @property
    def sha256_prefix(self) -> str:
        """First eight digits of the file's SHA-256; by PyTorch's custom the end of its name."""
        return self.file.removesuffix(".pth").rpartition("-")[2]

    def address(self, base: str | None) -> str:
        """Where to download it: a mirror (a folder, s3:// or https://), else its release."""
        return f"{(base or RELEASES_URL).rstrip('/')}/{self.file}"


RELEASED: dict[str, Released] = {
    "r2plus1d_34-tsp_on_activitynet": Released(
        "r2plus1d_34",
        "tsp",
        "activitynet",
        "max",
        "r2plus1d_34-tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_5-0d2cf854.pth",
    ),
    "r2plus1d_34-tsp_on_thumos14": Released(
        "r2plus1d_34",
        "tsp",
        "thumos14",
        "max",
        "r2plus1d_34-tsp_on_thumos14-max_gvf-backbone_lr_0.0001-fc_lr_0.004-epoch_4-e6a30b2f.pth",
    ),
    "r2plus1d_34-tac_on_activitynet": Released(
        "r2plus1d_34",
        "tac",
        "activitynet",
        "none",
        "r2plus1d_34-tac_on_activitynet-backbone_lr_0.0001-fc_lr_0.002-epoch_5-98ccac94.pth",
    ),
    "r2plus1d_34-tac_on_thumos14": Released(
        "r2plus1d_34",
        "tac",
        "thumos14",
        "none",
        "r2plus1d_34-tac_on_thumos14-backbone_lr_0.00001-fc_lr_0.002-epoch_3-54b5c8aa.pth",
    ),
    "r2plus1d_34-tac_on_kinetics": Released(
        "r2plus1d_34",
        "tac",
        "kinetics",
        "none",
        "r2plus1d_34-tac_on_kinetics-0547130e.pth",
    ),
    "r2plus1d_34-tsp_on_activitynet-avg_gvf": Released(
        "r2plus1d_34",
        "tsp",
        "activitynet",
        "avg",
        "r2plus1d_34-tsp_on_activitynet-avg_gvf-backbone_lr_0.0001-fc_lr_0.004-epoch_5-8b74eaa2.pth",
    ),
    "r2plus1d_34-tsp_on_activitynet-no_gvf": Released(
        "r2plus1d_34",
        "tsp",
        "activitynet",
        "none",
        "r2plus1d_34-tsp_on_activitynet-no_gvf-backbone_lr_0.0001-fc_lr_0.004-epoch_5-fb38fdd2.pth",
    ),
    "r2plus1d_18-tsp_on_activitynet": Released(
        "r2plus1d_18",
        "tsp",
        "activitynet",
        "max",
        "r2plus1d_18-tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_6-22835b73.pth",
    ),
    "r2plus1d_18-tac_on_activitynet": Released(
        "r2plus1d_18",
        "tac",
        "activitynet",
        "none",
        "r2plus1d_18-tac_on_activitynet-backbone_lr_0.0001-fc_lr_0.004-epoch_5-9f56941a.pth",
    ),
    "r2plus1d_18-tac_on_kinetics": Released(
        "r2plus1d_18",
        "tac",
        "kinetics",
        "none",
        "r2plus1d_18-tac_on_kinetics-76ce975c.pth",
    ),
    "r3d_18-tsp_on_activitynet": Released(
        "r3d_18",
        "tsp",
        "activitynet",
        "max",
        "r3d_18-tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_6-85584422.pth",
    ),
    "r3d_18-tac_on_activitynet": Released(
        "r3d_18",
        "tac",
        "activitynet",
        "none",
        "r3d_18-tac_on_activitynet-backbone_lr_0.001-fc_lr_0.01-epoch_5-31fd6e95.pth",
    ),
    "r3d_18-tac_on_kinetics": Released("r3d_18", "tac", "kinetics", "none", "r3d_18-tac_on_kinetics-dcd952c6.pth"),
}
"""Name -> checkpoint."""

INITIAL: dict[str, PublishedWeights] = {
    f"{backbone}-initial": row.published for backbone, row in BACKBONES.items() if row.published is not None
}
"""Name -> the weights that ``--pretrained default`` means for its backbone."""

PUBLISHED: dict[str, Released | PublishedWeights] = {**RELEASED, **INITIAL}
RELEASED_FILES = {item.file: item for item in PUBLISHED.values()}
"""Files that are known by their names, wherever they come from."""


def released(name: str) -> Released:
    """The checkpoint of that name.

    Raises: ConfigError naming those that are like it.
    """
    if name not in RELEASED:
        raise ConfigError(_unknown(name, RELEASED))
    return RELEASED[name]


def published(name: str) -> Released | PublishedWeights:
    """The checkpoint or the initial weights of that name.

    Raises: ConfigError naming those that are like it.
    """
    if name not in PUBLISHED:
        raise ConfigError(_unknown(name, PUBLISHED))
    return PUBLISHED[name]


def _unknown(name: str, known: Iterable[str]) -> str:
    like = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(like)}?" if like else "'tspctl models' lists them"
    return f"no released checkpoint is called {name!r}: {hint}"
