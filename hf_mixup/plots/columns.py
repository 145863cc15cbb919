"""Mixed rows of a table, column by column."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hf_mixup.plots.canvas import INK, MUTED, PALETTE, check_lams, clipped, new_figure, save_png, write_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME, _VALUE, _LINE, _GAP, _MARGIN = 1.7, 0.95, 0.2, 0.5, 0.2  # inches
_COLUMNS = 14  # of the table
_PANELS = 2  # side by side


class RowPair(NamedTuple):
    """One mixed row of a table: what its columns hold in the row, in its partner, and in their mix.

    `mixed` is empty where the blend happens inside the model.

    >>> RowPair([("age", "20", "40", "26")], lam=0.7, label="ill", partner_label="well").cells[0][-1]
    '26'
    """

    cells: Sequence[tuple[str, str, str, str]]
    lam: float
    label: str
    partner_label: str


def row_pairs(rows: Sequence[RowPair], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw rows of a table with their partners and mixes, a column of the table a line, headed by weights and labels.

    Of a wide table there are the first fourteen columns, and the number of the others.

    Args:
        rows: at least one; all with the same columns.
        path: PNG file to write.

    Raises:
        ValueError: there is no row, or a `lam` lies outside [0, 1].

    >>> import tempfile
    >>> row = RowPair([("age", "20", "40", "26")], lam=0.7, label="ill", partner_label="well")
    >>> row_pairs([row], Path(tempfile.mkdtemp(), "rows.png")).name
    'rows.png'
    """
    check_lams([row.lam for row in rows], "row")
    values = 3 if any(mixed for row in rows for *_, mixed in row.cells) else 2
    across, top = _NAME + values * _VALUE, 0.55 if title else _MARGIN
    down = _LINE * (min(len(rows[0].cells), _COLUMNS + 1) + 2.3) + 0.3
    panels = min(_PANELS, len(rows))
    width = 2 * _MARGIN + panels * across + (panels - 1) * _GAP
    figure = new_figure(width, top + down * math.ceil(len(rows) / panels))
    write_at(figure, _MARGIN, _MARGIN, clipped(title, 90), 11, fontweight="bold")
    for index, row in enumerate(rows):
        _panel(figure, _MARGIN + index % panels * (across + _GAP), top + index // panels * down, row, values)
    return save_png(figure, path)


def _panel(figure: Figure, x: float, y: float, row: RowPair, values: int) -> None:
    colours = (PALETTE[0], PALETTE[5], INK)
    head = f"{row.lam:.2f} of {row.label} + {1 - row.lam:.2f} of {row.partner_label}"
    write_at(figure, x, y, clipped(head, 58), 9.5, fontweight="bold")
    y += 1.3 * _LINE
    edges = [x + _NAME + (number + 1) * _VALUE for number in range(values)]
    for edge, text in zip(edges, ("own", "partner", "mixed")):
        write_at(figure, edge, y, text, 8, color=MUTED, ha="right")
    for name, *cells in row.cells[:_COLUMNS]:
        y += _LINE
        write_at(figure, x, y, clipped(name, 24), 8.5)
        for edge, text, colour in zip(edges, cells, colours):
            write_at(figure, edge, y, clipped(text, 14), 8.5, color=colour, ha="right")
    if len(row.cells) > _COLUMNS:
        write_at(figure, x, y + _LINE, f"… {len(row.cells) - _COLUMNS} more columns", 8, color=MUTED)
