"""Which frames a clip consists of, proved by videos whose frames say their number; the same bits by every way."""

import gc
import os
from fractions import Fraction
from math import floor
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests import reference
from tests.clips import read_clip
from tests.videos import FPS_15, FPS_24, FPS_25, FPS_30, FPS_60, FPS_NTSC, Made, num_open, number_of, write_video
from tsp.data.video import ClipReader, VideoError, WantedFrame, decode_ways
from tsp.data.video import reader as reader_module
from tsp.data.video.open_video import VideoSource
from tsp.data.video.reader import _pixels

RATES = {"15": FPS_15, "24": FPS_24, "25": FPS_25, "29.97": FPS_NTSC, "30": FPS_30, "60": FPS_60}
CODINGS = {
    "b-frames": {"b_frames": 3},
    "open gop": {"b_frames": 3, "open_gop": True},
    "no b-frames": {"b_frames": 0},
}
NUM_FRAMES, GOP = 150, 25


def expected(first: int, fps: Fraction) -> list[int]:
    return [first + floor(k * fps / 15) for k in range(16)]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Makes each kind of file once."""
    made: dict[Made, object] = {}
    folder = tmp_path_factory.mktemp("videos")

    def make(suffix=".mp4", **kind):
        key = (suffix, *sorted((name, str(value)) for name, value in kind.items()))
        if key not in made:
            made[key] = write_video(folder / f"{len(made)}{suffix}", Made(**kind))
        return made[key]

    return make


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("rate", RATES)
def test_every_clip_has_the_frames_of_the_rule_at_start_end_and_over_key_frames(video, rate, coding):
    fps = RATES[rate]
    path = video(fps=fps, num_frames=NUM_FRAMES, gop=GOP, audio=True, **CODINGS[coding])
    last_start = NUM_FRAMES - 1 - expected(0, fps)[-1]
    reader, plain = ClipReader(), ClipReader(short_cuts=False)
    for first in sorted({0, 1, GOP - 2, GOP - 1, GOP, GOP + 1, 2 * GOP - 1, 3 * GOP, last_start - 1, last_start}):
        for share in (0.0, 0.5, 0.999):
            start_sec = float((first + Fraction(share)) / fps)
            clip = reader.read(path, start_sec, file_fps=float(fps))
            assert [number_of(image) for image in clip] == expected(first, fps), (first, share)
            assert share or np.array_equal(clip, plain.read(path, start_sec)), first


@pytest.mark.parametrize("coding", CODINGS)
def test_the_short_cut_reads_on_its_own_and_leaves_frames_out(video, coding, monkeypatch):
    path = video(num_frames=NUM_FRAMES, gop=GOP, **CODINGS[coding])
    decoded = []
    original = decode_ways._decode_one

    def count(source, packet, chooser):
        decoded.append(packet.pts in chooser.wanted)
        return original(source, packet, chooser)

    def refuse(*_):
        raise AssertionError("fell back to decoding everything")

    monkeypatch.setattr(decode_ways, "_decode_one", count)
    monkeypatch.setattr(reader_module, "decode_all", refuse)
    for first in range(0, 110, 7):
        decoded.clear()
        assert number_of(read_clip(path, (first + 0.5) / 30)[0]) == first
        assert sum(decoded) == 16
        # From the key frame to the last wanted frame and its references, nothing beyond; where groups of pictures are
        # open, frames before a key frame refer to the group before.
        earlier = GOP if coding == "open gop" else 0
        assert len(decoded) <= first % GOP + 31 + 4 + earlier


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_containers_of_all_kinds_give_the_frames_of_the_plainest_reader(video, suffix):
    # AVI files list decoding times only, MPEG-TS starts at 1.4 s, Matroska counts in milliseconds.
    path = video(suffix=suffix, num_frames=90, gop=20, b_frames=2 if suffix != ".avi" else 0)
    times, frames = reference.decode_all(path)
    for start_sec in (times[0], times[0] + 0.31, times[0] + 1.0, times[0] + 1.9):
        wanted = frames[reference.clip_indices(times, start_sec, FPS_30)]
        assert np.array_equal(read_clip(path, start_sec), wanted)


def test_a_picture_that_begins_after_the_sound_counts_as_its_first_frame_again_and_again_before(video):
    path = video(num_frames=60, first_pts=20, audio=True)
    assert [number_of(image) for image in read_clip(path, 0.0)] == [max(0, 2 * k - 20) for k in range(16)]
    assert number_of(read_clip(path, float(Fraction(25, 30)))[0]) == 5


def test_time_0_is_where_a_player_shows_0_so_a_picture_alone_begins_there(video):
    path = video(num_frames=60, first_pts=20)
    assert number_of(read_clip(path, float(Fraction(5, 30)))[0]) == 5


def test_a_rotation_mark_changes_nothing(video):
    # The original reads coded pictures as they are; 'tspctl data standardize' bakes rotations in.
    plain, rotated = video(num_frames=40), video(num_frames=40, rotation=90)
    assert np.array_equal(read_clip(plain, 0.1), read_clip(rotated, 0.1))


def test_a_table_with_a_grossly_wrong_frame_rate_is_overruled_by_the_file(video):
    path = video(fps=FPS_25, num_frames=60)
    reader = ClipReader()
    assert np.array_equal(reader.read(path, 0.0, file_fps=30.0), reader.read(path, 0.0))
    assert np.array_equal(reader.read(path, 0.0, file_fps=25.1), reader.read(path, 0.0, file_fps=25.1))


def test_a_clip_may_end_with_the_last_frame_but_not_after_it(video):
    path = video(num_frames=40)
    assert number_of(read_clip(path, float(Fraction(9, 30)))[-1]) == 39
    with pytest.raises(VideoError, match=r"ends too early: 1 of the 16 frames .* 0\.333 and 1\.400 s .*video-duration"):
        read_clip(path, float(Fraction(10, 30)))


@pytest.mark.parametrize("coding", CODINGS)
def test_clips_read_in_one_pass_have_the_bits_of_clips_read_one_by_one(video, coding):
    path = video(num_frames=NUM_FRAMES, gop=GOP, **CODINGS[coding])
    starts = [2.9, 0.0, 0.4, 0.4, 3.5, 1.01]
    clips = {index: {} for index in range(len(starts))}
    for frame in ClipReader().frames(path, starts):
        assert frame.k not in clips[frame.clip]
        clips[frame.clip][frame.k] = frame.rgb.copy()
    for index, start in enumerate(starts):
        together = np.stack([clips[index][k] for k in range(16)])
        assert np.array_equal(together, read_clip(path, start))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "gray"])
def test_pixels_are_those_of_the_plain_conversion_in_every_width(video, pixel_format):
    source = VideoSource(video(num_frames=40))
    rng = np.random.default_rng(0)
    for width in (*range(16, 66, 2), 171, 341):
        frame = av.VideoFrame(width, 18, pixel_format)
        for plane in frame.planes:
            plane.update(rng.integers(0, 4, plane.buffer_size, dtype=np.uint8).tobytes())
        wanted = WantedFrame(0, 0, _pixels(source, frame), width)
        assert np.array_equal(wanted.rgb, frame.to_rgb().to_ndarray()), width


def test_clips_far_apart_are_not_joined_by_decoding_what_lies_between(video):
    reader = ClipReader()
    source = reader._sources.get(video(num_frames=NUM_FRAMES, gop=GOP))
    assert reader._passes(source, [3.9, 0.0, 0.5], tuple(range(0, 32, 2))) == [[1, 2], [0]]


@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        # A clip of 16 frames at 15 a second ends 32 frames of the file after it begins.
        ((0, 32), [[1, 2, 0]]),
        ((0, 33), [[1, 2], [0]]),  # the second ends at 32
        ((0, 90), [[1, 2], [0]]),
        ((0, 91), [[1, 2, 0]]),  # behind where the third begins
        ((0,), [[1, 2, 0]]),
        ((), [[1, 2, 0]]),
    ],
)
def test_a_clip_is_read_by_itself_where_a_key_frame_lies_between_it_and_the_clips_before(keys, passes):
    source = SimpleNamespace(
        time_base=Fraction(1, 30), key_frame_before=lambda pts: max((key for key in keys if key <= pts), default=None)
    )
    assert ClipReader()._passes(source, [3.0, 0.0, 0.0], ()) == passes


@pytest.mark.parametrize(
    ("own", "table", "fps"),
    [
        (25, None, 25),
        (25, 0.0, 25),
        (25, 25.25, 25.25),  # a hundredth: rounded in the table
        (25, 25.26, 25),
        (25, 24.75, 24.75),
        (25, 24.74, 25),
        (None, 29.97, 29.97),
    ],
)
def test_a_tables_rate_counts_unless_it_is_more_than_a_hundredth_off_the_files_own(own, table, fps):
    source = SimpleNamespace(path="a.mp4", fps=None if own is None else Fraction(own))
    assert reader_module._frame_rate(source, table) == Fraction(str(fps))


@pytest.mark.parametrize(
    ("source", "short_cuts", "names"),
    [
        ({}, True, ["decode_wanted", "decode_all", "decode_all_from_beginning"]),
        ({}, False, ["decode_all", "decode_all_from_beginning"]),
        ({"is_skippable": False}, True, ["decode_all", "decode_all_from_beginning"]),
        ({"is_skippable": False, "is_intra": True}, True, ["decode_wanted", "decode_all", "decode_all_from_beginning"]),
        ({"key_marks_lie": True}, True, ["decode_all_from_beginning"]),
    ],
)
def test_the_fastest_way_that_a_file_allows_is_tried_first(source, short_cuts, names):
    kind = SimpleNamespace(**{"is_skippable": True, "is_intra": False, "key_marks_lie": False, **source})
    assert [way.__name__ for way in ClipReader(short_cuts=short_cuts)._ways(kind)] == names


def test_a_rate_that_neither_a_file_nor_its_table_states_is_asked_for():
    with pytest.raises(VideoError, match=r"neither a\.mp4 nor a table states the frame rate"):
        reader_module._frame_rate(SimpleNamespace(path="a.mp4", fps=None), None)


def test_files_are_kept_open_but_never_more_than_allowed(video, tmp_path):
    copies = [tmp_path / f"{number}.mp4" for number in range(40)]
    reader = ClipReader(max_open=4)
    for number, copy in enumerate(copies):
        os.link(video(num_frames=40), copy)
        reader.read(copy, 0.0)
        assert num_open(tmp_path) == min(number + 1, 4)
    reader.close()
    assert num_open(tmp_path) == 0


def test_decoders_of_closed_files_are_freed_soon(video, tmp_path):
    def num_containers():
        return sum(type(thing) is av.container.InputContainer for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    gc.freeze()  # get_objects() then lists what is made from here on, instead of all that torch is
    reader = ClipReader(max_open=2)
    try:
        for number in range(40):
            copy = tmp_path / f"{number}.mp4"
            os.link(video(num_frames=40), copy)
            reader.read(copy, 0.0)
            assert 1 <= num_containers() <= 2 + 8
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.mp4", None, "cannot open the video .*missing.mp4: No such file"),
        ("empty.mp4", b"", "cannot open the video .*empty.mp4"),
        ("text.mp4", b"hello" * 1000, "cannot open the video .*text.mp4"),
    ],
)
def test_a_file_that_is_no_video_is_named(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(VideoError, match=message):
        read_clip(tmp_path / name, 0.0)


def test_a_file_cut_short_fails_where_it_is_cut_and_reads_before(video, tmp_path):
    whole = video(suffix=".mkv", num_frames=NUM_FRAMES, gop=GOP)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reader = ClipReader()
    assert number_of(reader.read(cut, 0.0)[0]) == 0
    with pytest.raises(VideoError, match=r"cut\.mkv"):
        reader.read(cut, 3.9)
    assert number_of(reader.read(cut, 0.0)[0]) == 0


@pytest.mark.parametrize("name", ["kinetics_test.mp4", "arm_wrestling.mp4", "flipping_a_pancake.mkv", "ucf_test.avi"])
def test_real_footage_gives_the_frames_of_the_plainest_reader(shared_dir, name):
    path = shared_dir / "videos" / name
    times, frames = reference.decode_all(path)
    reader = ClipReader()
    for start_sec in (0.0, 1.2345, 4.0, times[-1] - 1.3):
        fps = reader._sources.get(path).fps
        wanted = frames[reference.clip_indices(times, start_sec, fps)]
        assert np.array_equal(reader.read(path, start_sec), wanted), start_sec


def test_damaged_footage_reads_where_it_is_whole_and_says_where_it_is_not(shared_dir):
    path = shared_dir / "videos" / "corrupted.mp4"
    with pytest.raises(VideoError, match=r"corrupted\.mp4 cannot be decoded near 2\.500 s"):
        read_clip(path, 2.5)
    assert read_clip(path, 0.5).shape == (16, 720, 1280, 3)
