"""Findings in the order in which people mend them."""

import dataclasses

from tsp.prepare.findings import ERROR, WARNING, DataFinding, count, in_order


def test_errors_come_first_then_subset_file_and_row():
    ordered = [
        DataFinding(ERROR, "train", "a.csv", None, "whole table"),
        DataFinding(ERROR, "train", "a.csv", 1, "header"),
        DataFinding(ERROR, "train", "a.csv", 10, "late"),
        DataFinding(ERROR, "train", "b.csv", 2, "another file"),
        DataFinding(ERROR, "valid", "a.csv", 1, "another subset"),
        DataFinding(WARNING, "both", "a.csv", 1, "a"),
        DataFinding(WARNING, "both", "a.csv", 1, "b"),
    ]
    assert in_order(reversed(ordered)) == ordered
    apart = [dataclasses.replace(one, severity="".join(list(one.severity))) for one in ordered]
    assert in_order(reversed(apart)) == ordered
    assert count(apart, ERROR) == 5
    assert (count(ordered, ERROR), count(ordered, WARNING)) == (5, 2)
    assert ordered[1].as_row() == {
        "severity": "error", "subset": "train", "file": "a.csv", "row": 1, "message": "header",
    }  # fmt: skip
