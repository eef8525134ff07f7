"""Frames become clips on a side stream while the encoder computes; the features are the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.model.streams import Races
from tests.model.streams import races as races
from tests.videos import Made, write_video
from tsp.data import transforms
from tsp.data.dataset_files import Videos
from tsp.data.tables import VideoFacts
from tsp.extract.encoder import Encoder
from tsp.extract.features import StackedFeatures
from tsp.extract.pool import Event, VideoFailure, decode_videos
from tsp.extract.slide_plan import SlidePlan
from tsp.extract.stream import FeatureStream, VideoResult
from tsp.model.backbone import build_backbone
from tsp.model.side_stream import SideStream
from tsp.store.local import LocalStore

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Two decoded videos, of several chunks."""
    folder = tmp_path_factory.mktemp("videos")
    videos = [VideoFacts(f"{name}.mp4", frames / 30, 30.0, frames) for name, frames in (("a", 150), ("b", 90))]
    for video in videos:
        write_video(folder / video.filename, Made(num_frames=video.num_frames, width=96, height=64))
    source = Videos(LocalStore(folder))
    return list(decode_videos(source, videos, SlidePlan(8, 16, 15.0, True), workers=0))


@pytest.fixture(autouse=True)
def fresh_constants() -> Iterator[None]:
    transforms.constants.cache_clear()
    yield
    transforms.constants.cache_clear()


def features_of(events: list[Event]) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    stream = FeatureStream(Encoder(build_backbone("tiny"), CPU, "fp32"), 3, StackedFeatures)
    found = {result.video.name: result.array for result in stream.results(events)}
    assert all(array is not None for array in found.values())
    return found


def test_frames_are_prepared_beside_the_encoder_and_its_clips_handed_over(
    events: list[Event], request: pytest.FixtureRequest
) -> None:
    expected = features_of(events)
    transforms.constants.cache_clear()
    races: Races = request.getfixturevalue("races")
    found = features_of(events)
    assert races.on_side > 100
    assert {name: len(array) for name, array in found.items()} == {"a": 8, "b": 4}
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_a_video_that_cannot_be_decoded_leads_to_the_reason_and_no_clip() -> None:
    stream = FeatureStream(Encoder(build_backbone("tiny"), CPU, "fp32"), 3, StackedFeatures)
    video = VideoFacts("a.mp4", 5.0, 30.0, 150)
    events: list[Event] = [(video, VideoFailure("moov atom not found"))]
    assert list(stream.results(events)) == [
        VideoResult(video, array=None, num_clips=0, num_padded=0, message="moov atom not found")
    ]


def test_clips_that_are_not_handed_over_are_noticed(
    events: list[Event],
    races: Races,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SideStream, "hand_over", lambda self, *tensors: None)
    with pytest.raises(AssertionError, match="main stream reads what the side stream wrote before it has waited"):
        features_of(events)
