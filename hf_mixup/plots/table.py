"""The comparison of methods as a text table."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence

from hf_mixup.metrics.results import DEFAULT_METRICS, Result, Summary, aggregate, direction, methods_and_splits

_CAPTION = "mean ± standard deviation over seeds; * best of the column"


def comparison_table(results: Iterable[Result], *, metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """Table with one row per method and one column per split and metric; it is valid Markdown.

    A cell is the mean and sample standard deviation over seeds, only the value for one seed, and "nan (1 of 5)"
    where a run gave no finite value. A star marks the best mean of a column, and all that print the same.

    Raises:
        ValueError: as `aggregate`, or no result has any of `metrics`.

    >>> scores = {"erm": 0.90, "mixup": 0.92}
    >>> results = [{"method": m, "seed": 0, "split": "test", "metrics": {"accuracy": a}} for m, a in scores.items()]
    >>> print(comparison_table(results))
    | method | test accuracy |
    |--------|---------------|
    | erm    |         0.900 |
    | mixup  |       * 0.920 |
    <BLANKLINE>
    mean ± standard deviation over seeds; * best of the column
    """
    summaries = aggregate(results)
    methods, splits = methods_and_splits(summaries)
    columns = {}
    for split in splits:
        for metric in metrics:
            column = [summaries.get((method, split), {}).get(metric) for method in methods]
            if any(column):
                columns[f"{split} {metric}"] = _cells(column, direction(metric))
    if not columns:
        raise ValueError(f"no result has any of the metrics {', '.join(metrics)}")
    return f"{markdown_table('method', methods, columns)}\n\n{_CAPTION}"


def _cells(column: Sequence[Summary | None], sign: int) -> list[str]:
    means = [summary.mean for summary in column if summary and math.isfinite(summary.mean)]
    best = f"{max(means, key=lambda mean: sign * mean):.3f}" if means and sign else None

    def cell(summary: Summary | None) -> str:
        if summary is None:
            return "-"
        # Compared as printed: of two equal cells, a star on one only would mislead.
        return f"* {summary}" if f"{summary.mean:.3f}" == best else str(summary)

    return list(map(cell, column))


def markdown_table(title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> str:
    """Table with one row per name; `columns` maps their titles to their cells.

    >>> print(markdown_table("split", ["test"], {"accuracy": ["0.900"]}))
    | split | accuracy |
    |-------|----------|
    | test  |    0.900 |
    """
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # unlike a string, it reads "[name]" as text and not as markup

    table = Table(box=MARKDOWN)
    table.add_column(Text(title), no_wrap=True)
    for name in columns:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for row in zip(names, *columns.values(), strict=True):
        table.add_row(*map(Text, row))

    output = io.StringIO()
    # Never cut to the terminal, and not displayed by itself in a notebook.
    Console(file=output, width=10_000, color_system=None, force_jupyter=False).print(table)
    return "\n".join(line.strip() for line in output.getvalue().strip().splitlines())
