"""Files that nobody thought of: codec, container, rate, times and what was done to them afterwards, drawn from a seed.

What is left out has no right answer: two frames of one time, what FFmpeg itself writes with times that fall, and
MPEG-PS, where FFmpeg's parser gives times to the wrong frames now and then.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests import ffmpeg

_MP4 = (".mp4", ".mov", ".m4v", ".3gp")
_TIMES_OF_DECODING = (".avi", ".asf", ".wmv")
_TONE = {
    ".webm": "libopus -ar 48000",
    ".ogv": "libvorbis",
    ".avi": "mp3",
    ".nut": "mp3",
    ".wmv": "wmav2",
    ".asf": "wmav2",
}
_NO_SOUND = (".ivf", ".gif", ".mxf")


@dataclass(frozen=True)
class Codec:
    """How FFmpeg encodes, in which formats, into which containers."""

    options: str
    pixels: tuple[str, ...]
    suffixes: tuple[str, ...]
    is_reordered: bool = True
    """Whether its decoder may put frames out in another order than they are stored."""


_LIST = {
    "h264": Codec(
        "libx264 -preset ultrafast -crf 12 -g {gop} -bf {b} -x264-params b-pyramid={pyramid}:open-gop={open}",
        ("yuv420p", "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "gray", "yuv420p10le"),
        (*_MP4, ".mkv", ".avi", ".flv", ".ts", ".m2ts", ".nut", ".asf"),
    ),
    "hevc": Codec(
        "libx265 -preset ultrafast -crf 12 -x265-params log-level=none:bframes={b}:keyint={gop}:open-gop={open}",
        ("yuv420p", "yuv422p10le", "yuv444p", "gray"), (".mp4", ".mov", ".mkv", ".ts", ".m4v", ".nut"),
    ),
    "mpeg4": Codec("mpeg4 -q:v 2 -g {gop} -bf {few}", ("yuv420p",), (*_MP4, ".mkv", ".avi", ".ts", ".nut", ".asf")),
    "mpeg2": Codec("mpeg2video -q:v 2 -g 15 -bf {few}", ("yuv420p", "yuv422p"), (".ts", ".mkv", ".mp4", ".mxf")),
    "mpeg1": Codec("mpeg1video -q:v 2 -g 15 -bf {few}", ("yuv420p",), (".mkv", ".mp4", ".ts")),
    "vp8": Codec("libvpx -b:v 4M -g {gop} -auto-alt-ref {open} -lag-in-frames {lag} -deadline realtime -cpu-used 8",
                 ("yuv420p", "yuva420p"), (".webm", ".mkv", ".ivf", ".avi"), False),
    "vp9": Codec("libvpx-vp9 -b:v 4M -g {gop} -auto-alt-ref {open} -lag-in-frames {lag} -deadline realtime -cpu-used 8",
                 ("yuv420p", "yuv444p", "yuv420p10le"), (".webm", ".mkv", ".ivf", ".mp4"), False),
    "av1": Codec("libsvtav1 -preset 12 -crf 20 -g {gop}", ("yuv420p", "yuv420p10le"), (".mp4", ".mkv", ".webm"), False),
    "mjpeg": Codec("mjpeg -q:v 2", ("yuvj420p", "yuvj422p", "yuvj444p"), (".avi", ".mov", ".mkv", ".mp4"), False),
    "ffv1": Codec("ffv1", ("yuv420p", "yuv422p10le", "gray", "bgr0", "yuva444p"), (".mkv", ".avi", ".nut"), False),
    "prores": Codec("prores_ks", ("yuv422p10le", "yuva444p10le"), (".mov", ".mkv"), False),
    "theora": Codec("libtheora -q:v 10 -g 25", ("yuv420p", "yuv444p"), (".ogv", ".mkv"), False),
    "wmv2": Codec("wmv2 -q:v 2 -g {gop}", ("yuv420p",), (".wmv", ".asf", ".avi", ".mkv"), False),
    "flv1": Codec("flv -q:v 2 -g {gop}", ("yuv420p",), (".flv", ".mkv", ".avi"), False),
    "png": Codec("png", ("rgb24", "rgba", "gray"), (".mov", ".mkv", ".avi"), False),
    "raw": Codec("rawvideo", ("yuv420p", "yuyv422"), (".avi", ".mov", ".nut"), False),
}  # fmt: skip
_MOV_FLAGS = ("", "", "+faststart", "+frag_keyframe+empty_moov", "+frag_keyframe", "+negative_cts_offsets", "+cmaf")
_RATES = ("30", "25", "24", "30000/1001", "24000/1001", "60", "50", "15", "10", "12.5", "59.94", "8")
_BROADCAST_RATES = ("30", "25", "24", "30000/1001")


@dataclass(frozen=True)
class RandomKind:
    """A file to make, and how its oracle is to be read."""

    seed: int
    suffix: str
    options: str
    rate: str
    num_frames: int
    extra: str
    afterwards: str
    """What is done to the file once it is there: nothing, copy, or trim."""
    is_delayed: bool
    """ffmpeg shows all frames later, by the decoder's delay: the container stores no times of presentation."""


def draw(seed: int) -> RandomKind:
    """The kind of this seed."""
    rng = random.Random(seed)
    name = rng.choice([*_LIST, "h264", "h264", "h264", "hevc"])
    codec = _LIST[name]
    suffix = rng.choice(codec.suffixes)
    choices = {
        "gop": rng.choice((1, 5, 12, 25, 60, 250)), "b": rng.choice((0, 0, 1, 2, 3, 5)), "few": rng.choice((0, 1, 2)),
        "pyramid": rng.choice(("none", "normal", "strict")), "open": rng.choice((0, 1)), "lag": rng.choice((0, 12)),
    }  # fmt: skip
    is_delayed = suffix in _TIMES_OF_DECODING and codec.is_reordered
    words = ["-c:v", *codec.options.format(**choices).split(), "-pix_fmt", rng.choice(codec.pixels)]
    filters = [*_times(rng, is_delayed), *rng.choice(([], [], [], ["setsar=4/3"], ["setfield=tff"]))]
    words += ["-vf", ",".join(filters), "-fps_mode", "vfr"] if filters else []
    words += rng.choice(([], [], ["-colorspace", "bt709"], ["-color_range", "pc"], ["-colorspace", "smpte170m"]))
    if not is_delayed and suffix != ".ogv":
        words += rng.choice(([], [], [], ["-output_ts_offset", "0.5"], ["-output_ts_offset", "3600"]))
    if suffix in _MP4:
        words += ["-movflags", flags] if (flags := rng.choice(_MOV_FLAGS)) else []
        words += rng.choice(([], [], ["-video_track_timescale", "12345"], ["-video_track_timescale", "90000"]))
    if suffix in (".mkv", ".webm"):
        words += rng.choice(([], [], ["-live", "1"], ["-cluster_time_limit", "100"]))
    extra = ""
    if suffix not in _NO_SOUND and rng.random() < 0.3:
        late = rng.choice(("", "", "-itsoffset 1 ", "-itsoffset 0.1 ")) if not is_delayed else ""
        extra = f"{late}-f lavfi -i sine=d={rng.choice((1, 3))}"
        maps = rng.choice((("0:v", "1:a"), ("1:a", "0:v")))
        sound = _TONE.get(suffix, "aac")
        words += ["-map", maps[0], "-map", maps[1], "-c:a", *sound.split()]
    return RandomKind(
        seed=seed, suffix=suffix, options=" ".join(words), num_frames=rng.choice((45, 60, 90)), extra=extra,
        rate=rng.choice(_BROADCAST_RATES if name.startswith("mpeg") else _RATES),
        afterwards=rng.choice(("", "", "copy", "trim" if suffix in (".mp4", ".mkv", ".mov") else "copy")),
        is_delayed=is_delayed,
    )  # fmt: skip


def _times(rng: random.Random, is_delayed: bool) -> list[str]:
    """A filter that makes frames late or their rate vary, if any."""
    if is_delayed:
        return []
    return rng.choice(
        ([], [], [], [], ["setpts='if(lt(N,30),N,30+(N-30)*2)'"], ["setpts='N+7'"], ["setpts='N+gt(N,10)*15'"])
    )


def make(seed: int, folder: Path) -> tuple[RandomKind, Path, ffmpeg.Shown]:
    """The first kind from this seed on whose file FFmpeg can write and read: that, its file, and what it shows."""
    for number in itertools.count():
        kind = draw(seed + number * 1_000_000)
        with contextlib.suppress(subprocess.CalledProcessError):
            path = _write(kind, folder)
            return kind, path, ffmpeg.shown(path)
    raise AssertionError("it counts for ever")


def _write(kind: RandomKind, folder: Path) -> Path:
    """Its file. Raises: subprocess.CalledProcessError where FFmpeg cannot write it."""
    path = folder / f"{kind.seed}{kind.suffix}"
    ffmpeg.make(path, kind.options, num_frames=kind.num_frames, rate=kind.rate, extra=kind.extra)
    if not kind.afterwards:
        return path
    later = path.with_name(f"{kind.afterwards}-{path.name}")
    from_sec = ["-ss", "0.3"] if kind.afterwards == "trim" else []
    ffmpeg.run("-v", "error", *from_sec, "-i", str(path), "-c", "copy", str(later))
    return later
