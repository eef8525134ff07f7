"""Checks a file of global video features: every video has one, and they are of the kind that the run asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsp.config.run import ModelConfig
from tsp.data.dataset_files import DatasetFiles
from tsp.data.features import GvfFile
from tsp.errors import DataError, TspError
from tsp.prepare.findings import ERROR, WARNING, DataFinding
from tsp.store.base import sha256_of
from tsp.wording import first_few


@dataclass(frozen=True, slots=True)
class GvfOrigin:
    """What ``tspctl gvf`` wrote down beside its file; empty for what others made."""

    pool: str = ""
    encoder: str = ""
    checkpoint_sha256: str = ""

    @classmethod
    def of(cls, files: DatasetFiles, gvf: str) -> GvfOrigin:
        """Read from the description, unless it is of another file."""
        try:
            raw: Any = json.loads(files.table(f"{gvf}.json").read_bytes())
            if raw["sha256"] != sha256_of(files.table(gvf)):
                return cls()
            return cls(str(raw["about"]["keeps"]).partition(" ")[0], raw["encoder"], raw["checkpoint_sha256"])
        except (TspError, OSError, ValueError, KeyError, TypeError):
            return cls()


def other_gvf(subset: str, gvf: str, origin: GvfOrigin, model: ModelConfig) -> list[DataFinding]:
    """Features of another pool or encoder than those that the run asks for."""
    texts = []
    if origin.pool and origin.pool != model.gvf:
        texts.append(f"its features are pooled by {origin.pool}, but the run asks for --gvf {model.gvf}")
    if origin.encoder and origin.encoder != model.backbone:
        texts.append(f"its features are of the encoder {origin.encoder}, but the run trains {model.backbone}")
    return [DataFinding(WARNING, subset, gvf, None, text) for text in texts]


def check_gvf(subset: str, path: Path, videos: list[str]) -> list[DataFinding]:
    """Every video missing from the GVF file; the file is read video by video only if one is."""
    file = GvfFile(path)
    try:
        features = file.load(videos)
    except DataError as first:
        findings = []
        for video in videos:
            try:
                file.load([video])
            except DataError as error:
                if not path.is_file():
                    break
                findings.append(DataFinding(ERROR, subset, str(path), None, str(error)))
        return findings or [DataFinding(ERROR, subset, str(path), None, str(first))]
    zeros = [video for video, feature in zip(videos, features, strict=True) if not feature.any()]
    if not zeros:
        return []
    text = (
        f"the features of {len(zeros)} of {len(videos)} videos are all zeros ({first_few(zeros)}): extract them again"
    )
    return [DataFinding(WARNING, subset, str(path), None, text)]
