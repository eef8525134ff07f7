"""Who works on which videos: shards of equal duration, the same on every machine and after every restart."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from tsp.config.jobs import ExtractJob
from tsp.data.tables import VideoFacts
from tsp.errors import ConfigError

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""Set in the pods of an Indexed Job: which of them this is, from 0."""


def deal(videos: Sequence[VideoFacts], num_shards: int) -> list[list[VideoFacts]]:
    """The videos of each shard, longest first.

    Longest processing time first: each video goes to the shard that has the least so far; no shard then has more than
    4/3 of what the best division would give the fullest one. Videos of equal length go by name.
    """
    shards: list[list[VideoFacts]] = [[] for _ in range(num_shards)]
    loads = [(0.0, shard) for shard in range(num_shards)]
    for video in sorted(videos, key=lambda video: (-video.duration_sec, video.name)):
        load_sec, shard = heapq.heappop(loads)
        shards[shard].append(video)
        heapq.heappush(loads, (load_sec + video.duration_sec, shard))
    return shards


def shard_of(job: ExtractJob, environment: Mapping[str, str]) -> int | None:
    """The shard to work on; None for all of them: the job's own, else the pod's index in an Indexed Job.

    Raises: ConfigError if the pod's index is not one of the job's shards.
    """
    index = environment.get(INDEX_VARIABLE)
    if job.shard is not None or job.merge_only or index is None or job.shards == 1:
        return job.shard
    if not index.isdigit() or int(index) >= job.shards:
        raise ConfigError(f"{INDEX_VARIABLE} is {index!r}, but the job has {job.shards} shards")
    return int(index)
