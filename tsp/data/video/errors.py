"""What can be wrong with a video file."""

from tsp.errors import DataError


class VideoError(DataError):
    """A video cannot be opened or a clip of it cannot be decoded; the message names the file and the time."""
