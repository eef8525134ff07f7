"""The footage that benchmarks draw: JPEG loses as much of it as of real footage, and no file is taken for another."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_decode import _difference
from benchmarks.footage import FPS, standardised
from tsp.data.video.training_copy import write_training_copy


def test_a_training_copy_of_it_loses_as_much_as_one_of_real_footage(tmp_path):
    path = standardised(tmp_path, "drawn", 320, 180, 252_000, 45, [])
    write_training_copy(path, tmp_path / "copy.train.mov")
    errors = [_difference(path, tmp_path / "copy.train.mov", start / FPS, resized=True) for start in (2, 8)]
    assert 2 <= np.mean(errors) <= 4


def test_files_of_other_sources_and_encodings_have_other_names(tmp_path):
    source = Path(__file__)
    made = {
        standardised(tmp_path, "a", 32, 32, rate, 4, [], x264=x264).name
        for rate, x264 in ((50_000, None), (60_000, None), (0, {"crf": "23"}), (0, {"crf": "23", "g": "16"}))
    }
    assert len(made) == 4
    with pytest.raises(
        Exception, match="Invalid data"
    ):  # made of the source, which is no video, and not taken from above
        standardised(tmp_path, "a", 32, 32, 50_000, 4, [source])
