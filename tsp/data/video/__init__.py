"""Reading and writing video files; the only package that imports PyAV."""

from tsp.data.video.errors import VideoError
from tsp.data.video.reader import ClipReader, WantedFrame

__all__ = ["ClipReader", "VideoError", "WantedFrame"]
