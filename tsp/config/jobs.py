"""Requests to the auxiliary jobs: one frozen class per kind.

``tspctl`` creates it from options and sends it as JSON to ``python -m tsp.entrypoint <kind>`` on standard input; the
program logs to stderr and answers with one JSON object on stdout. Relative paths are resolved before they are sent. To
add a kind: a class here, its function, a row in the chart's schema (``job.kind``), a command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tsp.config.address import check_scheme
from tsp.config.backbones import Backbone
from tsp.config.bounds import number, require
from tsp.config.codec import from_dict
from tsp.config.job import Job, ParallelJob, SharedJob, StoreJob, reads, scratch, text, writes
from tsp.config.run import MOST_CLIP_FRAMES, MOST_FPS, Precision, RunConfig
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError

AnnotationFormat = Literal["auto", "thumos14", "activitynet"]
ShortVideoPolicy = Literal["pad", "skip"]
BrokenVideoPolicy = Literal["fail", "skip"]
Pool = Literal["max", "avg"]
Gop = Literal["short", "published"]
CopyFormat = Literal["mjpeg", "raw"]
FeatureFormat = Literal["h5", "npy"]


@dataclass(frozen=True, kw_only=True)
class StandardizeJob(SharedJob, StoreJob):
    """Turn any videos into constant-rate MP4 files, and optionally into the small training copy."""

    kind: ClassVar[str] = "standardize"
    function: ClassVar[str] = "tsp.prepare.standardize:run"

    source: str = reads("SOURCE")
    """Folder or ``s3://`` prefix that is searched for videos, or one video."""
    dest: str = writes("DEST")
    """Folder or ``s3://`` prefix of the standardised files; each keeps its name, with the ending .mp4."""
    fps: float = number("--fps", 30.0, above=0, at_most=MOST_FPS)
    crf: int = number("--crf", 23, at_least=0, at_most=51)
    """x264's constant rate factor."""
    max_height_px: int | None = number("--max-height", None, at_least=16)
    """Frames higher than this are scaled down; None keeps the size (rounded to even)."""
    keep_audio: bool = False
    gop: Gop = "short"
    """``short``: a key frame at least every 16 frames and no B-pyramid, so that clips are read at random in half the
    time; ``published``: x264's defaults, as the published systems' files have them."""
    salvage: bool = False
    """Keep the decodable parts of damaged videos, and report the gaps; otherwise they are left out as broken."""
    training_copy: CopyFormat | None = None
    """Also write the training copy that ``data.training_copy`` reads, in this format, next to the standardised
    files."""
    overwrite: bool = False
    """Overwrite existing outputs; otherwise they are kept, so that an interrupted job continues."""


@dataclass(frozen=True, kw_only=True)
class ProbeJob(ParallelJob, StoreJob):
    """Write the metadata CSV (filename, video-duration, fps, video-frames) of a folder of videos."""

    kind: ClassVar[str] = "probe"
    function: ClassVar[str] = "tsp.prepare.probe:run"
    runs_in_place: ClassVar[bool] = True

    videos: str = reads("VIDEOS")
    """Folder or ``s3://`` prefix of the videos."""
    out: str | None = writes("--out", None)
    """CSV to write, a path or URI; None: the rows are only in the answer."""


@dataclass(frozen=True, kw_only=True)
class AnnotateJob(StoreJob):
    """Write the ground-truth CSV, background segments included, from other people's annotations."""

    kind: ClassVar[str] = "annotate"
    function: ClassVar[str] = "tsp.prepare.annotate:run"
    runs_in_place: ClassVar[bool] = True

    annotations: str = reads("ANNOTATIONS")
    """THUMOS14: the folder of its annotation texts. ActivityNet: a JSON file of the v1-3 shape. This and all other
    files here: a path or URI."""
    metadata: str = reads("--metadata")
    """Metadata CSV of the videos, as ``probe`` writes it."""
    out: str = writes("--out")
    """Ground-truth CSV to write."""
    format: AnnotationFormat = "auto"
    """``auto``: a folder is thumos14, a .json file activitynet."""
    subset: str | None = text(None)
    """Only this subset of the JSON (training, validation, ...); what ``json`` calls the videos."""
    labels: str | None = reads("--labels", None)
    """JSON list of the action classes; None: the annotations' own, sorted."""
    folder: str | None = text(None)
    """Only the files of the metadata in this folder of it, named relative to it; None: all."""
    labels_out: str | None = writes("--labels-out", None)
    """Folder to write both label maps into, or what their paths begin with."""
    json: str | None = writes("--json", None)
    """JSON in ActivityNet's format to write for localisation code; other subsets in the file are kept."""
    filename_prefix: str | None = text(None)
    """What a file's name has before the video's name (``v_`` for ActivityNet); None: found out."""
    min_background_sec: float | None = number("--min-background", None, at_least=0)
    """Shorter gaps between actions give no background segment; None: as in the published tables, 16/15 s for THUMOS14
    (one clip) and 16/3 s for ActivityNet (five)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.json is None or self.subset is not None,
            "--json needs --subset, the name of these videos' subset in the localisation code, for instance "
            "training or validation",
        )


@dataclass(frozen=True, kw_only=True)
class RunJob(Job):
    """A job on what a run would train or validate."""

    config: RunConfig
    """The run as it would be submitted; to evaluate a checkpoint its data set, heads and encoder must be that one's."""

    @property
    def server(self) -> StoreConfig | None:
        """That of the run."""
        return self.config.store


@dataclass(frozen=True, kw_only=True)
class CheckJob(RunJob, ParallelJob):
    """Find everything that would make a run fail or train wrongly."""

    kind: ClassVar[str] = "check"
    function: ClassVar[str] = "tsp.prepare.check:run"
    runs_in_place: ClassVar[bool] = True

    decode: bool = False
    """Decode every video to its end, not only its ends."""
    plot: str | None = writes("--plot", None)
    """PNG of the class histogram."""


@dataclass(frozen=True, kw_only=True)
class DemoJob(Job):
    """Draw the demo data set: small learnable videos, tables, label maps and GVF."""

    kind: ClassVar[str] = "demo"
    function: ClassVar[str] = "tsp.prepare.demo:run"
    runs_in_place: ClassVar[bool] = True

    dest: str = writes("DEST")
    num_train_videos: int = number("--train-videos", 24, at_least=1)
    num_valid_videos: int = number("--valid-videos", 12, at_least=1)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scheme("DEST", self.dest)


@dataclass(frozen=True, kw_only=True)
class MergedJob(SharedJob):
    """A job whose shards each compute on a GPU and store a part; the shard that finds all parts complete merges
    them."""

    needs_gpu: ClassVar[bool] = True

    merge_only: bool = False
    """Only merge what the shards wrote."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not (self.merge_only and self.shard is not None), "a job either works on one shard or merges, not both")

    @property
    def names_its_share(self) -> bool:
        """The merge is a part of its own."""
        return self.merge_only or super().names_its_share


@dataclass(frozen=True, kw_only=True)
class EvaluateJob(RunJob, MergedJob):
    """The validation results of a checkpoint on a data set, without training."""

    kind: ClassVar[str] = "evaluate"
    function: ClassVar[str] = "tsp.train.evaluate:run"

    checkpoint: str = reads("CHECKPOINT")
    """File, ``s3://`` or ``https://``; ours or the original's."""
    out: str = writes("--out")
    """JSON file to write, a path or URI."""


@dataclass(frozen=True, kw_only=True)
class EncodingJob(MergedJob, StoreJob):
    """What an encoder makes of every video of a metadata CSV: the part that features and GVF have in common."""

    checkpoint: str = reads("CHECKPOINT")
    """File, ``s3://`` or ``https://``; ours or the original's."""
    videos: str = reads("--data")
    """Folder or ``s3://`` URI of the videos."""
    metadata: str = reads("--metadata")
    """Metadata CSV, a path or URI."""
    out: str = writes("--out")
    """H5 or folder to write, a path or URI; per-video files are next to it until the merge, so that a stopped job
    continues."""
    stride_frames: int = number("--stride", 16, at_least=1, at_most=1_000_000)
    """Frames (at ``rate_fps``) between the starts of two clips: 16 for ActivityNet, 1 for THUMOS14."""
    length_frames: int = number("--clip-frames", 16, at_least=1, at_most=MOST_CLIP_FRAMES)
    rate_fps: float = number("--rate", 15.0, above=0, at_most=MOST_FPS)
    backbone: Backbone | None = None
    """None: read off the checkpoint."""
    short_videos: ShortVideoPolicy = "pad"
    """A video shorter than one clip: repeat its last frame, or leave it out."""
    broken_videos: BrokenVideoPolicy = "fail"
    """Videos that cannot be decoded: no H5 and exit code 3 once all others are done, or leave them out."""
    batch: int | None = number("--batch", None, at_least=1)
    """Clips per forward pass; None: a fast number, halved until they fit into the device's memory."""
    precision: Precision = "auto"
    cache_dir: str | None = scratch("--cache-dir", None)
    """Folder of the bounded cache for videos read from ``s3://``, and of downloaded checkpoints."""
    cache_mib: int = number("--cache-mib", 20480, at_least=1)
    """Maximum size of the video cache, MiB."""


@dataclass(frozen=True, kw_only=True)
class PrefixJob(Job):
    """A job that names features by their videos."""

    prefix: str = text("")
    """Prefix to add to video names that lack it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("/" not in self.prefix, f"--prefix must be the beginning of a file name, got {self.prefix!r}")


@dataclass(frozen=True, kw_only=True)
class ExtractJob(EncodingJob, PrefixJob):
    """Features of every clip of every video, in one H5 or in a file a video."""

    kind: ClassVar[str] = "extract"
    function: ClassVar[str] = "tsp.extract.features:run"

    format: FeatureFormat = "h5"


@dataclass(frozen=True, kw_only=True)
class GvfJob(EncodingJob):
    """Global video features: the pool over time of a video's clip features, straight into one H5."""

    kind: ClassVar[str] = "gvf"
    function: ClassVar[str] = "tsp.extract.gvf:run"

    pool: Pool = "max"


MOST_STEPS = 100_000
"""Of a resized video: days at every frame, and no more memory than a machine has."""


@dataclass(frozen=True, kw_only=True)
class FeaturesJob(StoreJob, PrefixJob):
    """Look at features, or write them in another form."""

    kind: ClassVar[str] = "features"
    function: ClassVar[str] = "tsp.extract.convert:run"
    runs_in_place: ClassVar[bool] = True

    source: str = reads("SOURCE")
    """H5 file, or folder of ``.npy`` files; a path or URI."""
    dest: str | None = writes("DEST", None)
    """H5 file or folder to write; None: only describe the source."""
    format: FeatureFormat | None = None
    """None: H5 where ``dest`` ends like one, else npy."""
    resize: int | None = number("--resize", None, at_least=1, at_most=MOST_STEPS)
    """Interpolate every video linearly over time to that many features."""

    @property
    def dest_format(self) -> FeatureFormat:
        """The form of what is written."""
        return self.format or ("h5" if str(self.dest).endswith((".h5", ".hdf5")) else "npy")


JOBS: dict[str, type[Job]] = {
    job.kind: job
    for job in (
        StandardizeJob,
        ProbeJob,
        AnnotateJob,
        CheckJob,
        DemoJob,
        EvaluateJob,
        ExtractJob,
        GvfJob,
        FeaturesJob,
    )
}
"""Kind -> its class; what is not here does not exist for the entrypoint, the command line or the chart."""


def job_from_dict(kind: str, raw: dict[str, Any]) -> Job:
    """The job of that kind from plain data.

    Raises: ConfigError for an unknown kind, key or a bad value.
    """
    if kind not in JOBS:
        raise ConfigError(f"unknown job {kind!r}; known: {', '.join(JOBS)}")
    return from_dict(JOBS[kind], raw, where=kind)
