"""One pod's log without a server: which lines are given again, how long one waits, and when one gives up."""

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from k8s import pod_log, run_logs
from k8s.answers import ForbiddenError
from k8s.pod_log import Line, PodLog, Wanted
from tests.k8s.objects import pod, terminated, with_ranks
from tsp.errors import ClusterError, UnreachableError


class Waits(threading.Event):
    """Notes how long was waited, and waits no time."""

    def __init__(self):
        super().__init__()
        self.waited_sec = []

    def wait(self, timeout=None):
        self.waited_sec.append(timeout)
        return False


class Api:
    """Gives these answers, one a request: bytes, then an error if the connection breaks. The last one for ever."""

    def __init__(self, *answers, pod=None):
        self.answers, self.found, self.asked = list(answers), pod, []

    def read_log(self, pod, *, idle_sec, **query):
        self.asked.append(query)
        data, error = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        yield data
        if error is not None:
            raise error

    def pod(self, name):
        return self.found


def ended(item):
    item["spec"]["containers"] = [{"name": "pytorch"}]
    return item


RUNS, DONE = ended(pod(0)), ended(pod(0, "Succeeded", state=terminated(0)))
CUT = UnreachableError("cut")


def line(second, text, nanos=0):
    at = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{nanos:09d}Z {text}\n".encode()


def read(api, *, follow=False, found=DONE, waits=None, **wanted):
    log = PodLog(api, found, Wanted(**wanted), follow=follow, stop=waits or Waits())
    return [one.text for one in log.lines()]


@pytest.mark.parametrize("count", [1, 4096, 4097])
def test_a_log_that_is_read_again_from_its_start_gives_each_line_once(count):
    """A server may ignore the time from which on lines are wanted."""
    lines = [line(10 + index // 100, f"line {index}", index % 100) for index in range(count)]
    more = line(10**6, "new")
    assert read(Api((b"".join(lines), CUT), (b"".join([*lines, more]), None))) == [
        *(f"line {index}" for index in range(count)),
        "new",
    ]


@pytest.mark.parametrize(("count", "is_given"), [(4095, True), (4096, False)])
def test_an_older_line_is_new_as_long_as_all_lines_are_remembered(count, is_given):
    lines = b"".join(line(1000 + index, "x") for index in range(count))
    late = line(999, "late")
    assert ("late" in read(Api((lines, CUT), (late + lines, None)))) is is_given


def test_the_log_is_asked_for_again_from_the_second_before_the_last_line_on():
    api = Api((line(1000, "a", 5) + line(1003, "b", 7) + line(1001, "c"), CUT), (b"", None))
    read(api, tail=3, since=datetime.fromtimestamp(10.7, UTC))
    assert [(query["sinceTime"], query["tailLines"]) for query in api.asked] == [
        ("1970-01-01T00:00:10Z", 3),
        ("1970-01-01T00:16:42Z", None),
    ]


def test_a_log_that_broke_before_its_first_line_is_asked_for_as_before():
    api = Api((b"", CUT), (line(1, "a"), None))
    assert read(api, tail=3) == ["a"]
    assert [query["tailLines"] for query in api.asked] == [3, 3]


@pytest.mark.parametrize(("follow", "tries"), [(False, 5), (True, 31)])
def test_the_log_of_an_ended_pod_is_given_up_after_a_while(follow, tries):
    api, waits = Api((b"", CUT), pod=DONE), Waits()
    with pytest.raises(UnreachableError):
        read(api, follow=follow, waits=waits)
    assert len(api.asked) == tries
    assert waits.waited_sec == [0.2, 0.5, 1.0, 2.0, *[2.0] * 26][: tries - 1]


def test_lines_that_arrive_start_the_patience_anew():
    api, waits = Api(*[(line(number, "x"), CUT) for number in range(1, 20)], (b"", None)), Waits()
    assert len(read(api, waits=waits)) == 19
    assert set(waits.waited_sec) == {0.2}


@pytest.mark.parametrize(("found", "tries"), [(DONE, 1), (RUNS, 2)])
def test_a_container_that_has_not_started_is_waited_for_if_it_is_followed(found, tries):
    api = Api((b"", ClusterError("waiting to start")), (line(1, "a"), None), pod=DONE)
    assert read(api, follow=True, found=found) == ["a"][: tries - 1]
    assert len(api.asked) == tries


def test_a_right_that_is_missing_is_said_at_once():
    api = Api((b"", ForbiddenError("no")))
    with pytest.raises(ForbiddenError):
        read(api, follow=True, found=RUNS)
    assert len(api.asked) == 1


def test_another_pod_of_the_same_name_is_not_read():
    other = ended(pod(0))
    other["metadata"]["uid"] = "".join(["uid", "-9"])
    api = Api((line(1, "a"), CUT), (line(2, "b"), None), pod=other)
    assert read(api, follow=True, found=RUNS) == ["a"]
    same = ended(pod(0, "Succeeded", state=terminated(0)))
    same["metadata"]["uid"] = "".join(["uid", "-0"])
    assert read(Api((line(1, "a"), CUT), (line(2, "b"), None), pod=same), follow=True, found=RUNS) == ["a", "b"]


def test_lines_of_a_pod_with_several_ranks_are_told_apart_by_their_beginning():
    found = with_ranks(ended(pod(1, "Succeeded", state=terminated(0))), 2)
    said = ["rank 2 a", "2030-01-01T00:00:00Z rank 3 b", "rank 3 c", "rank 7 d", "e"]
    data = b"".join(line(number, text) for number, text in enumerate(said, start=1))
    log = PodLog(Api((data, None)), found, Wanted(), follow=False, stop=Waits())
    assert [one.rank for one in log.lines()] == [2, 3, 3, 2, 2]
    assert read(Api((data, None)), found=found, ranks=(3,)) == said[1:3]
    assert read(Api((data, None)), found=found, tail=1) == ["rank 3 c", "e"]
    alone = ended(pod(1, "Succeeded", state=terminated(0)))
    log = PodLog(Api((data, None)), alone, Wanted(), follow=False, stop=Waits())
    assert {one.rank for one in log.lines()} == {1}


def test_the_log_before_a_restart_is_not_followed():
    api = Api((line(1, "a"), None))
    read(api, follow=True, found=RUNS, previous=True)
    assert [(query["follow"], query["previous"]) for query in api.asked] == [(False, True)]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"1970-01-01T00:00:01Z x", (10**9, 21)),
        (b"1970-01-01T00:00:01.5Z x", (1_500_000_000, 23)),
        (b"1970-01-01T00:00:01.000000005Z x", (1_000_000_005, 31)),
        (b"1970-01-01T02:00:01+02:00 x", (10**9, 26)),
        (b"x", (0, 0)),
    ],
)
def test_the_stamp_of_a_line_is_read_to_the_nanosecond(raw, found):
    assert pod_log._stamp_ns(raw) == found


def test_the_time_of_a_line_has_a_zone():
    assert Line(1_500_000_000, 0, "x").time == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


def test_the_pods_of_a_run_are_listed_once_a_second(monkeypatch):
    now_sec, looks_sec = [50.0], []

    def pass_time(follower):
        now_sec[0] += 0.25

    def pods():
        looks_sec.append(now_sec[0])
        return []

    monkeypatch.setattr(run_logs, "time", SimpleNamespace(monotonic=lambda: now_sec[0]))
    monkeypatch.setattr(run_logs._Follower, "wait", pass_time)
    api = SimpleNamespace(pods=pods, ended=lambda: now_sec[0] >= 53)
    assert list(run_logs.follow_logs(api, Wanted())) == []
    assert looks_sec == [50.0, 51.0, 52.0, 53.0]
