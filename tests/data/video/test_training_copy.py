"""Training copies: which pixels they hold, and the same bits by every way of reading them."""

import os
from fractions import Fraction
from typing import get_args

import av
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests import reference
from tests.videos import FPS_25, FPS_30, FPS_NTSC, Made, num_open, number_of, numbered_frame, write_video
from tsp.config.jobs import CopyFormat
from tsp.data.copy_name import training_copy_name
from tsp.data.video import ClipReader, VideoError
from tsp.data.video import reader as reader_module
from tsp.data.video.frame_index import FrameIndex
from tsp.data.video.open_video import VideoSource
from tsp.data.video.training_copy import format_of_copy, write_training_copy

FORMATS = get_args(CopyFormat)
NUM_FRAMES = 90
KINDS = {
    "30 fps": Made(num_frames=NUM_FRAMES),
    "25 fps": Made(num_frames=NUM_FRAMES, fps=FPS_25),
    "29.97 fps": Made(num_frames=NUM_FRAMES, fps=FPS_NTSC),
    "a late first frame": Made(num_frames=NUM_FRAMES, first_pts=20),
}
STARTS_SEC = (1.0, 0.0, 0.4, 0.4, 1.01, float(Fraction(25, 30)), 0.999 / 30)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Makes each video and its copy once: source, copy."""
    folder = tmp_path_factory.mktemp("copies")
    made = {}

    def make(kind="30 fps", copy_format="mjpeg", suffix=".mp4"):
        key = (kind, copy_format, suffix)
        if key not in made:
            source = write_video(folder / f"{len(made)}{suffix}", KINDS[kind])
            made[key] = source, source.with_name(training_copy_name(source.name))
            assert write_training_copy(*made[key], copy_format=copy_format) == NUM_FRAMES
        return made[key]

    return make


def read_together(reader, path, starts_sec, **given):
    clips = {}
    for frame in reader.frames(path, starts_sec, **given):
        assert (frame.clip, frame.k) not in clips
        clips[frame.clip, frame.k] = frame.rgb.copy()
    return [np.stack([clips[clip, k] for k in range(16)]) for clip in range(len(starts_sec))]


def refuse(*_):
    raise AssertionError("read by another way than by number")


@pytest.mark.parametrize("copy_format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_clips_read_by_number_have_the_bits_of_every_other_way(copied, kind, copy_format, monkeypatch):
    path = copied(kind, copy_format)[1]
    plain = ClipReader(short_cuts=False)
    expected = [plain.read(path, start) for start in STARTS_SEC]
    with monkeypatch.context() as patch:
        for way in ("decode_wanted", "decode_all", "decode_all_from_beginning"):
            patch.setattr(reader_module, way, refuse)
        one_by_one = [ClipReader().read(path, start) for start in STARTS_SEC]
        together = read_together(ClipReader(), path, STARTS_SEC)
    monkeypatch.setattr(FrameIndex, "of", lambda *_: None)
    by_packets = read_together(ClipReader(), path, STARTS_SEC)
    for clips in (one_by_one, together, by_packets):
        assert all(np.array_equal(clip, wanted) for clip, wanted in zip(clips, expected, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_copy_holds_the_frames_of_the_rule_resized_in_float_and_rounded_once(copied, kind, suffix):
    source, copy = copied(kind, "raw", suffix)
    times, frames = reference.decode_all(source)
    fps = KINDS[kind].fps
    for start_sec in (times[0], times[0] + 0.31, times[0] + 1.5):
        wanted = torch.from_numpy(frames[reference.clip_indices(times, start_sec, fps)]).permute(0, 3, 1, 2)
        resized = functional.interpolate(wanted.float(), size=(128, 171), mode="bilinear", align_corners=False)
        clip = ClipReader().read(copy, start_sec, file_fps=float(fps))
        assert np.array_equal(clip[:, :, :171], resized.round().permute(0, 2, 3, 1).byte().numpy())


@pytest.mark.parametrize("copy_format", FORMATS)
def test_the_format_of_a_copy_is_told_by_the_file(copied, tmp_path, copy_format):
    source, copy = copied("30 fps", copy_format)
    assert format_of_copy(copy) == copy_format
    assert format_of_copy(source) is None
    assert format_of_copy(tmp_path / "nowhere.train.mov") is None


@pytest.mark.parametrize("copy_format", FORMATS)
def test_a_clip_past_the_end_of_a_copy_is_refused(copied, copy_format):
    path = copied("30 fps", copy_format)[1]
    assert ClipReader().read(path, 59 / 30).shape[0] == 16
    with pytest.raises(VideoError, match="ends too early: 1 of the 16 frames"):
        ClipReader().read(path, 60 / 30)


@pytest.mark.parametrize("copy_format", FORMATS)
def test_a_copy_cut_off_reads_before_the_cut_and_is_named_after_it(copied, tmp_path, copy_format):
    cut = tmp_path / "cut.train.mov"
    whole = copied("30 fps", copy_format)[1].read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    reader = ClipReader()
    assert reader.read(cut, 0.0).shape[0] == 16
    with pytest.raises(VideoError, match=r"cut\.train\.mov"):
        reader.read(cut, 1.9)
    assert reader.read(cut, 0.0).shape[0] == 16


def test_a_damaged_frame_is_named(copied, tmp_path):
    bad = tmp_path / "bad.train.mov"
    data = bytearray(copied()[1].read_bytes())
    with av.open(str(copied()[1])) as container:
        entry = container.streams.video[0].index_entries[40]
    data[entry.pos : entry.pos + entry.size] = bytes(entry.size)
    bad.write_bytes(data)
    assert ClipReader().read(bad, 0.0).shape[0] == 16
    with pytest.raises(VideoError, match=r"bad\.train\.mov"):
        ClipReader().read(bad, 40 / 30)


def write_intra(path, times, **options):
    """An MJPEG file whose frames are shown at these times, in thirtieths of a second."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.codec_context.time_base = 1 / FPS_30
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, 64, 48)).reformat(format="yuvj420p")
            frame.pts, frame.time_base = time, 1 / FPS_30
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def hide_frames(path, num_frames):
    """Let the file's edit list begin so many frames late."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4 + 4 + 4 + 4
    with av.open(str(path)) as container:
        step = container.streams.video[0].index_entries[1].timestamp
    data[at : at + 4] = (num_frames * step).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def show_at_once(path, gap):
    """Let the frame before a gap of so many thirtieths of a second last no time at all."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        step = container.streams.video[0].index_entries[1].timestamp
    at = data.index((1).to_bytes(4, "big") + (gap * step).to_bytes(4, "big"), data.index(b"stts"))
    data[at + 4 : at + 8] = bytes(4)
    path.write_bytes(data)
    return path


def test_odd_files_of_frames_that_stand_alone_are_read_as_by_the_plainest_way(tmp_path):
    even = range(NUM_FRAMES)
    gap = [time + (time > 30) * 7 for time in even]
    hidden = hide_frames(write_intra(tmp_path / "hidden.mov", even), 10)
    uneven = write_intra(tmp_path / "uneven.mov", gap)
    twice = show_at_once(write_intra(tmp_path / "twice.mov", gap), 8)
    fragmented = write_intra(tmp_path / "fragments.mov", even, movflags="frag_keyframe+empty_moov")
    other = write_intra(tmp_path / "other.avi", even)
    assert VideoSource(uneven).index is not None
    assert VideoSource(fragmented).index is None
    assert VideoSource(other).index is None
    first = {}
    for path in (hidden, uneven, twice, fragmented, other):
        for start_sec in (0.0, 0.3, 0.99, 1.0, 1.1, 1.2):
            clip = ClipReader().read(path, start_sec, file_fps=30.0)
            assert np.array_equal(clip, ClipReader(short_cuts=False).read(path, start_sec, file_fps=30.0)), path
            first[path.name, start_sec] = number_of(clip[0])
    assert first["hidden.mov", 0.3] == 19
    assert first["uneven.mov", 1.2] == 30
    assert first["other.avi", 0.3] == first["fragments.mov", 0.3] == 9


def test_an_index_counts_from_the_frame_on_screen_and_says_where_the_file_ends(tmp_path):
    index = VideoSource(write_intra(tmp_path / "plain.mov", range(30))).index
    assert isinstance(index, FrameIndex)
    assert index.numbers(-5, (0, 2)) == [0, 2]
    assert index.numbers(511, (0, 2)) == [0, 2]
    assert index.numbers(512, (0, 2)) == [1, 3]
    assert index.numbers(10**9, (0,)) == [29]
    assert index.numbers(10**9, (0, 1)) is None


def test_copies_are_kept_open_with_two_handles_each_and_never_more_than_allowed(copied, tmp_path):
    reader = ClipReader(max_open=4)
    for number in range(20):
        copy = tmp_path / f"{number}.train.mov"
        os.link(copied()[1], copy)
        reader.read(copy, 0.0)
        assert num_open(tmp_path) == 2 * min(number + 1, 4)
    reader.close()
    assert num_open(tmp_path) == 0
