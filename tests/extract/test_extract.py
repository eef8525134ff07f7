"""Extractions from videos to H5: what they hold, what they survive, what they say."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tests import reference
from tests.extract.conftest import SmallSet, write_metadata
from tests.extract.values import read_h5
from tests.jobs import do_job
from tsp.data.transforms import blend
from tsp.errors import ConfigError, DataError, GpuLostError, GpuMemoryError, TspError
from tsp.extract import stream, video_parts
from tsp.extract.encoder import Encoder
from tsp.model.heads import TspModel


def reference_features(model: TspModel, path: Path, starts_frames: list[int], num_frames: int) -> np.ndarray:
    """Features of clips that are read whole, one by one, from full pixels in float32; the last frame fills the end."""
    _, frames = reference.decode_all(path)
    picked = [[min(start + 2 * k, num_frames - 1) for k in range(16)] for start in starts_frames]
    with torch.inference_mode():
        return torch.cat([model.features(reference.transformed(frames[some])[None]) for some in picked]).numpy()


def breaks_at(monkeypatch: pytest.MonkeyPatch, num_videos: int) -> None:
    """Let the extraction die when it has written the parts of some videos."""
    write, left = video_parts.VideoParts.write, [num_videos]

    def dying(self: video_parts.VideoParts, result: stream.VideoResult, *source: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, result, *source)

    monkeypatch.setattr(video_parts.VideoParts, "write", dying)


def test_every_clip_has_the_feature_that_reading_it_alone_gives(small_set: SmallSet, tiny_model: TspModel) -> None:
    answer = do_job("extract", small_set.job(stride_frames=1))
    features = read_h5(answer["out"])
    assert {name: array.shape for name, array in features.items()} == {
        "long": (50, 512), "middle": (23, 512), "other": (17, 512), "short": (1, 512),
    }  # fmt: skip
    for name in ("long", "middle", "other"):
        starts = [2 * index for index in range(len(features[name]))]
        expected = reference_features(tiny_model, small_set.root / "videos" / f"{name}.mp4", starts, 1000)
        np.testing.assert_allclose(features[name], expected, atol=2e-6)
    assert all(array.dtype == np.float32 for array in features.values())


def test_batches_are_filled_across_the_borders_of_videos(small_set: SmallSet, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode = Encoder.__call__

    def counting(self: Encoder, clips: torch.Tensor) -> torch.Tensor:
        sizes.append(len(clips))
        return encode(self, clips)

    monkeypatch.setattr(Encoder, "__call__", counting)
    do_job("extract", small_set.job(batch=4))
    # 4, 2, 2 and 1 clips of four videos: no batch but the last is left unfilled.
    assert sorted(sizes, reverse=True) == [4, 4, 1]
    assert sizes[-1] == 1


def test_a_frame_that_many_clips_share_is_resized_and_normalised_once(
    small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_frames: list[int] = []

    def counting(pixels: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        num_frames.append(pixels.shape[1])
        return blend(pixels, *weights)

    monkeypatch.setattr(stream, "blend", counting)
    answer = do_job("extract", small_set.job(stride_frames=1))
    # Every second frame of each 30 fps file: 65, 38, 32 and 10; its 91 clips have 16 frames each.
    assert (sum(num_frames), 16 * answer["clips"]) == (65 + 38 + 32 + 10, 16 * 91)


def test_the_file_is_gzipped_and_the_answer_counts_what_it_holds(small_set: SmallSet) -> None:
    answer = do_job("extract", small_set.job())
    with h5py.File(answer["out"]) as file:
        assert {file[name].compression for name in file} == {"gzip"}
    assert (answer["videos"], answer["clips"], answer["broken"], answer["missing"]) == (4, 4 + 2 + 2 + 1, 0, 0)
    assert answer["rows"] == [{"video": "short", "state": "padded", "message": "last frame repeated"}]
    assert answer["exit_code"] == 0


def test_a_video_shorter_than_a_clip_ends_with_its_last_frame_repeated(
    small_set: SmallSet, tiny_model: TspModel
) -> None:
    features = read_h5(do_job("extract", small_set.job())["out"])
    # Frames 0, 2, ..., 18 are wanted and there; then 18, the last of them, again and again.
    expected = reference_features(tiny_model, small_set.root / "videos" / "short.mp4", [0], 19)
    np.testing.assert_allclose(features["short"], expected, atol=2e-6)


def test_a_video_shorter_than_a_clip_can_be_left_out(small_set: SmallSet) -> None:
    answer = do_job("extract", small_set.job(short_videos="skip"))
    assert set(read_h5(answer["out"])) == {"long", "middle", "other"}
    assert (answer["skipped"], answer["rows"][0]["state"]) == (1, "skipped")


def test_a_file_a_little_shorter_than_its_table_says_is_padded_and_named(small_set: SmallSet) -> None:
    write_metadata(small_set.root / "metadata.csv", {**small_set.num_frames, "middle.mp4": 90})
    answer = do_job("extract", small_set.job(stride_frames=1))
    assert {row["video"] for row in answer["rows"] if row["state"] == "padded"} == {"middle", "short"}
    features = read_h5(answer["out"])["middle"]
    assert features.shape == (30, 512)
    assert np.isfinite(features).all()


def test_broken_videos_are_named_after_all_others_are_done_and_nothing_is_merged(small_set: SmallSet) -> None:
    frames = {"cut.mp4": 300, "long.mp4": 2000, "gone.mp4": 90, **{"middle.mp4": 75, "other.mp4": 64}}
    write_metadata(small_set.root / "metadata.csv", frames)
    cut = (small_set.root / "videos" / "middle.mp4").read_bytes()[:700]
    (small_set.root / "videos" / "cut.mp4").write_bytes(cut)
    answer = do_job("extract", small_set.job())
    assert answer["exit_code"] == 3
    assert (answer["videos"], answer["broken"]) == (2, 3)
    assert {row["video"]: row["state"] for row in answer["rows"]} == dict.fromkeys(("cut", "long", "gone"), "broken")
    said = {row["video"]: row["message"] for row in answer["rows"]}
    assert "ends before" in said["long"]
    assert "No such file" in said["gone"]
    assert not Path(small_set.job()["out"]).exists()


def test_broken_videos_can_be_left_out_or_replaced_without_doing_the_others_again(
    small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = small_set.root / "videos" / "long.mp4"
    whole = broken.resolve()
    broken.unlink()
    broken.write_bytes(b"no video at all")
    assert do_job("extract", small_set.job())["exit_code"] == 3
    answer = do_job("extract", small_set.job(broken_videos="skip", out=str(small_set.root / "left_out.h5")))
    assert set(read_h5(answer["out"])) == {"middle", "other", "short"}
    broken.unlink()
    broken.symlink_to(whole)
    breaks_at(monkeypatch, 1)
    answer = do_job("extract", small_set.job())
    assert (answer["videos"], answer["clips_extracted"]) == (4, 4)


def test_an_interrupted_extraction_goes_on_with_the_videos_that_are_left(
    small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = read_h5(do_job("extract", small_set.job(out=str(small_set.root / "at_once.h5")))["out"])
    with monkeypatch.context() as patch:
        breaks_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            do_job("extract", small_set.job())
    out = Path(small_set.job()["out"])
    assert not out.exists()
    answer = do_job("extract", small_set.job())
    assert answer["videos"] == 4
    assert answer["clips_extracted"] < answer["clips"]
    resumed = read_h5(out)
    assert resumed.keys() == uninterrupted.keys()
    assert all(np.allclose(resumed[name], uninterrupted[name], atol=1e-6) for name in resumed)
    assert not out.with_name("features.h5.parts").exists()


def test_a_finished_extraction_is_not_done_again(small_set: SmallSet, monkeypatch: pytest.MonkeyPatch) -> None:
    first = do_job("extract", small_set.job())
    breaks_at(monkeypatch, 0)
    again = do_job("extract", small_set.job())
    assert {key: again[key] for key in ("out", "videos", "clips", "rows")} == {
        key: first[key] for key in ("out", "videos", "clips", "rows")
    }


@pytest.mark.parametrize("when", ["under way", "finished"])
def test_features_of_another_kind_are_not_mixed_in(
    when: str, small_set: SmallSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    if when == "under way":
        with monkeypatch.context() as patch:
            breaks_at(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                do_job("extract", small_set.job())
    else:
        do_job("extract", small_set.job())
    with pytest.raises(ConfigError, match=r"stride_frames = 16, not 1.*--out"):
        do_job("extract", small_set.job(stride_frames=1))


OTHER_WORK: dict[str, tuple[dict[str, int], dict[str, Any], str]] = {
    "more videos": ({"extra.mp4": 60}, {}, r"1 not in it: extra"),
    "fewer videos": ({"other.mp4": 0}, {}, r"1 in it, but not wanted: other"),
    "another length": ({"long.mp4": 100}, {}, r"1 of another length in it: long"),
    "short ones left out now": ({}, {"short_videos": "skip"}, r"1 in it, but not wanted: short"),
    "another encoder": ({}, {"backbone": "r3d_18"}, r"encoder tiny, not r3d_18: leave out --backbone"),
}


@pytest.mark.parametrize("kind", ["extract", "gvf"])
@pytest.mark.parametrize("name", OTHER_WORK)
def test_a_finished_output_is_not_taken_for_what_a_changed_command_asks_for(
    name: str, kind: str, small_set: SmallSet
) -> None:
    frames, changes, message = OTHER_WORK[name]
    do_job(kind, small_set.job())
    table = {video: number for video, number in {**small_set.num_frames, **frames}.items() if number}
    write_metadata(small_set.root / "metadata.csv", table)
    with pytest.raises(ConfigError, match=message + r".*--out"):
        do_job(kind, small_set.job(**changes))


def test_broken_videos_that_were_left_out_do_not_make_a_finished_output_another(small_set: SmallSet) -> None:
    (small_set.root / "videos/long.mp4").unlink()
    (small_set.root / "videos/long.mp4").write_bytes(b"no video")
    first = do_job("extract", small_set.job(broken_videos="skip"))
    assert (first["videos"], first["broken"]) == (3, 1)
    assert do_job("extract", small_set.job(broken_videos="skip"))["rows"] == first["rows"]


def test_a_file_of_somebody_else_is_never_replaced(small_set: SmallSet) -> None:
    out = small_set.root / "mine.h5"
    out.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="choose another --out"):
        do_job("extract", small_set.job(out=str(out)))
    assert out.read_bytes() == b"precious"


def test_parts_that_do_not_fit_a_corrected_table_are_left_out_or_done_again(small_set: SmallSet) -> None:
    do_job("extract", small_set.job(shards=2, shard=0))
    corrected = {name: frames for name, frames in small_set.num_frames.items() if name != "short.mp4"}
    write_metadata(small_set.root / "metadata.csv", {**corrected, "long.mp4": 100})
    answer = do_job("extract", small_set.job())
    shapes = {name: array.shape for name, array in read_h5(answer["out"]).items()}
    assert shapes == {"long": (3, 512), "middle": (2, 512), "other": (2, 512)}


def test_a_damaged_part_is_named(small_set: SmallSet) -> None:
    jobs = [small_set.job(shards=2, shard=shard) for shard in range(2)]
    do_job("extract", jobs[0])
    done = next((small_set.root / "out" / "features.h5.parts" / "done").rglob("*.npy"))
    done.write_bytes(b"x" * done.stat().st_size)
    with pytest.raises(DataError, match=rf"{done.name} is damaged"):
        do_job("extract", jobs[1])


def test_the_pooled_features_are_those_of_the_feature_file(small_set: SmallSet) -> None:
    features = read_h5(do_job("extract", small_set.job(stride_frames=2))["out"])
    for pool, pooled in (("max", np.max), ("avg", np.mean)):
        job: dict[str, Any] = small_set.job(stride_frames=2, pool=pool, out=str(small_set.root / f"{pool}.h5"))
        vectors = read_h5(do_job("gvf", job)["out"])
        assert vectors.keys() == features.keys()
        for name, vector in vectors.items():
            assert (vector.shape, vector.dtype) == ((512,), np.float32)
            np.testing.assert_allclose(vector, pooled(features[name], axis=0), atol=1e-6)


def test_pooling_stores_one_vector_of_a_video_and_never_its_features(small_set: SmallSet) -> None:
    do_job("gvf", small_set.job(stride_frames=1, shards=2, shard=0))
    kept = [path for path in (small_set.root / "out").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert {path.stat().st_size for path in kept} == {video_parts.NPY_HEADER_BYTES + 4 * 512}


def test_maximum_and_average_are_not_mixed_up_in_one_file(small_set: SmallSet) -> None:
    do_job("gvf", small_set.job(pool="max"))
    with pytest.raises(ConfigError, match="max over time"):
        do_job("gvf", small_set.job(pool="avg"))


def test_clip_starts_are_those_of_the_published_system(shared_dir: Path, small_set: SmallSet) -> None:
    from tsp.data.tables import VideoFacts
    from tsp.extract.slide_plan import SlidePlan

    golden = json.loads((shared_dir / "golden" / "tsp_golden.json").read_text())["extraction_clip_starts_clip16_fps15"]
    for case in golden:
        plan = SlidePlan(case["stride"], 16, 15.0, pads_short=True)
        starts = plan.starts_sec(
            VideoFacts("video.mp4", case["video_frames"] / case["fps"], case["fps"], case["video_frames"])
        )
        assert len(starts) == case["num_clips"]
        assert starts[: len(case["first"])] == case["first"]
        assert starts[-len(case["last"]) :] == case["last"]


def test_a_real_file_of_another_rate_and_container_gives_its_own_clips(
    shared_dir: Path, small_set: SmallSet, tiny_model: TspModel
) -> None:
    write_metadata(small_set.root / "metadata.csv", {"ucf_test.avi": 120}, fps=25.0)
    answer = do_job("extract", small_set.job(videos=str(shared_dir / "videos"), stride_frames=8))
    features = read_h5(answer["out"])["ucf_test"]
    path = shared_dir / "videos" / "ucf_test.avi"
    times, frames = reference.decode_all(path)
    starts = [int(8 * index * Fraction(5, 3)) / 25 for index in range(len(features))]
    picked = [reference.clip_indices(times, start, Fraction(25)) for start in starts]
    with torch.inference_mode():
        expected = torch.cat([tiny_model.features(reference.transformed(frames[some])[None]) for some in picked])
    np.testing.assert_allclose(features, expected.numpy(), atol=2e-6)


def test_frames_are_resized_and_cropped_as_when_the_encoder_was_trained(
    small_set: SmallSet, tiny_model: TspModel, caplog: pytest.LogCaptureFixture
) -> None:
    clips = {"length_frames": 8, "resize_height_px": 64, "resize_width_px": 80, "crop_px": 48}
    args = argparse.Namespace(tspctl_config=json.dumps({"clips": clips}))
    torch.save({"model": tiny_model.state_dict(), "args": args}, small_set.root / "epoch_0.pth")
    features = read_h5(do_job("extract", small_set.job())["out"])["middle"]
    times, frames = reference.decode_all(small_set.root / "videos" / "middle.mp4")
    picked = [reference.clip_indices(times, start, Fraction(30)) for start in (0, 16 / 15)]
    with torch.inference_mode():
        expected = torch.cat(
            [
                tiny_model.features(reference.transformed(frames[some], 8, 16, crop=48, size=(64, 80))[None])
                for some in picked
            ]
        )
    np.testing.assert_allclose(features[:2], expected.numpy(), atol=2e-6)
    assert "epoch_0.pth was trained on clips of 8 frames at 15 fps, but these clips have 16" in caplog.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), GpuMemoryError),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), GpuLostError),
    ],
)
@pytest.mark.parametrize(
    "where",
    [
        "tsp.extract.extraction.device_of_shard",
        "tsp.extract.encoder._fold",
        "tsp.extract.stream.normalised",
        "tsp.extract.encoder.Encoder.calibrate",
        "tsp.extract.stream.FeatureStream._land",
    ],
)
def test_a_gpu_that_is_lost_or_full_is_known_wherever_its_error_surfaces_and_what_is_done_stays(
    small_set: SmallSet, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, kind: type[TspError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        with pytest.raises(kind, match=r"ran out of memory: give|another attempt"):
            do_job("extract", small_set.job())
    assert do_job("extract", small_set.job())["missing"] == 0
