"""Pairs of texts grow with the text up to a limit."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")
from hf_mixup import plots
from tests.plots.common import pair, size


@pytest.mark.filterwarnings("error")  # matplotlib warns of a glyph that its font lacks
def test_text_pairs_grow_with_the_text_up_to_a_limit(tmp_path):
    short = size(plots.text_pairs([pair(["a", "video"], ["dull"])], tmp_path / "a.png"))
    long = size(plots.text_pairs([pair(["video"] * 60, ["$x$", "中文", "\n", ""])], tmp_path / "b.png"))
    huge = size(plots.text_pairs([pair(["video"] * 600, [])], tmp_path / "c.png"))
    huger = size(plots.text_pairs([pair(["video"] * 9000, ["x" * 99])], tmp_path / "d.png"))
    assert short[0] == long[0] == huge[0]
    assert short[1] < long[1] < huge[1] == huger[1]


def test_mixed_tokens_stand_below_under_a_title(tmp_path):
    plain = size(plots.text_pairs([pair(["a", "video"], ["dull"])], tmp_path / "a.png"))
    mixed = pair(["a", "video"], ["dull"])._replace(mixed=[("dull", True), ("video", False)])
    below = size(plots.text_pairs([mixed], tmp_path / "b.png"))
    titled = size(plots.text_pairs([mixed], tmp_path / "c.png", title="A $title$"))
    assert plain[1] < below[1] < titled[1]
    long = mixed._replace(mixed=[("video", bool(number % 2)) for number in range(600)])
    assert below[1] < size(plots.text_pairs([long], tmp_path / "d.png"))[1]


@pytest.mark.parametrize(("rows", "message"), [([], "no pair"), ([pair([], [], lam=1.2)], r"lam .* not 1\.2")])
def test_text_pairs_name_bad_input(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        plots.text_pairs(rows, tmp_path / "pairs.png")
