"""Which file an annotated video is, and whether its times can be seconds of that file: at the borders of each rule."""

import pytest

from tsp.data.tables import VideoFacts
from tsp.errors import DataError
from tsp.prepare.annotations import Action
from tsp.prepare.match_files import ends_beyond, match_files, other_durations, refuse_other_units, within_folder


def facts(filename: str, duration_sec: float = 20.0) -> VideoFacts:
    return VideoFacts(filename, duration_sec, 30.0, round(30 * duration_sec))


def action(video: str, end_sec: float, start_sec: float = 0.0) -> Action:
    return Action(video, start_sec, end_sec, "Run", f"line of {video}")


@pytest.mark.parametrize(
    ("end_sec", "duration_sec", "beyond"),
    [(25.0, 20.0, False), (25.01, 20.0, True), (1.0, 0.0, False), (1.01, 0.0, True), (121.0, 100.0, False)],
)
def test_an_action_may_end_a_fifth_and_a_second_after_its_video(end_sec, duration_sec, beyond):
    assert ends_beyond(end_sec, duration_sec) is beyond


@pytest.mark.parametrize(
    ("annotated_sec", "duration_sec", "differs"),
    [(21.0, 20.0, False), (21.01, 20.0, True), (18.99, 20.0, True), (102.0, 100.0, False), (102.01, 100.0, True)],
)
def test_a_duration_may_differ_by_a_second_or_a_fiftieth(annotated_sec, duration_sec, differs):
    by_name = {"a": facts("a.mp4", duration_sec), "b": facts("b.mp4", duration_sec)}
    said = [f"a.mp4 (annotated {annotated_sec:g} s, the file lasts {duration_sec:g} s)"] if differs else []
    assert other_durations({"a": annotated_sec}, by_name) == said


@pytest.mark.parametrize(("num_beyond", "refused"), [(0, False), (2, False), (3, True), (4, True)])
def test_times_beyond_the_end_of_more_than_half_of_the_videos_are_no_seconds(num_beyond, refused):
    by_name = {name: facts(f"{name}.mp4") for name in "abcd"}
    actions = [action(name, 600.0 if index < num_beyond else 10.0) for index, name in enumerate("abcd")]
    actions += [action(name, 5.0) for name in "abcd"]
    if not refused:
        refuse_other_units(actions, by_name)
        return
    said = rf"line of a: an action ends at 600 s of a video that lasts 20 s, and so it is in {num_beyond} of 4 videos"
    with pytest.raises(DataError, match=said):
        refuse_other_units(actions, by_name)


@pytest.mark.parametrize(
    ("ends_sec", "duration_sec", "refused"),
    [
        ((0.5, 1.0), 5.0, True),
        ((0.5, 1.01), 5.0, False),
        ((0.5, 1.0), 4.99, False),
        ((0.0, 1.0), 5.0, False),
    ],
)
def test_times_that_never_pass_one_in_videos_of_several_seconds_are_shares(ends_sec, duration_sec, refused):
    by_name = {name: facts(f"{name}.mp4", duration_sec) for name in "ab"}
    actions = [action(name, end_sec) for name, end_sec in zip("ab", ends_sec, strict=True)]
    if not refused:
        refuse_other_units(actions, by_name)
        return
    with pytest.raises(DataError, match="no action of 2 videos ends after 1 s: are these fractions"):
        refuse_other_units(actions, by_name)


def test_no_actions_are_of_no_other_unit():
    refuse_other_units([], {})


@pytest.mark.parametrize(
    ("names", "files", "prefix", "matched"),
    [
        (["a"], ["a.mp4"], None, {"a": "a.mp4"}),
        (["a"], ["v_a.mp4"], None, {"a": "v_a.mp4"}),
        (["a", "b"], ["v_a.mp4", "b.mp4"], None, {"b": "b.mp4"}),
        (["a"], ["v_a.mp4"], "", {}),
        (["a.mp4"], ["a.mkv"], None, {"a.mp4": "a.mkv"}),
        (["a.b"], ["a.mp4"], None, {}),
        (["x/a"], ["x/a.mp4", "y/a.mp4"], None, {"x/a": "x/a.mp4"}),
        (["a"], ["x/a.mp4"], None, {"a": "x/a.mp4"}),
    ],
)
def test_a_file_is_found_by_path_name_or_stem(names, files, prefix, matched):
    found = match_files(names, [facts(name) for name in files], prefix)
    assert {name: item.filename for name, item in found.items()} == matched


def test_a_name_of_several_files_and_a_file_of_several_names_are_refused():
    with pytest.raises(DataError, match=r"'a' may be any of x/a\.mp4 and y/a\.mp4: use its path in the annotations"):
        match_files(["a"], [facts("x/a.mp4"), facts("y/a.mp4"), facts("z/a.mp4")], "")
    with pytest.raises(DataError, match=r"the metadata names the file a\.mp4 in 2 rows: remove all but one"):
        match_files(["a"], [facts("a.mp4"), facts("b.mp4"), facts("a.mp4")], "")
    with pytest.raises(DataError, match=r"videos 'a' and 'a\.mp4' both match the file a\.mp4"):
        match_files(["a", "a.mp4"], [facts("a.mp4")], "")


def test_a_folder_of_the_table_names_its_files_by_themselves():
    videos = [facts("train/a.mp4"), facts("train/x/b.mp4"), facts("trains/c.mp4")]
    assert within_folder(videos, None, "t") == videos
    assert [item.filename for item in within_folder(videos, "/train/", "t")] == ["a.mp4", "x/b.mp4"]
    with pytest.raises(DataError, match=r"t has no file in the folder 'test' \(its first one is 'train/a.mp4'\)"):
        within_folder(videos, "test", "t")
    with pytest.raises(DataError, match="its first one is 'none'"):
        within_folder([], "test", "t")
