"""Every kind of file, made and judged by the ffmpeg program: right frames, at the right times, in the right colours."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import ffmpeg, reference
from tests.data.video.rewritten import packed, with_edits, with_every_block_a_key, without_box
from tests.videos import number_of
from tsp.data.video import ClipReader
from tsp.data.video.inspect import inspect_video
from tsp.data.video.open_video import VideoSource
from tsp.data.video.sliding_clips import Slide, SlideFrame
from tsp.data.video.transcode import transcode

MAX_COLOUR_ERROR = 3.0
"""Levels of 255, mean over a frame and channel."""
X264 = "-c:v libx264 -g 25 -bf 3 -crf 14 -threads 1 -pix_fmt yuv420p"
X265 = "-c:v libx265 -crf 14 -x265-params log-level=error:keyint=25:pools=1 -pix_fmt yuv420p"
TONE = "-f lavfi -i sine=440:duration=5"
MANY = "-c:v {} -q:v 2 -pix_fmt yuv420p"


@dataclass(frozen=True)
class Kind:
    """How to make a file, and what is special about it."""

    suffix: str
    options: str = X264
    rate: str = "30"
    extra: str = ""
    then: Callable[[Path, Path], None] | None = None
    """Makes the file of the one that the options make."""
    fps: Fraction | None = Fraction(30)
    """Its true rate; None where it varies."""
    is_delayed: bool = False
    """ffmpeg shows all frames of AVI later by the decoder's delay: the container stores no times of presentation."""
    lies: bool = False
    """Its container marks frames as key frames that are none."""
    reads: bool = True
    """False: the reader refuses it and says why; standardize takes it."""


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


def with_cover(source: Path, target: Path) -> None:
    """A large picture attached."""
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", "color=blue:s=640x480:d=1", "-i", str(source), "-map", "1:v",
               "-map", "0:v", "-frames:v:1", "1", "-c:v:0", "copy", "-c:v:1", "mjpeg",
               "-disposition:v:1", "attached_pic", str(target))  # fmt: skip


LATE = f"-itsoffset 2 -i {{}} {TONE} -map 0:v -map 1:a"


def late(source: Path, target: Path) -> None:
    """The picture begins two seconds after the sound."""
    ffmpeg.run("-v", "error", "-itsoffset", "2", "-i", str(source), *TONE.split(), "-map", "0:v", "-map", "1:a",
               "-c:v", "copy", "-c:a", "aac", str(target))  # fmt: skip


VARYING = "-vf setpts='if(lt(N,30),N,30+(N-30)*2)/30/TB' -vsync vfr"
DROPPED = "-vf select='not(eq(mod(n,10),5))' -vsync vfr"
COLOUR = "-colorspace {0} -color_primaries {0} -color_trc {0}"
KINDS: dict[str, Kind] = {
    "mp4 h264": Kind(".mp4"),
    "mp4 h264 no B-frames": Kind(".mp4", f"{X264} -bf 0"),
    "mp4 h264 open GOP": Kind(".mp4", f"{X264} -x264-params open-gop=1"),
    "mp4 h264 fragmented": Kind(".mp4", f"{X264} -movflags frag_keyframe+empty_moov"),
    "mp4 h264 with sound": Kind(".mp4", f"{X264} -c:a aac -shortest", extra=TONE),
    "mp4 hevc": Kind(".mp4", X265),
    "mp4 av1": Kind(".mp4", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 25 -pix_fmt yuv420p"),
    "mp4 mpeg4 B-frames": Kind(".mp4", f"{MANY.format('mpeg4')} -bf 2"),
    "mov h264": Kind(".mov"),
    "mov mjpeg": Kind(".mov", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    "mov prores": Kind(".mov", "-c:v prores_ks -pix_fmt yuv422p10le"),
    "mov qtrle alpha": Kind(".mov", "-vf format=argb -c:v qtrle"),
    "3gp mpeg4": Kind(".3gp", MANY.format("mpeg4")),
    "mkv h264": Kind(".mkv"),
    "mkv hevc": Kind(".mkv", X265),
    "mkv mpeg4 B-frames": Kind(".mkv", f"{MANY.format('mpeg4')} -bf 2"),
    "mkv ffv1 RGB": Kind(".mkv", "-c:v ffv1 -pix_fmt bgr0"),
    "mkv with cues at its front, opus": Kind(".mkv", f"{X264} -c:a libopus -shortest", extra=TONE),
    "webm vp8": Kind(".webm", "-c:v libvpx -b:v 2M -auto-alt-ref 1 -lag-in-frames 16 -g 25"),
    "webm vp9": Kind(".webm", "-c:v libvpx-vp9 -b:v 2M -g 25 -pix_fmt yuv420p"),
    "webm vp9 alpha": Kind(".webm", "-c:v libvpx-vp9 -b:v 2M -g 25 -pix_fmt yuva420p"),
    "webm av1": Kind(".webm", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 25 -pix_fmt yuv420p"),
    "avi h264 B-frames": Kind(".avi", is_delayed=True),
    "avi mpeg4": Kind(".avi", MANY.format("mpeg4")),
    "avi mpeg4 B-frames": Kind(".avi", f"{MANY.format('mpeg4')} -bf 2", is_delayed=True),
    "avi mjpeg": Kind(".avi", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    "avi dropped frames": Kind(".avi", f"{DROPPED} {MANY.format('mpeg4')}", fps=None),
    "ts h264": Kind(".ts"),
    "ts h264 with sound": Kind(".ts", f"{X264} -c:a mp2 -shortest", extra=TONE),
    "ts hevc": Kind(".ts", X265),
    "ts mpeg2": Kind(".ts", f"{MANY.format('mpeg2video')} -bf 2"),
    "m2ts h264": Kind(".m2ts"),
    "ts clock restarts": Kind(".ts", then=joined(0)),
    "ts clock jumps": Kind(".ts", then=joined(600)),
    "flv h264": Kind(".flv"),
    "flv flv1": Kind(".flv", MANY.format("flv1")),
    "mpg mpeg1": Kind(".mpg", f"{MANY.format('mpeg1video')} -bf 2"),
    "vob mpeg2": Kind(".vob", f"{MANY.format('mpeg2video')} -bf 2"),
    "wmv wmv2": Kind(".wmv", MANY.format("wmv2")),
    "asf msmpeg4": Kind(".asf", MANY.format("msmpeg4")),
    "ogv theora": Kind(".ogv", "-c:v libtheora -q:v 10"),
    "15 fps": Kind(".mp4", rate="15", fps=Fraction(15)),
    "29.97 fps": Kind(".mp4", rate="30000/1001", fps=Fraction(30000, 1001)),
    "23.976 fps in mkv": Kind(".mkv", rate="24000/1001", fps=Fraction(24000, 1001)),
    "12.5 fps": Kind(".mp4", rate="25/2", fps=Fraction(25, 2)),
    "60 fps": Kind(".mp4", rate="60", fps=Fraction(60)),
    "time base of a frame": Kind(".mp4", f"{X264} -video_track_timescale 30"),
    "mp4 varying rate": Kind(".mp4", f"{VARYING} {X264}", fps=None),
    "mkv varying rate": Kind(".mkv", f"{VARYING} {X264}", fps=None),
    "mp4 begins at 5 s": Kind(".mp4", f"{X264} -output_ts_offset 5"),
    "mkv begins at 5 s": Kind(".mkv", f"{X264} -output_ts_offset 5"),
    "mp4 late picture": Kind(".mp4", then=late),
    "mkv late picture": Kind(".mkv", then=late),
    "ts late picture": Kind(".ts", then=late),
    "mp4 trimmed by an edit list": Kind(".mp4", then=copied(before="-ss 1.3")),
    "mov trimmed by an edit list": Kind(".mov", then=copied(before="-ss 0.9")),
    "mkv trimmed": Kind(".mkv", then=copied(before="-ss 1.3")),
    "ts trimmed": Kind(".ts", then=copied(before="-ss 1.3")),
    "h264 interlaced": Kind(".mp4", f"{X264} -flags +ildct+ilme -x264-params tff=1"),
    "mpeg2 interlaced": Kind(".ts", f"{MANY.format('mpeg2video')} -flags +ildct+ilme -top 1"),
    "full range, JPEG's format": Kind(".mp4", X264.replace("yuv420p", "yuvj420p")),
    "full range, marked": Kind(".mkv", f"-vf scale=out_range=pc,format=yuv420p {X264} -color_range pc"),
    "BT.709": Kind(".mp4", f"-vf scale=out_color_matrix=bt709,format=yuv420p {X264} {COLOUR.format('bt709')}"),
    "BT.601 marked": Kind(".mp4", f"{X264} {COLOUR.format('smpte170m')}"),
    "BT.2020, 10 bit": Kind(
        ".mp4",
        "-vf scale=out_color_matrix=bt2020,format=yuv420p10le -c:v libx264 -crf 14 -g 25 -colorspace bt2020nc "
        "-color_primaries bt2020 -color_trc bt2020-10",
    ),
    "full range BT.709": Kind(
        ".mkv", f"-vf scale=out_range=pc:out_color_matrix=bt709,format=yuv420p {X264} -color_range pc "
        f"{COLOUR.format('bt709')}",
    ),
    "10 bit": Kind(".mp4", X264.replace("yuv420p", "yuv420p10le")),
    "4:2:2": Kind(".mp4", X264.replace("yuv420p", "yuv422p")),
    "4:4:4": Kind(".mp4", X264.replace("yuv420p", "yuv444p")),
    "4:4:4 RGB": Kind(".mp4", "-c:v libx264rgb -crf 10 -g 25"),
    "grey": Kind(".mp4", X264.replace("yuv420p", "gray")),
    "mp4 fragmented after its first part": Kind(".mp4", f"{X264} -movflags frag_keyframe"),
    "mp4 of two edits": Kind(".mp4", then=partial(with_edits, edits=[(1000, 3584), (1000, 26624)])),
    "mp4 that shows a part twice": Kind(
        ".mp4", then=partial(with_edits, edits=[(1000, 1024), (1000, 1024), (1000, 31744)])
    ),
    "mp4 hevc, all frames marked as key frames": Kind(".mp4", X265, then=partial(without_box, name=b"stss"), lies=True),
    "mp4 mpeg4, all frames marked as key frames": Kind(
        ".mp4", f"{MANY.format('mpeg4')} -g 25", then=partial(without_box, name=b"stss"), lies=True
    ),
    "mkv hevc, all frames marked as key frames": Kind(".mkv", X265, then=with_every_block_a_key, lies=True),
    "h264 intra refresh": Kind(".mp4", f"{X264} -bf 0 -x264-params intra-refresh=1", lies=True),
    "avi mpeg4 packed, 1 B-frame": Kind(".avi", f"{MANY.format('mpeg4')} -bf 1 -g 25", then=packed, is_delayed=True),
    "avi mpeg4 packed, 2 B-frames": Kind(".avi", f"{MANY.format('mpeg4')} -bf 2 -g 25", then=packed, is_delayed=True),
    "hevc HLG, turned and trimmed": Kind(
        ".mp4",
        f"-vf scale=out_color_matrix=bt2020,format=yuv420p10le {X265.replace('-pix_fmt yuv420p', '')} -tag:v hvc1 "
        f"-colorspace bt2020nc -color_primaries bt2020 -color_trc arib-std-b67 -c:a aac -shortest",
        extra=TONE, then=copied("-metadata:s:v", "rotate=90", before="-ss 1.25"),
    ),
    "ts clock wraps": Kind(".ts", f"{X264} -c:a mp2 -shortest -output_ts_offset 95442", extra=TONE),
    "mpg clock wraps": Kind(".mpg", f"{MANY.format('mpeg2video')} -bf 2 -output_ts_offset 95442"),
    "ts of two programs": Kind(".ts", then=two_programs),
    "webm live, without duration and cues": Kind(".webm", "-c:v libvpx -b:v 2M -g 25 -live 1"),
    "mov with a time code": Kind(".mov", f"{X264} -timecode 01:00:00:00 -c:a aac -shortest", extra=TONE),
    "mxf mpeg2 with a time code": Kind(".mxf", "-c:v mpeg2video -q:v 2 -pix_fmt yuv422p -timecode 01:00:00:00"),
    "gif": Kind(".gif", "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse", fps=None),
    "mpg telecined": Kind(
        ".mpg", f"-vf telecine {MANY.format('mpeg2video')} -bf 2 -flags +ildct+ilme -r 30000/1001", rate="24000/1001",
        fps=Fraction(30000, 1001),
    ),
    "pixels that are no squares": Kind(".mp4", f"-vf setsar=64/45 {X264}"),
    "pixel format changes": Kind(".ts", then=followed_by(X264.replace("yuv420p", "yuv422p"))),
    "two videos": Kind(".mkv", then=two_videos),
    "a cover": Kind(".mp4", then=with_cover),
    "size changes": Kind(".ts", then=followed_by(f"-vf scale=192:128 {X264}"), reads=False),
    "elementary stream": Kind(".h264", reads=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes each kind of file once."""
    folder, paths = tmp_path_factory.mktemp("kinds"), dict[str, Path]()

    def make(name: str) -> Path:
        if name not in paths:
            kind = KINDS[name]
            path = folder / f"{len(paths)}{kind.suffix}"
            first = path.with_name(f"first-{path.name}") if kind.then else path
            ffmpeg.make(first, kind.options, rate=kind.rate, extra=kind.extra)
            if kind.then:
                kind.then(first, path)
            paths[name] = path
        return paths[name]

    return make


shown_of_kind = functools.lru_cache(maxsize=4)(ffmpeg.shown)
"""The tests of one kind of file come one after the other."""


def oracle(name: str, path: Path) -> ffmpeg.Shown:
    """What ffmpeg shows, with times from 0 where it adds the decoder's delay."""
    truth = shown_of_kind(path)
    if not KINDS[name].is_delayed:
        return truth
    return ffmpeg.Shown([time - truth.times_sec[0] for time in truth.times_sec], truth.frames)


def colour_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The worst channel's mean distance in levels, of frames of one size."""
    return float(np.abs(ours.astype(int) - theirs.astype(int)).mean(axis=tuple(range(ours.ndim - 1))).max())


def as_rgb(frame: SlideFrame) -> np.ndarray:
    """uint8 [H, W, 3]"""
    return frame.pixels.view(np.uint8).reshape(*frame.pixels.shape, 4)[:, : frame.width, :3]


READABLE = [name for name, kind in KINDS.items() if kind.reads]


@pytest.mark.parametrize("name", READABLE, scope="module")
def test_clips_have_the_frames_times_and_colours_that_ffmpeg_shows(made, name):
    path = made(name)
    truth = oracle(name, path)
    numbers, times = truth.numbers, np.array(truth.times_sec)
    source, reader = VideoSource(path), ClipReader()
    fps = source.fps
    assert KINDS[name].fps in (None, fps)
    report = inspect_video(path)
    assert report.num_frames == len(numbers)
    assert report.faults == ()
    assert any("key frames that are none" in remark for remark in report.remarks) is KINDS[name].lies
    last = int(15 * fps / 15)
    for first in sorted({min(first, len(numbers) - 1 - last) for first in (0, 1, 7, len(numbers) // 2, len(numbers))}):
        start_sec = float(times[first]) + 1e-4
        clip = reader.read(path, start_sec)
        wanted = [first + int(k * fps / 15) for k in range(16)]
        assert [number_of(image) for image in clip] == [numbers[index] for index in wanted], first
        assert colour_error(clip, truth.frames[wanted]) <= MAX_COLOUR_ERROR
    reader.close()
    source.close()


@pytest.mark.parametrize("name", READABLE, scope="module")
def test_sliding_clips_hand_out_the_frames_that_ffmpeg_shows(made, name):
    path = made(name)
    truth = oracle(name, path)
    numbers = truth.numbers
    starts = [float(time) + 1e-4 for time in truth.times_sec]
    slide = Slide(path, starts)
    got = {}
    for frame in slide.frames():
        got[frame.number] = number_of(as_rgb(frame))
    slide.close()
    assert list(slide.firsts) == list(range(len(numbers)))
    assert [got[number] for number in sorted(got)] == numbers


@pytest.mark.parametrize("name", KINDS, scope="module")
def test_standardize_keeps_frames_times_and_colours_as_ffmpeg_shows_them(made, name, tmp_path):
    path = made(name)
    # ffmpeg begins its filters anew where the pictures' form changes, and with them the counting of frames.
    even = "" if name in ("size changes", "pixel format changes") else "fps=30:start_time=0"
    truth = ffmpeg.shown(path, filters=even, upright=True)
    numbers = truth.numbers
    if KINDS[name].is_delayed:
        delay = round(shown_of_kind(path).times_sec[0] * 30)
        numbers, frames = numbers[delay:], truth.frames[delay:]
    else:
        frames = truth.frames
    written = transcode(path, tmp_path / "out.mp4", crf=12)
    ours = ffmpeg.shown(tmp_path / "out.mp4", upright=True)
    assert written.num_frames == len(ours.numbers)
    assert abs(len(ours.numbers) - len(numbers)) <= 1
    both = min(len(numbers), len(ours.numbers))
    assert ours.numbers[:both] == numbers[:both]
    assert ours.times_sec == pytest.approx([number / 30 for number in range(len(ours.numbers))], abs=1e-4)
    if ours.frames.shape[1:] == frames.shape[1:]:
        assert colour_error(ours.frames[:both], frames[:both]) <= MAX_COLOUR_ERROR
    assert inspect_video(tmp_path / "out.mp4").remarks == ()


def test_opening_an_ordinary_mp4_file_reads_a_small_part_of_it(tmp_path):
    path = tmp_path / "large.mp4"
    noise = "testsrc2=s=320x240:r=30:d=6,noise=alls=40:allf=t"
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", noise, "-c:v", "libx264", "-preset", "superfast", "-bf", "2", "-crf",
               "20", "-pix_fmt", "yuv420p", str(path))  # fmt: skip
    before = _bytes_read()
    source = VideoSource(path)
    num_read = _bytes_read() - before
    assert source.codec.reorder_depth > 0  # so that a look is taken whether times of presentation are stored
    source.close()
    assert num_read < path.stat().st_size / 10


def _bytes_read() -> int:
    """Bytes that this process has asked the system for so far."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("the system does not count what a process reads")
    return int(counters.read_text().split()[1])


@pytest.mark.parametrize(
    "name",
    ["mp4 h264", "mp4 begins at 5 s", "mp4 late picture", "mp4 trimmed by an edit list", "mkv varying rate",
     "avi h264 B-frames", "avi mpeg4 packed, 2 B-frames", "ts h264 with sound"],
)  # fmt: skip
def test_the_plain_reader_of_the_other_tests_shows_what_ffmpeg_shows(made, name):
    path = made(name)
    truth = oracle(name, path)
    times, frames = reference.decode_all(path)
    assert [number_of(frame) for frame in frames] == truth.numbers
    assert times == pytest.approx(truth.times_sec, abs=1e-4)
    assert colour_error(frames, truth.frames) <= MAX_COLOUR_ERROR


def test_an_ordinary_mp4_file_is_not_read_ahead_to_establish_its_times(made):
    for name in ("mp4 h264", "mov mjpeg", "mp4 late picture", "mp4 trimmed by an edit list", "60 fps"):
        source = VideoSource(made(name))
        assert source.timeline.scan is None
        source.close()
    source = VideoSource(made("mp4 h264 fragmented"))
    assert source.timeline.scan is not None
    source.close()
