"""Ground-truth tables: what is kept, what is refused and how that is said."""

import csv
import io
import json
import time

import numpy as np
import pytest

from tests.data.conftest import HEADER, write_rows
from tsp.data.segments import load_segments
from tsp.errors import DataError

GOOD = ["a", "1.0", "4.0", "run", "5.0", "sub/a.mp4", "30.0", "150", "Action"]


@pytest.fixture
def load(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(["jump", "run"]))

    def load(rows, header=HEADER):
        table = write_rows(tmp_path / "t.csv", rows, header)
        return load_segments(table, [("action-label", tmp_path / "labels.json")])

    return load


def changed(**fields):
    return [fields.get(name.replace("-", "_"), value) for name, value in zip(HEADER, GOOD, strict=True)]


def test_a_row_becomes_a_segment_with_its_label_and_its_line(load):
    segment = load([changed(action_label=""), GOOD])[1]
    assert (segment.video, segment.filename, segment.row) == ("a", "sub/a.mp4", 3)
    assert (segment.start_sec, segment.end_sec, segment.file_fps, segment.labels) == (1.0, 4.0, 30.0, (1,))


def test_an_empty_label_is_minus_one(load):
    assert load([changed(action_label="")]).labels.tolist() == [[-1]]


def test_segments_are_clamped_to_their_video_and_then_dropped_if_shorter_than_a_clip(load):
    table = load([changed(t_start="-2", t_end="9"), changed(t_start="4.2", t_end="9"), changed(t_start="6", t_end="9")])
    assert (table.starts_sec.tolist(), table.ends_sec.tolist()) == ([0.0], [5.0])
    assert (table.counts.rows, table.counts.kept, table.counts.too_short, table.counts.clamped) == (3, 1, 2, 3)


def test_rows_that_are_kept_and_dropped_add_up(load):
    counts = load([*[changed(t_start="6", t_end="9")] * 4, GOOD, GOOD]).counts
    assert (counts.rows, counts.kept, counts.too_short) == (6, 2, 4)


def test_segments_that_end_before_they_start_are_left_out_and_counted(load):
    table = load([GOOD, changed(t_end="-1"), changed(t_start="4", t_end="3.999")])
    assert table.rows.tolist() == [2]
    assert table.counts.ends_first == (3, 4)


def test_a_segment_of_exactly_one_clip_is_kept(load):
    assert len(load([changed(t_start="0", t_end=repr(16 / 15))])) == 1


def test_a_missing_frame_rate_is_left_to_the_file(load):
    header = [name for name in HEADER if name != "fps"]
    row = [value for name, value in zip(HEADER, GOOD, strict=True) if name != "fps"]
    assert load([row], header)[0].file_fps is None


@pytest.mark.parametrize(("fps", "file_fps"), [("0", None), ("-30", None), ("nan", None), ("0.5", 0.5)])
def test_a_frame_rate_that_is_none_is_left_to_the_file(load, fps, file_fps):
    assert load([changed(fps=fps)])[0].file_fps == file_fps


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (changed(t_end="soon"), "row 3: t-end is 'soon', not a number"),
        (changed(video_duration="nan"), "row 3: video-duration is 'nan', not a number"),
        (changed(action_label="swim"), "row 3: action-label 'swim' is not in the label map"),
        (changed(filename=""), "row 3: filename is empty"),
        (changed(t_end="1_0"), "row 3: t-end is '1_0', not a number"),
        (changed(t_end="1,004.5"), "row 3: t-end is '1,004.5', not a number"),
        (GOOD[:-1], "row 3 has 8 fields, but the header has 9"),
    ],
)
def test_a_bad_row_is_named_with_file_and_column(load, tmp_path, row, message):
    with pytest.raises(DataError) as caught:
        load([GOOD, row])
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'} {message}")


def test_a_missing_column_is_named(load):
    with pytest.raises(DataError, match="lacks the column 't-end'; its header has video-name, t-start, t_end"):
        load([GOOD], [name.replace("t-end", "t_end") for name in HEADER])


def test_a_table_without_usable_segments_is_refused(load):
    with pytest.raises(DataError, match="none of the 1 segments"):
        load([changed(t_end="1.5")])
    with pytest.raises(DataError, match="none of the 0 segments"):
        load([])


PUBLISHED = {
    "thumos14 train (valid subset)": ("thumos14", "thumos14_valid", "thumos14"),
    "thumos14 valid (test subset)": ("thumos14", "thumos14_test", "thumos14"),
    "activitynet train": ("activitynet", "activitynet_v1-3_train", "activitynet_v1-3"),
    "activitynet valid": ("activitynet", "activitynet_v1-3_valid", "activitynet_v1-3"),
}


def published(shared_dir, name):
    folder, table, maps = PUBLISHED[name]
    root = shared_dir / "data" / folder
    columns = (("action-label", "action_label"), ("temporal-region-label", "temporal_region_label"))
    heads = [(column, root / f"{maps}_{file}_mapping.json") for column, file in columns]
    return root / f"{table}_tsp_groundtruth.csv", heads


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables_keep_as_many_segments_as_the_original(shared_dir, name):
    golden = json.loads((shared_dir / "golden" / "tsp_golden.json").read_text())["segments"][name]
    table = load_segments(*published(shared_dir, name))
    assert (table.counts.rows, table.counts.kept, len(table) * 5) == (
        golden["rows"],
        golden["kept"],
        golden["clips_per_epoch"],
    )
    assert int((table.labels[:, 0] >= 0).sum()) == golden["kept_with_action_label"]
    assert len(np.unique(table.file_index)) == golden["videos"] == len(table.filenames)


def test_loading_the_largest_published_table_costs_a_few_times_what_reading_its_cells_costs(shared_dir):
    table, heads = published(shared_dir, "activitynet train")

    def plain():
        return list(csv.reader(io.StringIO(table.read_text())))

    def quickest_sec(function):
        begins_and_ends = [(time.process_time(), function(), time.process_time()) for _ in range(3)]
        return min(end - begin for begin, _, end in begins_and_ends)

    assert quickest_sec(lambda: load_segments(table, heads)) < 15 * quickest_sec(plain)
