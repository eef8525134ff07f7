"""Which stream of a file is its video: the one that the ``ffmpeg`` program takes."""

from __future__ import annotations

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

_DEFAULT_BONUS = 5_000_000
_HIDDEN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The streams that are videos; not pictures attached to a file (covers), nor streams of an unknown codec."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _HIDDEN
    ]


def best_video_stream(container: InputContainer) -> VideoStream | None:
    """The stream with the most pixels, where one marked as default counts five million more; the first of equals.

    Source: ffmpeg's map_auto_video.
    """
    return max(video_streams(container), key=_score, default=None)


def _score(stream: VideoStream) -> int:
    num_pixels = stream.codec_context.width * stream.codec_context.height
    return num_pixels + _DEFAULT_BONUS * bool(stream.disposition & Disposition.default)
