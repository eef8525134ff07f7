"""Decodes videos in parallel processes; if a process dies, only its video is lost.

Each process has a pipe, which blocks until the reader takes a chunk: at most one chunk per process is in memory, and
/dev/shm is not needed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np

from tsp.data.child_processes import end_with_parent, forkserver
from tsp.data.dataset_files import Videos
from tsp.data.tables import VideoFacts
from tsp.errors import DataError, TspError
from tsp.extract.decode import Chunk, VideoEnd, decode_video
from tsp.extract.slide_plan import SlidePlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """A video that could not be decoded."""

    message: str


Event = tuple[VideoFacts, Chunk | VideoEnd | VideoFailure]


def decode_videos(source: Videos, videos: Sequence[VideoFacts], plan: SlidePlan, *, workers: int) -> Iterator[Event]:
    """The videos chunk by chunk; chunks of one video come in order, those of several are interleaved.

    Args: workers, decoding processes; 0 decodes here.
    Raises: errors that are not the fault of a single video, such as a store that does not answer.
    """
    if workers == 0:
        for video in videos:
            yield from ((video, event) for event in _decode_or_fail(source, video, plan))
        return
    waiting = list(reversed(videos))
    crew = [_Worker(source, plan) for _ in range(min(workers, len(videos)))]
    try:
        for worker in crew:
            worker.start(waiting.pop())
        while busy := {worker.connection: worker for worker in crew if worker.video is not None}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                under_way = worker.video
                assert under_way is not None
                event = worker.receive()
                if not isinstance(event, Chunk):
                    worker.video = None
                    if waiting:
                        worker.start(waiting.pop())
                yield under_way, event
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """A decoding process, replaced if it dies."""

    def __init__(self, source: Videos, plan: SlidePlan) -> None:
        self._source = source
        self._plan = plan
        self.video: VideoFacts | None = None
        """The video it is decoding."""
        self._launch()

    def _launch(self) -> None:
        # A child of a small server process: a fork of this one, with its threads and GPU, may hang.
        context = forkserver("tsp.extract.pool")
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, self._source, self._plan), name="decoder", daemon=True
        )
        self._process.start()
        theirs.close()

    def start(self, video: VideoFacts) -> None:
        """Start decoding a video, in a new process if the idle one has died; it may die at any time."""
        self.video = video
        if self._process.is_alive():
            with contextlib.suppress(OSError):
                self.connection.send(video)
                return
        self.connection.close()
        self._launch()
        self.connection.send(video)

    def receive(self) -> Chunk | VideoEnd | VideoFailure:
        """The next event of its video."""
        try:
            event = receive(self.connection)
        except (EOFError, OSError):
            self._process.join()
            return VideoFailure(f"its decoding process died (exit code {self._process.exitcode})")
        if isinstance(event, TspError):
            raise event
        return event

    def stop(self) -> None:
        """Kill the process."""
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _work(connection: Connection, source: Videos, plan: SlidePlan) -> None:
    """A decoding process: videos come in, events go out, until the other end is closed."""
    end_with_parent()
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            try:
                for event in _decode_or_fail(source, connection.recv(), plan):
                    send(connection, event)
            except TspError as error:
                connection.send(error)
                return


def send(connection: Connection, event: Chunk | VideoEnd | VideoFailure) -> None:
    """Send an event; pixels follow as plain bytes, replaced by their shape in the event."""
    if isinstance(event, Chunk):
        connection.send(replace(event, pixels=event.pixels.shape))  # type: ignore[arg-type]
        if event.pixels.size:
            connection.send_bytes(event.pixels.data.cast("B"))
    else:
        connection.send(event)


def receive(connection: Connection) -> Chunk | VideoEnd | VideoFailure | TspError:
    """Receive what ``send`` sent, or an error.

    Raises: EOFError or OSError if the other end is gone.
    """
    event: Chunk | VideoEnd | VideoFailure | TspError = connection.recv()
    if isinstance(event, Chunk):
        event = replace(event, pixels=np.empty(event.pixels, np.uint8))
        if event.pixels.size:
            connection.recv_bytes_into(event.pixels.data.cast("B"))
    return event


def _decode_or_fail(source: Videos, video: VideoFacts, plan: SlidePlan) -> Iterator[Chunk | VideoEnd | VideoFailure]:
    try:
        yield from decode_video(source, video, plan)
    except DataError as error:
        yield VideoFailure(str(error))
    except (TspError, MemoryError):
        raise
    except Exception as error:  # a damaged file may raise anything; it must not stop the others
        yield VideoFailure(f"{video.filename} cannot be decoded: {type(error).__name__}: {error}")
