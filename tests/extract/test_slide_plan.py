"""Which clips a video gives, by the job's options."""

import pytest

from tsp.config.jobs import ExtractJob
from tsp.config.store import StoreConfig
from tsp.data.tables import VideoFacts
from tsp.extract.slide_plan import SlidePlan


@pytest.mark.parametrize(
    ("short_videos", "num_frames", "starts_sec"),
    [
        ("pad", 10, [0.0]),
        ("skip", 10, []),
        ("pad", 16, [0.0]),
        ("skip", 16, [0.0]),
        ("pad", 24, [0.0, 0.5]),
        ("skip", 32, [0.0, 0.5, 1.0]),
    ],
)
def test_a_short_video_gives_one_clip_or_none(short_videos, num_frames, starts_sec):
    job = ExtractJob(
        checkpoint="c", videos="v", metadata="m", out="o.h5", store=StoreConfig(uri="s"),
        stride_frames=8, length_frames=16, rate_fps=16.0, short_videos="".join(list(short_videos)),
    )  # fmt: skip
    plan = SlidePlan.of(job)
    assert plan.starts_sec(VideoFacts("a.mp4", num_frames / 16, 16.0, num_frames)) == pytest.approx(starts_sec)
