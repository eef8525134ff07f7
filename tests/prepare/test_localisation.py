"""Annotations for localisation codes: what their loaders read, and files that are written one subset at a time."""

import json

import pytest

from tsp.errors import DataError
from tsp.prepare.localisation import localisation_database, merged

ROWS = [
    {"video-name": "a", "video-duration": "10.03", "t-start": "1", "t-end": "2.5", "action-label": "Run"},
    {"video-name": "b", "video-duration": "4", "t-start": "0", "t-end": "4", "action-label": ""},
    {"video-name": "a", "video-duration": "10.03", "t-start": "3", "t-end": "4", "action-label": "Jump"},
]
LABELS = ["Jump", "Run"]


def test_a_video_has_its_actions_and_counts_frames_at_the_rate_of_clips():
    assert localisation_database(ROWS, LABELS, subset="training", rate_fps=15.0) == {
        "a": {
            "subset": "training", "duration": 10.03, "fps": 15.0, "frame": 150,
            "annotations": [
                {"segment": [1.0, 2.5], "label": "Run", "label_id": 1},
                {"segment": [3.0, 4.0], "label": "Jump", "label_id": 0},
            ],
        }
    }  # fmt: skip


def test_entries_replace_those_of_the_same_video_and_leave_the_others():
    first = localisation_database(ROWS, LABELS, subset="training", rate_fps=15.0)
    other = {"c": {"subset": "validation", "annotations": [{"label": "Run", "label_id": 1}]}}
    text = merged(merged(None, other, where="j"), first, where="j")
    assert json.loads(text) == {"database": {**other, **first}}
    assert json.loads(merged(text, {"a": {"annotations": []}}, where="j"))["database"]["a"] == {"annotations": []}


@pytest.mark.parametrize(("label_id", "fits"), [(1, True), (0, False)])
def test_a_label_has_one_number_in_all_subsets(label_id, fits):
    before = merged(None, localisation_database(ROWS, LABELS, subset="training", rate_fps=15.0), where="j")
    database = {"d": {"annotations": [{"label": "Run", "label_id": label_id}, {"label": "Swim", "label_id": 7}]}}
    if fits:
        assert set(json.loads(merged(before, database, where="j"))["database"]) == {"a", "d"}
    else:
        with pytest.raises(
            DataError, match="j has 'Run' as class 1, but here it is 0: give both commands the same --labels"
        ):
            merged(before, database, where="j")


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 10**5,
        b'{"database": {"a": {}}}',
        b'{"database": {"a": {"annotations": [1]}}}',
    ],
)
def test_what_is_no_such_json_is_not_written_over(text):
    with pytest.raises(DataError, match="j exists but was not written by --json"):
        merged(text, {}, where="j")


@pytest.mark.parametrize(
    ("annotated", "key"),
    [("v1", "v1"), ("v1.mp4", "v1"), ("v1.MKV", "v1"), ("train/v1", "v1"), ("train/v1.webm", "v1"), ("v1.2", "v1.2")],
)
def test_an_entry_is_called_as_the_features_of_its_video(annotated, key):
    row = {**ROWS[0], "video-name": annotated}
    assert list(localisation_database([row], LABELS, subset="training", rate_fps=15.0)) == [key]


def test_two_videos_of_one_key_are_refused():
    rows = [{**ROWS[0], "video-name": name} for name in ("train/a", "valid/a")]
    with pytest.raises(DataError, match=r"'train/a' and 'valid/a' would both be 'a'.*--folder"):
        localisation_database(rows, LABELS, subset="training", rate_fps=15.0)


def test_a_number_has_one_label_in_all_subsets():
    before = merged(None, localisation_database(ROWS, LABELS, subset="training", rate_fps=15.0), where="j")
    database = {"d": {"annotations": [{"label": "Swim", "label_id": 0}]}}
    with pytest.raises(DataError, match=r"j has 'Jump' as class 0, but here that is 'Swim': .* the same --labels"):
        merged(before, database, where="j")


def test_a_subset_that_is_written_again_may_number_its_labels_anew():
    before = merged(None, localisation_database(ROWS, LABELS, subset="training", rate_fps=15.0), where="j")
    again = localisation_database(ROWS, LABELS[::-1], subset="training", rate_fps=15.0)
    assert json.loads(merged(before, again, where="j")) == {"database": again}


def test_a_video_does_not_move_from_one_subset_to_another():
    before = merged(None, localisation_database(ROWS, LABELS, subset="training", rate_fps=15.0), where="j")
    with pytest.raises(DataError, match="j has the video 'a' in the subset 'training', but here it is in 'validation'"):
        merged(before, localisation_database(ROWS, LABELS, subset="validation", rate_fps=15.0), where="j")
