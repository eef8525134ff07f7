"""How a key frame before a time is looked for: containers offer them by decoding time, some too late."""

from types import SimpleNamespace

import pytest

from tsp.data.video.open_video import MAX_SEEKS, VideoSource


class Container:
    """Offers, for a seek, the last of its key frames (decoded, shown) that is decoded by then, else its first."""

    def __init__(self, *keys):
        self.keys, self.sought = keys, []

    def seek(self, offset, stream):
        self.sought.append(offset)

    def demux(self, stream):
        before = [key for key in self.keys if key[0] <= self.sought[-1]]
        dts, pts = before[-1] if before else self.keys[0]
        yield SimpleNamespace(dts=dts, pts=pts, size=1, is_keyframe=True, is_discard=False)


def sought(container, target, origin=0):
    """The time of the first packet given, or None where all are read from the beginning; and the seeks."""
    source = SimpleNamespace(
        container=container, stream=None, is_intra=False, timeline=SimpleNamespace(origin=origin),
        _shifted=lambda packets: packets, all_packets=lambda: iter([None]),
    )  # fmt: skip
    first = next(iter(VideoSource._sought(source, target)))
    return (None if first is None else first.pts), container.sought


@pytest.mark.parametrize(
    ("keys", "target", "found", "seeks"),
    [
        ([(0, 0), (100, 100)], 150, 100, [150]),
        ([(0, 0), (100, 100)], 100, 100, [100]),
        ([(0, 5), (100, 160)], 150, 5, [150, 99]),
        ([(0, 5), (90, 155), (100, 160)], 150, 5, [150, 99, 89]),
    ],
)
def test_a_key_frame_that_is_shown_too_late_is_passed_over_for_the_one_before_it(keys, target, found, seeks):
    assert sought(Container(*keys), target) == (found, seeks)


def test_where_the_first_key_frame_is_too_late_the_steps_back_grow_and_then_all_is_read():
    found, seeks = sought(Container((0, 500)), 150)
    assert found is None
    assert len(seeks) == MAX_SEEKS
    steps = [before - after for before, after in zip([0, *seeks[1:]], seeks[1:], strict=False)]
    assert steps == [2**number for number in range(MAX_SEEKS - 1)]
