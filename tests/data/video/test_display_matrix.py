"""Matrices that are none of the eight ways a picture can be turned and flipped count as the nearest."""

import struct
from math import cos, radians, sin
from types import SimpleNamespace

import pytest
from av.sidedata.sidedata import Type

from tests import ffmpeg
from tests.data.video.rewritten import with_exif
from tsp.data.video.display_matrix import turn_of
from tsp.data.video.inspect import inspect_video
from tsp.data.video.transcode import transcode


def turned(a, b, c, d):
    """A frame whose side data say so, in units of 1/65536; the last column in 1/2^30, as FFmpeg has them."""
    numbers = [round(65536 * value) for value in (a, b, 0, c, d, 0, 7, 9)] + [1 << 30]
    return SimpleNamespace(side_data={"DISPLAYMATRIX": struct.pack("=9i", *numbers) + b"more"})


@pytest.mark.parametrize(
    ("degrees", "turn"),
    [(0, "upright"), (44, "upright"), (45, "upright"), (46, "clockwise"), (90, "clockwise"), (134, "clockwise"),
     (136, "half turn"), (180, "half turn"), (226, "counterclockwise"), (314, "counterclockwise"), (316, "upright")],
)  # fmt: skip
def test_an_odd_angle_counts_as_the_nearest_quarter_turn(degrees, turn):
    c, s = cos(radians(degrees)), sin(radians(degrees))
    assert turn_of(turned(c, s, -s, c)) == turn


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((-2, 0.1, 0.1, 2), "hflip"),
        ((0.5, 0, 0, -0.5), "vflip"),
        ((0.1, 3, 3, 0.1), "transpose"),
        ((0.1, -3, -3, 0.1), "antitranspose"),
        ((0.1, 3, -0.05, 2), "clockwise"),  # the largest number decides
        ((0.1, 0.05, -3, 2), "clockwise"),
        ((3, 2, -2, 0.1), "upright"),
        ((1, 0, 0, 0), "upright"),
        ((0, 0, 0, 0), "upright"),
    ],
)
def test_scaled_and_slanted_matrices_count_by_their_signs(matrix, turn):
    assert turn_of(turned(*matrix)) == turn


def test_a_picture_without_a_matrix_is_upright():
    assert turn_of(SimpleNamespace(side_data={})) == "upright"


def test_what_comes_with_a_frame_may_be_of_a_type_that_pyav_does_not_know():
    for number in range(64):
        assert Type(number).value == number
    assert len(Type) < 64  # the list itself stays as it is


@pytest.mark.parametrize(("suffix", "orientation", "turn"), [(".avi", 1, ""), (".mov", 1, ""), (".avi", 6, "clockwise"),
                                                             (".mkv", 5, "transpose")])  # fmt: skip
def test_pictures_of_a_camera_that_carry_exif_are_turned_as_players_turn_them(tmp_path, suffix, orientation, turn):
    plain = ffmpeg.make(tmp_path / f"plain{suffix}", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p", num_frames=8)
    path = tmp_path / f"camera{suffix}"
    with_exif(plain, path, orientation)
    report = inspect_video(path)
    assert report.faults == ()
    assert [f"({turn})" in remark for remark in report.remarks] == ([True] if turn else [])
    transcode(path, tmp_path / "standard.mp4")
    ours, theirs = ffmpeg.shown(tmp_path / "standard.mp4"), ffmpeg.shown(path, upright=True)
    assert ours.frames.shape == theirs.frames.shape
    assert abs(ours.frames.astype(int) - theirs.frames).mean() < 5
