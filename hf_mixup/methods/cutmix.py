"""CutMix."""

from __future__ import annotations

from typing import Literal

from torch import nn

from hf_mixup.methods._boxes import RandomBox
from hf_mixup.methods.base import Batch, setting
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.axes import axes_of, axes_to_cut, refuse_different_sizes
from hf_mixup.models.batches import count_samples
from hf_mixup.models.inputs import float_keys, image_keys, nothing_to_blend


@register
class CutMix(RandomBox, MixesPixelLabels):
    """Replace a box of each input by the partner's content there: of images, videos, audio clips and series.

    By default it is a box of an image, the same box in all frames of a video, a box in time and frequency of a
    spectrogram, or a stretch of a waveform or series. `cut_along` changes that: "time" takes some frames of a video, or
    all frequencies of a stretch of time; "space" takes one box in all frames, or some frequencies all the time; "both"
    takes a block. The attention mask or the model's configuration says which axis is time, else `time_axis`.

    lam is then set to the share of the content that stayed the sample's own, unless `correct_lam=False`. `box_sides`
    draws the sides of the box directly, and lam always follows the box, as in timm. If lam = 0 is given, the box is the
    whole input. The boxes of the authors' code are those of `box_style: torchvision`; the default, timm's, may be a
    pixel longer.

    Padding does not count as content, where the batch has an attention mask [B, T], a mask of pixels, or a mask of what
    was observed of a series: lam counts the sample's own positions outside the box and the partner's inside it. That
    takes one wait for the device. Attention masks are united, as models read lengths from them; the other masks are cut
    with their inputs. A sample of which nothing would be left to see is not mixed.

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
    modalities = ("image", "audio", "video")
    paper = "arXiv:1905.04899"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{yun2019cutmix, title={CutMix: Regularization Strategy to Train Strong Classifiers with "
        "Localizable Features}, author={Yun, Sangdoo and Han, Dongyoon and Oh, Seong Joon and Chun, Sanghyuk and Choe, "
        "Junsuk and Yoo, Youngjoon}, booktitle={ICCV}, year={2019}}"
    )

    cut_along: Literal["time", "space", "both"] | None = setting(
        None, "Cut along time, along space (or frequency), or both; by default as befits the input."
    )
    time_axis: int | None = setting(None, "The axis of the input that is time, e.g. 1 in [B, T, F].", at_least=1)

    def cut_axes(self, model: nn.Module, batch: Batch, rows: int) -> dict[str, tuple[int, ...]]:
        """Return what is cut, and along which axes: images and videos if there are any, else audio clips and series.

        Raises:
            ValueError: if there is nothing, or inputs of different size.
        """
        axes = {
            key: axes_to_cut(key, batch[key], found, self.cut_along)
            for key in image_keys(float_keys(batch, rows, self.name, self.keys))
            if (found := axes_of(key, batch[key], batch, model, self.time_axis)) is not None
        }
        if not axes:
            kinds = " that is an image [B, C, H, W], a video [B, T, C, H, W], an audio clip or a series"
            raise ValueError(nothing_to_blend(batch, self.name, kinds))
        refuse_different_sizes({key: [batch[key].shape[axis] for axis in found] for key, found in axes.items()})
        return axes

    def count_axes(self, model: nn.Module, batch: Batch) -> int:
        """Return in how many axes the boxes of a batch lie."""
        return len(next(iter(self.cut_axes(model, batch, count_samples(batch)).values())))

    def time_of(self, model: nn.Module, batch: Batch, key: str) -> int | None:
        found = axes_of(key, batch[key], batch, model, self.time_axis)
        return None if found is None else found.time
