"""What reads each kind of file, as the programs do it; a TspError is an answer, anything else is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from tsp.config.run import ClipConfig
from tsp.data.dataset import ClipDataset
from tsp.data.dataset_files import Videos
from tsp.data.features import FeatureFile, GvfFile
from tsp.data.ground_truth import read_ground_truth
from tsp.data.label_map import load_label_map
from tsp.data.segments import load_segments
from tsp.data.shared_memory import SharedSegments, to_shared
from tsp.data.tables import VideoFacts, read_metadata
from tsp.data.video.inspect import inspect_video
from tsp.data.video.transcode import transcode
from tsp.data.workers import WorkerFailure, WorkerNotes
from tsp.errors import TspError
from tsp.extract.pool import decode_videos
from tsp.extract.slide_plan import SlidePlan
from tsp.model.weights import read_file
from tsp.prepare.annotations import read_activitynet, read_thumos14
from tsp.store.local import LocalStore

LABELS = ("Run", "Jump")
CLIPS = ClipConfig(per_segment=2, crop_px=16, resize_height_px=24, resize_width_px=32)


def _read_video(path: Path) -> None:
    _tried(lambda: inspect_video(path))
    _tried(lambda: inspect_video(path, decode_all=True))
    _tried(lambda: _train_on(path))
    events = decode_videos(
        Videos(LocalStore(path.parent)), [VideoFacts(path.name, 1.9, 25.0, 48)], SlidePlan(8, 16, 15.0, True), workers=0
    )
    _tried(lambda: list(events))
    _tried(lambda: transcode(path, path.with_suffix(".out.mp4"), fps=Fraction(30)))


def _train_on(path: Path) -> None:
    table = path.with_suffix(".table")
    table.write_text(f"filename,t-start,t-end,video-duration\n{path.name},0,1.9,1.9\n")
    segments = SharedSegments.of(load_segments(table, []))
    dataset = ClipDataset(
        segments=segments, gvf=None, videos=Videos(LocalStore(path.parent)), clips=CLIPS, seed=1, epoch=0,
        training=True, bad_clips="resample", resized=False, notes=WorkerNotes.new(0, to_shared(np.zeros(1, np.bool_))),
    )  # fmt: skip
    batch = dataset[np.array([0, 1])]
    if isinstance(batch, WorkerFailure):
        batch.throw()


def _read_ground_truth(path: Path) -> None:
    read_ground_truth(path, {"action-label": LABELS}).kept(ClipConfig())


def _read_text(path: Path) -> None:
    folder = path.with_suffix(".texts")
    folder.mkdir()
    shutil.copy(path, folder / "Diving_val.txt")
    read_thumos14(folder)


def _read_h5(path: Path) -> None:
    _tried(lambda: GvfFile(path).load(["v0", "v1", "v2", "v3", "link"]))
    with FeatureFile(path, where=str(path)) as file:
        for name in file.names:
            _tried(lambda name=name: file.shape(name))
            _tried(lambda name=name: file.read(name))


READERS: dict[str, Callable[[Path], object]] = {
    "video": _read_video,
    "metadata": read_metadata,
    "ground truth": _read_ground_truth,
    "thumos text": _read_text,
    "label map": load_label_map,
    "activitynet": read_activitynet,
    "h5": _read_h5,
    "checkpoint": read_file,
}


def _tried(read: Callable[[], object]) -> None:
    try:
        read()
    except TspError:
        _tried.refused = True


def outcome(kind: str, path: Path) -> str:
    """``read`` or ``refused``; raises what should have been a TspError."""
    _tried.refused = False
    _tried(lambda: READERS[kind](path))
    return "refused" if _tried.refused else "read"
