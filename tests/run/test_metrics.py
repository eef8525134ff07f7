"""The history of a run: one line a position, whatever attempts resumed where, and whatever a reader comes upon."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores import s3_store
from tests.waiting import wait_until
from tsp.run import metrics
from tsp.run.metrics import (
    MetricsLog,
    MetricsReader,
    merge_metrics,
    position,
    read_metrics,
    sample_metrics,
    without_what_was_lost,
)
from tsp.run.stored_run import StoredRun


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


@pytest.mark.parametrize("start", [(0, 10), (1, 0)])
def test_a_validation_done_again_by_the_next_attempt_is_there_once(run, start):
    """A kill between a validation and its checkpoint: the state is that of before the validation."""
    write_attempt(run, 1, [(0, 5), (0, 10), (0, "valid")])
    write_attempt(run, 2, [(0, "valid"), (1, 5)], start=start)
    assert shown(run) == [(0, 5, 1), (0, 10, 1), (0, "valid", 2), (1, 5, 2)]


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


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store):
        self.store, self.requests, self.num_bytes = store, 0, 0

    def __getattr__(self, name):
        found = getattr(self.store, name)
        if name not in ("read", "list"):
            return found

        def counted(*args, **kwargs):
            answer = found(*args, **kwargs)
            answer = list(answer) if name == "list" else answer
            self.requests += 1
            self.num_bytes += len(answer) if name == "read" else 0
            return answer

        return counted


def test_following_a_history_reads_each_byte_once_and_only_what_grew(local_run, monkeypatch):
    monkeypatch.setattr(metrics, "SEGMENT_BYTES", 1000)
    write_attempt(local_run, 1, [(epoch, step) for epoch in range(5) for step in range(1, 11)])
    store = Counting(local_run.store)
    reader = MetricsReader(StoredRun(store, local_run.name))
    assert len(reader.added()) == 51
    total_bytes = sum(entry.size_bytes for entry in local_run.store.list(local_run.key("metrics")))
    assert store.num_bytes == total_bytes
    store.requests = store.num_bytes = 0
    assert reader.added() == []
    assert (store.requests, store.num_bytes) == (1, 0)
    write_attempt(local_run, 2, [(4, 6)], start=(4, 5))
    store.requests = 0
    assert [(line["kind"], line["attempt"]) for line in reader.added()] == [("start", 2), ("train", 2)]
    assert store.requests == 2
    assert store.num_bytes < 300


def test_a_line_that_is_still_being_written_comes_when_it_is_whole(local_run):
    write_attempt(local_run, 1, [(0, 5)])
    key = local_run.key("metrics/attempt-1/00001.jsonl")
    whole = local_run.store.read(key)
    line = whole.splitlines(keepends=True)[-1].replace(b'"step":5', b'"step":6')
    reader = MetricsReader(local_run)
    local_run.store.write(key, whole + line[:20])
    assert [item.get("step") for item in reader.added()] == [0, 5]
    local_run.store.write(key, whole + line)
    assert [item.get("step") for item in reader.added()] == [6]


def test_a_merge_brings_no_line_again_to_a_reader_that_has_it(run):
    reader = MetricsReader(run)
    for attempt in range(1, 10):
        write_attempt(run, attempt, [(attempt, 5), (attempt, 10)], start=(attempt, 0))
        assert len(reader.added()) == 3
    merge_metrics(run, 10)
    assert reader.added() == []
    write_attempt(run, 10, [(9, 10)], start=(9, 5))
    assert [(line["kind"], line["attempt"]) for line in reader.added()] == [("start", 10), ("train", 10)]


def test_of_a_long_history_a_sample_is_read_from_all_over_it(local_run, monkeypatch, caplog):
    monkeypatch.setattr(metrics, "SEGMENT_BYTES", 20_000)
    write_attempt(local_run, 1, [(epoch, step) for epoch in range(200) for step in range(1, 11)])
    store = Counting(local_run.store)
    watched = StoredRun(store, local_run.name)
    assert sample_metrics(watched) == read_metrics(local_run)
    monkeypatch.setattr(metrics, "SAMPLED_BYTES", 20_000)
    monkeypatch.setattr(metrics, "SAMPLE_BYTES", 1000)
    store.num_bytes = 0
    epochs = [line["epoch"] for line in sample_metrics(watched) if line["kind"] == "train"]
    assert store.num_bytes <= 21_000
    assert epochs == sorted(epochs)
    assert len({epoch // 20 for epoch in epochs}) == 10
    assert caplog.messages == [], "lines that are cut where a sample begins are not damaged ones"


def test_a_line_is_in_the_bucket_though_nothing_closes_the_log(s3_servers, monkeypatch):
    """As when the process is killed: what was written a moment ago is there, and the next attempt keeps it."""
    server = s3_servers("moto")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    run = StoredRun(s3_store(server), "killed")
    log = MetricsLog(run, 1)
    log.write("start", epoch=0, step=0, steps=10)
    for step in (5, 8):
        log.write("train", epoch=0, step=step, steps=10, loss=1.0)
        wait_until(lambda step=step: shown(run)[-1:] == [(0, step, 1)])
    write_attempt(run, 2, [(0, 7)], start=(0, 5))
    assert shown(run) == [(0, 5, 1), (0, 7, 2)]
    log.close()


def test_a_run_without_a_history_has_an_empty_one(run):
    assert read_metrics(run) == []


def test_a_store_that_refuses_costs_lines_and_not_the_run(local_run, caplog):
    folder = local_run.store.local_path(local_run.key("metrics"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")
    write_attempt(local_run, 1, [(0, 5)])
    assert "metrics cannot be written at the moment" in caplog.text


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
