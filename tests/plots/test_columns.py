"""Rows of tables grow with their columns up to a limit."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")
from hf_mixup import plots
from tests.plots.common import size


def row(columns: int, lam: float = 0.6, mixed: str = "1.4") -> plots.RowPair:
    cells = [(f"column $x_{number}$ of a long name", "1", "2", mixed) for number in range(columns)]
    return plots.RowPair(cells, lam, "ill", "well")


@pytest.mark.filterwarnings("error")
def test_rows_grow_with_their_columns_up_to_a_limit(tmp_path):
    one, ten, many, most = (size(plots.row_pairs([row(n)], tmp_path / "rows.png")) for n in (1, 10, 15, 900))
    assert one[0] == ten[0] == many[0]
    assert one[1] < ten[1] < many[1] == most[1]
    assert size(plots.row_pairs([row(1)] * 2, tmp_path / "rows.png"))[0] > one[0]
    assert size(plots.row_pairs([row(1, mixed="")], tmp_path / "rows.png"))[0] < one[0]  # no third column of values
    assert size(plots.row_pairs([row(1)], tmp_path / "rows.png", title="Mixup"))[1] > one[1]


@pytest.mark.parametrize(("rows", "message"), [([], "no row"), ([row(1, lam=1.2)], r"lam .* not 1\.2")])
def test_rows_name_bad_input(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        plots.row_pairs(rows, tmp_path / "rows.png")
