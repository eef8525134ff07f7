"""Which video is fetched next, and when fetching waits; no thread and no store."""

from types import SimpleNamespace

import pytest

from tsp.data.prefetch import Prefetcher


class WaitedError(Exception):
    """Nothing may be fetched now."""


@pytest.fixture
def prefetching():
    """A prefetcher of videos that have ten bytes each, and what fetches the next one here."""

    def make(*keys_by_step, ahead_bytes):
        made = Prefetcher(SimpleNamespace(), keys_by_step, ahead_bytes=ahead_bytes)

        def wait():
            raise WaitedError

        made._changed.wait = wait

        def fetch():
            task = made._next()
            if task is None:
                return None
            made._fetched.append((task[1], 10))
            return task[0]

        return made, fetch

    return make


def fetched(fetch):
    """All that may be fetched now."""
    keys = []
    while True:
        try:
            key = fetch()
        except WaitedError:
            return keys
        if key is None:
            return [*keys, "the end"]
        keys.append(key)


def test_each_video_is_fetched_once_in_the_order_of_its_first_use(prefetching):
    _, fetch = prefetching(["b", "a"], [], ["a", "c", "b"], ["d"], ahead_bytes=1000)
    assert fetched(fetch) == ["b", "a", "c", "d", "the end"]


@pytest.mark.parametrize(("ahead_bytes", "num"), [(1, 1), (10, 1), (11, 2), (30, 3), (31, 4)])
def test_fetching_waits_once_enough_lies_ahead(prefetching, ahead_bytes, num):
    _, fetch = prefetching(*(f"{step}" for step in range(6)), ahead_bytes=ahead_bytes)
    assert fetched(fetch) == [f"{step}" for step in range(num)]


def test_what_was_used_makes_room_and_what_is_used_now_does_not(prefetching):
    made, fetch = prefetching(["a", "b"], ["c"], ["d"], ["e"], ["f"], ahead_bytes=30)
    assert fetched(fetch) == ["a", "b", "c"]
    made.advance(0)
    assert fetched(fetch) == []
    made.advance(1)
    assert fetched(fetch) == ["d", "e"]
    made.advance(3)
    assert fetched(fetch) == ["f", "the end"]


def test_nothing_is_fetched_once_it_is_over(prefetching):
    made, fetch = prefetching(["a"], ["b"], ahead_bytes=10)
    assert fetch() == "a"
    made.__exit__()
    assert fetch() is None
