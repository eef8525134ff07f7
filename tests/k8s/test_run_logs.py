"""Logs over connections that break: no line lost, none doubled, in the order of time."""

import threading
import tracemalloc
from datetime import UTC, datetime

import pytest

from k8s.pod_log import MAX_LINE_BYTES, Line, PodLog, Wanted
from k8s.run_logs import follow_logs, read_logs
from tests.k8s.fake_api import FakeLog
from tests.k8s.objects import pod, terminated, with_ranks
from tests.waiting import wait_until
from tsp.errors import UnreachableError


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("k8s.pod_log._RETRY_SEC", (0.01, 0.01, 0.01))
    monkeypatch.setattr("k8s.run_logs._POLL_SEC", 0.02)


def stamped(second, text, nanos=0):
    return f"2030-01-01T00:{second // 60:02d}:{second % 60:02d}.{nanos:09d}Z {text}\n".encode()


def lines_of(count, *, per_second=7, rank=0):
    return [
        stamped(index // per_second, f"r{rank} line {index}", 1000 * (index % per_second)) for index in range(count)
    ]


def texts(lines):
    return [line.text for line in lines]


def ran(rank=0, **more):
    """A pod that has ended."""
    found = pod(rank, "Succeeded", state=terminated(0, "Completed"), **more)
    found["spec"]["containers"] = [{"name": "pytorch"}]
    return found


def runs(rank=0):
    found = pod(rank, "Running")
    found["spec"]["containers"] = [{"name": "pytorch"}]
    return found


class OneRun:
    """A run on the small server: its pods are those given, in turn."""

    def __init__(self, cluster, pods, *, ended=True):
        self.cluster, self.now, self.is_ended = cluster, list(pods), ended

    def pods(self):
        return list(self.now)

    def pod(self, name):
        return self.cluster.get(self.cluster.namespaced("v1", "pods", name))

    def read_log(self, pod, *, idle_sec, **query):
        return self.cluster.read_log(pod, idle_sec=idle_sec, **query)

    def ended(self):
        return self.is_ended


def serve(api, cluster, found, log):
    api.objects[cluster.namespaced("v1", "pods", found["metadata"]["name"])] = found
    api.logs[found["metadata"]["name"]] = log


def test_what_a_pod_has_written_is_read_with_its_times(api, cluster):
    serve(api, cluster, ran(), FakeLog([stamped(1, "hello", 5), stamped(2, "as it was\r")]))
    lines = list(read_logs(OneRun(cluster, [ran()]), Wanted()))
    assert texts(lines) == ["hello", "as it was\r"]
    assert lines[0].time_ns % 10**9 == 5
    assert lines[0].time.replace(microsecond=0) == datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC)
    query = api.logs["my-run-master-0"].queries[0]
    assert query == {"container": "pytorch", "timestamps": "true", "follow": "false", "previous": "false"}


@pytest.mark.parametrize(("before", "warned"), [([stamped(1, "hello")], False), ([], True)])
def test_what_the_kubelet_says_of_a_container_that_is_gone_is_no_line_of_a_rank(api, cluster, caplog, before, warned):
    """Kubernetes 1.33, word for word: without a time, and without an end."""
    gone = b"unable to retrieve container logs for containerd://a9796b5491bad842300dd06e7169228c0f3c3917"
    serve(api, cluster, ran(), FakeLog([*before, gone]))
    lines = list(read_logs(OneRun(cluster, [ran()]), Wanted()))
    assert texts(lines) == ["hello"] * len(before)
    assert ("my-run-master-0: unable to retrieve container logs" in caplog.text) is warned
    serve(api, cluster, ran(), FakeLog([stamped(1, gone.decode())]))
    assert texts(read_logs(OneRun(cluster, [ran()]), Wanted())) == [gone.decode()], "a rank may say so, too"


def test_all_ranks_are_merged_in_the_order_of_time(api, cluster, monkeypatch):
    monkeypatch.setattr("k8s.run_logs._HOLD_SEC", 20.0)
    found = [ran(rank) for rank in range(3)]
    for rank, item in enumerate(found):
        serve(api, cluster, item, FakeLog([stamped(second, f"r{rank} s{second}", rank) for second in range(3)]))
    expected = [f"r{rank} s{second}" for second in range(3) for rank in range(3)]
    assert texts(read_logs(OneRun(cluster, found), Wanted())) == expected
    assert texts(follow_logs(OneRun(cluster, found), Wanted())) == expected


def test_ranks_tail_and_since_choose_lines(api, cluster):
    found = [ran(rank) for rank in range(2)]
    for rank, item in enumerate(found):
        serve(api, cluster, item, FakeLog(lines_of(20, rank=rank)))
    one = OneRun(cluster, found)
    assert texts(read_logs(one, Wanted(ranks=(1,), tail=2))) == ["r1 line 18", "r1 line 19"]
    since = datetime(2030, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert texts(read_logs(one, Wanted(ranks=(0,), since=since)))[0] == "r0 line 14"


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("cuts", [[0], [1], [40], [45, 46, 300], [500, 0, 0, 700, 1000, 33]])
def test_cut_connections_lose_and_double_nothing(api, cluster, cuts, follow):
    log = FakeLog(lines_of(100), cuts=list(cuts))
    serve(api, cluster, ran(), log)
    lines = list(PodLog(OneRun(cluster, [ran()]), ran(), Wanted(), follow=follow).lines())
    assert texts(lines) == [f"r0 line {index}" for index in range(100)]
    assert len(log.queries) == len(cuts) + 1


def test_equal_lines_at_equal_times_are_kept_apart_over_a_cut(api, cluster):
    lines = [stamped(0, "same")] * 3 + [stamped(1, "end")]
    serve(api, cluster, ran(), FakeLog(lines, cuts=[len(lines[0]) * 2 + 5]))
    found = PodLog(OneRun(cluster, [ran()]), ran(), Wanted(), follow=False).lines()
    assert texts(found) == ["same", "same", "same", "end"]


def test_lines_out_of_order_are_not_lost_over_a_cut(api, cluster):
    lines = [stamped(10, "first"), stamped(9, "older", 999_999_999), stamped(10, "last", 1)]
    serve(api, cluster, ran(), FakeLog(lines, cuts=[len(lines[0]) + 3]))
    assert texts(PodLog(OneRun(cluster, [ran()]), ran(), Wanted(), follow=False).lines()) == ["first", "older", "last"]


def test_a_last_line_without_an_end_is_given_once_the_container_has_ended(api, cluster):
    serve(api, cluster, ran(), FakeLog([stamped(0, "one"), stamped(1, "no end").rstrip(b"\n")]))
    assert texts(PodLog(OneRun(cluster, [ran()]), runs(), Wanted(), follow=True).lines()) == ["one", "no end"]


def test_a_line_cut_in_two_by_an_orderly_shutdown_is_given_whole(api, cluster):
    log = FakeLog(lines_of(3), cuts=[70])
    log.clean_cuts = True
    serve(api, cluster, ran(), log)
    found = texts(PodLog(OneRun(cluster, [ran()]), runs(), Wanted(), follow=True).lines())
    assert found == ["r0 line 0", "r0 line 1", "r0 line 2"]


def test_a_stream_that_goes_silent_is_opened_anew(api, cluster, monkeypatch):
    monkeypatch.setattr("k8s.pod_log.IDLE_SEC", 0.1)
    log = FakeLog(lines_of(5), ended=False)
    log.silent = [True]
    serve(api, cluster, runs(), log)
    found = []
    for line in PodLog(OneRun(cluster, [runs()]), runs(), Wanted(), follow=True).lines():
        found.append(line.text)
        if len(found) == 5:
            break
    assert found == [f"r0 line {index}" for index in range(5)]


def test_a_very_long_line_comes_in_parts_and_in_its_place(api, cluster):
    long = stamped(1, "x" * (3 * MAX_LINE_BYTES))
    serve(api, cluster, ran(), FakeLog([stamped(0, "before"), long, stamped(2, "after")]))
    lines = list(read_logs(OneRun(cluster, [ran()]), Wanted()))
    assert (lines[0].text, lines[-1].text) == ("before", "after")
    assert sum(len(line.text) for line in lines[1:-1]) == 3 * MAX_LINE_BYTES
    assert len({line.time_ns for line in lines[1:-1]}) == 1


def test_without_following_a_container_that_has_not_started_has_no_lines(api, cluster):
    log = FakeLog([stamped(0, "later")])
    log.not_started = 9
    serve(api, cluster, runs(), log)
    assert list(read_logs(OneRun(cluster, [runs()]), Wanted())) == []


def test_without_following_a_server_that_stays_away_is_an_error(api, cluster):
    serve(api, cluster, ran(), FakeLog(lines_of(9), cuts=[0] * 99))
    with pytest.raises(UnreachableError):
        list(read_logs(OneRun(cluster, [ran()]), Wanted()))


def test_the_log_of_an_ended_pod_on_a_lost_node_does_not_hold_up_the_end(api, cluster, caplog):
    api.objects[cluster.namespaced("v1", "pods", "my-run-master-0")] = ran()
    api.logs["my-run-master-0"] = FakeLog(cuts=[0] * 99, lines=lines_of(1))
    other = ran(1)
    serve(api, cluster, other, FakeLog([stamped(0, "of rank 1")]))
    assert texts(follow_logs(OneRun(cluster, [ran(), other]), Wanted())) == ["of rank 1"]
    assert "cannot continue reading: the log stream of my-run-master-0 was interrupted" in caplog.text


def test_following_waits_for_the_pods_tells_about_them_and_ends_with_the_run(api, cluster):
    one, told, found = OneRun(cluster, [], ended=False), [], []
    log = FakeLog(lines_of(3), ended=False)
    log.not_started = 2
    serve(api, cluster, runs(), log)

    def live():
        wait_until(lambda: [] in told)
        one.now = [runs()]
        wait_until(lambda: len(found) == 3)
        log.lines += [stamped(10, "the end")]
        wait_until(lambda: len(found) == 4)
        api.objects[cluster.namespaced("v1", "pods", "my-run-master-0")] = ran()
        one.now, log.ended, one.is_ended = [ran()], True, True

    thread = threading.Thread(target=live)
    thread.start()
    for line in follow_logs(one, Wanted(), on_silence=told.append):
        found.append(line.text)
    thread.join()
    assert found == ["r0 line 0", "r0 line 1", "r0 line 2", "the end"]
    assert [] in told


def test_following_goes_over_to_the_pods_of_the_next_attempt(api, cluster):
    first, second = ran(), ran()
    second["metadata"]["uid"] = "uid-second"
    one = OneRun(cluster, [first], ended=False)
    serve(api, cluster, first, FakeLog([stamped(0, "attempt 1")]))
    found = []
    for line in follow_logs(one, Wanted(tail=10)):
        found.append(line.text)
        if line.text == "attempt 1":
            serve(api, cluster, second, FakeLog([stamped(5, "attempt 2")]))
            one.now, one.is_ended = [second], True
    assert found == ["attempt 1", "attempt 2"]
    assert "tailLines" not in api.logs["my-run-master-0"].queries[0]


def test_following_outlives_an_api_server_that_is_away(api, cluster):
    log = FakeLog(lines_of(10), cuts=[100], ended=True)
    serve(api, cluster, ran(), log)
    one = OneRun(cluster, [ran()])
    answers = iter([UnreachableError("away"), UnreachableError("away"), True])

    def ended():
        answer = next(answers, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    one.ended = ended
    assert texts(follow_logs(one, Wanted())) == [f"r0 line {index}" for index in range(10)]


def test_a_server_that_is_away_is_told_of_once_each_time(caplog):
    class Away:
        def __init__(self):
            self.answers = iter([False, False, False, True, False, False, True])

        def ended(self):
            if not next(self.answers):
                raise UnreachableError("the API server does not answer")
            return next(self.answers, None) is None

        def pods(self):
            return []

    assert list(follow_logs(Away(), Wanted())) == []
    assert caplog.text.count("the API server does not answer; still trying") == 2


def test_a_pod_that_is_deleted_meanwhile_ends_its_stream(api, cluster):
    log = FakeLog(lines_of(3), cuts=[10_000], ended=True)
    api.logs["my-run-master-0"] = log
    assert len(list(PodLog(OneRun(cluster, [runs()]), runs(), Wanted(), follow=True).lines())) == 3


def test_leaving_early_stops_the_readers(api, cluster):
    serve(api, cluster, runs(), FakeLog(lines_of(5000), ended=False))
    before = threading.active_count()
    lines = follow_logs(OneRun(cluster, [runs()], ended=False), Wanted())
    next(lines)
    lines.close()
    api.logs["my-run-master-0"].ended = True
    wait_until(lambda: threading.active_count() <= before, "the threads that read logs end")


def test_memory_does_not_grow_with_the_log(cluster):
    """Thirty thousand lines go through 3 MB: a window of lines is held, never the log."""

    class Long(OneRun):
        def read_log(self, pod, *, idle_sec, **query):
            for start in range(0, 30_000, 500):
                yield b"".join(stamped((start + i) // 1000, f"line {start + i} " + "x" * 80, i) for i in range(500))

    list(follow_logs(OneRun(cluster, []), Wanted()))
    tracemalloc.start()
    count = sum(1 for _ in follow_logs(Long(cluster, [ran()]), Wanted()))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert peak_bytes < 3e6


def of_ranks(second, rank, text):
    return stamped(second, f"2030-01-01T00:00:00.000Z rank {rank} INFO {text}")


SEVERAL = [
    of_ranks(1, 2, "a"),
    of_ranks(2, 3, "b"),
    stamped(3, "rank 3 Traceback (most recent call last):"),
    stamped(4, "of nobody"),
    of_ranks(5, 0, "of a rank that this pod does not hold"),
    of_ranks(6, 2, "c"),
    of_ranks(7, 3, "d"),
]


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [
        (Wanted(), [(2, 1), (3, 2), (3, 3), (2, 4), (2, 5), (2, 6), (3, 7)]),
        (Wanted(ranks=(3,)), [(3, 2), (3, 3), (3, 7)]),
        (Wanted(ranks=(0,)), []),
        (Wanted(tail=1), [(2, 6), (3, 7)]),
        (Wanted(tail=2, ranks=(3,)), [(3, 3), (3, 7)]),
    ],
)
@pytest.mark.parametrize("follow", [False, True])
def test_each_rank_of_a_pod_has_its_own_lines(api, cluster, wanted, seconds, follow):
    found = with_ranks(ran(1), 2)
    serve(api, cluster, found, FakeLog(SEVERAL))
    run = OneRun(cluster, [found])
    lines = follow_logs(run, wanted) if follow else read_logs(run, wanted)
    start = datetime(2030, 1, 1, tzinfo=UTC)
    assert [(line.rank, round((line.time - start).total_seconds())) for line in lines] == seconds


def test_the_last_lines_of_each_rank_come_before_those_that_follow(api, cluster):
    found = with_ranks(runs(1), 2)
    log = FakeLog(SEVERAL, ended=False)
    serve(api, cluster, found, log)
    run = OneRun(cluster, [found], ended=False)
    lines = follow_logs(run, Wanted(tail=1))
    assert [next(lines).rank, next(lines).rank] == [2, 3]
    log.lines.append(of_ranks(8, 2, "e"))
    assert next(lines).text.endswith("rank 2 INFO e")
    log.ended, run.is_ended = True, True
    api.objects[cluster.namespaced("v1", "pods", found["metadata"]["name"])] = with_ranks(ran(1), 2)
    assert list(lines) == []


def test_a_lines_time_is_exact_to_the_millisecond():
    assert Line(1_893_456_000_123_000_000, 0, "").time == datetime(2030, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)
