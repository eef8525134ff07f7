"""The metadata CSV holds what is in the files."""

import csv
import logging

import pytest

from tests.jobs import do_job
from tsp.config.jobs import ProbeJob
from tsp.data.tables import read_metadata
from tsp.data.video.inspect import VideoReport, inspect_video
from tsp.errors import DataError
from tsp.prepare import probe
from tsp.prepare.find_videos import find_videos
from tsp.prepare.probe import Probed, probe_videos


def probed_in(folder):
    return probe_videos(*find_videos(str(folder)), workers=1)


def test_real_footage_has_its_true_frame_counts(shared_dir):
    probed = {video.filename: video for video in probed_in(shared_dir / "videos")}
    facts = {name: video.facts for name, video in probed.items()}
    assert {name: (fact.num_frames, fact.fps) for name, fact in facts.items() if fact and name != "corrupted.mp4"} == {
        "arm_wrestling.mp4": (280, 28.0),
        "flipping_a_pancake.mkv": (310, 30.0),
        "kinetics_test.mp4": (300, 30.0),
        "ucf_test.avi": (164, 25.0),
    }
    assert probed["corrupted.mp4"].trouble.startswith(f"{shared_dir}/videos/corrupted.mp4: decoding fails after 2.70 s")


def test_a_file_cut_short_has_the_frames_that_are_left_not_those_its_header_claims(make_video):
    path = make_video("cut.mp4", 300, height=96, width=128)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    report = inspect_video(path)
    assert report.num_frames < 300
    # A frame of which the beginning is left is listed, but not there.
    assert f"its header claims 300 frames, but it has {report.num_frames - 1}: the file is truncated" in report.faults


def test_the_job_writes_the_table_and_names_broken_files(make_video, tmp_path):
    make_video("b.mp4", 45)
    make_video("a.mp4", 31, fps=25)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / ".hidden.mp4").touch()
    (tmp_path / "notes.txt").touch()
    answer = do_job("probe", {"videos": str(tmp_path), "out": str(tmp_path / "out.csv"), "workers": 2})
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["filename", "video-duration", "fps", "video-frames"],
            ["a.mp4", "1.24", "25.0", "31"],
            ["b.mp4", "1.5", "30.0", "45"],
        ]
    assert [item["filename"] for item in answer["broken"]] == ["empty.mp4"]
    assert answer["exit_code"] == 3
    assert [facts.num_frames for facts in read_metadata(tmp_path / "out.csv")] == [31, 45]


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(DataError, match="contains no video files"):
        find_videos(str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        find_videos(str(tmp_path / "nowhere"))


def test_a_metadata_table_with_a_bad_number_names_its_line(tmp_path):
    (tmp_path / "m.csv").write_text("filename,video-duration,fps,video-frames\na.mp4,1.0,30,30\nb.mp4,x,30,30\n")
    with pytest.raises(DataError, match=r"m\.csv,? (row|line) 3.*'x'"):
        read_metadata(tmp_path / "m.csv")


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("broken", [False, True])
def test_what_is_found_out_is_told_and_decides_how_the_job_ends(tmp_path, monkeypatch, caplog, broken, workers):
    report = VideoReport(codec="h264", width=8, height=8, num_frames=25, fps=25.0, duration_sec=1.0, num_missing=2)
    found = {"a.mp4": Probed("a.mp4", report), "b.mp4": Probed("b.mp4", None, "b.mp4 is damaged")}
    asked = {}

    def for_each(function, names, *, workers, crashed):
        asked["workers"] = workers
        return [(name, found[name]) for name in names]

    monkeypatch.setattr(probe, "for_each", for_each)
    for name in ("a.mp4", "b.mp4") if broken else ("a.mp4",):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        answer = probe.run(ProbeJob(videos=str(tmp_path), workers=workers))
    assert (answer.exit_code, asked["workers"]) == (3 if broken else 0, workers)
    assert answer.rows == [found["a.mp4"].facts.row()]
    said = [record.getMessage() for record in caplog.records]
    assert said == [*(["b.mp4 is damaged"] if broken else []), *(f"a.mp4: {remark}" for remark in report.remarks)]
    assert report.remarks
