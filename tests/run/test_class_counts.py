"""Counts by class: to text without zeros and back."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores import epoch_record
from tsp.errors import DataError
from tsp.run.class_counts import ClassCounts
from tsp.run.records import EpochRecord, dump_record, load_record

matrices = st.integers(1, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, 3) | st.integers(0, 10**9), min_size=size, max_size=size), min_size=size, max_size=size
    )
)


@given(matrices)
def test_a_matrix_survives(matrix):
    counts = ClassCounts.of("action-label", [f"class {index}" for index in range(len(matrix))], matrix)
    assert counts.matrix() == matrix
    for index, row in enumerate(counts.rows()):
        assert (row.clips, row.correct) == (sum(matrix[index]), matrix[index][index])
        assert sum(row.predicted.values()) == row.clips
        assert list(row.predicted.values()) == sorted(row.predicted.values(), reverse=True)


def test_a_class_says_what_its_clips_were_taken_for():
    run, jump, throw = ClassCounts.of(
        "action-label", ["Run", "Jump", "Throw"], [[3, 0, 5], [0, 0, 0], [0, 1, 0]]
    ).rows()
    assert (run.label, run.clips, run.correct, run.accuracy_percent) == ("Run", 8, 3, 37.5)
    assert list(run.predicted.items()) == [("Throw", 5), ("Run", 3)]
    assert (jump.clips, jump.accuracy_percent, jump.predicted) == (0, None, {})
    assert throw.accuracy_percent == 0


def test_a_record_holds_them_and_an_older_one_has_none(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"weights")
    counts = ClassCounts.of("action-label", ["Run", "Jump"], [[3, 1], [0, 2]])
    record = replace(epoch_record(1, tmp_path / "c.pth"), classes=(counts,))
    data = dump_record(record)
    assert load_record(EpochRecord, data, where="x") == record
    old = {key: value for key, value in json.loads(data).items() if key != "classes"}
    assert load_record(EpochRecord, json.dumps(old).encode(), where="x").classes == ()


def test_a_record_of_200_classes_stays_small(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"weights")
    labels = [f"Assembling bicycle number {index}" for index in range(200)]
    # About as ActivityNet's validation: 190 clips a class, a third of them taken for fifty other classes.
    matrix = [[126 if a == b else int((a + b) % 3 == 0) for b in range(200)] for a in range(200)]
    record = replace(epoch_record(1, tmp_path / "c.pth"), classes=(ClassCounts.of("a", labels, matrix),))
    assert len(dump_record(record)) < 120_000


@pytest.mark.parametrize(
    "confusion",
    [("0:1",), ("0:1", "5:1"), ("0:1", "x:1"), ("0:1", "1"), ("0:1", "1:-2"), ("0:1", "-1:2"), ("", "", "")],
)
def test_damaged_counts_are_refused_by_name(confusion):
    with pytest.raises(DataError, match="counts by class of action-label"):
        ClassCounts("action-label", ("Run", "Jump"), confusion).rows()


@pytest.mark.parametrize("rows", [299, 300, 301])
def test_there_are_as_many_rows_as_classes(rows):
    counts = ClassCounts("action-label", tuple(f"class {index}" for index in range(300)), ("",) * rows)
    if rows == 300:
        assert counts.matrix() == [[0] * 300] * 300
        return
    with pytest.raises(DataError, match=f"have {rows} rows for 300 classes"):
        counts.matrix()
