"""What ``check`` says where a video and its table disagree: at the border of each tolerance."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.config.test_run import make
from tsp.data.ground_truth import SegmentRow
from tsp.data.video.inspect import VideoReport
from tsp.errors import DataError, StoreUnreachableError
from tsp.prepare import check_videos as module
from tsp.prepare.check_videos import check_videos

TABLE = Path("t.csv")
SEEN = VideoReport(codec="h264", width=320, height=180, num_frames=300, fps=30.0, duration_sec=10.0)


def row(line: int = 2, start_sec: float = 0.0, end_sec: float = 10.0, **changes) -> SegmentRow:
    facts = {"filename": "a.mp4", "duration_sec": 10.0, "fps": 30.0, "num_frames": 300.0, "labels": {}} | changes
    return SegmentRow(line=line, start_sec=start_sec, end_sec=end_sec, **facts)


def found(monkeypatch, rows, seen=SEEN, **overrides):
    """Severity, row and message of the findings on a video that holds that."""
    monkeypatch.setattr(module, "_inspect", lambda videos, decode_all, name: seen)
    findings = check_videos("train", None, TABLE, rows, make(overrides=overrides), decode_all=False, workers=1)
    assert {(item.subset, item.file) for item in findings} <= {("train", "t.csv"), ("train", "a.mp4")}
    return [(item.severity, item.row, item.message) for item in findings]


def test_a_video_that_is_what_its_table_says_has_no_finding(monkeypatch):
    assert found(monkeypatch, [row(), row(3, 2.0, 5.0)]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration_sec": 10.049}, None),
        ({"duration_sec": 9.951, "end_sec": 9.9}, None),
        ({"duration_sec": 10.051}, "video-duration of a.mp4 is 10.051, but the file lasts 10.000 s"),
        ({"duration_sec": 9.949}, "video-duration of a.mp4 is 9.949, but the file lasts 10.000 s"),
        ({"fps": 30.29}, None),
        ({"fps": 30.31}, "fps of a.mp4 is 30.31, but the file has 30; the file's is used"),
        ({"fps": 29.69}, "fps of a.mp4 is 29.69, but the file has 30; the file's is used"),
        ({"num_frames": 301.0}, None),
        ({"num_frames": 299.0}, None),
        ({"num_frames": 302.0}, "video-frames of a.mp4 is 302, but the file has 300"),
        ({"num_frames": 298.0}, "video-frames of a.mp4 is 298, but the file has 300"),
        ({"num_frames": float("nan"), "fps": float("nan")}, None),
    ],
)
def test_a_table_may_be_a_frame_and_a_half_or_a_hundredth_off(monkeypatch, changes, message):
    said = found(monkeypatch, [row(**{"end_sec": 10.0, **changes})])
    assert said == ([("warning", 2, message)] if message else [])


@pytest.mark.parametrize(
    ("times", "policy", "severity", "ends"),
    [
        ((0.0, 10.05), "fail", None, ""),
        ((0.0, 10.06), "resample", "warning", "at 10.000 s"),
        ((0.0, 10.06), "fail", "error", "at 10.000 s"),
        ((8.98, 11.0), "resample", "warning", "at 10.000 s"),
        ((8.99, 11.0), "resample", "error", "at 10.000 s: no clip of it can be read"),
    ],
)
def test_a_segment_past_the_end_is_an_error_where_no_clip_of_it_is_left_or_the_policy_says_so(
    monkeypatch, times, policy, severity, ends
):
    rows = [row(duration_sec=10.04), row(7, *times, duration_sec=12.0)]
    said = found(monkeypatch, rows, **{"data.bad_clips": policy})
    if severity is None:
        assert said == []
    else:
        ((found_severity, line, message),) = said
        assert (found_severity, line) == (severity, 7)
        assert message == f"the segment ends at {times[1]:.3f} s, but a.mp4 {ends}"


SHORT = {"start_sec": 0.0, "end_sec": 1.0}


@pytest.mark.parametrize(
    ("rows", "severity", "named"),
    [
        ([row()], "error", "t.csv names it in row 2"),
        ([row(4), row(5), row(9)], "error", "t.csv names it in row 4 and 2 more"),
        ([row(**SHORT)], "warning", "t.csv names it in row 2"),
        ([row(**SHORT), row(3)], "error", "t.csv names it in row 2 and 1 more"),
    ],
)
def test_a_video_that_cannot_be_read_is_an_error_if_a_run_would_read_it(monkeypatch, rows, severity, named):
    assert found(monkeypatch, rows, "a.mp4 is broken") == [(severity, rows[0].line, f"a.mp4 is broken; {named}")]


class Folder:
    def __init__(self, error):
        self.error = error

    def reading(self, name):
        raise self.error


def test_what_is_wrong_with_a_video_is_a_finding_and_a_store_that_does_not_answer_is_none():
    assert module._inspect(Folder(DataError("a.mp4 has no copy")), False, "a.mp4") == "a.mp4 has no copy"
    odd = module._inspect(Folder(MemoryError("of the decoder")), False, "a.mp4")
    assert odd == "a.mp4 cannot be read: MemoryError: of the decoder"
    with pytest.raises(StoreUnreachableError):
        module._inspect(Folder(StoreUnreachableError("no answer")), False, "a.mp4")
    assert module._crashed("a.mp4") == "the decoder crashed on a.mp4"


def test_faults_and_remarks_of_a_video_are_told_apart(monkeypatch):
    seen = SimpleNamespace(faults=("a gap",), remarks=("it is mirrored",), duration_sec=10.0, fps=30.0, num_frames=300)
    assert found(monkeypatch, [row()], seen) == [
        ("error", 2, "a gap; t.csv names it in row 2"),
        ("warning", None, "it is mirrored"),
    ]
