"""The encoder as it is set up for inference."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from tsp.errors import ConfigError, DataError, GpuMemoryError
from tsp.extract.encoder import MIN_COSINE, SAFE_COSINE, Encoder, load_backbone
from tsp.model.backbone import build_backbone
from tsp.model.heads import HeadSpec, TspModel
from tsp.model.weights import read_file

CPU = torch.device("cpu")


def lively_tiny(seed: int = 0) -> nn.Module:
    """A tiny encoder whose batch norms have seen something."""
    torch.manual_seed(seed)
    network = build_backbone("tiny")
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 16, 112, 112))
    return network.eval()


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(4, 3, 16, 112, 112, generator=torch.Generator().manual_seed(1))


def test_batch_norms_are_folded_into_convolutions_without_changing_features(clips: torch.Tensor) -> None:
    network = lively_tiny()
    encoder = Encoder(network, CPU)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in encoder._network.modules())
    with torch.inference_mode():
        torch.testing.assert_close(encoder(clips), network(clips), atol=1e-5, rtol=1e-4)


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("backbone", ["r2plus1d_34", "r2plus1d_18", "r3d_18"])
def test_folding_fits_the_published_networks(backbone: str) -> None:
    network = build_backbone(backbone).eval()
    encoder = Encoder(network, CPU)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in encoder._network.modules())
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(clip), network(clip), atol=1e-4, rtol=1e-3)


def test_on_a_cpu_features_are_fp32_unless_asked_otherwise(clips: torch.Tensor) -> None:
    encoder = Encoder(lively_tiny(), CPU)
    encoder.calibrate(clips)
    assert (encoder.precision, encoder.cosine) == ("fp32", None)


def test_a_lower_precision_that_was_asked_for_is_measured_against_fp32(clips: torch.Tensor) -> None:
    encoder = Encoder(lively_tiny(), CPU, "bf16")
    encoder.calibrate(clips)
    assert encoder.precision == "bf16"
    assert encoder.cosine is not None
    assert 0.999 < encoder.cosine < 1
    with torch.inference_mode():
        features = encoder(clips.to(encoder.dtype))
    assert features.dtype == torch.float32


def test_a_precision_left_open_falls_back_until_features_are_close_enough(
    clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a GPU fp16 comes first; the order is tried here on the CPU with networks that fail one after the other.
    monkeypatch.setattr("tsp.extract.encoder._CPU_ORDER", ("fp16", "bf16", "fp32"))
    seen = {"fp16": 0.5, "bf16": (MIN_COSINE + SAFE_COSINE) / 2}
    monkeypatch.setattr(Encoder, "_cosine", lambda self, clips, exact: seen[self.precision])
    encoder = Encoder(lively_tiny(), CPU)
    assert encoder.precision == "fp16"
    encoder.calibrate(clips)
    assert (encoder.precision, encoder.cosine, encoder.dtype) == ("fp32", None, torch.float32)
    seen["fp16"] = 0.99999
    encoder.calibrate(clips)
    assert (encoder.precision, encoder.cosine) == ("fp16", 0.99999)


def test_features_that_overflow_are_far_from_fp32(clips: torch.Tensor) -> None:
    network = lively_tiny()
    with torch.no_grad():
        network.stem[0].weight.mul_(1e6)
        network.stem[1].running_var.fill_(1.0)
    encoder = Encoder(network, CPU, "fp16")
    with torch.inference_mode():
        assert encoder._cosine(clips[:1], torch.ones(1, 512)) == -1


class Small(nn.Module):
    """Holds two clips at a time."""

    def __init__(self, limit: int, error: Exception) -> None:
        super().__init__()
        self.limit, self.error = limit, error
        self.batches: list[int] = []

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if len(clips) > self.limit:
            raise self.error
        self.batches.append(len(clips))
        return clips.mean(dim=(2, 3, 4))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered(
    clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr("tsp.extract.encoder._fold", lambda network: network)
    network = Small(2, error)
    encoder = Encoder(network, CPU)
    both = torch.cat([clips, clips[:1]])
    with caplog.at_level(logging.WARNING):
        features = encoder(both)
    torch.testing.assert_close(features, both.mean(dim=(2, 3, 4)))
    assert (encoder.max_batch, network.batches) == (2, [2, 2, 1])
    assert "does not fit" in caplog.text
    encoder(both)
    assert network.batches == [2, 2, 1] * 2
    with pytest.raises(GpuMemoryError, match="a single clip does not fit"):
        Encoder(Small(0, error), CPU)(clips)


def test_other_errors_halve_no_batch(clips: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsp.extract.encoder._fold", lambda network: network)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        Encoder(Small(0, RuntimeError("shape mismatch")), CPU)(clips)


def test_fp32_is_not_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    Encoder(lively_tiny(), CPU)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)


def test_nan_features_are_a_data_error_that_names_the_videos(tmp_path: Path) -> None:
    from tests.videos import Made, write_video
    from tsp.data.dataset_files import Videos
    from tsp.data.tables import VideoFacts
    from tsp.extract.features import StackedFeatures
    from tsp.extract.pool import decode_videos
    from tsp.extract.slide_plan import SlidePlan
    from tsp.extract.stream import FeatureStream
    from tsp.store.local import LocalStore

    write_video(tmp_path / "a.mp4", Made(num_frames=40))
    network = lively_tiny()
    with torch.no_grad():
        network.layer4[0].weight.fill_(torch.nan)
    stream = FeatureStream(Encoder(network, CPU), 4, StackedFeatures)
    events = decode_videos(
        Videos(LocalStore(tmp_path)), [VideoFacts("a.mp4", 40 / 30, 30.0, 40)], SlidePlan(16, 16, 15.0, True), workers=0
    )
    with pytest.raises(DataError, match="NaN or infinite features for a"):
        list(stream.results(events))


@pytest.mark.parametrize(("backbone", "num_heads"), [("tiny", 2), ("r2plus1d_18", 1), ("r3d_18", 2)])
def test_the_backbone_is_read_off_a_checkpoint(backbone: str, num_heads: int, tmp_path: Path) -> None:
    heads = [HeadSpec(label_column="a", num_classes=3), HeadSpec(label_column="b", num_classes=2, sees_gvf=True)]
    model = TspModel(backbone, heads[:num_heads])
    path = tmp_path / "epoch_3.pth"
    torch.save({"model": model.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=1.0)}, path)
    name, network = load_backbone(read_file(path), None, where=str(path))
    assert name == backbone
    own = model.features.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())


def test_a_file_of_other_weights_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {"features.stem.0.weight": torch.zeros(3)}}, path)
    with pytest.raises(ConfigError, match=r"any of the backbones.*--backbone"):
        load_backbone(read_file(path), None, where=str(path))
    with pytest.raises(ConfigError, match="does not fit the backbone"):
        load_backbone(read_file(path), "tiny", where=str(path))
