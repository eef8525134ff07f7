"""The history of a run: one line a position, whatever attempts resumed where, and whatever a reader comes upon."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsp.run import metrics
from tsp.run.metrics import MetricsLog, merge_metrics, position, read_metrics, without_what_was_lost


def write_attempt(run, attempt, lines, *, start=(0, 0)):
    """An attempt that resumes at (epoch, step) and writes lines of (epoch, step), ten steps an epoch."""
    log = MetricsLog(run, attempt)
    log.write("start", epoch=start[0], step=start[1], steps=10)
    for epoch, step in lines:
        if step == "valid":
            log.write("valid", epoch=epoch, accuracy_percent=10.0 * epoch)
        else:
            log.write("train", epoch=epoch, step=step, steps=10, loss=attempt + step / 100)
    log.close()


def shown(run):
    return [
        (line["epoch"], line.get("step", "valid"), line["attempt"])
        for line in read_metrics(run)
        if line["kind"] != "start"
    ]


def test_an_attempt_that_resumes_replaces_what_was_lost_and_nothing_else(run):
    write_attempt(run, 1, [(0, 5), (0, 10), (0, "valid"), (1, 5), (1, 8)])
    write_attempt(run, 2, [(1, 8), (1, 10), (1, "valid")], start=(1, 5))
    assert shown(run) == [
        (0, 5, 1), (0, 10, 1), (0, "valid", 1), (1, 5, 1), (1, 8, 2), (1, 10, 2), (1, "valid", 2)
    ]  # fmt: skip


def test_attempts_on_other_numbers_of_gpus_are_compared_by_the_share_of_the_epoch(run):
    write_attempt(run, 1, [(0, 5), (0, 8)])
    log = MetricsLog(run, 2)
    log.write("start", epoch=0, step=10, steps=20)  # half the batch: the same place is step 10 of 20
    log.write("train", epoch=0, step=15, steps=20, loss=1.0)
    log.close()
    assert shown(run) == [(0, 5, 1), (0, 15, 2)]


def test_figures_that_are_no_numbers_are_null_and_every_line_is_strict_json(local_run):
    log = MetricsLog(local_run, 1)
    log.write("train", epoch=0, step=1, steps=2, loss=math.nan, losses={"a": math.inf}, gradient_norm=-math.inf)
    log.close()
    (line,) = read_metrics(local_run)
    assert (line["loss"], line["losses"], line["gradient_norm"]) == (None, {"a": None}, None)


def test_long_histories_are_several_small_objects_and_read_as_one(run, monkeypatch):
    monkeypatch.setattr(metrics, "SEGMENT_BYTES", 1000)
    write_attempt(run, 1, [(epoch, step) for epoch in range(5) for step in range(1, 11)])
    sizes = [entry.size_bytes for entry in run.store.list(f"{run.key('metrics')}/")]
    assert len(sizes) > 3
    assert max(sizes) <= 1000
    assert shown(run) == [(epoch, step, 1) for epoch in range(5) for step in range(1, 11)]


def test_an_attempt_that_begins_merges_what_is_before_it_and_the_history_stays_the_same(run):
    for attempt in range(1, 10):
        write_attempt(run, attempt, [(attempt, 5), (attempt, 10)], start=(attempt, 0))
    before = read_metrics(run)
    merge_metrics(run, 10)
    assert read_metrics(run) == before
    assert len(list(run.store.list(f"{run.key('metrics')}/"))) == 1
    write_attempt(run, 10, [(9, 10)], start=(9, 5))
    assert shown(run)[-2:] == [(9, 5, 9), (9, 10, 10)]


def test_a_merge_that_was_killed_before_it_deleted_doubles_nothing(local_run, monkeypatch):
    for attempt in range(1, 10):
        write_attempt(local_run, attempt, [(attempt, 5)], start=(attempt, 0))
    before = read_metrics(local_run)
    with monkeypatch.context() as patch:
        patch.setattr(type(local_run.store), "delete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            merge_metrics(local_run, 10)
    assert read_metrics(local_run) == before
    write_attempt(local_run, 10, [(9, 10)], start=(9, 5))
    merge_metrics(local_run, 11)
    assert len(read_metrics(local_run)) == len(before) + 2


def test_few_objects_are_left_alone(local_run):
    write_attempt(local_run, 1, [(0, 5)])
    merge_metrics(local_run, 2)
    assert [entry.key for entry in local_run.store.list(local_run.key("metrics"))] == [
        local_run.key("metrics/attempt-1/00001.jsonl")
    ]


@pytest.mark.parametrize(
    "damage",
    [b"{", b"[]\n", b"null\n", b'{"kind":"train"}\n', b'{"kind":"train","attempt":1,"time":1,"epoch":0,"step":1}\n',
     b"\xff\xfe\x00\n", b'{"kind":"train","attempt":"x","time":"t","epoch":0,"step":1,"steps":2}\n', b"[" * 5000],
)  # fmt: skip
def test_a_damaged_line_costs_itself_and_is_counted(local_run, caplog, damage):
    write_attempt(local_run, 1, [(0, 5)])
    key = local_run.key("metrics/attempt-1/00001.jsonl")
    local_run.store.write(key, local_run.store.read(key) + damage)
    assert shown(local_run) == [(0, 5, 1)]
    assert "1 damaged line" in caplog.text


def test_a_run_without_a_history_has_an_empty_one(run):
    assert read_metrics(run) == []


def test_a_store_that_refuses_costs_lines_and_not_the_run(local_run, caplog):
    folder = local_run.store.local_path(local_run.key("metrics"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")
    write_attempt(local_run, 1, [(0, 5)])
    assert "metrics are not written for now" in caplog.text


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 25)),  # steps that the state lags behind, steps that are trained
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_no_position_is_there_twice_and_none_is_missing_before_the_newest_state(attempts):
    """A run of one step a line: whatever each attempt lost, the history is every step once, in order."""
    lines, reached = [], 0
    for attempt, (lag, trained) in enumerate(attempts, start=1):
        resumed = max(0, reached - lag)
        lines.append({"kind": "start", "attempt": attempt, "epoch": resumed // 10, "step": resumed % 10, "steps": 10})
        for step in range(resumed, resumed + trained):
            lines.append({"kind": "train", "attempt": attempt, "epoch": step // 10, "step": step % 10 + 1, "steps": 10})
        reached = resumed + trained
    kept = [round(10 * position(line)) for line in without_what_was_lost(lines) if line["kind"] == "train"]
    assert kept == list(range(1, reached + 1))
    assert json.dumps(lines)
