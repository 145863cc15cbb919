"""Samples with an image and a text stand beside their partners, with the weights that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from hf_mixup import plots
from hf_mixup.plots import StreamPair
from tests.plots.common import size

BLACK, WHITE = np.zeros((3, 8, 8)), np.ones((3, 8, 8))


def pair(**changes: Any) -> StreamPair:
    fields = {"images": [BLACK, WHITE], "mixed": 0.7 * BLACK + 0.3 * WHITE, "lam": 0.7}
    return StreamPair(**{**fields, "texts": ["red fruit", "bus"], "labels": ["Food", "Travel"], **changes})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures that were drawn instead of saved."""
    figures: list[Any] = []
    monkeypatch.setattr("hf_mixup.plots.streams.save_png", lambda figure, path: figures.append(figure))
    return figures


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_every_stream_of_both_samples_is_drawn(drawn: list[Any]) -> None:
    plots.stream_pairs([pair()], "s.png", title="Mixup")
    shown = [float(np.mean(axes.images[0].get_array())) for axes in drawn[0].axes]
    assert shown == pytest.approx([0.0, 1.0, 0.3])
    assert texts(drawn[0]) == [
        *("Mixup", "own", "partner", "mixed"),
        *("0.70 Food", "red fruit", "0.30 Travel", "bus"),
    ]


def test_what_has_no_share_is_not_written(drawn: list[Any]) -> None:
    plots.stream_pairs([pair(lam=1.0)], "s.png")
    assert "1.00 Food" in texts(drawn[0])
    assert not {"bus", "0.00 Travel"} & set(texts(drawn[0]))


def test_a_blend_inside_the_model_and_missing_texts_are_said(drawn: list[Any]) -> None:
    plots.stream_pairs([pair(mixed=None, texts=["", None])], "s.png")
    assert len(drawn[0].axes) == 2
    assert {"inside\nthe model", "(no text)"} <= set(texts(drawn[0]))


def test_long_texts_make_a_row_higher_and_no_text_leaves_the_image(drawn: list[Any]) -> None:
    long = "a word " * 60
    plots.stream_pairs([pair()], "s.png")
    plots.stream_pairs([pair(texts=[long, long], labels=[long, long])], "s.png")
    heights = [figure.get_size_inches()[1] for figure in drawn]
    assert heights[0] < heights[1]
    drawn[1].canvas.draw()
    edge = drawn[1].bbox
    boxes = [text.get_window_extent() for text in drawn[1].texts]
    assert all(edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1 for box in boxes)


def test_the_image_is_written(tmp_path: Any) -> None:
    narrow = size(plots.stream_pairs([pair()], tmp_path / "a.png"))
    two = size(plots.stream_pairs([pair(), pair()], tmp_path / "b.png"))
    assert narrow[0] == two[0] <= 7.2 * 150
    assert narrow[1] < two[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "no pair"), ([pair(lam=1.2)], r"lam .* not 1\.2"), ([pair(images=[BLACK, 3 * WHITE])], "images must be")],
)
def test_bad_input_is_named(tmp_path: Any, rows: list[StreamPair], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.stream_pairs(rows, tmp_path / "s.png")
