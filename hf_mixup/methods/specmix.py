"""SpecMix."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_mixup.functional.masks import inside_bands, mask_lam
from hf_mixup.methods._masks import MaskMethod, by_content
from hf_mixup.methods.base import Batch, ChosenPartner, Draw, MaskDraw, Request, setting
from hf_mixup.methods.registry import register
from hf_mixup.models.axes import SERIES, axes_of, refuse_different_sizes, visible_mask
from hf_mixup.models.inputs import float_keys, nothing_to_blend


@register
class SpecMix(ChosenPartner, MaskMethod):
    """Replace bands of time and bands of frequency of each spectrogram by the partner's.

    Each axis has 0 to `num_bands` bands, and there is at least one in all. Each band is `band_share` wide and lies
    anywhere; bands may overlap. lam is the share of the content that stayed the sample's own; there is no alpha. If lam
    is given, by `lam` or by the caller, it sets the width of the bands, which then do not overlap; lam is corrected for
    rounding, unless `correct_lam=False`. Padding does not count as content, see `cutmix`.

    The paper draws up to 3 bands of 0.3 along each axis and a mask for each sample (`lam_per="sample"`); the authors'
    code draws 0 to 2 bands, none along both axes at times (here `prob` says how much stays unmixed), measures both
    widths by one axis, and in one of its tasks takes 0.1.

    Raises:
        ValueError: for a batch without spectrograms, or with spectrograms of different size.

    Source: Kim et al. 2021, "SpecMix: A Mixed Sample Data Augmentation Method for Training with Time-Frequency Domain
    Features", arXiv 2108.03020, section 2.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("audio-classification", "audio-spectrogram-transformer")
    >>> with Mixup({"method": "specmix", "num_bands": 1})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> bool(mixed.lam[0] == mixed.draw.mask.float().mean())  # [1, T, F], where spectrograms stay the row's own
    True
    """

    name = "specmix"
    title = "SpecMix"
    blends = "spectrograms `[B, T, F]` or `[B, F, T]`: bands of time and of frequency"
    modalities = ("audio",)
    paper = "arXiv:2108.03020"
    begin_with = "num_bands=3:band_share=0.3"
    citation = (
        "@inproceedings{kim2021specmix, title={Specmix: A Mixed Sample Data Augmentation Method for Training with "
        "Time-Frequency Domain Features}, author={Kim, Gwantae and Han, David K. and Ko, Hanseok}, "
        "booktitle={Interspeech}, year={2021}}"
    )

    num_bands: int = setting(3, "Bands along time, and as many along frequency, at most.", at_least=1)
    band_share: float = setting(
        0.3, "Width of a band as a share of its axis, where no lam is given.", at_least=0, at_most=1
    )
    time_axis: int | None = setting(None, "The axis of the input that is time, e.g. 1 in [B, T, F].", at_least=1)
    correct_lam: bool = setting(True, "With a lam that is given: set it to the true share of the sample's content.")

    def unread(self) -> dict[str, str]:
        return {**({} if self.lam is None else {"band_share": "without lam"}), **super().unread()}

    def draw(self, request: Request) -> MaskDraw:
        draw = super().draw(request)
        key = self._keys(request.batch, request.rows)[0]
        values: Tensor = request.batch[key]
        given = self.lam is not None or request.lam is not None
        height, width = values.shape[-2:]
        mask = self._draw_mask(draw, given, height, width, request.rng)
        correct = self.correct_lam or not given
        axes = axes_of(key, values, request.batch, request.model, self.time_axis)
        seen = visible_mask(request.batch, values, axes.time if axes else None)
        if seen is None:
            true = mask_lam(mask).expand(request.rows)
            return draw.more(MaskDraw, lam=true if correct else draw.lam, mask=mask)
        kept = mask.reshape(len(mask), *(1,) * (values.dim() - 3), *mask.shape[1:])
        draw, nothing = by_content(draw, kept, seen, correct)
        return draw.more(MaskDraw, mask=mask | nothing[:, None, None] if bool(nothing.any()) else mask)

    def _draw_mask(self, draw: Draw, given: bool, height: int, width: int, rng: torch.Generator) -> Tensor:
        """Draw what stays the samples' own, bool [B, H, W], or [1, H, W] where the batch shares it."""
        lam = draw.lam
        if self.num_bands > min(height, width):
            raise ValueError(
                f"num_bands={self.num_bands}: spectrograms of {height} x {width} have no room for so many along each "
                f"axis; use {min(height, width)} or fewer"
            )
        one = self.lam_per == "batch"
        rows = torch.zeros(1, dtype=torch.long) if one else self.shared_with(draw.partner)
        spots = torch.rand(len(rows), 2, self.num_bands, generator=rng, dtype=torch.float64)[rows]
        kinds = torch.randint(1, (self.num_bands + 1) ** 2, (len(rows),), generator=rng)[rows]
        down, across = kinds // (self.num_bands + 1), kinds % (self.num_bands + 1)
        if one and bool((lam == lam[0]).all()):
            lam = lam[:1]
        share = band_share(lam.double(), down, across) if given else torch.full(lam.shape, self.band_share)
        spots, down, across = (each.expand(len(lam), *each.shape[1:]) for each in (spots, down, across))
        in_rows = inside_bands(spots[:, 0], down, share, height, apart=given)
        in_columns = inside_bands(spots[:, 1], across, share, width, apart=given)
        return ~(in_rows[:, :, None] | in_columns[:, None, :]) | (lam == 1)[:, None, None]

    def _sample_lam(self, rows: int, rng: torch.Generator) -> Tensor:
        return torch.full((rows,), 0.5)  # the bands will say; this one is only not 1

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        found = [
            key
            for key in float_keys(batch, rows, self.name, self.keys)
            if batch[key].dim() in (3, 4) and not key.startswith(("pixel", *SERIES))
        ]
        if not found:
            raise ValueError(nothing_to_blend(batch, self.name, " that is a spectrogram [B, T, F] or [B, F, T]"))
        refuse_different_sizes({key: list(batch[key].shape[-2:]) for key in found})
        return found


def band_share(lam: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return how wide bands are of which so many, apart, leave a share lam: (1 - down w) (1 - across w) = lam.

    >>> band_share(torch.tensor([0.25, 0.7]), torch.tensor([1, 0]), torch.tensor([1, 3]))
    tensor([0.5000, 0.1000])
    """
    product = down * across
    root = (down + across - ((down - across) ** 2 + 4 * product * lam).sqrt()) / (2 * product).clamp(min=1)
    return torch.where(product > 0, root, (1 - lam) / (down + across))
