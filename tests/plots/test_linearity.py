"""Diagrams of the path between samples show means, and name what cannot be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hf_mixup.metrics import Linearity
from hf_mixup.plots import path_diagram
from tests.metrics.test_linearity import random_path


def test_diagram_shows_means_and_leaves_out_pairs_of_one_class(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, drawn = random_path(), []
    monkeypatch.setattr("hf_mixup.plots.linearity.save_png", lambda figure, path: drawn.append(figure))
    path_diagram({"one": found, "two": found}, tmp_path / "path.png")
    axes = [each for panel in drawn[0].subfigs for each in panel.axes]
    assert [each.get_title() for each in axes[::2]] == ["one", "two"]
    apart = [row for row in range(5) if found.labels[row] != found.others[row]]
    assert 0 < len(apart) < 5
    ends = [np.mean([found.probabilities[step, row, found.labels[row]] for row in apart]) for step in (0, -1)]
    np.testing.assert_allclose(axes[0].lines[0].get_ydata()[[0, -1]], ends)
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), found.deviation[:, apart].mean(axis=1))


def test_diagram_names_what_cannot_be_drawn(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="there is no model to draw"):
        path_diagram({}, tmp_path / "path.png")
    found = random_path()
    alike = Linearity(found.lam, found.probabilities, found.labels, found.labels)
    with pytest.raises(ValueError, match="plain: all pairs are of one class"):
        path_diagram({"plain": alike}, tmp_path / "path.png")
