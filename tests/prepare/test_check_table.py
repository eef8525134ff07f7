"""Oddities of a table's rows, at the border of each rule."""

import pytest

from tsp.config.run import ClipConfig
from tsp.prepare.check_table import check_table

HEAD = "filename,t-start,t-end,video-duration,action-label,temporal-region-label\n"
MAPS = {"action-label": ("Run", "Jump"), "temporal-region-label": ("Action", "No action")}


def checked(tmp_path, *rows: str, maps=MAPS):
    path = tmp_path / "t.csv"
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows))
    return check_table("train", path, maps, ClipConfig())


def said(check) -> list[tuple[str, int | None, str]]:
    return [(item.severity, item.row, item.message) for item in check.findings]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ("0,9,9", None),
        ("0,9.000001,9", None),
        ("0,9.01,9", "the segment 0.0 to 9.01 s goes beyond the video (0 to 9.0 s) and is cut to it"),
        ("-0.01,9,9", "the segment -0.01 to 9.0 s goes beyond the video (0 to 9.0 s) and is cut to it"),
        ("5,4.99,9", "the segment ends at 4.99 s, before it starts at 5.0 s, and is left out"),
        ("5,5,9", "the segment lasts 0 s, at 5.0 s, and is left out"),
        ("9,12,9", "the segment begins after the video's end (9.0 s of 9.0 s) and is left out"),
        ("10,12,9", "the segment begins after the video's end (10.0 s of 9.0 s) and is left out"),
        ("8.99,12,9", "the segment 8.99 to 12.0 s goes beyond the video (0 to 9.0 s) and is cut to it"),
    ],
)
def test_odd_times_are_warned_about(tmp_path, times, message):
    check = checked(tmp_path, "b.mp4,0,9,9,Run,Action", f"a.mp4,{times},Jump,Action")
    assert said(check) == ([("warning", 3, message)] if message else [])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("Run,Action", None),
        (",No action", None),
        ("Run,", None),
        ("Run,No action", "temporal-region-label is 'No action' but action-label is 'Run'"),
        (",Action", "temporal-region-label is 'Action' but action-label is ''"),
        (",", "the segment has no label, so training ignores it"),
    ],
)
def test_labels_that_contradict_each_other_or_lack_are_warned_about(tmp_path, labels, message):
    check = checked(tmp_path, f"a.mp4,0,9,9,{labels}")
    assert said(check) == ([("warning", 2, message)] if message else [])


def test_rows_that_contradict_or_repeat_an_earlier_one_name_it(tmp_path):
    check = checked(
        tmp_path,
        "a.mp4,0,5,9,Run,Action",
        "a.mp4,0,5,9.0000005,Run,Action",
        "a.mp4,5,9,9.1,,No action",
        "a.mp4,0,5,9,Jump,Action",
        "b.mp4,0,5,9,Run,Action",
    )
    assert said(check) == [
        ("warning", 3, "the same segment as row 2"),
        ("warning", 4, "video-duration of a.mp4 is 9.1, but 9.0 in row 2"),
    ]


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (["a.mp4,5,8,9,,No action"], ""),
        (["a.mp4,4.95,8.05,9,,No action"], ""),
        (["b.mp4,0,9,9,,No action"], ""),
        (["a.mp4,4.5,8,9,,No action"], "1 of 1 segments {} row 4: row 2 has an action in 0.5 s of it"),
        (["a.mp4,0,9,9,,No action"], "1 of 1 segments {} row 4: row 2 has an action in 5.0 s of it"),
        (["b.mp4,1,2,9,,No action", "a.mp4,7,9,9,,No action", "a.mp4,2,3,9,,No action"],
         "2 of 3 segments {} row 5: row 3 has an action in 1.0 s of it"),
        (["a.mp4,0,9,9,Jump,Action"], ""),
    ],
)  # fmt: skip
def test_background_that_overlaps_an_action_is_warned_about(tmp_path, background, message):
    check = checked(tmp_path, "a.mp4,0,5,9,Run,Action", "a.mp4,8,9,9,Jump,Action", *background)
    message = message.format("of 'No action' overlap an action, the first in")
    assert said(check) == ([("warning", None, message)] if message else [])


def test_segments_are_counted_by_what_becomes_of_them(tmp_path):
    check = checked(
        tmp_path,
        "a.mp4,0,1.07,9,Run,Action",
        "a.mp4,0,1.06,9,Run,Action",
        "a.mp4,8,12,9,,No action",
        "a.mp4,0,3,9,Jump,Action",
        "a.mp4,0,x,9,Jump,Action",
    )
    assert (check.num_rows, check.num_kept, check.num_too_short, check.num_clamped, len(check.rows)) == (5, 2, 2, 1, 4)
    assert check.kept_per_class == {"action-label": {"Run": 1, "Jump": 1}, "temporal-region-label": {"Action": 2}}
    assert [item[:2] for item in said(check) if item[0] == "error"] == [("error", 6)]


def test_a_table_of_no_clip_is_an_error(tmp_path):
    check = checked(tmp_path, "a.mp4,0,1,9,Run,Action")
    assert said(check)[0] == (
        "error",
        None,
        f"none of the 1 segments of {tmp_path}/t.csv is as long as one clip (1.067 s)",
    )


@pytest.mark.parametrize(
    ("rows", "is_said"),
    [
        (["a.mp4,0,60,9", "b.mp4,0,270,9"], True),
        (["a.mp4,0,60,9", "b.mp4,0,9,9"], False),
        (["a.mp4,0,60,9", "a.mp4,0,9,9", "b.mp4,0,9,9", "c.mp4,10,300,9"], True),
        (["a.mp4,0,10,9", "b.mp4,0,11,9"], False),
        (["a.mp4,0,60,9"], False),
    ],
)
def test_times_that_can_hardly_be_seconds_are_warned_about(tmp_path, rows, is_said):
    check = checked(tmp_path, *(f"{row},Run,Action" for row in rows))
    found = [message for _, row, message in said(check) if row is None]
    assert bool(found) is is_said
    assert all("are these frames or milliseconds? The times must be seconds" in message for message in found)
