"""CutMix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hf_mixup.functional import box_lam, cut, cut_blocks, inside_boxes
from hf_mixup.methods._masks import by_content
from hf_mixup.methods._segmentation import is_map, own_pixels, refuse_other_size
from hf_mixup.methods.base import Batch, Draw, Method, Request
from hf_mixup.methods.mixup import united_mask
from hf_mixup.models.axes import PIXELS, axes_of, axes_to_cut, own_mask, refuse_different_sizes, visible_mask
from hf_mixup.models.batches import count_samples
from hf_mixup.models.inputs import float_keys, image_keys, nothing_to_blend


class CutMix(Method):
    """Replace a box of each input by the partner's content there: of images, videos, audio clips and series.

    A box of an image; the same box in all frames of a video; a box in time and frequency of a spectrogram; a stretch of
    a waveform or of a series. `cut_along` says otherwise: "time" takes whole frames of a video and all frequencies for
    a while, "space" one box of all frames and frequencies for all the time, "both" a block. Which axis is time is told
    by the attention mask or by the model's configuration, else by `time_axis`.

    lam is then set to the share of the content that stayed the row's own, unless `correct_lam=False`. `minmax` draws
    the sides of the box directly, and lam always follows the box, as in timm. At a lam of 0 that is given the box is
    everything. The boxes of the authors' code are those of `box: torchvision`; the default, timm's, may be a pixel
    longer.

    Padding is no content: beside an attention mask [B, T], a mask of pixels or of what was observed of a series, only
    places that are seen of either row count, of the own one outside the box and of the partner's inside it. That takes
    one wait for the device. Attention masks are united, for models take them for lengths; the other two are cut with
    what they are for. A row that would show nothing of either keeps its own.

    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv 1905.04899, eq. 1-2;
    for videos Yun et al. 2020, "VideoMix: Rethinking Data Augmentation for Video Classification", arXiv 2012.03457,
    section 3 (spatial, temporal and spatio-temporal).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("cutmix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> top, left, bottom, right = mixed.draw.boxes.tolist()  # in images of 64 x 64 pixels
    >>> float(mixed.lam[0]) == 1 - (bottom - top) * (right - left) / 64**2
    True
    """

    name = "cutmix"
    title = "CutMix"
    blends = "a box of images and videos, a stretch of audio clips, spectrograms and series, cut and pasted"
    paper = "arXiv:1905.04899"
    citation = (
        "@inproceedings{yun2019cutmix, title={CutMix: Regularization Strategy to Train Strong Classifiers with "
        "Localizable Features}, author={Yun, Sangdoo and Han, Dongyoon and Oh, Seong Joon and Chun, Sanghyuk and Choe, "
        "Junsuk and Yoo, Youngjoon}, booktitle={ICCV}, year={2019}}"
    )
    for_pixels = True

    only_images: ClassVar[bool] = False  # a subclass that knows nothing of time

    def draw(self, request: Request) -> Draw:
        draw, cfg = super().draw(request), self.config
        key, axes = next(iter(self._axes(request.model, request.batch, request.rows).items()))
        value: Tensor = request.batch[key]
        size = [value.shape[axis] for axis in axes]
        refuse_other_size(request, size[-2:], self.name)
        boxes = self._draw_boxes(draw, size, request.rng)
        draw = replace(draw, boxes=boxes)
        seen = visible_mask(request.batch, value, self._time(request.model, request.batch, key))
        by_box = cfg.correct_lam or cfg.minmax is not None
        if seen is not None:
            inside = inside_boxes(boxes.to(value.device), size)
            shape = [value.shape[axis] if axis in axes else 1 for axis in range(1, value.dim())]
            draw, nothing = by_content(draw, ~inside.reshape(len(inside), *shape), seen, by_box)
            return replace(draw, boxes=torch.where(nothing[:, None], 0, boxes)) if bool(nothing.any()) else draw
        return replace(draw, lam=box_lam(boxes, *size).expand(request.rows)) if by_box else draw

    def _draw_boxes(self, draw: Draw, size: Sequence[int], rng: torch.Generator) -> Tensor:
        """Draw one box [2n] where the whole batch shares a lam, so that the same region is swapped everywhere.

        Else one for each row, [B, 2n], the same within a pair that shares its lam; empty where lam is 1.
        """
        cfg, lam = self.config, draw.lam
        minmax = None if cfg.minmax is None else (cfg.minmax[0], cfg.minmax[1])
        nothing = torch.zeros(2 * len(size), dtype=torch.long)
        everything = torch.tensor([*(0 for _ in size), *size])

        def drawn(share: Tensor) -> Tensor:
            boxes = cut_blocks(size, share, generator=rng, minmax=minmax, style=cfg.box)
            return torch.where((share == 0)[..., None], everything, boxes)

        if cfg.lam_per != "batch":
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

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if draw.boxes is None:
            raise ValueError(f"method {draw.method!r} was given parameters without boxes")
        mixed = {**batch, **united_mask(batch, draw)}
        for key, axes in self._axes(model, batch, len(draw.partner)).items():
            mask = own_mask(batch, batch[key])
            if mask is not None:
                places = [axis - 1 for axis in axes] if mask[0] == PIXELS else axes
                mixed[mask[0]] = cut(mask[1], draw.partner, draw.boxes, axes=places)
            mixed[key] = cut(batch[key], draw.partner, draw.boxes, inplace=inplace, axes=axes)
        return mixed

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return own_pixels(labels, draw) if is_map(labels) else super().label_lam(labels, draw)

    def _axes(self, model: nn.Module, batch: Batch, rows: int) -> dict[str, tuple[int, ...]]:
        """Return what is cut, and along which axes: images and videos if there are any, else audio clips and series.

        Raises:
            ValueError: if there is nothing, or inputs of different size.
        """
        cfg = self.config
        if self.only_images:
            return dict.fromkeys(float_keys(batch, rows, self.name, cfg.keys, dims=4), (2, 3))
        axes = {
            key: axes_to_cut(key, batch[key], found, cfg.cut_along)
            for key in image_keys(float_keys(batch, rows, self.name, cfg.keys))
            if (found := axes_of(key, batch[key], batch, model, cfg.time_axis)) is not None
        }
        if not axes:
            kinds = " that is an image [B, C, H, W], a video [B, T, C, H, W], an audio clip or a series"
            raise ValueError(nothing_to_blend(batch, self.name, kinds))
        refuse_different_sizes({key: [batch[key].shape[axis] for axis in found] for key, found in axes.items()})
        return axes

    def count_axes(self, model: nn.Module, batch: Batch) -> int:
        """Return in how many axes the boxes of a batch lie."""
        return len(next(iter(self._axes(model, batch, count_samples(batch)).values())))

    def _time(self, model: nn.Module, batch: Batch, key: str) -> int | None:
        found = None if self.only_images else axes_of(key, batch[key], batch, model, self.config.time_axis)
        return None if found is None else found.time
