"""The reading half of ``bench_kinds``, which uses only functions of every version of the reader, so that another
checkout can run it.

Reads lines of JSON from stdin: a file, the starts of its clips, and the output path.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tsp.data.video import ClipReader
from tsp.data.video.transcode import transcode


def _read(task: dict[str, Any]) -> None:
    reader = ClipReader()
    found: dict[str, Any] = {}
    for number, start_sec in enumerate(task["starts_sec"]):
        try:
            found[str(number)] = reader.read(task["path"], start_sec)
        except Exception as error:
            found[f"refused {number}"] = np.array(f"{type(error).__name__}: {error}")
    reader.close()
    np.savez(task["clips"], **found)
    try:
        transcode(Path(task["path"]), Path(task["standardized"]), crf=12)
    except Exception as error:
        Path(task["standardized"]).with_suffix(".txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    for line in sys.stdin:
        _read(json.loads(line))
