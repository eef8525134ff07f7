"""Progress of an extraction, logged every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tsp.extract.pool import Event
from tsp.extract.stream import FeatureStream

logger = logging.getLogger(__name__)

LOG_EVERY_SEC = 10.0


class Progress:
    """Counts, rate and time left of a stream of features."""

    def __init__(self, stream: FeatureStream, num_videos: int, num_clips: int) -> None:
        self.videos_done = 0
        self._stream = stream
        self._num_videos = num_videos
        self._num_clips = num_clips
        self._begun = self._logged = time.monotonic()

    def watched(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on, and log the progress every few seconds."""
        for event in events:
            yield event
            if time.monotonic() - self._logged >= LOG_EVERY_SEC:
                self._logged = time.monotonic()
                logger.info("%s", self)

    def __str__(self) -> str:
        done, rate = self._stream.num_clips, self._clips_per_sec
        left = f", about {max(0, self._num_clips - done) / rate / 60:.0f} min left" if rate else ""
        return (
            f"{self.videos_done} of {self._num_videos} videos, {done} of {self._num_clips} clips, "
            f"{rate:.1f} clips/s{left}"
        )

    @property
    def _clips_per_sec(self) -> float:
        return self._stream.num_clips / max(time.monotonic() - self._begun, 1e-9)

    def facts(self) -> dict[str, Any]:
        """For the job's answer."""
        return {
            "clips_extracted": self._stream.num_clips,
            "seconds": round(time.monotonic() - self._begun, 1),
            "clips_per_sec": round(self._clips_per_sec, 1),
        }
