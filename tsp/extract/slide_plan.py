"""The clips that slide over each video."""

from __future__ import annotations

from dataclasses import dataclass, field

from tsp.config.jobs import EncodingJob
from tsp.config.run import ClipConfig
from tsp.data.clips import extraction_starts_sec
from tsp.data.tables import VideoFacts


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """How clips slide over videos."""

    stride_frames: int
    """Frames (at ``rate_fps``) between the starts of two clips."""
    length_frames: int
    rate_fps: float
    pads_short: bool
    """Whether a video shorter than one clip becomes one clip that ends with its last frame repeated."""
    picture: ClipConfig = field(default_factory=ClipConfig)
    """How frames are resized and cropped: as when the encoder was trained."""

    @classmethod
    def of(cls, job: EncodingJob) -> SlidePlan:
        """The plan of a job."""
        return cls(job.stride_frames, job.length_frames, job.rate_fps, job.short_videos == "pad")

    def starts_sec(self, video: VideoFacts) -> list[float]:
        """Start times of the video's clips, rising; none for a short video that is skipped."""
        starts = extraction_starts_sec(
            video.num_frames,
            video.fps,
            stride_frames=self.stride_frames,
            length_frames=self.length_frames,
            rate_fps=self.rate_fps,
        )
        return starts or ([0.0] if self.pads_short else [])
