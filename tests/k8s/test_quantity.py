"""Amounts as the API server writes them."""

import pytest

from k8s.quantity import allocatable, pieces

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("text", "whole"),
    [("4", 4), (4, 4), ("0", 0), (0, 0), ("1k", 1000), ("2500m", 2), ("999m", 0), ("1e1", 10), ("", 0), ("four", 0)],
)
def test_pieces_are_whole_and_what_is_no_quantity_is_none(text, whole):
    assert pieces(text) == whole


@pytest.mark.parametrize(
    ("status", "gpus"),
    [
        (None, 0), ({}, 0), ({"allocatable": {}}, 0), ({"allocatable": {"cpu": "8"}}, 0),
        ({"allocatable": {GPU: "0"}}, 0), ({"allocatable": {GPU: "1"}}, 1), ({"allocatable": {GPU: "1k"}}, 1000),
    ],
)  # fmt: skip
def test_a_node_has_the_gpus_that_it_reports_and_none_if_it_reports_none(status, gpus):
    assert allocatable({"metadata": {"name": "a"}, "status": status}, GPU) == gpus
