"""Reliability diagrams and bar charts are whole PNGs with the right bars."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from hf_mixup import plots
from tests.plots.common import LONG, curve, fixed, inked, results, size


@pytest.mark.parametrize("methods", [1, 3, 8])
@pytest.mark.filterwarnings("error")
def test_reliability_diagram_grows_with_the_methods(tmp_path, methods):
    curves = {f"{LONG if i == 1 else 'method'} {i}": curve(seed=i) for i in range(methods)}
    path = plots.reliability_diagram(curves, tmp_path / "reliability.png")
    columns, rows = min(4, methods), -(-methods // 4)
    assert size(path) == pytest.approx((150 * (2.7 * columns + 0.4), 150 * (3.9 * rows + 0.3)), abs=1)
    assert inked(path) > 0.1


def test_reliability_diagram_title_and_bars(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("hf_mixup.plots.charts.save_png", lambda figure, path: drawn.append(figure))
    probs = [[0.95, 0.05], [0.95, 0.05], [0.45, 0.55]]
    plots.reliability_diagram({"erm": (probs, [0, 1, 1])}, tmp_path / "a.png", n_bins=10, from_logits=False)
    top, bottom = drawn[0].subfigs[0].axes
    assert top.get_title() == "erm"
    assert any("ECE 0.450" in text.get_text() for text in top.texts)
    accuracy, gap = top.containers
    assert [bar.get_height() for bar in accuracy][9] == 0.5
    assert gap[9].get_y() == 0.5
    assert gap[9].get_height() == pytest.approx(0.45)
    assert [bar.get_height() for bar in bottom.containers[0]][9] == pytest.approx(100 * 2 / 3)


@pytest.mark.filterwarnings("error")
def test_reliability_diagram_of_a_diverged_method_and_of_one_row(tmp_path):
    curves = {"diverged": (np.full((5, 3), np.nan), np.zeros(5, int)), "one": ([[1.0, 0.0]], [0])}
    size(plots.reliability_diagram(curves, tmp_path / "reliability.png"))
    bfloat16 = torch.tensor(curve()[0]).bfloat16()
    size(plots.reliability_diagram({"bf16": (bfloat16, curve()[1])}, tmp_path / "reliability.png"))


def test_reliability_diagram_without_methods(tmp_path):
    with pytest.raises(ValueError, match="no method"):
        plots.reliability_diagram({}, tmp_path / "reliability.png")


@pytest.mark.parametrize("splits", [["test"], ["test", "test_shifted"]])
@pytest.mark.parametrize("methods", [1, 3, 8])
@pytest.mark.filterwarnings("error")
def test_metric_bars_grow_with_the_methods(tmp_path, methods, splits):
    rows = results([f"{LONG if i == 1 else 'method'} {i}" for i in range(methods)], splits=splits)
    width, height = size(plots.metric_bars(rows, tmp_path / "bars.png"))
    assert width == pytest.approx(150 * (3.1 * 3 + 1.6), abs=1)
    assert height == pytest.approx(150 * (max(0.42, 0.22 * len(splits) + 0.14) * methods + 1.1), abs=1)


def test_metric_bars_show_mean_and_deviation(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("hf_mixup.plots.charts.save_png", lambda figure, path: drawn.append(figure))
    rows = [fixed("erm", seed=s, accuracy=a) for s, a in enumerate((0.8, 1.0))] + [fixed("one", accuracy=0.5)]
    plots.metric_bars(rows, tmp_path / "a.png", metrics=["accuracy"])
    (panel,) = drawn[0].axes
    bars, error = panel.containers
    assert [bar.get_width() for bar in bars] == pytest.approx([0.9, 0.5])
    ends = error.lines[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([0.9 - np.sqrt(0.02), 0.9 + np.sqrt(0.02)])
    assert [text.get_text() for text in panel.texts] == ["0.900 ± 0.141", "0.500"]
    assert panel.get_title() == "accuracy ↑"


@pytest.mark.filterwarnings("error")
def test_metric_bars_survive_nan_missing_negative_and_zero(tmp_path):
    rows = [
        fixed("nan", nll=float("nan"), r2=-0.4, ece=0.0),
        fixed("inf", "shifted", nll=float("inf"), ece=0.0),
        fixed("fine", seed=0, nll=1.0, r2=0.3),
        fixed("fine", seed=1, nll=2.0, r2=-0.1),
    ]
    size(plots.metric_bars(rows, tmp_path / "bars.png", metrics=["nll", "r2", "ece", "absent"]))


def test_metric_bars_need_a_metric(tmp_path):
    with pytest.raises(ValueError, match="at least one metric"):
        plots.metric_bars(results(), tmp_path / "bars.png", metrics=[])
