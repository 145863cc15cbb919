"""What methods share that cut a box out of images and paste the partner's content there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.functional import box_lam, cut, cut_blocks, inside_boxes
from hf_mixup.methods._masks import by_content
from hf_mixup.methods._segmentation import is_map, own_pixels, refuse_other_size
from hf_mixup.methods.base import Batch, Blend, BoxDraw, Draw, FloatInputs, Request, setting
from hf_mixup.models.axes import PIXELS, own_mask, visible_mask
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.masks import united_mask


@dataclass(kw_only=True)
class BoxMethod(FloatInputs):
    """A method that takes the partner's content inside a box, of images unless a subclass says so."""

    box_style: Literal["timm", "torchvision"] = setting("timm", "Whose rounding of the box to follow.")
    correct_lam: bool = setting(True, "Set lam to the true share of the sample's own pixels.")

    def apply(self, model: nn.Module, batch: Batch, draw: BoxDraw, inplace: bool) -> dict[str, Any]:
        mixed = {**batch, **united_mask(batch, draw.partner, draw.lam)}
        for key, axes in self.cut_axes(model, batch, len(draw.partner)).items():
            mask = own_mask(batch, batch[key])
            if mask is not None:
                of_mask = [axis - 1 for axis in axes] if mask[0] == PIXELS else axes
                mixed[mask[0]] = cut(mask[1], draw.partner, draw.boxes, axes=of_mask)
            mixed[key] = cut(batch[key], draw.partner, draw.boxes, inplace=inplace, axes=axes)
        return mixed

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return own_pixels(labels, draw) if is_map(labels) else super().label_lam(labels, draw)

    def cut_axes(self, model: nn.Module, batch: Batch, rows: int) -> dict[str, tuple[int, ...]]:
        """Return what is cut, and along which axes: the height and width of images.

        Raises:
            ValueError: if there is nothing to cut.
        """
        return dict.fromkeys(float_keys(batch, rows, self.name, self.keys, dims=4), (2, 3))


@dataclass(kw_only=True)
class RandomBox(Blend, BoxMethod):
    """A method whose boxes lie anywhere."""

    box_sides: list[float] | None = setting(
        None, "Lowest and highest side of the box as shares of the image's, e.g. 0.2 0.8, instead of alpha."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("box_sides", self.box_sides)

    def unread(self) -> dict[str, str]:
        instead = dict.fromkeys(("alpha", "beta", "lam_at_least_half"), "without box_sides") if self.box_sides else {}
        return {**instead, **({"box_sides": "without lam"} if self.lam is not None else {}), **super().unread()}

    def draw(self, request: Request) -> BoxDraw:
        draw = super().draw(request)
        key, axes = next(iter(self.cut_axes(request.model, request.batch, request.rows).items()))
        value: Tensor = request.batch[key]
        size = [value.shape[axis] for axis in axes]
        refuse_other_size(request, size[-2:], self.name)
        boxes = self._draw_boxes(draw, size, request.rng)
        drawn = draw.more(BoxDraw, boxes=boxes)
        seen = visible_mask(request.batch, value, self.time_of(request.model, request.batch, key))
        by_box = self.correct_lam or self.box_sides is not None
        if seen is not None:
            inside = inside_boxes(boxes.to(value.device), size)
            shape = [value.shape[axis] if axis in axes else 1 for axis in range(1, value.dim())]
            drawn, nothing = by_content(drawn, ~inside.reshape(len(inside), *shape), seen, by_box)
            return replace(drawn, boxes=torch.where(nothing[:, None], 0, boxes)) if bool(nothing.any()) else drawn
        return replace(drawn, lam=box_lam(boxes, *size).expand(request.rows)) if by_box else drawn

    def _draw_boxes(self, draw: Draw, size: Sequence[int], rng: torch.Generator) -> Tensor:
        """Draw one box [2n] where the whole batch shares a lam, so that the same region is swapped everywhere.

        Else one for each row, [B, 2n], the same within a pair that shares its lam; empty where lam is 1.
        """
        lam = draw.lam
        box_sides = None if self.box_sides is None else (self.box_sides[0], self.box_sides[1])
        nothing = torch.zeros(2 * len(size), dtype=torch.long)

        def drawn(share: Tensor) -> Tensor:
            boxes = cut_blocks(size, share, generator=rng, box_sides=box_sides, style=self.box_style)
            whole = share == 0
            if not bool(whole.any()):
                return boxes
            return torch.where(whole[..., None], torch.tensor([*(0 for _ in size), *size]), boxes)

        if self.lam_per != "batch":
            first = self.shared_with(draw.partner)
            # The coin of `prob` may have left alone the row whose box its pair shares.
            shared = lam.scatter_reduce(0, first, lam, "amin")
            boxes = drawn(shared)[first]
            return torch.where((lam < 1)[:, None], boxes, 0)
        lowest, highest = torch.aminmax(lam)
        if lowest == highest:
            return drawn(lowest) if lowest < 1 else nothing
        # The coin of `prob` left some rows alone, or the caller dictated a lam for each row.
        one_lam = bool(((lam == lowest) | (lam == 1)).all())
        boxes = drawn(lowest).expand(len(lam), 2 * len(size)) if one_lam else drawn(lam)
        return torch.where((lam < 1)[:, None], boxes, 0)

    def time_of(self, model: nn.Module, batch: Batch, key: str) -> int | None:
        """Return the axis of an input that is time, None where there is none."""
        return None


def check_shares(name: str, shares: list[float] | None) -> None:
    """Refuse what is no pair of shares 0 <= low <= high <= 1; None is one that was not given."""
    if shares is not None and (len(shares) != 2 or not 0 <= shares[0] <= shares[1] <= 1):
        raise ValueError(f"{name}={shares!r}: expected two shares 0 <= low <= high <= 1")
