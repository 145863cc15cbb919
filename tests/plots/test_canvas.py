"""PNGs are written whole or not at all, and a missing matplotlib is named."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("matplotlib")
from hf_mixup import plots
from hf_mixup.plots import _canvas
from tests.plots.common import pair, results


def test_images_are_png_only(tmp_path):
    with pytest.raises(ValueError, match=r"'bars\.pdf' does not end in \.png"):
        plots.metric_bars(results(), tmp_path / "bars.pdf")


def test_a_failed_write_keeps_the_old_file_and_leaves_no_part(tmp_path, monkeypatch):
    path = plots.text_pairs([pair(["old"], ["old"])], tmp_path / "new folder" / "pairs.png")
    before = path.read_bytes()
    figure = _canvas.new_figure(1, 1)

    def half_written(target, **options):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        _canvas.save_png(figure, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_figure_is_left_in_pyplot(tmp_path):
    plots.text_pairs([pair(["a"], ["b"])], str(tmp_path / "pairs.png"))
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mixup\[plots\]"'):
        plots.text_pairs([pair(["a"], ["b"])], tmp_path / "pairs.png")
