"""Images of image-text batches are whole PNGs that show the right values, names and marks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from matplotlib import image as png
from matplotlib.colors import to_rgb
from PIL import Image

from hf_mixup import plots
from hf_mixup.plots import _canvas
from tests.plots.common import size

LONG = "a rather long caption of an image with $x_1$ □ 中, that goes on and on and on, line after line after line, " * 2


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were drawn instead of saved."""
    figures = []
    monkeypatch.setattr("hf_mixup.plots.pairs.save_png", lambda figure, path: figures.append(figure))
    return figures


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def names(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def cells(axes) -> dict[tuple[int, int], str]:
    """(row, column) -> what is written in that cell."""
    return {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}


def spilling(figure) -> list[str]:
    """Texts that reach beyond the edge of the image."""
    figure.canvas.draw()
    edge = figure.bbox
    everything = [*figure.texts]
    for axes in figure.axes:
        everything += [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in everything]
    return [text for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > edge.x1 or box.y1 > edge.y1]


# Target matrix ------------------------------------------------------------------------------------------------------


def test_target_matrix_writes_values_and_names_where_they_belong(drawn):
    plots.target_matrix([[0.62, 0.38, 0], [0, 1, 0]], "q.png", ["apple", "engine"], ["a", "b", LONG], title="$Q$")
    (axes,) = drawn[0].axes
    assert cells(axes) == {(0, 0): "0.62", (0, 1): "0.38", (0, 2): "0", (1, 0): "0", (1, 1): "1.00", (1, 2): "0"}
    assert names(axes.yaxis) == ["apple", "engine"]
    assert names(axes.xaxis)[:2] == ["a", "b"]
    assert names(axes.xaxis)[2].endswith("…")
    assert len(names(axes.xaxis)[2]) <= 15
    assert axes.get_images()[0].get_array().tolist() == [[0.62, 0.38, 0], [0, 1, 0]]
    assert axes.get_images()[0].get_clim() == (0, 1)
    assert "$Q$" in texts(drawn[0])


def test_target_matrix_is_white_to_blue_in_the_order_of_the_rows(tmp_path):
    pixels = png.imread(plots.target_matrix(np.eye(20)[:, ::-1], tmp_path / "q.png"))[..., :3]
    inked = np.argwhere(pixels[..., 2] - pixels[..., 0] > 0.25)  # rows and columns of blue
    down, across = (inked - inked.mean(axis=0)).T
    assert np.corrcoef(down, across)[0, 1] < -0.99, "the first row has its target in the last column"


@pytest.mark.parametrize("count", [1, 12, 13, 33, 256])
@pytest.mark.filterwarnings("error")
def test_target_matrix_stays_narrow_and_its_texts_inside(tmp_path, drawn, count):
    plots.target_matrix(np.eye(count), "q.png", [LONG] * count, [LONG] * count, title=LONG)
    (axes,) = drawn[0].axes
    assert drawn[0].get_size_inches()[0] <= 7
    assert len(axes.texts) == (count**2 if count <= 12 else 0)
    assert 1 <= len(names(axes.yaxis)) <= 32
    assert not spilling(drawn[0])


def test_values_fit_their_cells(drawn):
    plots.target_matrix(np.full((12, 12), 0.88), "q.png")
    drawn[0].canvas.draw()
    (axes,) = drawn[0].axes
    cell = axes.get_window_extent().width / 12
    assert all(text.get_window_extent().width < cell for text in axes.texts)


def test_target_matrix_takes_a_tensor_and_writes_a_file(tmp_path):
    targets = torch.eye(4, dtype=torch.bfloat16, requires_grad=True)
    path = plots.target_matrix(targets, tmp_path / "new folder" / "q.png")
    assert size(path)[0] == pytest.approx(150 * (1.35 + 4 * 0.56 + 2 * 0.16), abs=1)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("targets", "names", "message"),
    [
        ([0.0, 1.0], (), r"matrix .* not \(2,\)"),
        (np.zeros((0, 2)), (), "matrix"),
        ([[1.5]], (), r"\[0, 1\]; these span \[1.5, 1.5\]"),
        ([[-1.0, 1.0]], (), r"span \[-1, 1\]"),
        ([[np.nan]], (), "targets hold 1 NaN"),
        (np.eye(2), (["a"],), "2 rows of targets need as many row_names, not 1"),
        (np.eye(2), (["a", "b"], ["a"]), "2 columns of targets need as many column_names, not 1"),
    ],
)
def test_target_matrix_names_bad_input(tmp_path, targets, names, message):
    with pytest.raises(ValueError, match=message):
        plots.target_matrix(targets, tmp_path / "q.png", *names)


# Mixed pairs --------------------------------------------------------------------------------------------------------


def test_pair_grid_writes_both_captions_with_their_weights(drawn):
    captions = [("red apple", "fire engine"), ("sun", "moon")]
    plots.pair_grid(np.zeros((2, 3, 4, 4)), captions, [0.62, 1.0], "p.png", [[0.62, 0.38], [0.1, 0.9]], title="Mixed")
    figure = drawn[0]
    assert {"0.62 red apple", "0.38 fire engine", "sun", "Mixed"} <= set(texts(figure))
    assert not any("moon" in text for text in texts(figure)), "a pair left alone has no partner"
    own, other = (next(t for t in figure.texts if t.get_text() == s) for s in ("0.62 red apple", "0.38 fire engine"))
    assert own.get_position()[0] == other.get_position()[0]
    assert own.get_position()[1] > other.get_position()[1], "the own caption above the partner's"
    heat = figure.axes[-1]
    assert cells(heat) == {(0, 0): "0.62", (0, 1): "0.38", (1, 0): "0.10", (1, 1): "0.90"}
    assert names(heat.yaxis) == names(heat.xaxis) == ["red apple", "sun"]


def test_pair_grid_names_the_columns_of_a_larger_batch(drawn):
    images, captions = np.zeros((2, 3, 4, 4)), [("a", "b"), ("b", "a")]
    targets = np.full((2, 5), 0.2)
    plots.pair_grid(images, captions, [0.5, 0.5], "p.png", targets)
    plots.pair_grid(images, captions, [0.5, 0.5], "p.png", targets, row_names=["x", "y"], column_names=[*"abcde"])
    assert names(drawn[0].axes[-1].xaxis) == [*"01234"]
    assert names(drawn[0].axes[-1].yaxis) == ["a", "b"]
    assert names(drawn[1].axes[-1].xaxis) == [*"abcde"]
    assert names(drawn[1].axes[-1].yaxis) == ["x", "y"]


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("with_targets", [True, False])
@pytest.mark.filterwarnings("error")
def test_pair_grid_stays_narrow_and_its_texts_inside(drawn, count, with_targets):
    targets = np.full((count, 64), 1 / 64) if with_targets else None
    options = {"column_names": [LONG] * 64} if with_targets else {}
    plots.pair_grid(
        np.zeros((count, 3, 8, 5)), [(LONG, LONG)] * count, [0.4] * count, "p.png", targets, title=LONG, **options
    )
    assert drawn[0].get_size_inches()[0] <= 7
    assert not spilling(drawn[0])
    assert len(drawn[0].axes) == count + with_targets


def test_pair_grid_keeps_colours_orientation_and_layouts(tmp_path):
    images = np.zeros((1, 3, 2, 4))
    images[0, 0, 0, :2] = 0.5  # the upper left quarter, red
    first = plots.pair_grid(images, [("a", "b")], [0.5], tmp_path / "first.png")
    last = plots.pair_grid(images.transpose(0, 2, 3, 1), [("a", "b")], [0.5], tmp_path / "last.png")
    tensor = torch.tensor(images * 255).round().to(torch.uint8)
    whole = plots.pair_grid(tensor, [("a", "b")], [0.5], tmp_path / "whole.png")
    assert first.read_bytes() == last.read_bytes()
    pixels = png.imread(first)[..., :3]
    left = top = int(0.16 * 150)
    width, height = int(1.9 * 150), int(0.95 * 150)
    for path in (first, whole):
        pixels = png.imread(path)[..., :3]
        assert pixels[top + height // 4, left + width // 4] == pytest.approx([0.5, 0, 0], abs=0.01)
        assert pixels[top + 3 * height // 4, left + width // 4] == pytest.approx([0, 0, 0])
        assert pixels[top + height // 4, left + 3 * width // 4] == pytest.approx([0, 0, 0])


IMAGES = np.zeros((2, 3, 4, 4))
CAPTIONS = [("a", "b"), ("b", "a")]


@pytest.mark.parametrize(
    ("images", "captions", "lam", "targets", "message"),
    [
        (IMAGES[:0], [], [], None, "no image"),
        (IMAGES, CAPTIONS[:1], [0.5, 0.5], None, "2 images need as many captions and weights, not 1 and 2"),
        (IMAGES, CAPTIONS, [0.5], None, "not 2 and 1"),
        (IMAGES, CAPTIONS, [0.5, 1.2], None, r"lam must lie in \[0, 1\], not 1.2"),
        (IMAGES, CAPTIONS, [0.5, np.nan], None, "lam hold 1 NaN"),
        (IMAGES, CAPTIONS, [0.5, 0.5], np.eye(3), "2 images need as many rows of targets, not 3"),
        (IMAGES, CAPTIONS, [0.5, 0.5], -np.eye(2), "targets must lie"),
        (IMAGES[:, :2], CAPTIONS, [0.5, 0.5], None, "C 1 or 3"),
        (IMAGES + 2, CAPTIONS, [0.5, 0.5], None, r"un-normalised to \[0, 1\], or uint8; one spans \[2, 2\]"),
    ],
)
def test_pair_grid_names_bad_input(tmp_path, images, captions, lam, targets, message):
    with pytest.raises(ValueError, match=message):
        plots.pair_grid(images, captions, lam, tmp_path / "p.png", targets)
    assert not list(tmp_path.iterdir())


# Retrieved images -------------------------------------------------------------------------------------------------


def test_retrieval_examples_frame_and_tick_the_correct_images(drawn):
    wide, tall = np.zeros((3, 4, 8)), np.zeros((8, 4, 1), dtype=np.uint8)
    plots.retrieval_examples(["a bus", "a cat"], [[wide, tall], [tall]], [[False, True], [True]], "r.png", title="T")
    figure = drawn[0]
    assert texts(figure) == ["T", "a bus", "1 ✗", "2 ✓", "a cat", "1 ✓"]
    frames = [axes.spines["left"] for axes in figure.axes]
    green = [frame.get_edgecolor()[:3] == pytest.approx(to_rgb(_canvas.PALETTE[2])) for frame in frames]
    assert green == [False, True, True]
    assert [frame.get_linewidth() > 2 for frame in frames] == green
    width, height = figure.get_size_inches()
    shapes = [axes.get_position() for axes in figure.axes]
    ratios = [box.width * width / (box.height * height) for box in shapes]
    assert ratios == pytest.approx([2, 0.5, 0.5]), "undistorted"
    assert shapes[0].x1 < shapes[1].x0
    assert shapes[2].y1 < min(shapes[0].y0, shapes[1].y0)


@pytest.mark.parametrize("found", [1, 5, 10])
@pytest.mark.filterwarnings("error")
def test_retrieval_examples_stay_narrow_and_their_texts_inside(drawn, found):
    image = Image.new("RGB", (12, 9), "red")
    plots.retrieval_examples([LONG] * 3, [[image] * found] * 3, [[True] * found] * 3, "r.png", title=LONG)
    assert drawn[0].get_size_inches()[0] <= 7.1
    assert not spilling(drawn[0])


def test_retrieval_examples_write_a_file(tmp_path):
    path = plots.retrieval_examples(["a"], [[torch.rand(3, 8, 8)]], [[np.True_]], tmp_path / "r.png")
    assert size(path)[0] == 150 * 3.6


@pytest.mark.parametrize(
    ("queries", "found", "marks", "message"),
    [
        ([], [], [], "no caption"),
        (["a", "b"], [[IMAGES[0]]], [[True]], "2 captions need as many rows of images and of marks, not 1 and 1"),
        (["a"], [[]], [[]], "caption 'a' has 0 images and 0 marks"),
        (["a"], [[IMAGES[0]]], [[True, False]], "1 images and 2 marks"),
        (["a"], [[np.zeros((4, 4))]], [[True]], r"retrieved must be .* not \(4, 4\)"),
        (["a"], [[np.full((3, 4, 4), np.nan)]], [[True]], "retrieved hold 48 NaN"),
    ],
)
def test_retrieval_examples_name_bad_input(tmp_path, queries, found, marks, message):
    with pytest.raises(ValueError, match=message):
        plots.retrieval_examples(queries, found, marks, tmp_path / "r.png")
