"""Tables as people have them: every encoding is read or refused with the cure, rows are numbered as an editor does."""

import codecs
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsp.config.run import ClipConfig
from tsp.data.clips import uniform_shares
from tsp.data.ground_truth import read_ground_truth
from tsp.data.label_map import load_label_map
from tsp.data.segments import load_segments
from tsp.data.tables import read_metadata, read_table, refuse_shared_names
from tsp.errors import DataError
from tsp.prepare.check_table import check_table

METADATA = "filename,video-duration,fps,video-frames\n{name},10.0,30.0,300\n"
HEADER = "filename,t-start,t-end,video-duration,action-label\n"
LABELS = {"action-label": ("Jump", "Run")}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_whatever_its_encoding(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes(METADATA.format(name="v_ábc.mp4").encode(encoding))
    (video,) = read_metadata(tmp_path / "m.csv")
    assert video.filename == "v_ábc.mp4"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
def test_an_older_encoding_is_refused_with_its_line_and_the_cure(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes(METADATA.format(name="v_ábc.mp4").encode(encoding))
    with pytest.raises(
        DataError, match=r"m\.csv is not UTF-8 text \(line 2 contains the byte 0x..\): save it as UTF-8"
    ):
        read_metadata(tmp_path / "m.csv")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_refused_with_the_cure(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes(METADATA.format(name="a.mp4").encode(encoding))
    with pytest.raises(DataError, match="UTF-16 without a byte order mark; save it as UTF-8"):
        read_metadata(tmp_path / "m.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_numbered_by_the_lines_of_the_file(tmp_path, end):
    lines = ["", HEADER.strip(), "", ",,,,", 'a.mp4,0,3,9,"Jump"', '"b', '.mp4",0,4,9,Run', "", "c.mp4,0,4,9,Walk"]
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(lines).encode())
    truth = read_ground_truth(path, LABELS)
    assert [(row.line, row.end_sec) for row in truth.rows] == [(5, 3.0), (6, 4.0)]
    assert [problem.line for problem in truth.problems] == [9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("filename;t-start;t-end;video-duration;action-label\n", "it is separated by ';', save it with commas"),
        ("filename\tt-start\tt-end\n", r"it is separated by '\\t', save it with commas"),
        (HEADER.replace("t-end", "end"), "lacks the column 't-end'"),
        (HEADER.replace("t-end", "t-start"), "has the column 't-start' 2 times"),
        (HEADER.replace("\n", ",filename\n"), "has the column 'filename' 2 times"),
        (HEADER.replace("\n", ",fps,fps\n"), "has the column 'fps' 2 times"),
        (HEADER + '"a.mp4,0,4,9,Run\n', "is not CSV from line 2 on: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_such_table_says_what_to_do(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_ground_truth(tmp_path / "t.csv", LABELS)
    assert "t.csv" in str(caught.value)


def test_a_folder_or_nothing_in_the_place_of_a_table_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv", tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(DataError, match="cannot read the metadata table"):
            read_metadata(path)


cell = st.sampled_from(["a.mp4", "0", "4", "9", "1e400", "nan", "", " ", "Jump", "Walk", '"', "x,y", "\r", "ä"])
row = st.lists(cell, max_size=6).map(",".join)


def tried(function, *given):
    """What it returns, or the message of its DataError."""
    try:
        return function(*given), ""
    except DataError as error:
        return None, str(error)


@given(rows=st.lists(row, max_size=6))
def test_the_loader_refuses_a_table_exactly_where_check_finds_an_error(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("table")
    path, labels = folder / "t.csv", folder / "labels.json"
    path.write_text(HEADER + "a.mp4,0,4,9,Run\n" + "\n".join(rows), newline="")
    labels.write_text(json.dumps(LABELS["action-label"]))
    kept, refused = tried(load_segments, path, [("action-label", labels)])
    check, unreadable = tried(check_table, "train", path, LABELS, ClipConfig())
    if unreadable:
        assert refused == unreadable
        return
    errors = [finding for finding in check.findings if finding.severity == "error"]
    assert bool(refused) == bool(errors)
    if not refused:
        assert (len(kept), kept.counts.rows) == (check.num_kept, check.num_rows)
        assert kept.rows.tolist() == [row.line for row in check.rows if row.holds_a_clip(ClipConfig())]
    else:
        assert f"row {errors[0].row}" in refused


def test_rows_of_another_width_are_counted_and_the_first_is_named(tmp_path):
    (tmp_path / "t.csv").write_text(HEADER + "a.mp4,0,4,9,Run,\n\na.mp4,0,4\n")
    truth = read_ground_truth(tmp_path / "t.csv", LABELS)
    assert [problem.line for problem in truth.problems] == [2, 4]
    with pytest.raises(
        DataError, match=r"t\.csv row 2 has 6 fields, but the header has 5 \(1 more row cannot be used\)"
    ):
        truth.kept(ClipConfig())


@pytest.mark.parametrize(("text", "is_known"), [("", False), ("nan", False), ("N/A", False), ("25", True)])
def test_what_stands_for_no_number_in_a_column_that_may_lack_it_is_accepted(tmp_path, text, is_known):
    (tmp_path / "t.csv").write_text(f"{HEADER.strip()},fps\na.mp4,0,4,9,Run,{text}\n")
    (row,) = read_ground_truth(tmp_path / "t.csv", LABELS).kept(ClipConfig())
    assert (row.fps == 25) is is_known


@pytest.mark.parametrize("column", ["fps", "video-frames"])
@pytest.mark.parametrize("text", ["thirty", "30 fps", "30000/1001", "1_000"])
def test_any_other_text_in_it_is_a_problem_of_its_row(tmp_path, column, text):
    (tmp_path / "t.csv").write_text(f"{HEADER.strip()},{column}\na.mp4,0,4,9,Run,{text}\n")
    with pytest.raises(DataError, match=rf"t\.csv row 2: {column} is '{text}', not a number"):
        read_ground_truth(tmp_path / "t.csv", LABELS).kept(ClipConfig())


@pytest.mark.parametrize("second", ["b/v0.mp4", "a/v0.avi", "a/v0.mp4"])
def test_two_files_of_one_name_are_refused_where_their_features_would_be_one(second):
    with pytest.raises(DataError, match=r"t\.csv names two videos 'v0'"):
        refuse_shared_names("t.csv", ["a/v0.mp4", second])
    composed, decomposed = (unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD"))
    with pytest.raises(DataError, match="names two videos"):
        refuse_shared_names("t.csv", [composed, decomposed])


def test_a_metadata_table_without_durations_takes_them_from_its_frames(tmp_path):
    (tmp_path / "m.csv").write_text("filename,fps,video-frames\na.mp4,25,50\n")
    assert read_metadata(tmp_path / "m.csv")[0].duration_sec == 2.0


@pytest.mark.parametrize("number", ["1e30", "1_000", "1,090", "0x5A", "30/1", "NaN", "-1", ""])
def test_what_is_no_number_of_frames_is_refused_with_its_row(tmp_path, number):
    (tmp_path / "m.csv").write_text(f'filename,fps,video-frames\na.mp4,25,"{number}"\n')
    with pytest.raises(DataError, match=r"m\.csv row 2: video-frames is "):
        read_metadata(tmp_path / "m.csv")


@pytest.mark.parametrize("content", [codecs.BOM_UTF8 + b'["a"]', '["a"]'.encode("utf-16")])
def test_a_label_map_may_have_a_mark(tmp_path, content):
    (tmp_path / "map.json").write_bytes(content)
    assert load_label_map(tmp_path / "map.json") == ("a",)


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "[1]", "not json", '["a", "a"]', "[" * 100_000, '[""]', '["a", null]', "[1" + "0" * 5000 + "]"],
)
def test_a_label_map_that_is_no_list_of_different_names_is_refused(tmp_path, text):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(DataError, match=r"map\.json"):
        load_label_map(tmp_path / "map.json")


@pytest.mark.parametrize("case", ["blank_middle.csv", "trailing_comma.csv", "zero_len.csv"])
def test_the_files_people_sent_are_refused_or_accepted_by_both(shared_dir, case):
    folder = shared_dir / "cases/video/check-misses-rows"
    heads = [("action-label", folder / "actions.json"), ("temporal-region-label", folder / "regions.json")]
    check = check_table("train", folder / case, {name: load_label_map(path) for name, path in heads}, ClipConfig())
    errors = [finding.row for finding in check.findings if finding.severity == "error"]
    if case == "zero_len.csv":
        assert errors == []
        assert len(load_segments(folder / case, heads)) == check.num_kept == 2
        return
    assert errors == ([6] if case == "blank_middle.csv" else [2, 3, 4, None])
    with pytest.raises(DataError, match=f"row {errors[0]}"):
        load_segments(folder / case, heads)


def test_a_table_can_be_read_from_bytes_that_were_fetched(tmp_path):
    assert read_table("s3://b/t.csv", "table", ["a"], b"a,b\n1,2\n").rows == [["1", "2"]]


@given(st.integers(1, 200))
def test_shares_are_those_of_linspace(per_segment):
    assert uniform_shares(per_segment) == np.linspace(0.0, 1.0, per_segment).tolist()


@pytest.mark.parametrize("line", [1, 2, 5])
def test_text_that_is_no_csv_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" * (line - 1) + '"never closed,b\n')
    with pytest.raises(DataError, match=rf"is not CSV from line {line} on"):
        read_table(path, "table", ["a"])


def test_the_class_that_a_label_map_names_twice_is_named(tmp_path):
    (tmp_path / "map.json").write_text('["Run", "Jump", "Walk", "Jump"]')
    with pytest.raises(DataError, match="'Jump' twice"):
        load_label_map(tmp_path / "map.json")
