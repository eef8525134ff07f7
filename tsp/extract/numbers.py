"""Checks that stride, rate and table match before hours of decoding, since wrong features look like right ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tsp.config.run import ClipConfig
from tsp.data.tables import VideoFacts
from tsp.extract.slide_plan import SlidePlan
from tsp.wording import counted

_AS_OTHERS = {"ActivityNet": 16, "THUMOS14": 1}
"""Usual stride in frames, by data set."""
_SLACK_FRAMES = 2.0
"""How far num_frames may be from duration x fps: containers round both."""


def describe_numbers(plan: SlidePlan) -> str:
    """What one feature covers in seconds, compared with the usual strides."""
    others = ", ".join(
        f"{stride} for {name} ({stride / ClipConfig().rate_fps:.3f} s)" for name, stride in _AS_OTHERS.items()
    )
    return (
        f"one feature every {plan.stride_frames / plan.rate_fps:.3f} s of video, from clips of "
        f"{plan.length_frames / plan.rate_fps:.3f} s (stride {plan.stride_frames}, {plan.length_frames} frames at "
        f"{plan.rate_fps:g} fps); the usual strides are {others}"
    )


def other_clips(plan: SlidePlan, trained: ClipConfig | None, *, where: str) -> str:
    """A sentence if the encoder was trained on clips of another length or rate; empty if not.

    Args: trained, None if the checkpoint does not say: then it counts as a published one.
    """
    known = trained or ClipConfig()
    if (plan.rate_fps, plan.length_frames) == (known.rate_fps, known.length_frames):
        return ""
    encoder = f"{where} was" if trained else "published encoders were"
    return (
        f"{encoder} trained on clips of {known.length_frames} frames at {known.rate_fps:g} fps, but these clips have "
        f"{plan.length_frames} at {plan.rate_fps:g} fps: give --clip-frames {known.length_frames} --rate "
        f"{known.rate_fps:g}"
    )


def odd_numbers(plan: SlidePlan, videos: Sequence[VideoFacts]) -> Iterator[str]:
    """Sentences on what is probably a mistake."""
    if plan.stride_frames > plan.length_frames:
        yield (
            f"stride {plan.stride_frames} is longer than a clip of {plan.length_frames} frames: frames between two "
            "clips are not part of any feature"
        )
    slow = [video for video in videos if video.fps < plan.rate_fps]
    if slow:
        yield (
            f"fewer frames per second than clips in {counted(len(slow), 'video')} (such as {slow[0].filename}, "
            f"{slow[0].fps:g} of {plan.rate_fps:g} fps): their frames are repeated"
        )
    apart = [
        video
        for video in videos
        if abs(video.num_frames - video.duration_sec * video.fps) > _SLACK_FRAMES + video.fps / 10
    ]
    if apart:
        one = apart[0]
        yield (
            f"the table contradicts itself for {counted(len(apart), 'video')} (such as {one.filename}: "
            f"{one.num_frames} frames at {one.fps:g} fps are {one.num_frames / one.fps:.2f} s, its duration is "
            f"{one.duration_sec:.2f} s): clips would be cut at the wrong times; probe the videos again"
        )
    single = [video for video in videos if len(plan.starts_sec(video)) == 1]
    if len(single) * 2 > len(videos):
        yield (
            f"{len(single)} of {len(videos)} videos have only one feature at stride {plan.stride_frames}: a "
            "smaller --stride gives more"
        )
