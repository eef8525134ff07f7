"""The chart of ``check --plot``: every class has its bars, one a subset, side by side."""

import itertools
from collections import Counter

import pytest

from tsp.prepare.histogram import draw_histogram

CLASSES = {"action-label": ("Run", "Jump", "Swim"), "temporal-region-label": ("Action", "No action")}
KEPT = {
    "train": {"action-label": Counter(Run=5, Swim=2), "temporal-region-label": Counter({"Action": 7})},
    "valid": {"action-label": Counter(Jump=3), "temporal-region-label": Counter({"Action": 3, "No action": 1})},
}


@pytest.fixture
def charts(tmp_path, monkeypatch):
    """The charts that are drawn, and the size of the figure."""
    from matplotlib.figure import Figure

    saved = []
    real = Figure.savefig

    def keep(self, *args, **options):
        saved.append(self)
        real(self, *args, **options)

    def draw(kept):
        monkeypatch.setattr(Figure, "savefig", keep)
        draw_histogram(tmp_path / "h.png", CLASSES, kept)
        assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
        return saved[0].axes, saved[0].get_size_inches()

    return draw


def test_every_class_has_a_bar_of_its_segments_in_each_subset(charts):
    (actions, regions), (width, height) = charts(KEPT)
    assert (width, height) == (8, pytest.approx(2 * 1.2 + 0.28 * 5))
    assert [bar.get_width() for bars in actions.containers for bar in bars] == [5, 0, 2, 0, 3, 0]
    assert [bar.get_width() for bars in regions.containers for bar in bars] == [7, 0, 3, 1]
    assert [text.get_text() for text in actions.get_yticklabels()] == ["Run", "Jump", "Swim"]
    assert [text.get_text() for text in actions.get_legend().get_texts()] == ["train", "valid"]
    assert (actions.get_title(), actions.yaxis_inverted()) == ("action-label", True)


@pytest.mark.parametrize("kept", [KEPT, {"train": KEPT["train"]}])
def test_bars_of_a_class_lie_side_by_side_about_its_name_and_apart_from_the_next(charts, kept):
    (chart, _), _ = charts(kept)
    for index, tick in enumerate(chart.get_yticks()):
        spans = [(bars[index].get_y(), bars[index].get_y() + bars[index].get_height()) for bars in chart.containers]
        assert all(end == pytest.approx(begin) for (_, end), (begin, _) in itertools.pairwise(spans))
        assert (spans[0][0] + spans[-1][1]) / 2 == pytest.approx(tick)
        assert spans[-1][1] - spans[0][0] == pytest.approx(0.8)


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_without_a_table_there_is_an_empty_chart(charts):
    (chart, _), _ = charts({})
    assert list(chart.containers) == []
