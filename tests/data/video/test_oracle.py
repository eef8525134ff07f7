"""Every kind of file, made and judged by the ffmpeg program: right frames, at the right times, in the right colours."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import ffmpeg, reference
from tests.data.video.kinds import KINDS, MAX_COLOUR_ERROR, colour_error, make_kind, oracle, shown_of_kind
from tests.videos import number_of
from tsp.data.video import ClipReader, VideoError
from tsp.data.video.inspect import inspect_video
from tsp.data.video.open_video import VideoSource
from tsp.data.video.sliding_clips import Slide, SlideFrame
from tsp.data.video.transcode import transcode

READABLE = [name for name, kind in KINDS.items() if kind.reads]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes each kind of file once."""
    return partial(make_kind, folder=tmp_path_factory.mktemp("kinds"))


def as_rgb(frame: SlideFrame) -> np.ndarray:
    """uint8 [H, W, 3]"""
    return frame.pixels.view(np.uint8).reshape(*frame.pixels.shape, 4)[:, : frame.width, :3]


@pytest.mark.parametrize("name", READABLE, scope="module")
def test_clips_have_the_frames_times_and_colours_that_ffmpeg_shows(made, name):
    path = made(name)
    truth = oracle(name, path)
    numbers, times = truth.numbers, np.array(truth.times_sec)
    source, reader = VideoSource(path), ClipReader()
    fps = source.fps
    if KINDS[name].fps is None:
        assert float(fps) == pytest.approx((len(times) - 1) / (times[-1] - times[0]), rel=1e-3)
    else:
        assert fps == KINDS[name].fps
    report = inspect_video(path)
    assert report.num_frames == len(numbers)
    assert report.faults == ()
    assert any("key frames that are not" in remark for remark in report.remarks) is KINDS[name].lies
    assert any("a second file" in remark for remark in report.remarks) is KINDS[name].is_partial
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


@pytest.mark.thorough
@pytest.mark.parametrize("name", KINDS, scope="module")
def test_standardize_keeps_frames_times_and_colours_as_ffmpeg_shows_them(made, name, tmp_path):
    path = made(name)
    even = "" if KINDS[name].filters_restart else "fps=30:start_time=0"
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


def test_joined_program_streams_are_refused_until_standardised(made, tmp_path):
    """FFmpeg gives stored times to the wrong frames behind the joint, and two frames the times of two others."""
    path = made("mpg joined")
    with pytest.raises(
        VideoError, match=r"clock jumps by -3\.000 s .*after it, 2 frames have the same time as another"
    ):
        ClipReader().read(path, 0.0)
    made_of_it = transcode(path, tmp_path / "whole.mp4")
    assert any("2 frames have the same time as another: these are lost" in note for note in made_of_it.notes)
    assert ffmpeg.shown(tmp_path / "whole.mp4").numbers == ffmpeg.shown(path, filters="fps=30:start_time=0").numbers


WRONG_TIMES = {
    "early": "if(eq(mod(N,7),3),PTS-2.5*DURATION,PTS)",
    "late": "if(eq(mod(N,7),3),PTS+3.5*DURATION,PTS)",
    "far": "if(eq(N,40),PTS+100*DURATION,PTS)",
    "decoding": "if(lt(mod(N,20),10),DTS+DURATION,PTS)",
}


@pytest.mark.parametrize(
    ("codec", "suffix", "wrong"),
    [
        *itertools.product(["libx264"], [".mkv", ".mov", ".ts"], WRONG_TIMES),
        ("mpeg2video", ".mpg", "late"),
        ("mpeg2video", ".mpg", "decoding"),
    ],
)
def test_times_that_contradict_the_decoder_are_reported_and_standardised_in_its_order(tmp_path, codec, suffix, wrong):
    """Some remuxes have such times. Every frame can be decoded, and none of them is lost or shown out of turn."""
    whole = ffmpeg.make(tmp_path / "whole.mkv", f"-c:v {codec} -g 30 -bf 2 -pix_fmt yuv420p -b:v 4M")
    path, times = tmp_path / f"wrong{suffix}", WRONG_TIMES[wrong]
    if suffix == ".mov":  # which stores how long after decoding frames are shown, so they cannot be shown before it
        times = times.replace("PTS-2.5", "PTS+4*DURATION-2.5")
    ffmpeg.run("-v", "error", "-i", str(whole), "-c", "copy", "-bsf:v", f"setts=pts='{times}'", str(path))
    report = inspect_video(path, decode_all=True)
    assert report.faults == ()
    assert "not in the order in which the decoder puts the frames out, the first at" in report.remarks[0]
    standard = transcode(path, tmp_path / "standard.mp4")
    assert standard.lost == ()
    assert "not in the order in which the decoder puts the frames out; they were corrected" in standard.notes[0]
    numbers = ffmpeg.shown(tmp_path / "standard.mp4").numbers
    assert numbers == sorted(numbers)
    assert len(numbers) == pytest.approx(90, abs=3)
    assert max(abs(number - at) for at, number in enumerate(numbers)) <= 3  # as wrong as one time was


def test_a_copy_of_a_stream_without_times_is_refused_until_standardised(tmp_path):
    """``ffmpeg -c copy`` of an AVI file into a program stream loses all times."""
    ffmpeg.make(tmp_path / "a.avi", "-c:v libx264 -bf 2 -pix_fmt yuv420p")
    path = tmp_path / "a.mpg"
    ffmpeg.run("-v", "error", "-i", str(tmp_path / "a.avi"), "-c", "copy", str(path))
    with pytest.raises(VideoError, match=r"frames have no times: run 'tspctl data standardize' first"):
        VideoSource(path)
    assert transcode(path, tmp_path / "standard.mp4").notes == (
        "a stream without times: 30 frames per second are assumed",
    )
    assert ffmpeg.shown(tmp_path / "standard.mp4").numbers == list(range(90))


def test_a_segment_of_a_stream_is_said_to_be_one(tmp_path):
    (tmp_path / "chunk.mp4").write_bytes(b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix" + bytes(600))
    with pytest.raises(VideoError, match="it is a segment of a stream: join its initialisation segment"):
        VideoSource(tmp_path / "chunk.mp4")


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
