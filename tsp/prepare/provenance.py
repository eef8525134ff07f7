"""How a standardised file was made, written into the file itself, so that a changed option or source is detected."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tsp.config.jobs import StandardizeJob
from tsp.data.video.boxes import is_truncated
from tsp.data.video.inspect import comment_of
from tsp.store.base import Store

HEAD_BYTES = 8 << 20
"""Large enough for the index of any video that was written with its index in front."""
_HASHED_BYTES = 1 << 20
_FORMAT = 1
"""Increased when the same options produce a different file."""


def made_by(job: StandardizeJob, source: Store, name: str) -> str:
    """Description of a file's making: the options, and the source by name, size and the hash of its first MiB."""
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
    """The description stored in an existing file, as ``made_by`` writes it; None if it has none."""
    with dest.reading(file, head_bytes=HEAD_BYTES) as path:
        comment = comment_of(path)
    return comment if comment.startswith('{"standardize":') else None


def is_whole(dest: Store, file: str) -> bool:
    """Whether an existing MP4 or MOV file has all the bytes that it announces; a copy may have been cut short."""
    with dest.reading(file, head_bytes=HEAD_BYTES) as path:
        return not is_truncated(path, dest.stat(file).size_bytes)
