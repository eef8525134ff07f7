"""No annotation turns into background unseen: it is read, skipped with its reason, or an error that names it."""

import json
import logging
import unicodedata

import pytest

from tests.jobs import do_job
from tsp.data.tables import VideoFacts
from tsp.errors import DataError
from tsp.prepare.annotate import annotate
from tsp.prepare.annotations import Action, read_activitynet, read_thumos14, refuse_entries
from tsp.prepare.match_files import match_files


def videos(*names, duration_sec=20.0):
    return [VideoFacts(name, duration_sec, 30.0, round(30 * duration_sec)) for name in names]


def written(path, database):
    path.write_text(json.dumps({"database": database}))
    return path


def action(video, start_sec=1.0, end_sec=4.0):
    return Action(video, start_sec, end_sec, "Run", f"entry {video}")


def test_class_files_are_read_in_any_case_and_all_else_is_skipped_with_its_reason(tmp_path):
    (tmp_path / "CliffDiving_val.TXT").write_text("v1  1.0 4.0\nv1  8.0 9.5\n")
    (tmp_path / "Diving_VAL.Txt").write_bytes("\ufeffv1 2 3\r\n".encode())
    (tmp_path / "Ambiguous_val.txt").write_text("v1 5 6\nv1 6 7\n")
    (tmp_path / "._Diving_val.txt").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "notes.md").write_text("hello")
    (tmp_path / "test").mkdir()
    found = read_thumos14(tmp_path)
    assert [(each.label, each.start_sec) for each in found.actions] == [
        ("CliffDiving", 1.0), ("CliffDiving", 8.0), ("Diving", 2.0),
    ]  # fmt: skip
    assert sorted(each.reason for each in found.skipped) == [
        "ambiguous intervals", "ambiguous intervals",
        "files other than .txt", "folders within the folder", "hidden files",
    ]  # fmt: skip


def test_texts_in_another_encoding_and_odd_lines_are_all_named_at_once(tmp_path):
    (tmp_path / "A_val.txt").write_bytes("v1 1 4\n# caf\xe9\n".encode("latin-1"))
    (tmp_path / "B_val.txt").write_text("v1 4 1\nv1 x 2\nv1 1 2 # seen twice\nv1 nan 2\n")
    with pytest.raises(DataError) as caught:
        read_thumos14(tmp_path)
    for words in (
        "A_val.txt is not UTF-8 text (line 2", "B_val.txt, line 1: the action ends at 1 s, before it starts at 4 s",
        "line 2: 'x' to '2' are not seconds", "line 3: expected 'video start end'", "line 4: 'nan' to '2'",
    ):  # fmt: skip
        assert words in str(caught.value)


ENTRY = {"subset": "training", "annotations": [{"segment": [1, 4], "label": "Run"}]}


@pytest.mark.parametrize("annotations", [None, []])
def test_a_video_without_annotations_is_skipped_and_gets_no_background(tmp_path, annotations):
    path = written(tmp_path / "a.json", {"abc": {"annotations": annotations}, "none": {}, "def": ENTRY})
    found = read_activitynet(path)
    assert [each.video for each in found.actions] == ["def"]
    assert [tuple(each) for each in found.skipped] == [
        ("videos without annotations", "abc"), ("videos without annotations", "none"),
    ]  # fmt: skip
    result = annotate(found.actions, videos("abc.mp4", "def.mp4"))
    assert {row["video-name"] for row in result.rows} == {"def"}
    assert result.unannotated == ["abc.mp4"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([], r"abc: expected a mapping"),
        ({"annotations": {"a": 1}}, "abc: annotations must be a list"),
        ({"annotations": "none"}, "abc: annotations must be a list"),
        ({"annotations": [None]}, r"abc, annotation 0: expected a segment \[start, end\]"),
        ({"annotations": [{"label": "Run"}]}, "abc, annotation 0: expected a segment"),
        ({"annotations": [{"segment": [1, 2, 3], "label": "Run"}]}, "abc, annotation 0: expected a segment"),
        ({"annotations": [{"segment": [1, None], "label": "Run"}]}, "annotation 0: 1 to None are not seconds"),
        ({"annotations": [{"segment": [1, True], "label": "Run"}]}, "annotation 0: 1 to True are not seconds"),
        ({"annotations": [{"segment": [1, 10**400], "label": "Run"}]}, "are not seconds"),
        ({"annotations": [{"segment": [4, 1], "label": "Run"}]}, "ends at 1 s, before it starts at 4 s"),
        ({"annotations": [{"segment": [1, 4]}]}, "annotation 0: the label is None"),
        ({"annotations": [{"segment": [1, 4], "label": ""}]}, "annotation 0: the label is ''"),
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error_that_names_it(tmp_path, entry, words):
    with pytest.raises(DataError, match=words) as caught:
        read_activitynet(written(tmp_path / "a.json", {"abc": entry, "def": ENTRY}))
    assert "a.json" in str(caught.value)


def test_a_video_that_occurs_twice_in_the_json_is_named(shared_dir):
    with pytest.raises(DataError, match=r"dupkey\.json has the key 'abc' 2 times in one mapping: keep one"):
        read_activitynet(shared_dir / "cases/video/annotation-json/dupkey.json")


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("abc", "abc.mp4"), ("abc", "v_abc.mp4"), ("abc.mp4", "abc.mp4"), ("abc.MP4", "v_abc.mkv"),
        ("v_abc.webm", "v_abc.mp4"), ("train/abc", "train/abc.mp4"), ("train/abc.avi", "train/abc.mp4"),
        ("abc", "train/abc.mp4"), ("a.b", "a.b.mp4"), ("-xy", "v_-xy.mp4"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é.mp4")),
        (unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "v_é.mp4")),
    ],
)  # fmt: skip
def test_a_key_finds_its_file(key, file):
    assert match_files([key], videos("other.mp4", file), None)[key].filename == file


def test_one_name_in_two_folders_is_an_error_that_a_path_cures():
    files = videos("a/v0.mp4", "b/v0.mp4")
    with pytest.raises(
        DataError,
        match=r"'v0' may be any of a/v0\.mp4 and b/v0\.mp4: use its path in the annotations, or give --folder",
    ):
        match_files(["v0"], files, None)
    assert match_files(["a/v0", "b/v0"], files, None)["b/v0"].filename == "b/v0.mp4"


def test_two_keys_of_one_file_are_an_error():
    with pytest.raises(DataError, match=r"'abc' and 'abc\.mp4' both match the file abc\.mp4"):
        match_files(["abc", "abc.mp4"], videos("abc.mp4"), None)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([(1000, 4000), (2000, 9000)], r"entry a: an action ends at .* in 2 of 2 videos: are these frames or milli"),
        ([(30, 120), (60, 270)], "are these frames or milliseconds"),
        ([(0.1, 0.4), (0.2, 0.9)], "are these fractions of the video"),
    ],
)
def test_times_that_cannot_be_seconds_are_refused(times, words):
    actions = [action(name, *span) for name, span in zip("ab", times, strict=True)]
    with pytest.raises(DataError, match=words):
        annotate(actions, videos("a.mp4", "b.mp4"))


def test_a_few_actions_past_the_end_are_read_and_told(tmp_path, caplog):
    database = {name: {"annotations": [{"segment": [1, 4], "label": "Run"}], "duration": 20} for name in "abc"}
    database["c"]["annotations"] += [{"segment": [25, 28], "label": "Run"}, {"segment": [7, 7], "label": "Run"}]
    database["b"]["duration"] = 33.0
    database["gone"] = {"annotations": [{"segment": [1, 4], "label": "Run"}]}
    (tmp_path / "m.csv").write_text(
        "filename,video-duration,fps,video-frames\n" + "".join(f"{name}.mp4,20,30,600\n" for name in "abcd")
    )
    with caplog.at_level(logging.WARNING):
        answer = do_job(
            "annotate",
            {
                "annotations": str(written(tmp_path / "a.json", database)),
                "metadata": str(tmp_path / "m.csv"),
                "out": str(tmp_path / "out.csv"),
            },
        )
    assert answer["actions_read"] == 6
    assert list(answer["skipped"].values()) == [1, 1, 1, 1, 1]
    for words in (
        "without actions", "(d.mp4)", "are not in", "(gone)", "begin after the end of their video",
        "actions of 0 s", "(b.mp4 (annotated 33 s, the file lasts 20 s))",
    ):  # fmt: skip
        assert words in caplog.text
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert sum(",Action" in row for row in rows) == 5
    assert not any(row.startswith("c,") and "No action" in row and row.split(",")[2] == "25" for row in rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Run", "run"), ("Run", "Run "), ("Long Jump", "Long  jump"),
        (unicodedata.normalize("NFC", "Café"), unicodedata.normalize("NFD", "Café")),
    ],
)  # fmt: skip
def test_a_class_in_two_spellings_is_refused_and_not_two_classes(one, other):
    actions = [Action("a", 1, 2, one, "entry 0"), Action("a", 3, 4, other, "entry 1")]
    with pytest.raises(DataError, match=r"entry 1: the label .* and .* \(entry 0\) differ only in spelling"):
        annotate(actions, videos("a.mp4"))
    assert len(annotate(actions, videos("a.mp4"), labels=[one, other]).labels) == 2  # as one's own list says


@pytest.mark.parametrize("label", ["", "  ", 3, None])
def test_a_label_that_names_no_class_is_refused(tmp_path, label):
    path = written(tmp_path / "a.json", {"a": {"annotations": [{"segment": [1, 2], "label": label}]}})
    with pytest.raises(DataError, match=r"a\.json, a, annotation 0: the label is .*, not the name of a class"):
        read_activitynet(path)


@pytest.mark.parametrize("text", ["1_0", "0x1", "1,5", "00:01", "one"])
def test_times_are_numbers_as_tables_have_them(tmp_path, text):
    path = written(tmp_path / "a.json", {"a": {"annotations": [{"segment": ["0", text], "label": "Run"}]}})
    with pytest.raises(DataError, match="are not seconds"):
        read_activitynet(path)


@pytest.mark.parametrize(
    ("database", "message"), [({}, "contains no video"), ({"a": {"annotations": []}}, "contain no actions")]
)
def test_annotations_of_nothing_are_refused(tmp_path, database, message):
    with pytest.raises(DataError, match=message):
        annotate(read_activitynet(written(tmp_path / "a.json", database)).actions, videos("a.mp4"))


def test_odd_entries_are_read_and_said(tmp_path, caplog):
    (tmp_path / "m.csv").write_text("filename,video-duration,fps,video-frames\na.mp4,20,30,600\n")
    entries = [(-1, 4, "Run"), (6, 8, "Background"), (6, 8, "Background"), (10, 12, "Run")]
    database = {"a": {"annotations": [{"segment": [s, e], "label": label} for s, e, label in entries]}}
    answer = do_job(
        "annotate",
        {
            "annotations": str(written(tmp_path / "a.json", database)), "metadata": str(tmp_path / "m.csv"),
            "out": str(tmp_path / "o.csv"),
        },
    )  # fmt: skip
    assert answer["skipped"] == {
        "actions annotated more than once": 1,
        "actions that begin before 0 s": 1,
        "labels that sound like background": 1,
    }
    assert "a 6 to 8 s 'Background'" in caplog.text


@pytest.mark.parametrize(
    ("num_errors", "more"), [(1, ""), (5, ""), (6, " (and 1 more)"), (9, " (and 4 more)"), (12, " (and 7 more)")]
)
def test_of_many_errors_the_first_five_are_shown_and_the_others_counted(num_errors, more):
    errors = [f"line {number}" for number in range(num_errors)]
    with pytest.raises(DataError) as caught:
        refuse_entries(errors)
    assert str(caught.value) == "; ".join(errors[:5]) + more + ": correct or remove them"
    refuse_entries([])


@pytest.mark.parametrize("duration", [0.5, "0.5", 1])
def test_a_duration_of_any_length_above_zero_is_taken(tmp_path, duration):
    path = tmp_path / "a.json"
    entry = {"duration": duration, "annotations": [{"segment": [0, 0.25], "label": "Run"}]}
    path.write_text(json.dumps({"database": {"a": entry}}))
    found = read_activitynet(path)
    assert (found.durations_sec, found.skipped) == ({"a": float(duration)}, [])


@pytest.mark.parametrize("odd", ["\n", "\r", "\0", "\x85", "\u2028", "\udcff"])
@pytest.mark.parametrize("where", ["video", "label"])
def test_a_name_that_breaks_a_table_is_named(tmp_path, odd, where):
    """The table would have a row of two lines, or could not be written."""
    entry = {"annotations": [{"segment": [1, 2], "label": f"Jump{odd}high" if where == "label" else "Jump"}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"database": {f"v{odd}1" if where == "video" else "v1": entry}}))
    with pytest.raises(DataError, match=r"annotation 0: a name with '.+' cannot be in a table") as refused:
        read_activitynet(path)
    assert repr(odd) in str(refused.value)


@pytest.mark.parametrize("label", ["Hand\tstand", 'Ju,m"p', "Übung", "体操", "Jump 👍🏽"])
def test_other_names_are_taken_as_they_are(tmp_path, label):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"database": {"v1": {"annotations": [{"segment": [1, 2], "label": label}]}}}))
    assert [action.label for action in read_activitynet(path).actions] == [label]
