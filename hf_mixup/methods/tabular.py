"""Mixup of the rows of a table: numbers blended, categories swapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional.masks import swap_columns
from hf_mixup.methods.base import Batch, Blend, Draw, FixedLam, FloatInputs, MaskDraw, Request, setting
from hf_mixup.methods.capabilities import MixesForecasts
from hf_mixup.methods.registry import register
from hf_mixup.models.inputs import is_blendable, is_named_as_input
from hf_mixup.models.streams import blend_inputs


@dataclass(kw_only=True)
class SwapColumns(FixedLam, FloatInputs):
    """A method that swaps columns of categories between samples, and blends numbers."""

    correct_lam: bool = setting(True, "Where all columns are swapped: set lam to the share of the sample's own.")
    swap_keys: list[str] | None = setting(
        None, "Model inputs whose columns are swapped, not blended (default: integer `*_values`)."
    )

    def keys_to_swap(self, batch: Batch, rows: int) -> list[str]:
        """Return the inputs whose columns are swapped.

        Raises:
            ValueError: for one of `swap_keys` that is no tensor [B, K] of the batch.
        """
        if self.swap_keys is None:
            return [key for key, value in batch.items() if _is_columns(key, value, rows) and is_named_as_input(key)]
        for key in self.swap_keys:
            value = batch.get(key)
            if not isinstance(value, Tensor) or value.dim() != 2 or len(value) != rows:
                found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else "none"
                raise ValueError(f"swap_keys names {key!r}, and columns are [{rows}, K]: found {found}")
        return list(self.swap_keys)

    def refuse_unnamed(self, batch: Batch, rows: int) -> None:
        """Refuse integer columns that are not known to be categories.

        Raises:
            ValueError: naming the input and the way out.
        """
        for key, value in batch.items():
            if self.swap_keys is None and _is_columns(key, value, rows) and not is_named_as_input(key):
                raise ValueError(
                    f"{key} holds {value.dtype} {list(value.shape)}, which cannot be blended: name in `swap_keys` the "
                    "inputs whose columns are to be swapped"
                )

    def draw_swaps(self, draw: Draw, request: Request) -> Draw:
        """Draw which columns stay the sample's own; lam is their share if nothing is blended beside them."""
        keys = self.keys_to_swap(request.batch, request.rows)
        if not keys:
            return draw
        columns = sum(request.batch[key].shape[1] for key in keys)
        draws = torch.rand(request.rows, columns, generator=request.rng)
        if self.lam_per == "pair":
            draws = draws[self.shared_with(draw.partner)]
        own = draws < draw.lam[:, None]
        all_swapped = not self._blends(request.batch, request.rows, keys)
        lam = own.double().mean(1).float() if all_swapped and self.correct_lam else draw.lam
        return draw.more(MaskDraw, lam=lam, mask=own)

    def swap_and_blend(self, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        """Return the inputs with columns swapped where the draw says so, and the other floats blended."""
        if not isinstance(draw, MaskDraw):
            return blend_inputs(batch, draw.partner, draw.lam, self.name, self.keys, inplace)
        rows = len(draw.partner)
        keys = self.keys_to_swap(batch, rows)
        widths = [batch[key].shape[1] for key in keys]
        mixed = dict(batch)
        if self._blends(batch, rows, keys):
            rest = _without(batch, keys)
            mixed = {**batch, **blend_inputs(rest, draw.partner, draw.lam, self.name, self.keys, inplace)}
        for key, own in zip(keys, draw.mask.split(widths, 1), strict=True):
            mixed[key] = swap_columns(batch[key], draw.partner, own)
        return mixed

    def _blends(self, batch: Batch, rows: int, swapped: list[str]) -> bool:
        """Whether floats are blended beside the columns that are swapped."""
        others = _without(batch, swapped)
        return self.keys is not None or any(is_blendable(key, value, rows) for key, value in others.items())


@register
class TabularMixup(Blend, SwapColumns, MixesForecasts):
    """Blend the numbers of two rows of a table, and take each category from either row, the own one with chance lam.

    Numbers are the float inputs [B, F]. Categories are the integer (or bool) inputs [B, K] that are called `*_values`
    or `*categorical*`. `swap_keys` names other inputs to swap, also floats: with all inputs in it the method is the
    CutMix of tables in SAINT. Each row draws its own columns; with `lam_per="pair"` a pair has the same ones. Where
    numbers are blended, lam is as it was drawn, which is also the expected share of own categories. Where all is
    swapped, lam is set to the share of columns that stayed the row's own, unless `correct_lam=False`. `cmixup` swaps
    the same inputs, and chooses partners that are near in their labels, for regression.

    Raises:
        ValueError: for integer columns that nobody calls categories, or `swap_keys` that are none.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412, equation 1; Somepalli et
    al. 2021, "SAINT: Improved Neural Networks for Tabular Data via Row Attention and Contrastive Pre-Training", arXiv
    2106.01342, section 4, for columns swapped by a random mask.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.tabular import TabularConfig, TabularMLP
    >>> model = TabularMLP(TabularConfig(numerical_size=3, categorical_sizes=[5, 5], num_labels=2))
    >>> table = {"numerical_values": torch.rand(4, 3), "categorical_values": torch.randint(5, (4, 2))}
    >>> with Mixup("tabular")(model, {**table, "labels": torch.tensor([0, 1, 0, 1])}) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.mask.shape  # which categories stay the row's own
    torch.Size([4, 2])
    """

    name = "tabular"
    title = "Tabular mixup"
    blends = "rows of tables: float features blended, integer ones swapped"
    modalities = ("image", "audio", "video", "table")
    paper = "arXiv:1710.09412, arXiv:2106.01342"
    begin_with = "alpha=1.0"
    citation = (
        "@article{somepalli2021saint, title={{SAINT}: Improved Neural Networks for Tabular Data via Row Attention and "
        "Contrastive Pre-Training}, author={Somepalli, Gowthami and Goldblum, Micah and Schwarzschild, Avi and Bruss, "
        "C. Bayan and Goldstein, Tom}, journal={arXiv preprint arXiv:2106.01342}, year={2021}}"
    )

    def draw(self, request: Request) -> Draw:
        self.refuse_unnamed(request.batch, request.rows)
        return self.draw_swaps(super().draw(request), request)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return self.swap_and_blend(batch, draw, inplace)


def _is_columns(key: str, value: Any, rows: int) -> bool:
    if not isinstance(value, Tensor) or value.dim() != 2 or len(value) != rows or "mask" in key or key.endswith("ids"):
        return False
    return not value.is_floating_point() and not value.is_complex()


def _without(batch: Batch, keys: list[str]) -> Batch:
    return {key: value for key, value in batch.items() if key not in keys}
