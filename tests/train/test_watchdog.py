"""What the watchdog makes of a wait, and when: by numbers, at the border of each limit."""

from types import SimpleNamespace

import pytest

from tsp.errors import PeerLostError, StalledError, TerminatedError
from tsp.train import watchdog
from tsp.train.peers import FailedElsewhereError, Failure
from tsp.train.watchdog import GRACE_SEC, NOTICE_SEC, SILENT_PEER_SEC, Watchdog


class Stopping:
    """A stop that was heard, or not."""

    def __init__(self, heard=False):
        self.heard = heard

    def heard_anywhere(self):
        return self.heard

    def terminated(self, what):
        return TerminatedError(f"told to end while {what}")


def peers(failure=None, silent=()):
    return SimpleNamespace(failure=failure, silent=lambda for_sec: list(silent) if for_sec == SILENT_PEER_SEC else [])


def judged(elapsed_sec, *, limit_sec=100.0, stop=None, of=None, needs_peers=False, stop_after_sec=30.0, setting=""):
    wait = watchdog._Wait("clips", limit_sec, setting, needs_peers, stop_after_sec)
    return Watchdog(stop or Stopping(), of)._judge(wait, elapsed_sec)


@pytest.mark.parametrize(
    ("elapsed_sec", "needs_peers", "kind"),
    [(100.0, False, None), (100.1, False, StalledError), (100.0, True, None), (100.1, True, PeerLostError)],
)
def test_a_wait_that_exceeds_its_limit_is_given_up(elapsed_sec, needs_peers, kind):
    error = judged(elapsed_sec, needs_peers=needs_peers, setting="data.batch_deadline_sec")
    assert type(error) is (kind or type(None))
    if kind:
        assert str(error) == "gave up waiting for clips after 100 s (data.batch_deadline_sec)"
        assert str(judged(elapsed_sec)) == "gave up waiting for clips after 100 s"


@pytest.mark.parametrize(
    ("elapsed_sec", "heard", "ends"), [(30.0, True, False), (30.1, True, True), (99.0, False, False)]
)
def test_a_wait_goes_on_for_a_while_after_a_signal(elapsed_sec, heard, ends):
    error = judged(elapsed_sec, stop=Stopping(heard))
    assert isinstance(error, TerminatedError) is ends
    assert ends or error is None


def test_the_failure_of_another_rank_ends_a_wait_for_it_at_once_and_no_other():
    permanent, lost = Failure(2, 3, "bad data"), Failure(2, 143, "preempted")
    assert type(judged(0.1, of=peers(permanent), needs_peers=True)) is FailedElsewhereError
    assert str(judged(0.1, of=peers(lost), needs_peers=True)) == "rank 2 ended: preempted"
    assert judged(0.1, of=peers(permanent), needs_peers=False) is None


@pytest.mark.parametrize(
    ("elapsed_sec", "needs_peers", "lost"), [(15.0, True, False), (15.1, True, True), (15.1, False, False)]
)
def test_silent_ranks_are_lost_once_they_are_waited_for_a_quarter_of_a_minute(elapsed_sec, needs_peers, lost):
    error = judged(elapsed_sec, of=peers(silent=(1, 3)), needs_peers=needs_peers)
    assert (str(error) if error else None) == ("no heartbeat from rank 1, 3 for 60 s, in clips" if lost else None)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass with each look; a watchdog looks as often as the list is long."""
    now = [1000.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def enter(dog, clock, limit_sec):
    """Begin a wait, by the test's clock; returns its context."""
    context = dog.waiting("clips", limit_sec)
    context.__enter__()
    dog._wait.since = clock[0]
    return context


def look(dog, clock, *steps):
    """Let the watchdog look after each step: so many seconds, or something to do."""
    left = iter(steps)

    def wait(_sec):
        step = next(left, None)
        if step is None:
            return True
        if callable(step):
            step()
        else:
            clock[0] += step
        return False

    dog._closed = SimpleNamespace(wait=wait)
    dog._watch()


def test_a_long_wait_is_shown_once_until_it_is_over(clock, caplog):
    told = []
    dog = Watchdog(Stopping())
    dog.on_notice = told.append
    context = enter(dog, clock, 1e9)
    look(dog, clock, NOTICE_SEC, 0.4, 100.0, lambda: context.__exit__(None, None, None), 1.0)
    assert told == ["clips", None]
    assert caplog.messages == ["waiting for clips for 30 s"]


def test_a_thread_that_stays_stuck_is_ended_after_the_grace_period_with_the_first_verdict(clock):
    ends, words = [], []
    dog = Watchdog(Stopping(), end=ends.append)

    def fail(_error):
        raise OSError("a full disk")

    dog.last_words = [fail, lambda error: words.append(str(error))]
    context = enter(dog, clock, 10.0)
    look(dog, clock, 10.0, 0.5, GRACE_SEC)
    assert ends == []
    assert isinstance(dog.verdict, StalledError)
    look(dog, clock, 0.0, GRACE_SEC + 0.1, 1000.0)
    assert ends == [StalledError.exit_code]
    assert words == ["gave up waiting for clips after 10 s"]
    del context  # a context that is dropped ends its wait


def test_a_thread_that_unwinds_in_time_is_not_ended(clock):
    ends = []
    dog = Watchdog(Stopping(), end=ends.append)
    context = enter(dog, clock, 10.0)

    def unwind():
        with pytest.raises(StalledError):
            context.__exit__(None, None, None)

    look(dog, clock, 10.5, unwind, GRACE_SEC + 100.0)
    assert ends == []


def test_a_wait_within_another_counts_and_the_outer_one_begins_anew(clock):
    dog = Watchdog(Stopping())
    with dog.waiting("an epoch", 10.0):
        clock[0] += 9.0
        with dog.waiting("clips", 100.0):
            clock[0] += 50.0
            assert dog._wait.what == "clips"
        look(dog, clock, 10.0)
        assert (dog._wait.what, dog.verdict) == ("an epoch", None)
    assert dog._wait is None
