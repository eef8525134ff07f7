"""What an extraction says of the videos that are not done, and how many it decodes at a time."""

import logging
from types import SimpleNamespace

import pytest
import torch

from tsp.config.job import Answer
from tsp.errors import DataError
from tsp.extract import extraction
from tsp.extract.extraction import Extraction, default_workers


def unfinished(num_videos, shard):
    shapes = {f"v{number}": (1, 512) for number in range(num_videos + 1)}
    job = SimpleNamespace(_shapes=shapes, _shard=shard, _parts=SimpleNamespace(address="out.h5"))
    return Extraction._unfinished(job, {f"v{num_videos}": "done"}, Answer())


@pytest.mark.parametrize(
    ("num_missing", "named"), [(1, "v0"), (5, "v0, v1, v2, v3, v4"), (6, "v0, v1, v2, v3, v4, ...")]
)
def test_of_many_videos_without_features_the_first_five_are_named(num_missing, named, caplog):
    said = rf"out\.h5 cannot be merged: {num_missing} of {num_missing + 1} videos have no features yet \({named}\)"
    with pytest.raises(DataError, match=said):
        unfinished(num_missing, None)
    with caplog.at_level(logging.INFO):
        assert unfinished(num_missing, 0) == Answer()
    videos = "1 video" if num_missing == 1 else f"{num_missing} videos"
    assert caplog.messages == [f"this shard is done; other shards still have {videos} to do ({named})"]


def test_an_encoder_that_needs_the_cpus_itself_gets_one_decoder(monkeypatch):
    monkeypatch.setattr(extraction, "usable_cpus", lambda: 7)
    assert [default_workers(torch.device(kind)) for kind in ("cpu", "cuda")] == [1, 7]
