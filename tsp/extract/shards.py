"""Deals videos to shards of equal duration, the same on every machine and after every restart."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from tsp.data.tables import VideoFacts


def deal(videos: Sequence[VideoFacts], num_shards: int) -> list[list[VideoFacts]]:
    """The videos of each shard, longest first.

    Longest processing time first: each video is given to the shard with the least work so far; no shard then has more
    than 4/3 of the fullest shard in the best division. Videos of equal length are ordered by name.
    """
    shards: list[list[VideoFacts]] = [[] for _ in range(num_shards)]
    loads = [(0.0, shard) for shard in range(num_shards)]
    for video in sorted(videos, key=lambda video: (-video.duration_sec, video.name)):
        load_sec, shard = heapq.heappop(loads)
        shards[shard].append(video)
        heapq.heappush(loads, (load_sec + video.duration_sec, shard))
    return shards
