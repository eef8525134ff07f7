"""Whatever a user has becomes constant-rate MP4, upright, of even size."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.jobs import do_job
from tests.prepare.conftest import grey_frames
from tsp.config.jobs import StandardizeJob
from tsp.data.video.inspect import inspect_video
from tsp.errors import ConfigError, DataError
from tsp.prepare.standardize import _MAX_NAME_BYTES as MAX
from tsp.prepare.standardize import _names_too_long, share_of, standardize


def write(
    path: Path, codec: str, times_ms: list[int], *, height: int = 48, width: int = 64, audio: bool = False
) -> Path:
    """A video whose frame i shows brightness 2 i from ``times_ms[i]`` on, with a tone if wanted."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000) if audio else None
        for pixels, time_ms in zip(grey_frames(len(times_ms), height=height, width=width), times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.int16), format="s16", layout="mono")
            tone.sample_rate = 48000
            out.mux(sound.encode(tone))
            out.mux(sound.encode(None))
    return path


def job(source: Path, dest: Path, **given) -> StandardizeJob:
    return StandardizeJob(source=str(source), dest=str(dest), workers=1, **given)


def brightness(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


EVEN_MS = [round(index * 1000 / 30) for index in range(60)]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.mov", "mpeg4")]
)
def test_containers_and_codecs_become_h264_mp4_at_30_fps(tmp_path, name, codec):
    source = write(tmp_path / name, codec, EVEN_MS)
    (result,) = standardize(job(source, tmp_path / "out"))
    report = inspect_video(tmp_path / "out/a.mp4", decode_all=True)
    assert (result.status, result.file) == ("written", "a.mp4")
    assert (report.codec, report.fps, report.constant_rate, report.faults) == ("h264", 30.0, True, ())
    assert abs(report.num_frames - 60) <= 1


def test_a_destination_inside_the_source_is_passed_over_and_what_sorts_after_it_is_not(tmp_path):
    (tmp_path / "raw" / "made").mkdir(parents=True)
    for name in ("a.mkv", "made/earlier.mkv", "z.mkv"):
        write(tmp_path / "raw" / name, "mpeg4", EVEN_MS[:5])
    results = standardize(job(tmp_path / "raw", tmp_path / "raw" / "made"))
    assert sorted(result.file for result in results) == ["a.mp4", "z.mp4"]


def test_a_varying_rate_becomes_constant_and_keeps_its_times(tmp_path):
    # One second of 10 fps, then one of 30 fps.
    times_ms = [index * 100 for index in range(10)] + [1000 + round(index * 1000 / 30) for index in range(30)]
    source = write(tmp_path / "vfr.mkv", "libx264", times_ms)
    assert not inspect_video(source).constant_rate
    standardize(job(source, tmp_path / "out"))
    assert inspect_video(tmp_path / "out/vfr.mp4").constant_rate
    levels = brightness(tmp_path / "out/vfr.mp4")
    assert abs(len(levels) - 60) <= 1
    # At 0.5 s frame 5 is shown, at 1.5 s frame 25.
    assert levels[15] == pytest.approx(10, abs=3)
    assert levels[45] == pytest.approx(50, abs=3)


def test_odd_sizes_become_even_and_high_frames_are_scaled_down(tmp_path, make_video):
    source = write(tmp_path / "odd.avi", "ffv1", EVEN_MS[:15], height=49, width=65)
    standardize(job(source, tmp_path / "out"))
    report = inspect_video(tmp_path / "out/odd.mp4")
    assert (report.width, report.height) == (64, 48)
    standardize(job(make_video("high.mp4", 15, height=200, width=400), tmp_path / "out", max_height_px=101))
    report = inspect_video(tmp_path / "out/high.mp4")
    assert (report.width, report.height) == (202, 100)


@pytest.mark.parametrize("keep", [True, False])
def test_sound_is_dropped_unless_it_is_to_be_kept(tmp_path, keep):
    source = write(tmp_path / "loud.mkv", "libx264", EVEN_MS, audio=True)
    assert inspect_video(source).has_audio
    standardize(job(source, tmp_path / "out", keep_audio=keep))
    report = inspect_video(tmp_path / "out/loud.mp4", decode_all=True)
    assert (report.has_audio, report.faults) == (keep, ())


def rotated(tmp_path: Path, degrees: int) -> Path:
    """An MP4 whose left half is bright, with a display matrix that turns it."""
    path = tmp_path / f"turned{degrees}.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(15):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:, :32] = 220
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    # The matrix in the track header: a b u c d v x y w, 16.16 fixed point.
    at = data.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 2 * 4
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    for place, value in ((0, cos), (1, sin), (3, -sin), (4, cos)):
        data[at + 4 * place : at + 4 * place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(("degrees_clockwise", "bright"), [(90, "top"), (180, "right"), (270, "bottom")])
def test_a_rotation_flag_is_applied(tmp_path, degrees_clockwise, bright):
    source = rotated(tmp_path, degrees_clockwise)
    assert inspect_video(source).turn == {90: "clockwise", 180: "half turn", 270: "counterclockwise"}[degrees_clockwise]
    standardize(job(source, tmp_path / "out"))
    target = tmp_path / "out" / source.name
    assert inspect_video(target).turn == "upright"
    with av.open(str(target)) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24").mean(axis=2)
    height, width = image.shape
    halves = {
        "top": image[: height // 2],
        "bottom": image[height // 2 :],
        "left": image[:, : width // 2],
        "right": image[:, width // 2 :],
    }
    assert max(halves, key=lambda side: halves[side].mean()) == bright


def test_broken_inputs_are_reported_and_leave_no_file(shared_dir, tmp_path, make_video):
    make_video("in/good.mp4", 15)
    (tmp_path / "in/bad.mp4").write_bytes((shared_dir / "videos/corrupted.mp4").read_bytes())
    answer = do_job("standardize", {"source": str(tmp_path / "in"), "dest": str(tmp_path / "out"), "workers": 2})
    assert [(row["video"], row["status"]) for row in answer["rows"]] == [("bad.mp4", "broken"), ("good.mp4", "written")]
    assert "in/bad.mp4 cannot be standardised" in answer["rows"][0]["why"]
    assert answer["exit_code"] == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.mp4"]


def test_a_second_run_leaves_finished_files_alone_unless_told_otherwise(tmp_path, make_video):
    source = make_video("in/a.mp4", 15).parent
    standardize(job(source, tmp_path / "out"))
    written = (tmp_path / "out/a.mp4").stat().st_mtime_ns
    assert [item.status for item in standardize(job(source, tmp_path / "out"))] == ["there already"]
    assert (tmp_path / "out/a.mp4").stat().st_mtime_ns == written
    assert [item.status for item in standardize(job(source, tmp_path / "out", overwrite=True))] == ["written"]
    assert (tmp_path / "out/a.mp4").stat().st_mtime_ns > written


def test_shards_together_do_every_video_once_and_keep_folders(tmp_path, make_video):
    for number in range(5):
        make_video(f"in/part{number % 2}/{number}.mp4", 15 + 10 * number)
    done = [
        {item.file for item in standardize(job(tmp_path / "in", tmp_path / "out", shards=2, shard=shard))}
        for shard in (0, 1)
    ]
    assert all(done)
    assert not done[0] & done[1]
    assert done[0] | done[1] == {f"part{number % 2}/{number}.mp4" for number in range(5)}


def test_two_videos_that_would_share_a_file_are_refused(tmp_path, make_video):
    write(make_video("in/a.mp4", 15).with_suffix(".avi"), "mpeg4", EVEN_MS[:15])
    with pytest.raises(DataError, match=r"a\.avi and .*a\.mp4 would both be written to"):
        standardize(job(tmp_path / "in", tmp_path / "out"))


def test_a_video_is_never_written_over_itself(make_video):
    source = make_video("a.mp4", 15)
    with pytest.raises(DataError, match="would overwrite itself"):
        standardize(job(source, source.parent))


CODEC_OF = {"mjpeg": "mjpeg", "raw": "rawvideo"}


@pytest.mark.parametrize("copy_format", CODEC_OF)
def test_the_training_copy_lies_beside_the_file_in_the_format_asked_for(tmp_path, make_video, copy_format):
    standardize(job(make_video("a.mp4", 15), tmp_path / "out", training_copy=copy_format))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "a.train.mov"]
    report = inspect_video(tmp_path / "out/a.train.mov", decode_all=True)
    assert (report.codec, report.num_frames, report.faults) == (CODEC_OF[copy_format], 15, ())


def test_a_copy_in_another_format_than_asked_for_is_replaced_and_said_to_be(tmp_path, make_video):
    source, dest = make_video("in/a.mp4", 15).parent, tmp_path / "out"

    def do(copy_format):
        answer = do_job(
            "standardize", {"source": str(source), "dest": str(dest), "workers": 1, "training_copy": copy_format}
        )
        assert (answer["exit_code"], answer["training_copy"]) == (0, copy_format)
        return answer["rows"][0]["status"], answer["rows"][0]["training_copy"]

    assert do("mjpeg") == ("written", "written")
    written = (dest / "a.train.mov").stat().st_mtime_ns
    assert do("mjpeg") == ("there already", "there already")
    assert (dest / "a.train.mov").stat().st_mtime_ns == written
    assert do("raw") == ("there already", "replaced")
    assert inspect_video(dest / "a.train.mov").codec == "rawvideo"
    (dest / "a.train.mov").write_bytes(b"no video")
    assert do("raw") == ("there already", "replaced")
    (dest / "a.train.mov").unlink()
    assert do("raw") == ("there already", "written")


def test_a_file_done_again_leaves_no_copy_of_the_old_one(tmp_path, make_video, monkeypatch):
    source, dest = make_video("a.mp4", 45), tmp_path / "out"
    standardize(job(source, dest, training_copy="mjpeg"))
    standardize(job(source, dest, training_copy="mjpeg", overwrite=True, fps=15))
    assert inspect_video(dest / "a.train.mov").num_frames in (22, 23)
    # Killed between the file and its copy, then asked for the rest.
    monkeypatch.setattr("tsp.prepare.standardize._copy_for_training", lambda *_: "written")
    standardize(job(source, dest, training_copy="mjpeg", overwrite=True, fps=30))
    monkeypatch.undo()
    standardize(job(source, dest, training_copy="mjpeg"))
    assert inspect_video(dest / "a.train.mov").num_frames == 45
    standardize(job(source, dest, overwrite=True, fps=15))
    assert [path.name for path in dest.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("value", [True, False, "png"])
def test_a_training_copy_of_no_known_format_is_refused(value):
    with pytest.raises(ConfigError, match=r"standardize\.training_copy must be one of mjpeg, raw, got"):
        do_job("standardize", {"source": "in", "dest": "out", "training_copy": value})


def test_other_options_or_another_source_make_a_file_anew_and_an_interrupted_job_goes_on(tmp_path, make_video):
    source, dest = make_video("in/a.mp4", 15).parent, tmp_path / "out"

    def status(**given):
        (result,) = standardize(job(source, dest, **given))
        return result.status

    assert [status(), status()] == ["written", "there already"]
    assert [status(crf=30), status(crf=30)] == ["replaced", "there already"]
    assert [status(crf=30, gop="published"), status(crf=30, gop="published")] == ["replaced", "there already"]
    make_video("in/a.mp4", 20)
    assert status(crf=30, gop="published") == "replaced"
    assert inspect_video(dest / "a.mp4").num_frames == 20


@pytest.mark.parametrize("left", [0.0, 0.02, 0.6, 0.99])
@pytest.mark.parametrize("which", ["a.mp4", "a.train.mov"])
def test_an_output_that_was_cut_short_is_made_again(tmp_path, make_video, which, left):
    source, dest = make_video("in/a.mp4", 15).parent, tmp_path / "out"
    standardize(job(source, dest, training_copy="mjpeg"))
    whole = (dest / which).read_bytes()
    (dest / which).write_bytes(whole[: int(len(whole) * left)])
    # With so little left of a file, it could be anybody's.
    nobodys = (which, left) == ("a.mp4", 0.02)
    (result,) = standardize(job(source, dest, training_copy="mjpeg", overwrite=nobodys))
    remade = result.status if which == "a.mp4" else result.training_copy
    assert remade == ("written" if nobodys else "replaced")
    assert (dest / which).stat().st_size == pytest.approx(len(whole), rel=0.01)


def test_a_truncated_file_of_somebody_else_is_an_error(tmp_path, make_video):
    source, theirs = make_video("in/a.mp4", 15).parent, make_video("out/a.mp4", 9)
    theirs.write_bytes(theirs.read_bytes()[:-20])
    before = theirs.read_bytes()
    (result,) = standardize(job(source, theirs.parent))
    assert result.status == "broken"
    assert "out/a.mp4 exists, but is truncated" in result.why
    assert "--overwrite" in result.why
    assert theirs.read_bytes() == before


def test_a_file_that_something_else_made_is_left_alone_and_said_to_be(tmp_path, make_video):
    source, theirs = make_video("in/a.mp4", 15).parent, make_video("out/a.mp4", 9)
    before = theirs.read_bytes()
    (result,) = standardize(job(source, tmp_path / "out"))
    assert (result.status, theirs.read_bytes()) == ("there already", before)
    assert "exists, but its origin is unknown, so it was kept: --overwrite" in result.why


def test_all_names_that_clash_are_listed_at_once(tmp_path, make_video):
    for name in ("a.mp4", "b.mp4"):
        write(make_video(f"in/{name}", 15).with_suffix(".avi"), "mpeg4", EVEN_MS[:15])
    with pytest.raises(DataError, match=r"a\.avi and .*a\.mp4 would .*b\.avi and .*b\.mp4 would both be written"):
        standardize(job(tmp_path / "in", tmp_path / "out"))


def test_half_a_file_is_broken_unless_it_is_to_be_salvaged_and_then_the_gap_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    whole = write(tmp_path / "in/a.mkv", "libx264", EVEN_MS, height=144, width=192)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    (result,) = standardize(job(whole, tmp_path / "out"))
    assert result.status == "broken"
    assert "the file is truncated; --salvage keeps what can be decoded" in result.why
    assert not (tmp_path / "out/a.mp4").exists()
    (result,) = standardize(job(whole, tmp_path / "out", salvage=True))
    assert result.status == "written"
    assert "a.mkv was salvaged: " in result.why
    assert 0 < inspect_video(tmp_path / "out/a.mp4", decode_all=True).num_frames < 60


@pytest.mark.parametrize("training_copy", [None, "raw"])
def test_a_name_as_long_as_names_may_be_ends_no_job(tmp_path, make_video, training_copy):
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "x" * 251 + ".mp4"):
        make_video("v.mp4", 5).rename(tmp_path / "videos" / name)
    results = standardize(job(tmp_path / "videos", tmp_path / "out", training_copy=training_copy))
    assert [result.status for result in results] == ["written", "broken" if training_copy else "written"]
    assert ("255 are allowed: shorten it" in results[1].why) is bool(training_copy)


def test_shards_are_balanced_by_bytes_and_not_by_count():
    sizes = {"a": 50, "b": 20, "c": 20, "d": 10, "e": 10}
    shares = [share_of(sizes, list(sizes), 2, shard) for shard in range(2)]
    assert shares == [["a", "e"], ["b", "c", "d"]]
    assert share_of(sizes, list(sizes), 1, 0) == ["a", "b", "c", "d", "e"]
    assert share_of({"a": 1}, ["a"], 3, 2) == []


@pytest.mark.parametrize(
    ("num_bytes", "with_copy", "fits"),
    [(MAX, False, True), (MAX + 1, False, False), (MAX - 6, True, True), (MAX - 5, True, False)],
)
def test_a_name_may_be_as_long_as_file_systems_take_with_its_copys_ending(num_bytes, with_copy, fits):
    file = "sub/" + "n" * (num_bytes - 4) + ".mp4"
    said = _names_too_long(file, with_copy=with_copy)
    assert said == "" if fits else f"would have {MAX + 1} bytes, but {MAX} are allowed" in said
