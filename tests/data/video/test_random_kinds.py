"""Files of random kinds against the ffmpeg program; ``RANDOM_KINDS`` and ``RANDOM_KINDS_FIRST`` choose the seeds."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests import ffmpeg
from tests.data.video.kinds import MAX_COLOUR_ERROR, colour_error
from tests.data.video.random_kinds import make
from tests.videos import number_of
from tsp.data.video import ClipReader
from tsp.data.video.inspect import inspect_video
from tsp.data.video.open_video import VideoSource
from tsp.data.video.transcode import transcode

NUM_SEEDS = int(os.environ.get("RANDOM_KINDS", "12"))
FIRST_SEED = int(os.environ.get("RANDOM_KINDS_FIRST", "0"))


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NUM_SEEDS))
def test_a_file_of_any_kind_is_read_and_standardised_as_ffmpeg_shows_it(seed, tmp_path):
    kind, path, truth = make(seed, tmp_path)
    numbers, times = truth.numbers, np.array(truth.times_sec)
    if kind.is_delayed:
        times = times - times[0]
    assert (np.diff(times) > 0).all(), "such kinds are not drawn"
    report = inspect_video(path)
    assert (report.num_frames, report.faults) == (len(numbers), ()), kind
    _check_clips(path, numbers, times, truth.frames, kind)
    _check_standardised(path, tmp_path, kind)


def _check_clips(path, numbers, times, frames, kind):
    source, reader = VideoSource(path), ClipReader()
    offsets = [int(k * source.fps / 15) for k in range(16)]
    last = len(numbers) - 1 - offsets[-1]
    for first in sorted({min(first, last) for first in (0, 1, 5, last // 2, last)} if last >= 0 else ()):
        # The times of ASF are rounded to milliseconds.
        clip = reader.read(path, float(times[first]) + (0.002 if kind.is_delayed else 1e-4))
        wanted = [first + offset for offset in offsets]
        assert [number_of(image) for image in clip] == [numbers[index] for index in wanted], (kind, first)
        assert colour_error(clip, frames[wanted]) <= MAX_COLOUR_ERROR, (kind, first)
    reader.close()
    source.close()


def _check_standardised(path, folder, kind):
    transcode(path, folder / "out.mp4", crf=12)
    ours = ffmpeg.shown(folder / "out.mp4", upright=True)
    from_0 = "setpts=PTS-STARTPTS," if kind.is_delayed else ""
    theirs = ffmpeg.shown(path, filters=f"{from_0}fps=30:start_time=0", upright=True)
    both = min(len(theirs.numbers), len(ours.numbers))
    assert abs(len(theirs.numbers) - len(ours.numbers)) <= 1, kind
    # Milliseconds of ASF may round a frame to the one before.
    most = 1 if kind.is_delayed else 0
    assert np.abs(np.subtract(ours.numbers[:both], theirs.numbers[:both])).max() <= most, kind
    if not most and ours.frames.shape[1:] == theirs.frames.shape[1:]:
        assert colour_error(ours.frames[:both], theirs.frames[:both]) <= MAX_COLOUR_ERROR, kind
