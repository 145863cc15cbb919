"""Curves over levels explain every line within the image."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    "names", [["test"], ["plain", "label smoothing", "mixup", "cutmix", "adversarial"], ["m" * 40] * 4]
)
def test_level_curves_explain_every_line_within_the_image(tmp_path, monkeypatch, names):
    from hf_mixup.metrics import summarise_levels
    from hf_mixup.plots import levels

    drawn = []
    monkeypatch.setattr(levels, "save_png", lambda figure, path: drawn.append(figure))
    names = [f"{name}{number}" for number, name in enumerate(names)]
    summary = summarise_levels({("fgsm", 1.0): {"accuracy": 0.9, "ece": 0.1}, ("fgsm", 2.0): {"accuracy": 0, "ece": 1}})
    levels.level_curves(dict.fromkeys(names, summary), tmp_path / "x.png", title="Attacks", level="strength")
    (figure,) = drawn
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "accuracy", "calibration error"]
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 < figure.axes[0].get_window_extent().y0
