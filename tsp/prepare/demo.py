"""The demo data set: small videos that the tiny encoder learns in a minute on a CPU, in TSP's own formats.

Three actions that differ by motion, together as long as the background between them: random guessing gives 33 % on the
action head and 50 % on the region head, 42 % on average. Training and validation share no videos.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tsp.config.job import Answer
from tsp.config.jobs import DemoJob
from tsp.data.features import write_arrays
from tsp.data.label_map import write_labels
from tsp.data.tables import (
    GROUND_TRUTH_COLUMNS,
    METADATA_COLUMNS,
    REGIONS,
    VideoFacts,
    ground_truth_row,
    read_metadata,
    write_table,
)
from tsp.data.video.encode import write_video
from tsp.errors import DataError
from tsp.prepare.demo_scene import ACTIONS, BACKGROUND, FPS, Pixels, Segment, draw_frames, draw_timeline
from tsp.prepare.parallel import for_each
from tsp.store.atomic import explain_os_error, new_file, remove_abandoned
from tsp.wording import counted, counted_is, first_few

logger = logging.getLogger(__name__)

ACTIONS_PER_VIDEO = 2
GVF_DIM = 512
_GVF_EVERY_FRAMES = 5
_GVF_CELLS = (6, 8)
_GVF_SEED = 512


@dataclass(frozen=True, slots=True)
class DemoVideo:
    """The content of the tables and GVF files for one generated video."""

    facts: VideoFacts
    timeline: list[Segment]
    gvf: dict[str, NDArray[np.float32]]
    """By pool."""


def run(job: DemoJob) -> Answer:
    """Do a demo job; the answer lists the subsets."""
    subsets = draw_demo(Path(job.dest), job)
    rows = [
        {
            "subset": name,
            "videos": len(videos),
            "segments": sum(len(video.timeline) for video in videos),
            "seconds": round(sum(video.facts.duration_sec for video in videos), 1),
        }
        for name, videos in subsets.items()
    ]
    return Answer(rows=rows, facts={"data": str(Path(job.dest).resolve())})


def draw_demo(folder: Path, job: DemoJob, *, workers: int | None = None) -> dict[str, list[DemoVideo]]:
    """Draw the data set into a folder: videos, tables, label maps and GVF. The same seed draws the same bytes.

    Returns: the videos of each subset, in the order of the tables.
    """
    remove_abandoned(folder, below=True)
    tasks = {
        subset: [
            (folder / subset / f"{subset}_{index:03d}.mp4", (job.seed, number, index), labels)
            for index, labels in enumerate(_deal_labels(np.random.default_rng((job.seed, number)), num_videos))
        ]
        for number, (subset, num_videos) in enumerate(
            (("train", job.num_train_videos), ("valid", job.num_valid_videos))
        )
    }
    for subset, drawings in tasks.items():
        _remove_earlier(folder, subset, {path.name for path, *_ in drawings})
    drawn = dict(for_each(_draw_video, [*tasks["train"], *tasks["valid"]], workers=workers, noun="videos drawn"))
    subsets = {subset: [drawn[task] for task in tasks[subset]] for subset in tasks}
    for subset, videos in subsets.items():
        _write_tables(folder, subset, videos)
    everything = list(drawn.values())
    for pool in ("max", "avg"):
        with new_file(folder / f"tiny-{pool}_gvf.h5") as partial:
            write_arrays(partial, ((Path(video.facts.filename).stem, video.gvf[pool]) for video in everything))
    _write_annotations(folder / "demo_annotations.json", subsets)
    write_labels(folder / "demo_action_label_mapping.json", ACTIONS)
    write_labels(folder / "demo_temporal_region_label_mapping.json", REGIONS)
    return subsets


def _remove_earlier(folder: Path, subset: str, names: set[str]) -> None:
    """Remove the tables of an earlier set, which would describe other videos until the new ones are written, and its
    videos that this set does not have. Args: names, those that it has.
    """
    tables = [folder / f"demo_{subset}_{kind}.csv" for kind in ("metadata", "tsp_groundtruth")]
    listed: set[str] = set()
    with contextlib.suppress(DataError):
        listed = {facts.filename for facts in read_metadata(tables[0])}
    others = sorted(path.name for path in (folder / subset).glob("*.mp4") if path.name not in names)
    earlier = [name for name in others if name in listed and re.fullmatch(rf"{subset}_\d+\.mp4", name)]
    for path in [folder / subset / name for name in earlier] + tables:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise explain_os_error(error, path) from error
    if earlier:
        what = counted(len(earlier), "video")
        logger.info("%s: %s of an earlier set removed: %s", folder / subset, what, first_few(earlier))
    if foreign := [name for name in others if name not in earlier]:
        what = counted_is(len(foreign), "video")
        logger.warning("%s: %s not part of this set: %s", folder / subset, what, first_few(foreign))


def _deal_labels(rng: Generator, num_videos: int) -> list[tuple[str, ...]]:
    """The labels of each video's segments: actions as often as one another, with background between or before."""
    deck = np.resize(np.arange(len(ACTIONS)), num_videos * ACTIONS_PER_VIDEO)
    rng.shuffle(deck)
    orders = []
    for hand in deck.reshape(num_videos, ACTIONS_PER_VIDEO):
        background_first = rng.random() < 0.5
        pairs = [(BACKGROUND, ACTIONS[act]) if background_first else (ACTIONS[act], BACKGROUND) for act in hand]
        orders.append(tuple(label for pair in pairs for label in pair))
    return orders


def _draw_video(task: tuple[Path, tuple[int, ...], tuple[str, ...]]) -> DemoVideo:
    path, key, labels = task
    rng = np.random.default_rng(key)
    timeline = draw_timeline(rng, list(labels))
    looks: list[NDArray[np.float32]] = []
    num_frames = write_video(path, _watched(draw_frames(rng, timeline), looks), fps=FPS)
    features = _project(np.stack(looks))
    return DemoVideo(
        VideoFacts(path.name, num_frames / FPS, float(FPS), num_frames),
        timeline,
        {"max": features.max(axis=0), "avg": features.mean(axis=0, dtype=np.float32)},
    )


def _watched(frames: Iterable[NDArray[np.uint8]], looks: list[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
    """Yield frames unchanged; of every fifth, record mean colours and mean absolute changes over a grid of cells, in
    [0, 1]."""
    before: Pixels | None = None
    rows, columns = _GVF_CELLS
    for index, frame in enumerate(frames):
        if index % _GVF_EVERY_FRAMES == 0:
            now = frame.astype(np.float32) / np.float32(255)
            change = np.zeros_like(now) if before is None else np.abs(now - before)
            both = np.concatenate((now, 4 * change), axis=2)
            height, width, channels = both.shape
            cells = both.reshape(rows, height // rows, columns, width // columns, channels).mean(axis=(1, 3))
            looks.append(cells.reshape(-1))
            before = now
        yield frame


def _project(looks_TD: NDArray[np.float32]) -> NDArray[np.float32]:
    """A fixed random layer with a ReLU: [T, D] pixel statistics -> [T, 512], of the size of an encoder's features.

    It replaces a pretrained encoder, which the demo does not have, and uses no labels.
    """
    rng = np.random.default_rng(_GVF_SEED)
    weights = rng.normal(0, 1 / np.sqrt(looks_TD.shape[1]), (looks_TD.shape[1], GVF_DIM))
    return np.maximum((looks_TD - 0.25) @ weights * 2, 0).astype(np.float32)


def _write_tables(folder: Path, subset: str, videos: list[DemoVideo]) -> None:
    write_table(folder / f"demo_{subset}_metadata.csv", METADATA_COLUMNS, (video.facts.row() for video in videos))
    rows = [
        ground_truth_row(
            video.facts,
            Path(video.facts.filename).stem,
            segment.start_sec,
            segment.end_sec,
            None if segment.label == BACKGROUND else segment.label,
        )
        for video in videos
        for segment in video.timeline
    ]
    write_table(folder / f"demo_{subset}_tsp_groundtruth.csv", GROUND_TRUTH_COLUMNS, rows)


def _write_annotations(path: Path, subsets: dict[str, list[DemoVideo]]) -> None:
    """The actions in the published format, JSON of ActivityNet's v1-3 shape: the input of ``annotate``."""
    names = {"train": "training", "valid": "validation"}
    database = {
        Path(video.facts.filename).stem: {
            "subset": names[subset],
            "duration": video.facts.duration_sec,
            "annotations": [
                {"segment": [segment.start_sec, segment.end_sec], "label": segment.label}
                for segment in video.timeline
                if segment.label != BACKGROUND
            ],
        }
        for subset, videos in subsets.items()
        for video in videos
    }
    with new_file(path) as partial:
        partial.write_text(json.dumps({"version": "demo", "database": database}, indent=1) + "\n", encoding="utf-8")
