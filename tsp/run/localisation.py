"""The configuration block of localisation code that describes a set of features.

The code converts seconds to positions among the features: ``(seconds * fps - offset) / stride``, where the offset is
half a clip. ActionFormer and TriDet (one loader) are given the clip's length, OpenTAD the offset itself. A resized set
has no stride: its steps divide the video equally.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from tsp.errors import ConfigError
from tsp.run.feature_set import H5_ENDINGS, MISSING_FILES, FeatureSet, file_stem
from tsp.wording import first_few

H5_OF_ACTIONFORMER = ".hdf5"
OPTIONS = {
    "stride_frames": "--stride", "clip_frames": "--clip-frames", "rate_fps": "--rate", "dimension": "--dimension",
}  # fmt: skip
"""What the codes must know of a set -> the option that says it where the set does not."""
_RATE_TOLERANCE = 0.02
"""Numbers of frames are rounded."""
_OF_STRIDES = ("stride_frames", "clip_frames")
_PLAIN_YAML = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)$)[A-Za-z_./][\w./-]*", re.IGNORECASE)
"""Texts that YAML takes for themselves within braces."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that the codes need."""

    stride: int
    """0 for a resized set, which has none."""
    clip_frames: int
    """0 for a resized set."""
    rate_fps: float
    dimension: int
    prefix: str
    resized_to: int | None


def numbers_of(features: FeatureSet, *, where: str, **given: Any) -> Numbers:
    """The numbers of a set; unknown ones come from the command line.

    Args: given, ``stride_frames``, ``clip_frames``, ``rate_fps``, ``dimension``, None where not given.
    Raises: ConfigError naming the option for a number that is unknown or contradicts the set.
    """
    found: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        known, value = getattr(features, name), given.get(name)
        if known is not None and value is not None and known != value:
            raise ConfigError(f"{option} is {value:g}, but {where} was made with {known:g}: omit the option")
        found[name] = value if known is None else known
        if found[name] is None and features.resized_to is not None and name in _OF_STRIDES:
            found[name] = 0
        if found[name] is None:
            raise ConfigError(f"{where} does not record how it was made: give {option}")
    if not (found["rate_fps"] > 0 and math.isfinite(found["rate_fps"])):
        raise ConfigError(f"{OPTIONS['rate_fps']} is the number of frames per second, got {found['rate_fps']:g}")
    return Numbers(
        stride=found["stride_frames"],
        clip_frames=found["clip_frames"],
        rate_fps=found["rate_fps"],
        dimension=found["dimension"],
        prefix=features.prefix,
        resized_to=features.resized_to,
    )


def actionformer_block(numbers: Numbers, folder: str, annotations: str | None) -> str:
    """YAML for ActionFormer and TriDet, whose data sets are the same.

    Args: folder, of .npy files; or one H5 file, which their ActivityNet data set knows by .hdf5 in its path.
    """
    lines = [
        "dataset: {",
        *([f"  json_file: {_yaml(annotations)},"] if annotations else []),
        f"  feat_folder: {_yaml(folder)},",
        f"  file_prefix: {_yaml(numbers.prefix) if numbers.prefix else 'null'},",
        f"  file_ext: {'.hdf5' if folder.endswith(H5_OF_ACTIONFORMER) else '.npy'},",
        f"  input_dim: {numbers.dimension},",
        f"  default_fps: {numbers.rate_fps:g},",
        "  downsample_rate: 1,",
    ]
    if numbers.resized_to is None:
        lines += [f"  feat_stride: {numbers.stride},", f"  num_frames: {numbers.clip_frames},"]
    else:
        # Steps share the video: the loader finds the stride from the duration, and num_frames counts in steps.
        lines += ["  feat_stride: -1,", "  num_frames: 1,", f"  max_seq_len: {numbers.resized_to},"]
    return "\n".join([*lines, "}"]) + "\n"


def _yaml(text: str) -> str:
    """A text as YAML's flow style takes it."""
    return text if _PLAIN_YAML.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def opentad_block(numbers: Numbers, folder: str, annotations: str | None) -> str:
    """Python for OpenTAD."""
    if numbers.resized_to is None:
        offset = numbers.clip_frames // 2
        how = [
            f"feature_stride={numbers.stride}",
            "sample_stride=1",
            f"offset_frames={offset}",
            f"fps={numbers.rate_fps:g},  # Anet datasets; Thumos datasets take frame / duration of the annotations",
        ]
    else:
        how = [f"resize_length={numbers.resized_to}"]
    values = [
        *([f"ann_file={annotations!r}"] if annotations else []),
        f"data_path={folder!r}",
        f"block_list={folder.rstrip('/') + '/' + MISSING_FILES!r}",
        *how,
    ]
    lines = [value if value.partition("  #")[1] else f"{value}," for value in values]
    return (
        "features = dict(\n"
        + "".join(f"    {line}\n" for line in lines)
        + ")\ndataset = dict(train=features, val=features, test=features)\n"
        + f'load_feats = dict(type="LoadFeats", feat_format="npy", prefix={numbers.prefix!r}, suffix="")'
        + "  # the pipelines' first step\n"
        + f"model = dict(projection=dict(in_channels={numbers.dimension}))\n"
    )


def read_from(code: str, source: str) -> str:
    """Where a code reads a set from: the set itself, or the folder of .npy files to be made of an H5 file."""
    if not source.endswith(H5_ENDINGS) or (code != "opentad" and source.endswith(H5_OF_ACTIONFORMER)):
        return source
    return source.rpartition(".")[0]


BLOCKS: dict[str, Callable[[Numbers, str, str | None], str]] = {
    "actionformer": actionformer_block,
    "opentad": opentad_block,
    "tridet": actionformer_block,
}
"""Code -> its block, from the numbers, the folder of the features and the annotations."""


def of_another_rate(numbers: Numbers, annotations: bytes, code: str) -> str:
    """Describes annotations by whose frames the code would look for actions at wrong times; empty if there are none.

    Only OpenTAD's Thumos data sets count so, and only in sets that are not resized.
    Args: annotations, content of the JSON file; one that cannot be read is described by ``without_features``.
    """
    if code != "opentad" or numbers.resized_to is not None:
        return ""
    try:
        entries = json.loads(annotations)["database"].values()
        rates = [float(entry["frame"]) / float(entry["duration"]) for entry in entries if "frame" in entry]
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return ""
    if not rates or abs(median(rates) / numbers.rate_fps - 1) <= _RATE_TOLERANCE:
        return ""
    return (
        f"has {median(rates):.4g} frames a second ('frame' / 'duration'), but the features are of "
        f"{numbers.rate_fps:g}; Thumos datasets of OpenTAD would take actions from wrong times: 'frame' must be "
        f"duration x {numbers.rate_fps:g}"
    )


def without_features(features: FeatureSet, annotations: bytes, code: str) -> str:
    """Describes the annotated videos for which the code finds no features by their names; empty if it finds all.

    Args: annotations, content of the JSON file. Nothing can be said of a set that does not list its videos.
    """
    try:
        names = list(json.loads(annotations)["database"])
    except (ValueError, KeyError, TypeError) as error:
        return f"is not a JSON of annotations as 'tspctl data annotate --json' writes it ({error!r:.100})"
    stems = {file_stem(video, features.prefix) for video in features.videos}
    # OpenTAD leaves out what the list of missing files names.
    known = set(features.missing) if code == "opentad" else set()
    lacking = [
        name for name in names if features.prefix + name not in stems and not {name, features.prefix + name} & known
    ]
    if not features.videos or not lacking:
        return ""
    text = f"has {len(lacking)} of {len(names)} videos without features ({first_few(sorted(lacking))})"
    if not features.prefix and len(lacking) == len(names) and all(f"v_{name}" in stems for name in names):
        return f"{text}, which are named v_...: 'tspctl features convert SOURCE DEST --prefix v_' records the prefix"
    return f"{text}; the features are named like {min(stems)}"
