"""Images are whole PNGs of the expected size and content; tables and aggregates match numpy."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from matplotlib import image as png
from PIL import Image

from hf_mixup import plots
from hf_mixup.plots import _canvas

LONG = "embedding mixup with a rather long name, alpha=0.4 and $x_1$ □ 中"


def results(methods=("erm", "mixup"), seeds=(0, 1, 2), splits=("test", "test_shifted"), seed=0):
    rng = np.random.default_rng(seed)
    names = ("accuracy", "ece", "nll")
    return [
        {"method": m, "seed": s, "split": p, "metrics": dict(zip(names, rng.random(3).tolist()))}
        for m in methods
        for s in seeds
        for p in splits
    ]


def set_metric(rows, value, method, seed, name="nll"):
    for row in rows:
        if row["method"] == method and row["seed"] == seed:
            row["metrics"][name] = value
    return rows


def size(path) -> tuple[int, int]:
    """Width and height of an image that decodes to its last byte."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return image.size


def inked(path) -> float:
    """Share of pixels that are not white."""
    return float((png.imread(path)[..., :3] < 0.99).any(axis=-1).mean())


# Results ------------------------------------------------------------------------------------------------------------


def test_aggregate_matches_numpy_and_survives_json():
    rows = results()
    summaries = plots.aggregate(json.loads(json.dumps(rows)))
    assert list(summaries)[:2] == [("erm", "test"), ("erm", "test_shifted")], "order of first appearance"
    for (method, split), metrics in summaries.items():
        for name, summary in metrics.items():
            values = [r["metrics"][name] for r in rows if (r["method"], r["split"]) == (method, split)]
            assert summary.mean == pytest.approx(np.mean(values))
            assert summary.std == pytest.approx(np.std(values, ddof=1))
            assert (summary.seeds, summary.failed) == (3, 0)


def test_aggregate_of_one_seed_has_no_deviation():
    summary = plots.aggregate(results(seeds=[7]))["erm", "test"]["nll"]
    assert np.isnan(summary.std)
    assert "±" not in str(summary)


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "nan"), (None, "nan"), (float("inf"), "inf")])
@pytest.mark.filterwarnings("error")
def test_aggregate_does_not_hide_a_diverged_seed(value, text):
    summary = plots.aggregate(set_metric(results(), value, "erm", 1))["erm", "test"]["nll"]
    assert summary.failed == 1
    assert str(summary) == f"{text} (1 of 3)"
    alone = plots.aggregate(set_metric(results(seeds=[1]), value, "erm", 1))["erm", "test"]["nll"]
    assert str(alone) == text


def test_aggregate_takes_metrics_that_only_some_runs_have():
    rows = results()
    rows[0]["metrics"]["temperature"] = 1.5
    assert plots.aggregate(rows)["erm", "test"]["temperature"].seeds == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no results"),
        ([{"method": "erm", "seed": 0, "metrics": {}}], "lacks split"),
        (results(seeds=[0, 0]), "two results have method 'erm', seed 0 and split 'test'"),
    ],
)
def test_aggregate_names_bad_results(rows, message):
    with pytest.raises(ValueError, match=message):
        plots.aggregate(rows)


# Table --------------------------------------------------------------------------------------------------------------


def cells(table: str) -> dict[str, list[str]]:
    """Method -> cells of a Markdown table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def fixed(method, split="test", seed=0, **metrics):
    return {"method": method, "seed": seed, "split": split, "metrics": metrics}


def test_table_has_a_column_per_split_and_metric_and_marks_the_best():
    rows = [
        fixed("erm", accuracy=0.9, ece=0.05, nll=0.4),
        fixed("mixup", accuracy=0.92, ece=0.03, nll=0.5),
        fixed("erm", "shifted", accuracy=0.7, ece=0.2, nll=1.0),
        fixed("mixup", "shifted", accuracy=0.6, ece=0.1, nll=1.2),
    ]
    got = cells(plots.comparison_table(rows))
    assert got["method"] == [f"{split} {name}" for split in ("test", "shifted") for name in ("accuracy", "ece", "nll")]
    assert got["erm"] == ["0.900", "0.050", "* 0.400", "* 0.700", "0.200", "* 1.000"]
    assert got["mixup"] == ["* 0.920", "* 0.030", "0.500", "0.600", "* 0.100", "1.200"]


def test_table_shows_deviation_divergence_and_absence():
    rows = [fixed("erm", seed=s, accuracy=a) for s, a in enumerate((0.8, 0.9, 1.0))]
    rows += [fixed("nan", seed=s, accuracy=a) for s, a in enumerate((0.99, float("nan")))]
    rows += [fixed("single", accuracy=0.5), fixed("single", "shifted", accuracy=0.4)]
    got = cells(plots.comparison_table(rows))
    assert got["erm"] == ["* 0.900 ± 0.100", "-"]
    assert got["nan"] == ["nan (1 of 2)", "-"]
    assert got["single"] == ["0.500", "* 0.400"]


def test_table_marks_all_that_print_the_same_and_nothing_without_a_direction():
    rows = [fixed("a", ece=0.1001, temperature=1.0), fixed("b", ece=0.1002, temperature=2.0)]
    got = cells(plots.comparison_table(rows, metrics=["ece", "temperature"]))
    assert got["a"] == ["* 0.100", "1.000"]
    assert got["b"] == ["* 0.100", "2.000"]


def test_table_is_never_cut_and_reads_no_markup(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    rows = results(methods=["[bold]erm[/]", LONG * 3], splits=[f"split{i}" for i in range(6)])
    table = plots.comparison_table(rows)
    assert "[bold]erm[/]" in table
    assert LONG * 3 in table
    assert len({len(line) for line in table.splitlines() if line[:1] == "|"}) <= 2, "one wide glyph at most"


def test_table_without_any_of_the_metrics():
    with pytest.raises(ValueError, match="no result has any of the metrics bleu"):
        plots.comparison_table(results(), metrics=["bleu"])


# Charts -------------------------------------------------------------------------------------------------------------


def curve(rows=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


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
def test_reliability_diagram_survives_a_diverged_method_and_a_single_row(tmp_path):
    curves = {"diverged": (np.full((5, 3), np.nan), np.zeros(5, int)), "one": ([[1.0, 0.0]], [0])}
    size(plots.reliability_diagram(curves, tmp_path / "reliability.png"))
    bfloat16 = torch.tensor(curve()[0]).bfloat16()
    size(plots.reliability_diagram({"bf16": (bfloat16, curve()[1])}, tmp_path / "reliability.png"))


def test_images_are_png_only(tmp_path):
    with pytest.raises(ValueError, match=r"'bars\.pdf' does not end in \.png"):
        plots.metric_bars(results(), tmp_path / "bars.pdf")


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


# Images and texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "columns", "across"), [(1, None, 1), (7, None, 3), (50, None, 6), (4, 4, 4)])
def test_image_grid_width_follows_the_columns(tmp_path, count, columns, across):
    path = plots.image_grid(np.zeros((count, 3, 4, 4)), ["cat"] * count, tmp_path / "grid.png", columns=columns)
    assert size(path)[0] == pytest.approx(150 * (across * 2.04 + 0.14), abs=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_keeps_colours_and_orientation(tmp_path, channels):
    images = np.zeros((1, channels, 2, 4))
    images[0, 0, 0, :2] = 0.5  # the upper left quarter
    pixels = png.imread(plots.image_grid(images, [""], tmp_path / "grid.png"))[..., :3]
    left, top, width, height = 21, 21, 285, 142
    quarter = pixels[top + height // 4, left + width // 4]
    assert quarter == pytest.approx([0.5, 0.5, 0.5] if channels == 1 else [0.5, 0, 0], abs=0.01)
    assert pixels[top + 3 * height // 4, left + width // 4] == pytest.approx([0, 0, 0])
    assert pixels[top + height // 4, left + 3 * width // 4] == pytest.approx([0, 0, 0])


def test_image_grid_takes_a_tensor_and_long_captions(tmp_path):
    images = torch.rand(3, 3, 8, 8, dtype=torch.bfloat16)
    short = size(plots.image_grid(images, ["a"] * 3, tmp_path / "short.png", title="$mixup"))
    long = size(plots.image_grid(images, ["a", LONG * 2, "b\nc"], tmp_path / "long.png", title="$mixup"))
    assert short[0] == long[0]
    assert short[1] < long[1]


@pytest.mark.parametrize(
    ("images", "captions", "options", "message"),
    [
        (np.zeros((2, 3, 4, 4)), ["a"], {}, "2 images need as many captions, not 1"),
        (np.zeros((1, 4, 4, 3)), ["a"], {}, "C 1 or 3"),
        (np.zeros((0, 3, 4, 4)), [], {}, "nothing empty"),
        (np.full((1, 3, 4, 4), 2.0), ["a"], {}, "un-normalised"),
        (np.full((1, 3, 4, 4), np.nan), ["a"], {}, "NaN"),
        (np.zeros((1, 3, 4, 4)), ["a"], {"columns": 0}, "columns"),
    ],
)
def test_image_grid_names_bad_input(tmp_path, images, captions, options, message):
    with pytest.raises(ValueError, match=message):
        plots.image_grid(images, captions, tmp_path / "grid.png", **options)


def pair(tokens, partner, lam=0.6):
    return plots.TextPair(tokens, partner, lam, "positive", "negative")


@pytest.mark.filterwarnings("error")  # matplotlib warns of a glyph that its font lacks
def test_text_pairs_grow_with_the_text_up_to_a_limit(tmp_path):
    short = size(plots.text_pairs([pair(["a", "video"], ["dull"])], tmp_path / "a.png"))
    long = size(plots.text_pairs([pair(["video"] * 60, ["$x$", "中文", "\n", ""])], tmp_path / "b.png"))
    huge = size(plots.text_pairs([pair(["video"] * 600, [])], tmp_path / "c.png"))
    huger = size(plots.text_pairs([pair(["video"] * 9000, ["x" * 99])], tmp_path / "d.png"))
    assert short[0] == long[0] == huge[0]
    assert short[1] < long[1] < huge[1] == huger[1]


@pytest.mark.parametrize(("rows", "message"), [([], "no row"), ([pair([], [], lam=1.2)], r"lam .* not 1\.2")])
def test_text_pairs_name_bad_input(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        plots.text_pairs(rows, tmp_path / "pairs.png")


# Writing ------------------------------------------------------------------------------------------------------------


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


def test_a_table_is_returned_in_notebooks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich displays a table by itself where it finds Jupyter, and writes nothing to the file."""
    import rich.console

    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    results: list[plots.Result] = [{"method": "mixup", "seed": 0, "split": "test", "metrics": {"accuracy": 0.25}}]
    assert "0.25" in plots.comparison_table(results)


def test_image_grid_of_strips_is_as_wide_as_asked(tmp_path):
    strips = np.zeros((3, 3, 4, 32))
    narrow, wide = (
        size(plots.image_grid(strips, ["a"] * 3, tmp_path / f"{w}.png", columns=1, width=w)) for w in (2, 6)
    )
    assert wide[0] - narrow[0] == pytest.approx(4 * 150, abs=2)
    assert wide[1] > narrow[1]


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


def test_audio_grid_shows_time_to_the_right_low_pitches_below_and_loud_audios_taller(tmp_path):
    spectrogram = np.zeros((8, 4))
    spectrogram[0] = 1  # the first moment
    spectrogram[:, 0] = 1  # the lowest pitch
    pixels = png.imread(plots.audio_grid([spectrogram], [""], tmp_path / "grid.png"))[..., :3].sum(-1)
    early, late, late_below = pixels[100, 60], pixels[100, 380], pixels[210, 380]
    assert early == late_below > late
    tone = np.sin(np.arange(2000) * 2 * np.pi * 500 / 8000)
    path = plots.audio_grid([tone, tone / 4], ["loud", "soft"], tmp_path / "wave.png", rate=8000, columns=1)
    blue = np.isclose(png.imread(path)[..., :3], [0, 114 / 255, 178 / 255], atol=0.02).all(-1)
    heights = [half.any(1).sum() for half in np.array_split(blue, 2)]
    assert heights[0] > 3 * heights[1] > 0


@pytest.mark.parametrize(
    ("clips", "captions", "message"),
    [
        ([], [], "no audio"),
        ([np.zeros(5), np.zeros((5, 2))], ["a", "b"], "all be"),
        ([np.zeros(5)], [], "as many captions"),
        ([np.full(5, np.nan)], ["a"], "NaN"),
    ],
)
def test_audio_grid_names_bad_input(tmp_path, clips, captions, message):
    with pytest.raises(ValueError, match=message):
        plots.audio_grid(clips, captions, tmp_path / "grid.png")
