"""How training copies are called, and how wide their frames are."""

import pytest

from tsp.data.copy_name import stored_width, training_copy_name


@pytest.mark.parametrize(
    ("filename", "copy"),
    [("a.mp4", "a.train.mov"), ("x/a.b.webm", "x/a.b.train.mov"), ("a", "a.train.mov")],
)
def test_a_copy_lies_beside_its_video(filename, copy):
    assert training_copy_name(filename) == copy


@pytest.mark.parametrize(("width_px", "stored_px"), [(112, 112), (113, 114), (1, 2), (2, 2), (171, 172)])
def test_rows_are_stored_with_an_even_width(width_px, stored_px):
    assert stored_width(width_px) == stored_px
