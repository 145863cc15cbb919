"""FMix."""

from __future__ import annotations

from torch import Tensor

from hf_mixup.functional.masks import keep_highest, low_frequency_noise
from hf_mixup.methods._masks import RandomMask
from hf_mixup.methods.base import Request
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register

DECAY = 3.0
"""How fast the amplitude falls with the frequency, from the paper."""


@register
class FMix(RandomMask, MixesPixelLabels):
    """Replace irregular regions of each image by the partner's pixels.

    A smooth random field is drawn. The round(lam * H * W) pixels where it is highest stay the sample's own, the others
    become the partner's. lam is then set to the share of own pixels, unless `correct_lam=False`.

    Fields have all frequencies of the image, as in the paper. The authors' code (https://github.com/ecs-vlc/FMix) uses
    the first two rows of its spectrum alone, one as real and one as imaginary part: along the width its fields have a
    constant and one wave of a single cycle. It also tosses a coin to round lam up or down, weighs labels by the lam
    that was drawn (`correct_lam=False`), and can soften the edges of a mask, which its experiments on classification do
    not.

    Source: Harris et al. 2020, "FMix: Enhancing Mixed Sample Data Augmentation", arXiv 2002.12047, section 4.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("fmix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.mask.float().mean()  # of the pixels are the row's own
    tensor(0.7500)
    """

    name = "fmix"
    title = "FMix"
    blends = "image inputs `[B, C, H, W]`: irregular regions, from low-frequency noise"
    modalities = ("image",)
    paper = "arXiv:2002.12047"
    begin_with = "alpha=1.0"
    citation = (
        "@article{harris2020fmix, title={FMix: Enhancing Mixed Sample Data Augmentation}, author={Harris, Ethan and "
        'Marcu, Antonia and Painter, Matthew and Niranjan, Mahesan and Pr{\\"u}gel-Bennett, Adam and Hare, Jonathon}, '
        "journal={arXiv preprint arXiv:2002.12047}, year={2020}}"
    )

    def draw_fields(self, count: int, height: int, width: int, request: Request) -> Tensor:
        return low_frequency_noise(count, height, width, DECAY, request.rng)

    def masks_of(self, fields: Tensor, share: Tensor, height: int, width: int, request: Request) -> Tensor:
        return keep_highest(fields, share)
