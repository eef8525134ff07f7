"""What an extraction reports of itself while it runs and when it has ended."""

from types import SimpleNamespace

import pytest

from cli.runs.job_progress import DONE
from tsp.extract import progress
from tsp.extract.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the clock shows, beginning far from zero."""
    now = SimpleNamespace(sec=1000.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.sec)
    return now


def test_rate_time_left_and_facts_count_from_the_beginning(clock):
    stream = SimpleNamespace(num_clips=0)
    shown = Progress(stream, num_videos=4, num_clips=600)
    clock.sec += 20
    assert str(shown) == "0 of 4 videos, 0 of 600 clips, 0.0 clips/s"
    stream.num_clips, shown.videos_done = 120, 1
    clock.sec += 20.04
    assert str(shown) == "1 of 4 videos, 120 of 600 clips, 3.0 clips/s, about 3 min left"
    stream.num_clips = 240
    clock.sec = 1060.0
    shown._num_clips = 240 + 4 * 60 * 59
    assert str(shown).endswith(", about 59 min left"), "a minute has 60 seconds"
    shown._num_clips = 240 + 602
    assert str(shown).endswith(", about 3 min left"), "150.5 s are more than two and a half"
    stream.num_clips, shown._num_clips = 251, 250
    assert str(shown).endswith(", about 0 min left"), "more clips than were expected"
    stream.num_clips, shown._num_clips = 120, 600
    clock.sec = 1040.04
    assert DONE.match(f"INFO {shown}").groups() == ("1", "4", "videos")  # for status
    assert shown.facts() == {"clips_extracted": 120, "seconds": 40.0, "clips_per_sec": 3.0}
    clock.sec = 1047.27
    assert shown.facts() == {"clips_extracted": 120, "seconds": 47.3, "clips_per_sec": 2.5}


def test_progress_is_logged_every_ten_seconds_while_events_pass(clock, caplog):
    caplog.set_level("INFO")
    shown, passed = Progress(SimpleNamespace(num_clips=0), num_videos=1, num_clips=6), []
    for event in shown.watched(range(6)):
        passed.append(event)
        clock.sec += 4
    assert passed == list(range(6))
    assert len(caplog.records) == 2  # after 12 and 24 of 24 seconds
