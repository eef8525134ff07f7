"""The ``ffmpeg`` program: makes files of every kind, and says which frames a file shows, when, and in which colours."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from tests.videos import number_of, numbered_frame

WIDTH, HEIGHT = 96, 64
TINT = np.array([1.0, 0.85, 0.65])
"""Makes the boards coloured, so that a wrong matrix or range shows."""


def run(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run it; its errors are the test's."""
    command = [get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=900)


@lru_cache(maxsize=4)
def boards(num_frames: int, first: int = 0) -> bytes:
    """Raw RGB frames that show their numbers in colour."""
    frames = [numbered_frame(first + number, WIDTH, HEIGHT) for number in range(num_frames)]
    return b"".join(np.clip(frame * TINT, 0, 255).astype(np.uint8).tobytes() for frame in frames)


def make(path: Path, options: str, *, num_frames: int = 90, rate: str = "30", first: int = 0, extra: str = "") -> Path:
    """Encode boards by ffmpeg's options; ``extra``, further inputs."""
    raw = path.with_name(f"boards-{num_frames}-{first}.rgb")
    if not raw.exists():
        raw.write_bytes(boards(num_frames, first))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", rate, "-i", str(raw)]
    run("-v", "error", *source, *extra.split(), *options.split(), str(path))
    return path


@dataclass(frozen=True)
class Shown:
    """What ffmpeg shows of a file."""

    times_sec: list[float]
    frames: np.ndarray
    """uint8 [N, H, W, 3]"""

    @property
    def numbers(self) -> list[int]:
        """The numbers on the boards."""
        return [number_of(frame) for frame in self.frames]


def shown(path: Path, *, filters: str = "", upright: bool = False, passthrough: bool = True) -> Shown:
    """Every frame of a file's best video, with the time at which ffmpeg shows it."""
    rotate = [] if upright else ["-noautorotate"]
    # The sound is decoded too, since ffmpeg takes for time 0 where the earliest of the streams that it reads begins.
    with av.open(str(path)) as container:
        sound = ["-vn", "-sn", "-dn", "-f", "null", "-"] if container.streams.audio else []
    chain = ",".join(part for part in (filters, "showinfo") if part)
    timing = ["-fps_mode", "passthrough"] if passthrough else []
    # One thread: with several, FFmpeg's decoder of Theora shows other pixels now and then, on a busy machine mostly.
    done = run(
        "-v", "info", *rotate, "-threads", "1", "-i", str(path), "-an", "-sn", "-dn", *timing, "-vf", chain,
        "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1", *sound,
    )  # fmt: skip
    log = done.stderr.decode(errors="replace")
    times = [float(text) for text in re.findall(r"pts_time:\s*(\S+)", log)]
    sizes = re.findall(r"showinfo.* s:(\d+)x(\d+)", log)
    width, height = (int(size) for size in sizes[0])
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    return Shown(times[: len(frames)], frames)
