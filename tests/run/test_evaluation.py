"""The stored result of an evaluation, and the parts of its shards."""

from tsp.run.evaluation import WORK_CHARS, digest_of


def test_the_name_of_a_work_depends_on_its_values_and_not_on_their_order():
    work = {"checkpoint": "c.pth", "data": {"root": "/data", "csv": "valid.csv"}}
    again = {"data": {"csv": "valid.csv", "root": "/data"}, "checkpoint": "c.pth"}
    assert digest_of(work) == digest_of(again)
    assert digest_of(work) != digest_of(work | {"checkpoint": "d.pth"})
    assert len(digest_of(work)) == WORK_CHARS
