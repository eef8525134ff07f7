"""Matrices that are none of the eight ways a picture can be turned and flipped count as the nearest."""

import struct
from math import cos, radians, sin
from types import SimpleNamespace

import pytest

from tsp.data.video.display_matrix import turn_of


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
