"""Files made of other files: joined, cut, with more streams, as programs and people leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests import ffmpeg
from tests.data.video.field_coded import write_field_coded

X264 = "-c:v libx264 -g 25 -bf 3 -crf 14 -threads 1 -pix_fmt yuv420p"
X265 = "-c:v libx265 -crf 14 -x265-params log-level=error:keyint=25:pools=1 -pix_fmt yuv420p"
X265_OPEN = X265.replace("keyint=25", "keyint=25:open-gop=1:bframes=3")
FRAGMENTS = "-movflags +frag_keyframe+empty_moov+default_base_moof+skip_trailer"
TONE = "-f lavfi -i sine=440:duration=5"
MANY = "-c:v {} -q:v 2 -pix_fmt yuv420p"


def copied(*options: str, before: str = "") -> Callable[[Path, Path], None]:
    """Through ffmpeg once more, without encoding."""

    def do(source: Path, target: Path) -> None:
        ffmpeg.run("-v", "error", *before.split(), "-i", str(source), "-c", "copy", *options, str(target))

    return do


def joined(offset_sec: float) -> Callable[[Path, Path], None]:
    """The file, and behind it the numbers from 90 on with another clock."""

    def do(source: Path, target: Path) -> None:
        second = source.with_name(f"second-{target.name}")
        ffmpeg.make(second, f"{X264} -output_ts_offset {offset_sec}", first=90)
        target.write_bytes(source.read_bytes() + second.read_bytes())

    return do


def joined_of(options: str) -> Callable[[Path, Path], None]:
    """The file, and behind it another of its kind with the numbers from 90 on."""

    def do(source: Path, target: Path) -> None:
        second = ffmpeg.make(source.with_name(f"second-{target.name}"), options, first=90)
        target.write_bytes(source.read_bytes() + second.read_bytes())

    return do


def fields(source: Path, target: Path, apart: bool) -> None:
    """Some frames as two fields; not made of the source, which no program writes so."""
    write_field_coded(target, 90, apart=apart)


def followed_by(options: str) -> Callable[[Path, Path], None]:
    """The file, and on the same clock behind it pictures of another form."""

    def do(source: Path, target: Path) -> None:
        second = source.with_name(f"second-{target.name}")
        ffmpeg.make(second, f"{options} -output_ts_offset 3.0667", first=90)
        target.write_bytes(source.read_bytes() + second.read_bytes())

    return do


def two_programs(source: Path, target: Path) -> None:
    """Two programs, as a tuner records them; the file's own is the second, with larger pictures."""
    small = "color=red:s=32x32:r=30:d=3"
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", small, "-i", str(source), "-map", "0:v", "-map", "1:v", "-c:v:0",
               "mpeg2video", "-c:v:1", "copy", "-program", "st=0", "-program", "st=1", str(target))  # fmt: skip


def two_videos(source: Path, target: Path) -> None:
    """A small video first, the file's own after it."""
    small = "color=red:s=32x32:r=30:d=3"
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", small, "-i", str(source), "-map", "0:v", "-map", "1:v",
               "-c:v:0", "libx264", "-c:v:1", "copy", "-disposition:v:0", "0", str(target))  # fmt: skip


def _cover(path: Path) -> Path:
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", "color=blue:s=640x480", "-frames:v", "1", str(path))
    return path


def with_cover(source: Path, target: Path) -> None:
    """A large picture attached."""
    cover = _cover(source.with_suffix(".jpg"))
    ffmpeg.run("-v", "error", "-i", str(source), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy",
               "-disposition:v:1", "attached_pic", str(target))  # fmt: skip


def attached_picture(source: Path, target: Path) -> None:
    """A large picture among Matroska's attachments."""
    cover = _cover(source.with_suffix(".png"))
    ffmpeg.run("-v", "error", "-i", str(source), "-c", "copy", "-attach", str(cover), "-metadata:s:t",
               "mimetype=image/png", "-metadata:s:t", "filename=cover.png", str(target))  # fmt: skip


def with_subtitles(source: Path, target: Path) -> None:
    """Text from before the picture's end until long after it."""
    text = source.with_suffix(".srt")
    text.write_text("1\n00:00:01,000 --> 00:00:20,000\nwords\n")
    codec = "mov_text" if target.suffix == ".mp4" else "srt"
    attached = ["-attach", str(text), "-metadata:s:t", "mimetype=text/plain"] if target.suffix == ".mkv" else []
    ffmpeg.run("-v", "error", "-i", str(text), "-i", str(source), "-map", "0", "-map", "1:v", "-c:v", "copy",
               "-c:s", codec, *attached, str(target))  # fmt: skip


def dash_joined(source: Path, target: Path, without: int = 0) -> None:
    """The head and the segments that a DASH server sends, as a download joins them."""
    folder = source.with_suffix(".dash")
    folder.mkdir()
    ffmpeg.run("-v", "error", "-i", str(source), "-c", "copy", "-seg_duration", "0.5", "-f", "dash",
               str(folder / "all.mpd"))  # fmt: skip
    parts = sorted(folder.glob("chunk-*.m4s"))[without:]
    target.write_bytes(b"".join(part.read_bytes() for part in (folder / "init-stream0.m4s", *parts)))


def hls_joined(source: Path, target: Path, without: int = 0) -> None:
    """The segments that an HLS server sends, one behind the other."""
    folder = source.with_suffix(".hls")
    folder.mkdir()
    ffmpeg.run("-v", "error", "-i", str(source), "-c", "copy", "-hls_time", "0.5", "-hls_list_size", "0", "-f", "hls",
               "-hls_segment_filename", str(folder / "%03d.ts"), str(folder / "all.m3u8"))  # fmt: skip
    target.write_bytes(b"".join(part.read_bytes() for part in sorted(folder.glob("*.ts"))[without:]))


LATE = f"-itsoffset 2 -i {{}} {TONE} -map 0:v -map 1:a"
