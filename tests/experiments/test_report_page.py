"""report.html in a real browser: no error, no network, room on a telephone, and images that are described."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_mixup import cli
from hf_mixup.experiments.compare import one_run
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.report.html_page import (
    Card,
    Cards,
    Cell,
    Code,
    Image,
    Point,
    Points,
    Section,
    Table,
    Text,
    write_page,
)
from hf_mixup.plots import calibration_plane, training_curves
from tests.browser import DESK, PHONE, check_page
from tests.conftest import TINY_RUN
from tests.fake_runs import leave


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare images in two settings, with two seeds, and one run that fails."""
    folder = tmp_path_factory.mktemp("report")
    settings = {**TINY_RUN, "max_eval_samples": 60, "output_dir": str(folder / "out")}
    comparison = {"methods": ["none", "smoothing", "mixup", "manifold"], "seeds": 2, "noises": [0.0, 0.4]}
    (folder / "compare.yaml").write_text(yaml.safe_dump({**settings, "compare": comparison}), encoding="utf-8")

    def train_run(run: Run, args: Any, *_: Any) -> None:
        if (run.variant.label, run.seed, run.setting.task.label_noise) == ("manifold", 43, 0.4):
            raise RuntimeError("<b>out of memory</b>")
        leave(run, Path(args.output_dir))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_run, "train_run", train_run)
        assert cli.main(["compare", str(folder / "compare.yaml")]) == 0
    return folder / "out" / "report.html"


class Read(HTMLParser):
    """Attributes of all elements, and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_holds_everything(report: Path) -> None:
    page = Read(report)
    for text in (
        *("On test, against none", "On test_shifted, against smoothing", "40 % wrong labels", "minus none"),
        *("Hardest errors", "hf-mixup compare", "fitted to its validation samples", "torch ", "Seeds 42, 43"),
        *("not significant", "seeds are needed until a difference of 0.01 in accuracy", "all (balanced accuracy)"),
        *("manifold, seed 43:", "RuntimeError: <b>out of memory</b>", "seconds a run"),
    ):
        assert text in page.text
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) >= 2 * 5 + 2 + 8  # figures of each setting, mixed samples, hardest errors
    assert all(image["alt"] and str(image["src"]).startswith("data:image/png;base64,") for image in images)
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert str(attributes.get(name, "#")).startswith(("data:", "#"))
    figures = {path.name for path in report.parent.rglob("figures/**/*.png")}
    assert {
        "metrics.png",
        "plane.png",
        "reliability.png",
        "reliability_temperature.png",
        "curves.png",
        "confusion.png",
    } <= figures


def test_numbers_of_a_figure_are_those_of_its_table(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bars hold the rows of all seeds; their calibration error is not the mean of the seeds'."""
    from hf_mixup.experiments.compare import report as module

    told: list[dict[str, str]] = []
    real = module.reliability_diagram
    monkeypatch.setattr(
        module, "reliability_diagram", lambda *a, subtitles, **k: told.append(subtitles) or real(*a, **k)
    )
    assert cli.main(["compare", str(report.parent.parent / "compare.yaml")]) == 0  # all runs are stored
    tables = report.parent.joinpath("table.md").read_text()
    row = next(line for line in tables.splitlines() if line.startswith("| mixup"))
    accuracy, ece = (cell.strip("* ").split(" ")[0] for cell in row.split("|")[2:4])
    assert told[0]["mixup"] == f"ECE {ece}    accuracy {accuracy}"


def test_a_page_escapes_what_it_shows(tmp_path: Path) -> None:
    wicked = '<script>alert("1")</script>'
    image = training_curves({"mixup": [[(1, 1.0)]]}, tmp_path / "curves.png")
    blocks = [Text(wicked), Code(wicked), Points([Point(wicked, wicked)]), Table([wicked], [[Cell(wicked)]], wicked)]
    blocks += [Cards([Card(wicked, [wicked])]), Image(image, wicked, wicked)]
    path = write_page(tmp_path / "r.html", wicked, [wicked], [Section(wicked, blocks), Section("empty", [])])
    page = Read(path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(wicked) == 15
    assert "empty" not in page.text
    with pytest.raises(ValueError, match="is no PNG file"):
        Image(path, "", "")


def test_charts_name_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no value to draw"):
        training_curves({"mixup": [[]]}, tmp_path / "a.png")
    diverged: Any = [{"method": "mixup", "seed": 0, "split": "test", "metrics": {"accuracy": None, "ece": 0.1}}]
    with pytest.raises(ValueError, match="no method has both accuracy and ece"):
        calibration_plane(diverged, tmp_path / "a.png")


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_report_opens_in_a_browser(report: Path, browser: Any, width: int) -> None:
    check_page(browser, report, width, "Does mixing help")
