"""Decoding processes: the same chunks as without them, and what happens when one dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tsp.data.dataset_files import Videos
from tsp.data.tables import VideoFacts
from tsp.errors import StoreUnreachableError
from tsp.extract.decode import CHUNK_FRAMES, Chunk, VideoEnd
from tsp.extract.pool import Event, VideoFailure, _Worker, decode_videos
from tsp.extract.slide_plan import SlidePlan
from tsp.store.local import LocalStore

Drawn = tuple[Path, dict[str, int]]
PLAN = SlidePlan(1, 16, 15.0, pads_short=True)


def rows(drawn: Drawn) -> list[VideoFacts]:
    return [VideoFacts(name, frames / 30, 30.0, frames) for name, frames in drawn[1].items()]


def by_video(events: Iterator[Event]) -> dict[str, list[Chunk | VideoEnd | VideoFailure]]:
    found: dict[str, list[Chunk | VideoEnd | VideoFailure]] = {}
    for video, event in events:
        found.setdefault(video.name, []).append(event)
    return found


def test_processes_give_the_same_chunks_as_decoding_here(drawn_videos: Drawn) -> None:
    place = Videos(LocalStore(drawn_videos[0]))
    here = by_video(decode_videos(place, rows(drawn_videos), PLAN, workers=0))
    there = by_video(decode_videos(place, rows(drawn_videos), PLAN, workers=2))
    assert here.keys() == there.keys()
    for name, events in here.items():
        assert [type(event) for event in events] == [type(event) for event in there[name]]
        for a, b in zip(events, there[name], strict=True):
            if isinstance(a, Chunk) and isinstance(b, Chunk):
                np.testing.assert_array_equal(a.pixels, b.pixels)
                np.testing.assert_array_equal(a.rows, b.rows)
            else:
                assert a == b


def test_a_chunk_is_bounded_and_forgets_what_no_later_clip_needs(drawn_videos: Drawn) -> None:
    num_seen = 0
    for _, event in decode_videos(Videos(LocalStore(drawn_videos[0])), rows(drawn_videos)[:1], PLAN, workers=0):
        if isinstance(event, Chunk):
            num_seen += len(event.pixels)
            assert len(event.pixels) <= CHUNK_FRAMES
            assert num_seen - event.oldest_position <= 16
            assert event.rows.size == 0 or event.rows.max() < num_seen


@dataclass
class DeadlyVideos:
    """Videos of which one kills whoever opens it."""

    folder: Path
    deadly: str

    @contextmanager
    def reading(self, filename: str) -> Iterator[Path]:
        if filename == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        yield self.folder / filename


def test_a_process_that_dies_takes_only_its_video_along(drawn_videos: Drawn) -> None:
    place = DeadlyVideos(drawn_videos[0], "middle.mp4")
    found = by_video(decode_videos(place, rows(drawn_videos), PLAN, workers=1))
    assert {name: type(events[-1]) for name, events in found.items()} == {
        "long": VideoEnd, "middle": VideoFailure, "other": VideoEnd, "short": VideoEnd,
    }  # fmt: skip
    assert found["middle"] == [VideoFailure("its decoding process died (exit code -9)")]


@dataclass
class NoStore:
    """Videos that cannot be reached."""

    @contextmanager
    def reading(self, filename: str) -> Iterator[Path]:
        raise StoreUnreachableError(f"{filename}: the store does not answer")
        yield


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_no_fault_of_a_video_ends_the_work(workers: int, drawn_videos: Drawn) -> None:
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        list(decode_videos(NoStore(), rows(drawn_videos), PLAN, workers=workers))


def test_work_that_is_given_up_leaves_no_process_behind(drawn_videos: Drawn) -> None:
    import multiprocessing

    events = decode_videos(Videos(LocalStore(drawn_videos[0])), rows(drawn_videos), PLAN, workers=1)
    next(events)
    assert [process.name for process in multiprocessing.active_children()] == ["decoder"]
    events.close()
    assert not multiprocessing.active_children()


def test_a_process_that_dies_just_after_it_was_seen_alive_costs_no_video(
    drawn_videos: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = _Worker(Videos(LocalStore(drawn_videos[0])), PLAN)
    process = worker._process
    try:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        monkeypatch.setattr(process, "is_alive", lambda: True)
        worker.start(rows(drawn_videos)[-1])
        while isinstance(event := worker.receive(), Chunk):
            pass
        assert isinstance(event, VideoEnd)
    finally:
        worker.stop()
