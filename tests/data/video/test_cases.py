"""Files that people really had, made by code: each is read right, or refused with what is wrong and the cure."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import ffmpeg
from tests.clips import read_clip
from tests.data.video.kinds import KINDS, TONE, X264, X265, colour_error
from tests.data.video.rewritten import (
    with_clean_aperture,
    with_doubled_times,
    with_dropped_frames,
    with_pixel_crop,
    without_box,
)
from tests.data.video.test_oracle import as_rgb
from tests.videos import number_of
from tsp.data.video import VideoError
from tsp.data.video.display_matrix import Turn
from tsp.data.video.inspect import inspect_video
from tsp.data.video.sliding_clips import Slide
from tsp.data.video.transcode import transcode

MATRICES: dict[Turn, tuple[int, int, int, int]] = {
    "upright": (1, 0, 0, 1),
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "half turn": (-1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "counterclockwise": (0, -1, 1, 0),
    "transpose": (0, 1, 1, 0),
    "antitranspose": (0, -1, -1, 0),
}


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into the first track's header, as phones and editors do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    begin = at + (52 if data[at] else 40)
    a, b, c, d = matrix
    for place, value in zip((0, 1, 3, 4), (a, b, c, d), strict=True):
        data[begin + 4 * place : begin + 4 * place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("turn", MATRICES)
def test_all_eight_display_matrices_come_out_as_ffmpeg_shows_them(tmp_path, turn):
    path = with_matrix(ffmpeg.make(tmp_path / "a.mp4", X264, num_frames=20), MATRICES[turn])
    assert inspect_video(path).turn == turn
    transcode(path, tmp_path / "out.mp4", crf=10)
    truth, ours = (ffmpeg.shown(file, upright=True) for file in (path, tmp_path / "out.mp4"))
    assert truth.frames.shape == ours.frames.shape
    assert colour_error(ours.frames, truth.frames) <= 3
    assert inspect_video(tmp_path / "out.mp4").turn == "upright"


CUT = {
    **dict.fromkeys([".mkv", ".avi", ".flv", ".mp4", ".mov"], X264),
    ".wmv": "-c:v wmv2 -q:v 3",
    # These claim no length.
    ".ogv": "-c:v libtheora -q:v 10",
    ".gif": "",
    ".ivf": "-c:v libvpx -b:v 2M -g 25",
    ".mxf": "-c:v mpeg2video -q:v 2 -pix_fmt yuv422p",
    ".webm": "-c:v libvpx -b:v 2M -g 25 -live 1",
    ".y4m": "-pix_fmt yuv422p",
    ".dv": "-vf scale=720:480,fps=30000/1001 -pix_fmt yuv411p -c:v dvvideo",
}


@pytest.mark.parametrize("suffix", CUT)
def test_half_a_file_is_said_to_be_cut_short_and_a_whole_one_is_not(tmp_path, suffix):
    options = CUT[suffix]
    faststart = " -movflags +faststart" if suffix in (".mp4", ".mov") else ""
    path = ffmpeg.make(tmp_path / f"a{suffix}", options + faststart)
    assert inspect_video(path, decode_all=True).faults == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3 + 7])
    assert any("the file is truncated" in fault for fault in inspect_video(path).faults)
    with pytest.raises(VideoError, match=r"--salvage keeps what can be decoded"):
        transcode(path, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert transcode(path, tmp_path / "out.mp4", salvage=True).lost


def test_half_an_elementary_stream_of_pictures_is_refused_when_it_is_to_get_its_times(tmp_path):
    path = ffmpeg.make(tmp_path / "a.mjpeg", "-c:v mjpeg -q:v 5")
    assert not transcode(path, tmp_path / "whole.mp4").lost
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VideoError, match=r"--salvage keeps what can be decoded"):
        transcode(path, tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", f"{X264} -bf 2"), (".mp4", f"{X264} -movflags frag_keyframe+empty_moov"), (".mov", "-c:v prores_ks"),
        (".mkv", f"{X264} -bf 2"), (".webm", "-c:v libvpx"), (".avi", f"{X264} -bf 2"), (".avi", "-c:v mpeg4"),
        (".wmv", "-c:v wmv2"), (".asf", "-c:v mpeg4 -bf 2"), (".flv", X264), (".ts", f"{X264} -bf 2"), (".vob", X264),
        (".ivf", "-c:v libvpx"), (".nut", "-c:v mpeg4"), (".ogv", "-c:v libtheora"), (".gif", ""),
        (".hevc", "-c:v libx265"),
    ],
)  # fmt: skip
def test_each_frame_of_a_slow_video_stays_as_long_as_the_others_and_so_does_the_last(tmp_path, suffix, options):
    path = ffmpeg.make(tmp_path / f"a{suffix}", options, num_frames=20, rate="5")
    transcode(path, tmp_path / "out.mp4", crf=12)
    numbers = ffmpeg.shown(tmp_path / "out.mp4").numbers
    assert numbers == [number for number in range(20) for _ in range(6)]


@pytest.mark.parametrize("name", ["mp4 trimmed by an edit list", "avi dropped frames", "webm vp8", "mkv begins at 5 s"])
def test_what_a_container_hides_or_repeats_is_no_loss(tmp_path, name):
    kind = KINDS[name]
    path = tmp_path / f"a{kind.suffix}"
    first = path.with_name(f"first{kind.suffix}") if kind.then else path
    ffmpeg.make(first, kind.options)
    if kind.then:
        kind.then(first, path)
    assert inspect_video(path, decode_all=True).faults == ()


def test_damaged_bytes_in_the_middle_are_a_gap_with_its_times_and_the_rest_is_kept(tmp_path):
    path = ffmpeg.make(tmp_path / "a.mkv", f"{X264} -crf 5", num_frames=90)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="--salvage"):
        transcode(path, tmp_path / "out.mp4")
    made = transcode(path, tmp_path / "out.mp4", salvage=True)
    assert any("cannot be decoded completely" in lost or "fails" in lost for lost in made.lost)
    assert ffmpeg.shown(tmp_path / "out.mp4").numbers[:10] == list(range(10))


def test_frames_of_a_file_whose_table_has_another_rate_are_not_extracted(tmp_path):
    path = ffmpeg.make(tmp_path / "a.mp4", X264, rate="15")
    with pytest.raises(VideoError, match=r"has 15\.000 frames per second, but the table says 30.*'tspctl data probe'"):
        Slide(path, [0.0], file_fps=30.0)


def test_a_file_whose_header_lies_about_its_rate_has_the_rate_of_its_frames(tmp_path):
    path = ffmpeg.make(tmp_path / "a.flv", f"{X264} -bf 0")
    data = path.read_bytes()
    at = data.index(b"framerate") + len(b"framerate") + 1
    path.write_bytes(data[:at] + np.array([1000.0], ">f8").tobytes() + data[at + 8 :])
    assert inspect_video(path).fps == 30.0


def test_several_videos_and_a_late_picture_are_said(tmp_path):
    KINDS["two videos"].then(ffmpeg.make(tmp_path / "one.mkv", X264), tmp_path / "two.mkv")
    assert "it contains 2 video streams; stream 1 is read" in inspect_video(tmp_path / "two.mkv").remarks
    KINDS["mp4 late picture"].then(ffmpeg.make(tmp_path / "one.mp4", X264), tmp_path / "late.mp4")
    report = inspect_video(tmp_path / "late.mp4")
    assert report.start_sec == pytest.approx(2, abs=0.05)
    assert any("its video begins 2.0" in remark for remark in report.remarks)


def test_an_elementary_stream_is_refused_with_the_cure(tmp_path):
    path = ffmpeg.make(tmp_path / "a.h264", X264)
    with pytest.raises(
        VideoError, match=r"elementary stream, whose frames have no times: run 'tspctl data standardize'"
    ):
        read_clip(path, 0.0)


def test_a_stub_without_a_codec_and_a_file_cut_in_its_index_are_refused(tmp_path, shared_dir):
    cases = shared_dir / "cases/video"
    with pytest.raises(VideoError, match="contains no video stream that can be decoded"):
        read_clip(shutil.copy(cases / "stub-without-codec/stub.mp4", tmp_path), 0.0)
    with pytest.raises(VideoError, match="cannot open the video"):
        read_clip(shutil.copy(cases / "cut-index-eof/end_cut.mp4", tmp_path), 0.0)


def test_all_164_frames_of_a_packed_xvid_file_are_standardised_in_order(tmp_path, shared_dir):
    path = shared_dir / "videos/ucf_test.avi"
    assert transcode(path, tmp_path / "out.mp4", fps=25, crf=8).num_frames == 164
    truth, ours = ffmpeg.shown(path), ffmpeg.shown(tmp_path / "out.mp4")
    assert len(truth.frames) == len(ours.frames) == 164
    nearest = [
        min(
            range(max(0, n - 3), min(164, n + 4)),
            key=lambda m: np.abs(ours.frames[n].astype(int) - truth.frames[m]).sum(),
        )
        for n in range(164)
    ]
    assert nearest == list(range(164))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_sound_stays_in_step_with_a_late_picture(tmp_path, suffix):
    """Silence, and a tone from the second on in which the picture turns white."""
    source = tmp_path / f"a{suffix}"
    ffmpeg.run(
        "-v", "error", "-f", "lavfi", "-i", "color=black:s=64x48:r=30:d=1", "-f", "lavfi", "-i",
        "color=white:s=64x48:r=30:d=2", "-f", "lavfi", "-i", "aevalsrc='if(gte(t,2.5),sin(2000*t),0)':d=4.5",
        "-filter_complex", "[0][1]concat=n=2:v=1,setpts=PTS+1.5/TB[v]", "-map", "[v]", "-map", "2:a", "-c:v",
        "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", str(source),
    )  # fmt: skip
    transcode(source, tmp_path / "out.mp4", keep_audio=True)
    frames = ffmpeg.shown(tmp_path / "out.mp4").frames
    white_sec = next(number for number, frame in enumerate(frames) if frame.mean() > 128) / 30
    raw = ffmpeg.run(
        "-v", "error", "-i", str(tmp_path / "out.mp4"), "-f", "f32le", "-ac", "1", "-ar", "8000", "-"
    ).stdout
    loud = np.abs(np.frombuffer(raw, np.float32)) > 0.2
    assert white_sec == pytest.approx(2.5, abs=0.05)
    assert np.argmax(loud) / 8000 == pytest.approx(2.5, abs=0.06)


@pytest.mark.parametrize("options", [X264, X265], ids=["h264", "hevc"])
def test_frames_with_decoding_times_alone_are_shown_in_the_decoders_order(tmp_path, options):
    """As 'ffmpeg -i IN.h264 -c copy OUT.mp4' writes them; ffmpeg itself shows them out of order and drops some."""
    path = tmp_path / "copied.mp4"
    without_box(ffmpeg.make(tmp_path / "a.mp4", options), path, b"ctts")
    assert [number_of(image) for image in read_clip(path, 0.0)] == list(range(0, 32, 2))
    assert [number_of(image) for image in read_clip(path, 1.0001)] == list(range(30, 62, 2))
    slide = Slide(path, [number / 30 + 1e-4 for number in range(90)])
    assert [frame.number for frame in slide.frames()] == list(range(90))
    slide.close()
    report = inspect_video(path)
    assert (report.num_frames, report.fps, report.start_sec, report.faults) == (90, 30.0, 0.0, ())
    assert any("in the decoder's order" in remark for remark in report.remarks)
    transcode(path, tmp_path / "out.mp4", crf=12)
    assert ffmpeg.shown(tmp_path / "out.mp4").numbers == list(range(90))


def test_frames_of_no_bytes_are_none_that_were_cut_off(tmp_path):
    source = ffmpeg.make(tmp_path / "a.mp4", "-c:v mjpeg -q:v 2 -c:a aac -shortest", extra=TONE)
    path = tmp_path / "dropped.mp4"
    with_dropped_frames(source, path, [20, 21, 40])
    assert inspect_video(path, decode_all=True).faults == ()
    truth = ffmpeg.shown(path)
    assert truth.numbers == [number for number in range(90) if number not in (20, 21, 40)]
    start_sec = truth.times_sec[4] + 1e-4
    assert [number_of(image) for image in read_clip(path, start_sec)] == truth.numbers[4:36:2]
    assert transcode(path, tmp_path / "out.mp4").lost == ()


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_of_several_frames_with_one_time_the_last_stays_on_screen(tmp_path, codec):
    with_doubled_times(ffmpeg.make(tmp_path / "a.mkv", f"-c:v {codec} -q:v 2 -g 25"), tmp_path / "doubled.mkv")
    truth = ffmpeg.shown(tmp_path / "doubled.mkv", filters="fps=30:start_time=0", passthrough=False)
    transcode(tmp_path / "doubled.mkv", tmp_path / "out.mp4", crf=12)
    assert ffmpeg.shown(tmp_path / "out.mp4").numbers == truth.numbers
    # A new picture every 1.5 frames: read at the rate of the pictures, which is 20 a second.
    assert [number_of(image) for image in read_clip(tmp_path / "doubled.mkv", 0.0, rate_fps=20.0)] == [
        number for number in range(24) if number % 3 != 1
    ]


def test_a_file_cut_at_its_front_begins_with_its_first_whole_frame(tmp_path):
    data = ffmpeg.make(tmp_path / "a.ts", f"{X264} -crf 5").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[len(data) // 5 // 188 * 188 + 77 :])
    truth = ffmpeg.shown(path)
    late = round(truth.times_sec[0] * 30)
    assert late > 3
    clip = [number_of(image) for image in read_clip(path, 0.0)]
    assert clip == [truth.numbers[max(0, 2 * k - late)] for k in range(16)]
    slide = Slide(path, [0.0, truth.times_sec[2] + 1e-4])
    shown = {frame.number: number_of(as_rgb(frame)) for frame in slide.frames()}
    slide.close()
    assert [shown[max(0, first)] for first in slide.firsts] == [truth.numbers[0], truth.numbers[2]]


def test_pauses_in_an_even_rate_are_said(tmp_path):
    path = ffmpeg.make(tmp_path / "a.mp4", f"-vf select='not(between(n,45,59))' -fps_mode vfr {X264}")
    remark = "15 frames seem to be missing, the first at 1.500 s, so clips there are not evenly spaced"
    assert any(remark in found for found in inspect_video(path).remarks)
    made = transcode(path, tmp_path / "out.mp4")
    assert made.notes == ("no frame between 1.50 and 2.00 s, so the frame before is repeated",)
    assert made.lost == ()


def test_the_shape_of_pixels_is_kept(tmp_path):
    path = with_matrix(
        ffmpeg.make(tmp_path / "a.mp4", f"-vf setsar=64/45 {X264}", num_frames=20), MATRICES["clockwise"]
    )
    transcode(path, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (64, 96, Fraction(45, 64))


def test_what_is_no_file_or_empty_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").touch()
    for name, reason in (("pipe.mp4", "a pipe or device"), ("empty.mp4", "it is empty"), (".", "it is a folder")):
        with pytest.raises(VideoError, match=reason):
            read_clip(tmp_path / name, 0.0)


def test_an_mp4_file_without_its_index_says_so(tmp_path):
    path = ffmpeg.make(tmp_path / "a.mp4", X264, num_frames=20)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(VideoError, match=r"its index, which MP4 and MOV often have at the end, is missing"):
        read_clip(path, 0.0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.mp4", b"ffconcat version 1.0\nfile a.mp4\n"),
        ("live.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\na.mp4\n"),
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path, name, content):
    ffmpeg.make(tmp_path / "a.mp4", X264, num_frames=40)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match="is a list of other files"):
        read_clip(tmp_path / name, 0.0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_a_picture_is_no_video_whatever_its_name(tmp_path, suffix):
    picture = ffmpeg.make(tmp_path / f"a{suffix}", "-frames:v 1", num_frames=1)
    for path in (picture, Path(shutil.copy(picture, tmp_path / "a.mp4"))):
        with pytest.raises(VideoError, match="is a picture, not a video"):
            inspect_video(path)


def test_a_single_frame_is_remarked(tmp_path):
    assert "it contains a single frame" in inspect_video(ffmpeg.make(tmp_path / "a.mp4", X264, num_frames=1)).remarks


def test_how_players_crop_the_picture_is_remarked(tmp_path):
    """As the ffmpeg program crops it, from 7.1 on; its libraries crop nothing by themselves."""
    path = ffmpeg.make(tmp_path / "a.mp4", X264, num_frames=20)
    assert inspect_video(path).unheeded == ()
    with_clean_aperture(path, tmp_path / "clap.mp4", width=80, height=64)
    assert any("crop its picture to 80x64" in remark for remark in inspect_video(tmp_path / "clap.mp4").remarks)
    assert ffmpeg.shown(tmp_path / "clap.mp4").frames.shape[1:3] == (64, 80)
    with_clean_aperture(path, tmp_path / "whole.mp4", width=96, height=64)
    assert inspect_video(tmp_path / "whole.mp4").unheeded == ()
    source = ffmpeg.make(tmp_path / "a.mkv", f"{X264} -fflags +bitexact", num_frames=20)
    with_pixel_crop(source, tmp_path / "crop.mkv", top=8)
    report = inspect_video(tmp_path / "crop.mkv")
    assert any("(8 at the top)" in remark for remark in report.remarks)
    assert ffmpeg.shown(tmp_path / "crop.mkv").frames.shape[1:3] == (56, 96)
    assert report.faults == inspect_video(source).unheeded == ()
    assert any("8 at the top" in note for note in transcode(tmp_path / "crop.mkv", tmp_path / "out.mp4").notes)


@pytest.mark.parametrize("codec", ["libtheora", "libvpx"])
def test_a_stream_chained_on_is_a_fault_and_what_is_before_it_is_read(tmp_path, codec):
    options = f"-c:v {codec} -q:v 10 -b:v 2M -g 16"
    first, second = (ffmpeg.make(tmp_path / f"{n}.ogv", options, num_frames=40, first=n) for n in (0, 90))
    path = tmp_path / "chained.ogv"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert any("a second stream is chained to it" in fault for fault in inspect_video(path).faults)
    assert [number_of(image) for image in read_clip(path, 0.0)] == list(range(0, 32, 2))
    with pytest.raises(VideoError, match=r"a second stream is chained to it.*--salvage keeps"):
        transcode(path, tmp_path / "out.mp4")


def test_colours_of_rgb_files_lose_little(tmp_path):
    path = ffmpeg.make(tmp_path / "a.avi", "-c:v rawvideo -pix_fmt bgr24", num_frames=20)
    transcode(path, tmp_path / "out.mp4", crf=1)
    assert colour_error(ffmpeg.shown(tmp_path / "out.mp4").frames, ffmpeg.shown(path).frames) <= 2.5
