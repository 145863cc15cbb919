"""Comparison tables show every value, and mark the best ones."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")
from hf_mixup import plots
from tests.plots.common import LONG, fixed, results


def cells(table: str) -> dict[str, list[str]]:
    """Method -> cells of a Markdown table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


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


def test_table_marks_ties_and_nothing_without_a_direction():
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


def test_a_table_is_returned_in_notebooks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich displays a table by itself where it finds Jupyter, and writes nothing to the file."""
    import rich.console

    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    results: list[plots.Result] = [{"method": "mixup", "seed": 0, "split": "test", "metrics": {"accuracy": 0.25}}]
    assert "0.25" in plots.comparison_table(results)
