"""What made a standardised file, written into the file itself, so that a changed option or source is noticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tsp.config.jobs import StandardizeJob
from tsp.data.video.inspect import comment_of
from tsp.store.base import Store

HEAD_BYTES = 8 << 20
"""Holds the index of any video that was written with its index in front."""
_HASHED_BYTES = 1 << 20
_FORMAT = 1
"""Goes up when the same options make another file."""


def made_by(job: StandardizeJob, source: Store, name: str) -> str:
    """What a file is made of: the options, and the source by name, size and the hash of its first MiB."""
    with source.reading(name, head_bytes=_HASHED_BYTES) as path, open(path, "rb") as file:
        head = file.read(_HASHED_BYTES)
    about: dict[str, Any] = {
        "standardize": _FORMAT,
        "fps": job.fps,
        "crf": job.crf,
        "max_height_px": job.max_height_px,
        "keep_audio": job.keep_audio,
        "gop": job.gop,
        "salvage": job.salvage,
        "source": name,
        "bytes": source.stat(name).size_bytes,
        "sha256_head": hashlib.sha256(head).hexdigest()[:16],
    }
    return json.dumps(about)


def maker_of(dest: Store, file: str) -> str | None:
    """What made a file that is there, as ``made_by`` writes it; None if it does not say."""
    with dest.reading(file, head_bytes=HEAD_BYTES) as path:
        comment = comment_of(path)
    return comment if comment.startswith('{"standardize":') else None
