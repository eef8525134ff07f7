"""Files that are kept open: the most recently used, and when the memory of closed ones is given back."""

import pytest

from tsp.data.video import open_sources
from tsp.data.video.open_sources import OpenSources


class Source:
    opened: list[str]
    closed: list[str]

    def __init__(self, path):
        self.path = path
        Source.opened.append(path)

    def close(self):
        Source.closed.append(self.path)


@pytest.fixture
def counted(monkeypatch):
    """Counts collections and trims."""
    counts = {"collected": 0, "trimmed": 0}

    def count(name):
        counts[name] += 1

    Source.opened, Source.closed = [], []
    monkeypatch.setattr(open_sources, "VideoSource", Source)
    monkeypatch.setattr(open_sources.gc, "collect", lambda: count("collected"))
    monkeypatch.setattr(open_sources, "_malloc_trim", lambda pad: pad == 0 and count("trimmed"))
    return counts


def test_the_least_recently_used_file_is_closed_first(counted):
    sources = OpenSources(2)
    for path in ("a", "b", "a", "c", "a", "b"):
        assert sources.get(path).path == path
    assert (Source.opened, Source.closed) == (["a", "b", "c", "b"], ["b", "c"])
    sources.drop("a")
    sources.drop("never opened")
    sources.close()
    sources.close()
    assert Source.closed == ["b", "c", "a", "b"]


def test_memory_of_closed_files_is_freed_every_8_and_given_back_every_64(counted, monkeypatch):
    sources = OpenSources(1)
    for number in range(129):
        sources.get(str(number))
        assert (counted["collected"], counted["trimmed"]) == (number // 8, number // 64)
    monkeypatch.setattr(open_sources, "_malloc_trim", None)  # as without glibc
    for number in range(65):
        sources.get(str(number))
    assert (counted["collected"], counted["trimmed"]) == (193 // 8, 2)
