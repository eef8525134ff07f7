"""The versions and files that a run's results depend on besides its configuration, and their comparison. No torch
here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tsp.config.backbones import published_weights
from tsp.config.released import RELEASED_FILES
from tsp.config.run import RunConfig
from tsp.errors import MissingKeyError, TspError
from tsp.store.base import sha256_of
from tsp.store.open import open_store, path_of_file_uri, with_uri

IMAGE, IMAGE_VARIABLE = "image", "TSP_IMAGE"
"""Fact in run.json, and the variable by which the chart tells a pod the reference of its image."""
PRETRAINED, RESUME = "pretrained", "resume"
"""Names of the digests of weights; every other digest is of a file of the data set, by its path."""
MAX_READ_BYTES = 64 << 20
"""Larger objects in a bucket are not downloaded only to compare them."""


class Digest(NamedTuple):
    """A file as it is found now."""

    name: str
    sha256: str | None
    """Its digest, or the first digits of it; None if it could not be read here."""
    why: str = ""
    """Why not."""


def tables_of(config: RunConfig) -> list[str]:
    """Tables, label maps and GVF files that a run reads, relative to the data set's root."""
    names = [config.data.train.csv, config.data.valid.csv, *(head.labels for head in config.model.heads)]
    if config.model.gvf != "none":
        names += [gvf for gvf in (config.data.train.gvf, config.data.valid.gvf) if gvf is not None]
    return list(dict.fromkeys(names))


def data_digest(digests: Mapping[str, str]) -> str | None:
    """One digest of all files of the data set; None if there are none."""
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests) if name not in (PRETRAINED, RESUME)]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def digests_here(config: RunConfig, *, sees_paths: bool) -> Iterator[Digest]:
    """Digests of a configuration's files, read from this machine.

    Args: sees_paths, whether the paths in it are this machine's and not those of pods.
    """
    root = config.data.root.rstrip("/")
    addresses = {name: f"{root}/{name}" for name in tables_of(config)}
    if config.resume is not None:
        addresses[RESUME] = config.resume
    elif config.model.pretrained != "none":
        addresses[PRETRAINED] = config.model.pretrained
    for name, address in addresses.items():
        try:
            yield Digest(name, *_digest(config, address, sees_paths=sees_paths))
        except (TspError, OSError) as error:
            yield Digest(name, None, str(error))


def _digest(config: RunConfig, address: str, *, sees_paths: bool) -> tuple[str | None, str]:
    """Digest, or why there is none."""
    if address == "default":
        return published_weights(config.model.backbone).sha256_prefix, ""
    published = RELEASED_FILES.get(urlsplit(address).path.rpartition("/")[2])
    if published is not None:
        return published.sha256_prefix, ""
    if address.startswith(("http://", "https://")):
        return None, "it is on the web"
    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        store = open_store(with_uri(config.store, f"s3://{bucket}"))
        if store.stat(key).size_bytes > MAX_READ_BYTES:
            return None, "it is large"
        return hashlib.sha256(store.read(key)).hexdigest(), ""
    if not sees_paths:
        return None, "it is in the pods' file system"
    path = path_of_file_uri(address) if address.startswith("file://") else Path(address).expanduser()
    if not path.is_file():
        raise MissingKeyError(f"{path} does not exist")
    return sha256_of(path), ""


def recorded(about: Mapping[str, Any], key: str) -> dict[str, str]:
    """``versions``, ``machine`` or ``digests`` of run.json; empty where another version wrote none."""
    found = about.get(key)
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def agrees(one: str, other: str) -> bool:
    """Whether two digests, either of which may be only the first digits, belong to the same file."""
    return bool(one) and bool(other) and (one.startswith(other) or other.startswith(one))
