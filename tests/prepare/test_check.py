"""Tables and videos that would train wrongly are found, and sound ones are left in peace."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import av
import h5py
import numpy as np
import pytest

from tests.jobs import do_job
from tsp.config.codec import to_dict
from tsp.config.jobs import CheckJob
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, ClipConfig, RunConfig, SubsetConfig
from tsp.data.label_map import load_label_map
from tsp.data.tables import read_metadata, read_table
from tsp.data.video.inspect import VideoReport
from tsp.errors import ConfigError
from tsp.prepare.check import Report, _between_subsets, check_data, run
from tsp.prepare.check_table import TableCheck, check_table
from tsp.prepare.findings import ERROR, WARNING, DataFinding, in_order
from tsp.store.base import sha256_of
from tsp.store.open import open_store

HEADER = "filename,t-start,t-end,video-duration,action-label,temporal-region-label\n"
LABELS = {ACTION_COLUMN: ("Run", "Jump"), REGION_COLUMN: ("Action", "No action")}


def demo_config(folder: Path) -> RunConfig:
    return resolve(load_dataset("demo"), "tsp", name="demo", store={"uri": "/tmp/store"}, root=str(folder))


def check(tmp_path: Path, *rows: str):
    path = tmp_path / "table.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return check_table("train", path, LABELS, ClipConfig())


def test_the_demo_has_nothing_to_complain_about(demo_folder):
    report = check_data(demo_config(demo_folder), decode_all=True, workers=1)
    assert report.findings == []
    assert report.kept(ACTION_COLUMN, "train").total() == report.kept(REGION_COLUMN, "train")["Action"] == 8


@pytest.mark.parametrize(
    ("subset", "table", "labels"),
    [
        ("thumos14 train (valid subset)", "thumos14/thumos14_valid", "thumos14/thumos14"),
        ("thumos14 valid (test subset)", "thumos14/thumos14_test", "thumos14/thumos14"),
        ("activitynet valid", "activitynet/activitynet_v1-3_valid", "activitynet/activitynet_v1-3"),
    ],
)
def test_the_counts_equal_the_published_ones(shared_dir, subset, table, labels):
    expected = json.loads((shared_dir / "golden/tsp_golden.json").read_text())["segments"][subset]
    names = load_label_map(shared_dir / f"data/{labels}_action_label_mapping.json")
    path = shared_dir / f"data/{table}_tsp_groundtruth.csv"
    found = check_table("train", path, {ACTION_COLUMN: names, REGION_COLUMN: ("Action", "No action")}, ClipConfig())
    assert (found.num_rows, found.num_kept) == (expected["rows"], expected["kept"])
    assert found.kept_per_class[ACTION_COLUMN].total() == expected["kept_with_action_label"]
    assert not any("label map" in finding.message or "not a number" in finding.message for finding in found.findings)


@pytest.mark.parametrize(
    ("row", "severity", "message"),
    [
        ("a.mp4,x,4,9,Run,Action", ERROR, "t-start is 'x', not a number"),
        ("a.mp4,0,nan,9,Run,Action", ERROR, "t-end is 'nan', not a number"),
        (",0,4,9,Run,Action", ERROR, "filename is empty"),
        ("a.mp4,4,4,9,Run,Action", WARNING, "the segment lasts 0 s, at 4.0 s, and is left out"),
        ("a.mp4,4,1,9,Run,Action", WARNING, "the segment ends at 1.0 s, before it starts at 4.0 s, and is left out"),
        (
            "a.mp4,9,12,9,Run,Action",
            WARNING,
            "the segment begins after the video's end (9.0 s of 9.0 s) and is left out",
        ),
        (
            "a.mp4,5,12,9,Run,Action",
            WARNING,
            "the segment 5.0 to 12.0 s goes beyond the video (0 to 9.0 s) and is cut",
        ),
        (
            "a.mp4,0,4,9,Swim,Action",
            ERROR,
            "action-label 'Swim' is not in the label map, whose 2 classes",
        ),
        ("a.mp4,0,4,9,,Action", WARNING, "temporal-region-label is 'Action' but action-label is ''"),
        ("a.mp4,0,4,9,Run,No action", WARNING, "temporal-region-label is 'No action' but action-label is 'Run'"),
        ("a.mp4,4,6,9,,", WARNING, "the segment has no label, so training ignores it"),
        ("a.mp4,1,3,9,Run,Action", WARNING, "the same segment as row 2"),
        ("a.mp4,4,6,8,Run,Action", WARNING, "video-duration of a.mp4 is 8.0, but 9.0 in row 2"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, severity, message):
    table = check(tmp_path, "a.mp4,1,3,9,Run,Action", row)
    (finding,) = table.findings
    assert (finding.severity, finding.file, finding.row) == (severity, str(tmp_path / "table.csv"), 3)
    assert finding.message.startswith(message)


@pytest.mark.parametrize(
    ("folders", "filenames", "is_shared"),
    [
        ((".", "."), ("a.mp4", "./a.mp4"), True),
        (("videos", "./videos/"), ("a.mp4", "a.mp4"), True),
        (("videos", "."), ("a.mp4", "videos/a.mp4"), True),
        (("videos", "others"), ("/all/a.mp4", "/all/a.mp4"), True),
        (("videos", "others"), ("a.mp4", "a.mp4"), False),
    ],
)
def test_a_video_in_both_subsets_is_noticed_however_its_path_is_written(tmp_path, folders, filenames, is_shared):
    config = demo_config(tmp_path)
    subsets = {
        name: dataclasses.replace(getattr(config.data, name), videos=folder)
        for name, folder in zip(("train", "valid"), folders, strict=True)
    }
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **subsets))
    tables = {
        name: check(tmp_path, f"{filename},0,9,9,Run,Action") for name, filename in zip(subsets, filenames, strict=True)
    }
    found = _between_subsets(Report(tables=tables), config)
    assert any("in both training and validation" in finding.message for finding in found) is is_shared


def test_kept_and_short_segments_are_counted_apart(tmp_path):
    table = check(tmp_path, "a.mp4,0,1,9,Run,Action", "a.mp4,1,3,9,Run,Action", "a.mp4,3,6,9,Jump,Action")
    assert (table.num_rows, table.num_kept, table.num_too_short) == (3, 2, 1)


def test_short_segments_are_counted_and_a_table_of_only_them_is_an_error(tmp_path):
    table = check(tmp_path, "a.mp4,0,1,9,Run,Action", "a.mp4,3,4.06,9,Jump,Action")
    assert (table.num_rows, table.num_kept, table.num_too_short) == (2, 0, 2)
    assert [finding.message for finding in table.findings] == [
        f"none of the 2 segments of {tmp_path / 'table.csv'} is as long as one clip (1.067 s)"
    ]


def test_videos_that_train_otherwise_than_they_look_are_warned_about(demo_folder, tmp_path, make_video):
    # The table says 30 fps and the demo's duration; the files beside it have another rate and last longer.
    shutil.copytree(demo_folder, tmp_path / "demo")
    make_video("demo/train/train_000.mp4", 800, fps=60)
    report = check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1)
    messages = [(finding.severity, finding.row, finding.message) for finding in report.findings]
    table_row = 2
    assert [(severity, row) for severity, row, _ in messages] == [(WARNING, table_row)] * 3
    for words in ("the file lasts 13.333 s", "but the file has 60; the file's is used", "the file has 800"):
        assert any(words in message for _, _, message in messages)


PUBLISHED = {
    "thumos14": ("valid", "test", "thumos14"),
    "activitynet": ("v1-3_train", "v1-3_valid", "activitynet_v1-3"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_tables_have_no_error_where_the_videos_are_there(shared_dir, monkeypatch, name):
    folder, (train, valid, maps) = shared_dir / "data" / name, PUBLISHED[name]
    facts = {
        video.filename: video
        for subset in (train, valid)
        for video in read_metadata(folder / f"{name}_{subset}_metadata.csv")
    }

    def stand_in(path, **_):
        video = facts[Path(path).name]
        return VideoReport(
            codec="h264",
            width=320,
            height=180,
            num_frames=video.num_frames,
            fps=video.fps,
            duration_sec=video.num_frames / video.fps,
        )

    monkeypatch.setattr("tsp.prepare.check_videos.inspect_video", stand_in)
    subsets = {
        which: {"csv": f"{name}_{subset}_tsp_groundtruth.csv", "videos": "."}
        for which, subset in (("train", train), ("valid", valid))
    }
    config = demo_config(folder)
    data = dataclasses.replace(config.data, **{which: SubsetConfig(**fields) for which, fields in subsets.items()})
    heads = tuple(
        dataclasses.replace(head, labels=f"{maps}_{head.label_column.replace('-label', '').replace('-', '_')}")
        for head in config.model.heads
    )
    heads = tuple(dataclasses.replace(head, labels=f"{head.labels}_label_mapping.json") for head in heads)
    model = dataclasses.replace(config.model, gvf="none", heads=heads)
    report = check_data(dataclasses.replace(config, data=data, model=model), decode_all=False, workers=1)
    assert [finding for finding in report.findings if finding.severity == ERROR] == []
    golden = json.loads((shared_dir / "golden/tsp_golden.json").read_text())["segments"]
    for which in ("train", "valid"):
        (expected,) = [counts for key, counts in golden.items() if key.startswith(f"{name} {which}")]
        assert report.tables[which].num_kept == expected["kept"]
    left_out = [finding for finding in report.findings if "left out" in finding.message]
    assert len(left_out) == {"thumos14": 54, "activitynet": 12}[name]


def test_global_features_of_zeros_are_warned_about(demo_folder, tmp_path):
    shutil.copytree(demo_folder, tmp_path / "demo")
    with h5py.File(tmp_path / "demo/tiny-max_gvf.h5", "r+") as file:
        file["train_001"][...] = 0
    report = check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1)
    (finding,) = [finding for finding in report.findings if "all zeros" in finding.message]
    assert (finding.severity, finding.subset) == (WARNING, "train")
    assert "the features of 1 of 4 videos are all zeros (train_001): extract them again" in finding.message


@pytest.mark.parametrize(
    ("train", "valid", "is_stale", "told"),
    [
        (("max", "tiny", "a"), ("max", "tiny", "a"), False, []),
        (
            ("avg", "tiny", "a"),
            None,
            False,
            [("train", "its features are pooled by avg, but the run asks for --gvf max")],
        ),
        (("avg", "tiny", "a"), None, True, []),
        (
            ("max", "r3d_18", "a"),
            ("max", "r3d_18", "a"),
            False,
            [(name, "its features are of the encoder r3d_18, but the run trains tiny") for name in ("train", "valid")],
        ),
        (
            ("max", "tiny", "a"),
            ("max", "tiny", "b"),
            False,
            [("valid", "its global video features were made by another checkpoint than those of the training subset")],
        ),
    ],
)
def test_global_features_of_another_kind_are_warned_about(demo_folder, tmp_path, train, valid, is_stale, told):
    folder = shutil.copytree(demo_folder, tmp_path / "demo")
    config = demo_config(folder)
    names = {"train": "train.h5", "valid": "valid.h5"}
    for name, made_of in zip(names.values(), (train, valid), strict=True):
        shutil.copy(folder / "tiny-max_gvf.h5", folder / name)
        if made_of is not None:
            pool, encoder, checkpoint = made_of
            about = {"sha256": "0" if is_stale else sha256_of(folder / name), "about": {"keeps": f"{pool} over time"}}
            content = about | {"encoder": encoder, "checkpoint_sha256": checkpoint}
            (folder / f"{name}.json").write_text(json.dumps(content))
    subsets = {which: dataclasses.replace(getattr(config.data, which), gvf=name) for which, name in names.items()}
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **subsets))
    found = check_data(config, decode_all=False, workers=1).findings
    assert [(finding.subset, finding.message) for finding in found] == told


@pytest.mark.parametrize(("bad_clips", "severity"), [("resample", WARNING), ("skip", WARNING), ("fail", ERROR)])
def test_a_segment_that_outlives_its_video_is_as_bad_as_the_policy(demo_folder, tmp_path, bad_clips, severity):
    shutil.copytree(demo_folder, tmp_path / "demo")
    config = demo_config(tmp_path / "demo")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, bad_clips=bad_clips))
    table = tmp_path / "demo" / config.data.train.csv
    rows = [row for row in read_table(table, "table", ["filename"]).rows if row[5] == "train_000.mp4"]
    last = max(float(row[2]) for row in rows)
    table.write_text(
        table.read_text().replace(f",{last},", f",{last + 1},").replace(f",{rows[0][4]},train_000", ",99,train_000")
    )
    found = [
        finding
        for finding in check_data(config, decode_all=False, workers=1).findings
        if "the segment ends at" in finding.message
    ]
    assert [finding.severity for finding in found] == [severity]


HTML = b"<!DOCTYPE html><html><title>Video unavailable</title></html>"


def cut(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) * 2 // 3]


def only_sound(path: Path) -> bytes:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 44100
        out.mux(stream.encode(tone))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("spoilt", "complaint"),
    [
        (lambda path: HTML, "Invalid data found when processing input (it is a web page"),
        (lambda path: b"", "it is empty"),
        (cut, "its index, which MP4 and MOV often have at the end, is missing"),
        (only_sound, "no video stream"),
    ],
    ids=["a web page", "nothing", "cut short", "only sound"],
)
def test_a_file_that_is_not_what_its_name_says_is_named_with_its_row(demo_folder, tmp_path, spoilt, complaint):
    shutil.copytree(demo_folder, tmp_path / "demo")
    path = tmp_path / "demo/valid/valid_001.mp4"
    plain = tmp_path / "plain.mp4"
    with av.open(str(path)) as source, av.open(str(plain), "w") as out:  # without faststart
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    path.write_bytes(plain.read_bytes())
    assert check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1).findings == []
    path.write_bytes(spoilt(path))
    (finding,) = check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1).findings
    assert (finding.severity, finding.subset, finding.file) == (ERROR, "valid", "valid_001.mp4")
    table = (tmp_path / "demo/demo_valid_tsp_groundtruth.csv").read_text().splitlines()
    assert "valid_001.mp4" in table[finding.row - 1]
    assert complaint in finding.message


def test_a_file_whose_end_is_missing_is_named_though_its_index_reads_well(demo_folder, tmp_path):
    shutil.copytree(demo_folder, tmp_path / "demo")
    path = tmp_path / "demo/train/train_000.mp4"  # with its index in front, as standardize writes them
    path.write_bytes(cut(path))
    findings = check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1).findings
    assert {finding.file for finding in findings if "truncated" in finding.message} == {"train_000.mp4"}
    assert any("the segment ends at" in finding.message for finding in findings), "a segment that is no longer there"


def test_training_copies_that_a_run_would_read_must_be_there(demo_folder, tmp_path):
    shutil.copytree(demo_folder, tmp_path / "demo")
    config = dataclasses.replace(
        demo_config(tmp_path / "demo"),
        data=dataclasses.replace(demo_config(tmp_path / "demo").data, training_copy=True),
    )
    findings = check_data(config, decode_all=False, workers=1).findings
    assert {finding.file for finding in findings} == {
        *(f"train_00{index}.mp4" for index in range(4)), *(f"valid_00{index}.mp4" for index in range(3)),
    }  # fmt: skip
    assert all("there is no training copy" in finding.message for finding in findings)


def test_a_data_set_in_s3_is_checked_where_it_lies(demo_folder, tmp_path, s3_server, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = s3_server.config(tmp_path.name)
    bucket = open_store(store)
    for path in demo_folder.rglob("*"):
        if path.is_file():
            bucket.write(f"demo/{path.relative_to(demo_folder).as_posix()}", path.read_bytes())
    config = resolve(
        load_dataset("demo"), "tsp", name="demo", store=dataclasses.asdict(store), root=f"{store.uri}/demo"
    )
    assert check_data(config, decode_all=False, workers=1).findings == []
    bucket.delete("demo/train/train_002.mp4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    (finding,) = check_data(config, decode_all=False, workers=1).findings
    assert (finding.severity, finding.file) == (ERROR, "train_002.mp4")
    assert f"there is no video {store.uri}/demo/train/train_002.mp4" in finding.message


def test_a_class_without_training_segments_is_warned_about(demo_folder, tmp_path):
    shutil.copytree(demo_folder, tmp_path / "demo")
    table = tmp_path / "demo/demo_train_tsp_groundtruth.csv"
    lines = [line for line in table.read_text().splitlines(keepends=True) if "Pulsing" not in line]
    table.write_text("".join(lines))
    (finding,) = check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1).findings
    assert finding.message == "action-label 'Pulsing' has no segment to train on, but 2 to validate on"


def test_a_table_that_is_missing_is_one_error_and_the_other_subset_is_still_checked(demo_folder, tmp_path):
    shutil.copytree(demo_folder, tmp_path / "demo")
    (tmp_path / "demo/demo_train_tsp_groundtruth.csv").unlink()
    report = check_data(demo_config(tmp_path / "demo"), decode_all=False, workers=1)
    assert [finding.subset for finding in report.findings] == ["train"]
    assert report.tables["valid"].num_kept == 12


def test_errors_come_first():
    findings = [
        DataFinding(WARNING, "train", "a", 2, ""),
        DataFinding(ERROR, "valid", "b", 9, ""),
        DataFinding(ERROR, "valid", "b", 3, ""),
    ]
    assert [(finding.severity, finding.row) for finding in in_order(findings)] == [(ERROR, 3), (ERROR, 9), (WARNING, 2)]


def test_the_histogram_is_a_picture(demo_folder, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    plot = tmp_path / "histogram.png"
    do_job("check", {"config": to_dict(demo_config(demo_folder)), "plot": str(plot), "workers": 1})
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        check_data(demo_config(tmp_path / "nowhere"), decode_all=False, workers=1)


def test_what_is_counted_is_the_sum_of_what_was_found(tmp_path, monkeypatch):
    """Of 9 rows 7 are kept; each gives 8 clips an epoch."""
    kept = {ACTION_COLUMN: Counter(Run=4, Jump=3), REGION_COLUMN: Counter(Action=7)}
    table = TableCheck(num_rows=9, num_kept=7, num_too_short=2, num_clamped=1, kept_per_class=kept)
    findings = [DataFinding(severity, "train", "a.csv", None, "x") for severity in (ERROR, WARNING, WARNING)]
    classes = {ACTION_COLUMN: ("Run", "Jump", "Swim"), REGION_COLUMN: ("Action",)}
    answers = []
    for found in (findings, findings[1:]):
        report = Report(findings=found, tables={"train": table}, classes=classes)
        monkeypatch.setattr("tsp.prepare.check.check_data", lambda *_, report=report, **__: report)
        answers.append(run(CheckJob(config=demo_config(tmp_path))))
    facts = answers[0].facts
    assert (facts["errors"], facts["warnings"], answers[0].exit_code, answers[1].exit_code) == (1, 2, 3, 0)
    assert facts["train_segments"] == (
        "7 kept of 9 rows (2 shorter than a clip left out, 1 cut to their video), 56 clips an epoch"
    )
    assert facts["counts"] == {"train": {"rows": 9, "kept": 7, "too_short": 2, "clamped": 1, "clips_per_epoch": 56}}
    assert facts["classes"][ACTION_COLUMN] == {"Run": {"train": 4}, "Jump": {"train": 3}, "Swim": {"train": 0}}
