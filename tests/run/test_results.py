"""Results lines to the character, other people's results files, records to JSON and back."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run.stored import PROGRESS
from tsp.errors import DataError, StoreError
from tsp.run.records import EpochRecord, Outcome, Progress, StateMeta, dump_record, load_record
from tsp.run.results import EpochResult, HeadResult, best, format_line, parse_line, parse_results

TWO_HEADS = (
    "** Valid Epoch 3:  <action-label> Accuracy 50.000 Loss 0.990; "
    "<temporal-region-label> Accuracy 81.667 Loss 0.634; Total Loss 1.623 Avg Accuracy 65.833"
)
ONE_HEAD = "** Valid Epoch 0:  <action-label> Accuracy 6.250 Loss nan; Total Loss nan Avg Accuracy 6.250"

figures = st.floats(min_value=-1e6, max_value=1e9) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 0.0005])
columns = st.text(
    st.characters(codec="ascii", exclude_characters=">\r\n", categories=["L", "N", "P", "Zs"]), min_size=1
)
heads = st.lists(st.builds(HeadResult, columns, figures, figures), min_size=1, max_size=2)
any_result = st.builds(EpochResult, st.integers(min_value=0, max_value=10**6), heads.map(tuple), figures, figures)


def result(epoch: int, accuracy: float) -> EpochResult:
    return EpochResult(epoch, (HeadResult("action-label", accuracy, 1.0),), 1.0, accuracy)


def test_a_line_is_the_original_codes_to_the_character() -> None:
    two = (HeadResult("action-label", 50.0, 0.98951), HeadResult("temporal-region-label", 81.66666, 0.6335))
    assert format_line(EpochResult(3, two, 1.62301, 65.83333)) == TWO_HEADS.replace("0.634", "0.633")
    one = EpochResult(0, (HeadResult("action-label", 6.25, math.nan),), math.nan, 6.25)
    assert format_line(one) == ONE_HEAD


@pytest.mark.parametrize("line", [TWO_HEADS, ONE_HEAD])
def test_parsing_and_formatting_a_line_gives_the_line(line: str) -> None:
    assert format_line(parse_line(line)) == line


@given(any_result)
def test_every_result_survives_format_parse_format(one: EpochResult) -> None:
    line = format_line(one)
    parsed = parse_line(line)
    assert format_line(parsed) == line
    assert parsed.epoch == one.epoch
    assert [head.label_column for head in parsed.heads] == [head.label_column for head in one.heads]
    assert math.isnan(parsed.total_loss) == math.isnan(one.total_loss)


@pytest.mark.parametrize(
    "line",
    ["", "hello", TWO_HEADS[:-20], ONE_HEAD.replace("Epoch 0", "Epoch x"), ONE_HEAD.replace(" Loss nan;", ";"),
     ONE_HEAD.replace("Accuracy 6.250 Loss nan;", "Accuracy six Loss nan;"), ONE_HEAD + " and more"],
)  # fmt: skip
def test_a_line_of_another_kind_is_refused(line: str) -> None:
    with pytest.raises(DataError, match="not a results line"):
        parse_line(line)


def test_other_peoples_files_are_read_and_what_is_no_line_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        "\ufeff" + ONE_HEAD,
        "",
        TWO_HEADS.replace("Epoch 3", "Epoch 1"),
        ONE_HEAD.replace("6.250", "nan").replace("Epoch 0", "Epoch 2"),
        "Training time 3:12:44",
        ONE_HEAD.replace("6.250", "7.500"),
        "   ",
        TWO_HEADS[:40],
    ]
    results = parse_results("\r\n".join(lines), where="old/results.txt")
    assert list(results) == [0, 1, 2]
    assert results[0].avg_accuracy_percent == 7.5, "a repeated epoch: the last line wins"
    assert math.isnan(results[2].avg_accuracy_percent)
    assert len(results[1].heads) == 2
    assert [record.getMessage().partition(" skipped")[0] for record in caplog.records] == [
        "old/results.txt, line 5",
        "old/results.txt, line 8",
    ]


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([10.0, 30.0, 20.0], 1),
        ([30.0, 30.0], 0),
        ([30.0001, 30.0004], 0),  # equal in a results line
        ([math.nan, 5.0, math.nan], 1),
        ([math.inf, 5.0], 1),
        ([0.0], 0),
    ],
)
def test_the_best_epoch_has_the_highest_accuracy_and_nan_never_wins(accuracies: list[float], expected: int) -> None:
    assert best([result(epoch, value) for epoch, value in enumerate(accuracies)]).epoch == expected
    assert best([result(epoch, value) for epoch, value in reversed(list(enumerate(accuracies)))]).epoch == expected


@pytest.mark.parametrize(
    ("results", "message"), [([], "no epoch"), ([result(0, math.nan)], "every Avg Accuracy is nan")]
)
def test_without_a_finite_figure_there_is_no_best_epoch(results: list[EpochResult], message: str) -> None:
    with pytest.raises(DataError, match=message):
        best(results)


RECORDS = [
    EpochRecord(epoch=0, size_bytes=10, sha256="ab", results_line=ONE_HEAD, result=parse_line(TWO_HEADS),
                clips_per_sec=3.5, duration_sec=math.inf),
    Progress(phase="training", epoch=1, epochs=8, step=3, steps=750, clips_per_sec=9.25, eta_sec=None, attempt=2,
             world_size=8, downscale=2, batch_per_gpu=16, global_batch=128, backbone_lr=4e-4, head_lr=8e-3,
             best_epoch=0, best_accuracy_percent=51.5, device="NVIDIA H200", bad_clips=3),
    Outcome(state="failed", exit_code=3, reason="video x.mp4, row 7: no frames", attempt=2),
    StateMeta(epoch=1, step=2, attempt=1, sha256="cd", size_bytes=4, key="state/a.pth",
              previous=StateMeta(epoch=1, step=1, attempt=1, sha256="ef", size_bytes=4, key="state/b.pth")),
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_go_to_json_and_back_and_ignore_what_a_newer_version_added(record: object) -> None:
    data = dump_record(record)
    assert load_record(type(record), data, where="here") == record
    newer = json.dumps({**json.loads(data), "colour": "blue"}).encode()
    assert load_record(type(record), newer, where="here") == record


def test_records_are_strict_json_even_with_nan() -> None:
    record = dataclasses.replace(RECORDS[0], result=parse_line(ONE_HEAD), clips_per_sec=math.nan)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    assert json.loads(dump_record(record), parse_constant=refuse)["clips_per_sec"] == "nan"
    assert math.isnan(load_record(EpochRecord, dump_record(record), where="here").result.total_loss)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"state": "lost"}', b"\xff"])
def test_a_damaged_record_is_named(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"s3://b/run/outcome\.json is damaged"):
        load_record(Outcome, data, where="s3://b/run/outcome.json")


def test_a_line_with_a_head_that_cannot_be_read_is_refused_and_quoted_as_far_as_it_is_short() -> None:
    line = format_line(EpochResult(3, (HeadResult("a", 1.0, 2.0), HeadResult("b", 1.0, 2.0)), 1.0, 2.0))
    assert len(parse_line(line).heads) == 2
    for damaged in (line.replace("<b> Accuracy 1.000", "<b> Accuracy one"), "x" * 5000):
        with pytest.raises(DataError, match="not a results line: '") as caught:
            parse_line(damaged)
        assert len(str(caught.value)) < 200


def test_of_epochs_that_print_alike_the_earliest_is_the_best() -> None:
    def at(epoch: int, accuracy: float) -> EpochResult:
        return EpochResult(epoch, (), 1.0, accuracy)

    assert best([at(3, 50.0004), at(1, 50.0), at(2, 50.0001)]).epoch == 1
    assert best([at(5, 50.0), at(4, 50.0), at(9, 49.0)]).epoch == 4
    assert best([at(1, 50.0), at(2, 50.001)]).epoch == 2, "three decimals are printed"


def test_a_record_of_an_older_version_means_that_nothing_was_amiss() -> None:
    raw = json.loads(dump_record(PROGRESS))
    for key in ("bad_clips", "device", "best_epoch", "waiting_for"):
        del raw[key]
    old = load_record(Progress, json.dumps(raw).encode(), where="x")
    assert (old.bad_clips, old.device, old.best_epoch, old.waiting_for) == (0, "cpu", None, None)


@pytest.mark.parametrize("when", ["yesterday", "2030-01-01T00:00:00", 5, None])
def test_a_record_whose_time_is_none_is_damaged(when: object) -> None:
    raw = json.loads(dump_record(PROGRESS)) | {"updated": when}
    with pytest.raises(StoreError, match="x is damaged"):
        load_record(Progress, json.dumps(raw).encode(), where="x")
