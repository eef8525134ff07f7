"""The stored result of an evaluation, and the parts of its shards."""

import pytest

from tsp.errors import ConfigError, StoreError
from tsp.run.class_counts import ClassCounts
from tsp.run.evaluation import WORK_CHARS, Evaluation, EvaluationFile, EvaluationPart, answer_of, digest_of
from tsp.run.results import EpochResult, HeadResult
from tsp.store.base import Store

PART = EvaluationPart(losses={"0": (1.5, 2.0)}, counts=((1, 0), (0, 2)), bad_clips=1, clips_per_sec=4.0)


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        work="w", checkpoint="c.pth", checkpoint_sha256="ab", dataset="demo", results_line="**", clips=6, batch=4,
        result=EpochResult(3, (HeadResult("action-label", 50.0, 1.5),), 1.5, 50.0), precision="fp32",
        clips_per_sec=2.5, classes=(ClassCounts.of("action-label", ["run", "jump"], [[2, 1], [0, 0]]),),
    )  # fmt: skip


def test_the_name_of_a_work_depends_on_its_values_and_not_on_their_order():
    work = {"checkpoint": "c.pth", "data": {"root": "/data", "csv": "valid.csv"}}
    again = {"data": {"csv": "valid.csv", "root": "/data"}, "checkpoint": "c.pth"}
    assert digest_of(work) == digest_of(again)
    assert digest_of(work) != digest_of(work | {"checkpoint": "d.pth"})
    assert len(digest_of(work)) == WORK_CHARS


def test_an_answer_has_a_row_for_every_class_and_no_matrix(evaluation: Evaluation):
    answer = answer_of(evaluation, "s3://b/out.json")
    assert answer.rows == [
        {"head": "action-label", "class": "run", "clips": 3, "correct": 2, "accuracy_percent": pytest.approx(200 / 3),
         "predicted": {"run": 2, "jump": 1}},
        {"head": "action-label", "class": "jump", "clips": 0, "correct": 0, "accuracy_percent": None, "predicted": {}},
    ]  # fmt: skip
    assert {"classes", "work"}.isdisjoint(answer.facts)
    facts = {"out": "s3://b/out.json", "clips": 6, "bad_clips": 0, "batch": 4, "clips_per_sec": 2.5}
    assert {name: answer.facts[name] for name in facts} == facts


def test_an_evaluation_is_read_as_it_was_written_and_takes_the_place_of_its_parts(
    local_store: Store, evaluation: Evaluation
):
    file = EvaluationFile(local_store, "out.json")
    assert (file.read(), file.part("w", 0, 2)) == (None, None)
    for shard in range(2):
        file.write_part("w", shard, 2, PART)
    assert [file.part("w", *share) for share in ((0, 2), (1, 2), (0, 1), (2, 3))] == [PART, PART, None, None]
    assert file.part("another", 0, 2) is None
    file.write(evaluation)
    assert file.read() == evaluation
    assert [entry.key for entry in local_store.list()] == ["out.json"]


def test_what_is_no_evaluation_is_not_written_over_unseen(local_store: Store):
    local_store.write("out.json", b'{"a": 1}')
    with pytest.raises(ConfigError, match=r"out\.json exists but is not an evaluation: choose another --out"):
        EvaluationFile(local_store, "out.json").read()


def test_a_folder_in_the_way_is_named_before_the_work(local_store: Store):
    local_store.write("out/file", b"")
    with pytest.raises(StoreError, match="out is a folder: give a file to --out"):
        EvaluationFile(local_store, "out").check_writable()
    EvaluationFile(local_store, "other").check_writable()
    assert [entry.key for entry in local_store.list()] == ["out/file"]
