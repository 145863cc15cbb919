"""Mixup of tables: numbers blended, categories swapped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.inputs import drawn, table


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
def test_numbers_are_blended_and_categories_swapped(lam_per: Any) -> None:
    batch, kept = table(), []
    for seed in range(60):
        draw, mixed = drawn("tabular", batch, lam_per=lam_per, lam=0.3, draw_seed=seed, pairing="match")
        own, other = torch.arange(6), draw.partner
        assert (draw.lam == torch.tensor(0.3)).all()
        blended = 0.3 * (own + 1) + 0.7 * (other + 1)
        torch.testing.assert_close(mixed["numerical_values"], blended[:, None].expand(6, 4))
        categories = mixed["categorical_values"]
        assert categories.dtype == torch.long
        assert ((categories == own[:, None]) | (categories == other[:, None])).all()
        kept.append((categories == own[:, None]).float().mean())
        if lam_per == "pair":
            assert torch.equal(categories == own[:, None], (categories == own[:, None])[other])
        assert mixed["flags_categorical"].dtype == torch.bool
    assert abs(torch.stack(kept).mean() - 0.3) < 0.05


def test_lam_follows_the_columns_where_all_are_swapped() -> None:
    """CutMix of tables, of categories alone or of numbers as well."""
    batch = table()
    swapped = ["numerical_values", "categorical_values"]
    for rows, settings in (
        ({"categorical_values": batch["categorical_values"]}, {}),
        ({key: batch[key] for key in swapped}, {"swap_keys": swapped}),
    ):
        draw, mixed = drawn("tabular", rows, lam=0.4, **settings)
        own = torch.cat([mixed[key] == rows[key] for key in rows], 1)
        torch.testing.assert_close(draw.lam, own.float().mean(1))
        assert len(draw.lam.unique()) > 1
        assert (drawn("tabular", rows, lam=0.4, correct_lam=False, **settings)[0].lam == torch.tensor(0.4)).all()


def test_columns_that_nobody_named_are_refused() -> None:
    batch = {**table(), "colours": torch.zeros(6, 3, dtype=torch.long)}
    with pytest.raises(ValueError, match=r"colours holds torch.int64 \[6, 3\], .* name in `swap_keys`"):
        drawn("tabular", batch)
    _, mixed = drawn("tabular", batch, swap_keys=["categorical_values", "colours", "flags_categorical"])
    assert mixed["colours"].dtype == torch.long
    with pytest.raises(ValueError, match=r"swap_keys names 'sizes', and columns are \[6, K\]: found none"):
        drawn("tabular", batch, swap_keys=["sizes"])
    with pytest.raises(TypeError, match="method='tabular'"):
        drawn("mixup", batch)
