"""Cross-Modal Mixup."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from hf_mixup.methods._pairs import ImageTextMix
from hf_mixup.methods.base import Batch, BoxDraw, Draw, Request
from hf_mixup.methods.registry import register
from hf_mixup.models.batches import IDS, count_samples
from hf_mixup.models.blocks import install_blocks
from hf_mixup.models.dual_encoder import is_dual_encoder
from hf_mixup.models.embeddings import install_tables
from hf_mixup.models.inputs import is_blendable, takes
from hf_mixup.models.padding import mix_embeddings
from hf_mixup.models.ragged import ragged_rows
from hf_mixup.models.streams import blend_at_fusion, entry_of, is_looked_up, mix_streams


@register
class CrossModalMixup(ImageTextMix):
    """Mix the image and the text of each sample with the same partner and lam.

    In a dual encoder a mixed image is a positive for each caption that it shares content with. Images (`image_mix`) are
    blended or cut as pixels, or blended as embeddings (latent). Captions (`text_mix`) are blended as embeddings before
    these are normalised (late), or as tokens (two_eot, aligned). The targets are the overlaps M R M^T of the mixes;
    each direction is divided by its own sums.

    In a model that fuses image and text (or audio and text, page and words) the labels are mixed by lam, and the text
    is blended where its tokens are looked up. `image_mix: blend` is method `mixup`. With `cut` the text is blended by
    the share of the image that stayed the sample's own, so that image, text and labels have the same weight. With
    `latent` both are blended at the fusion point, the input of the first block that sees all of a sample. `text_mix` is
    for dual encoders.

    Raises:
        ValueError: for a sample with one input only, or options that leave part of a sample behind.

    Source: the mix of Zhang et al. 2018, arXiv 1710.09412, equation 1, applied to both modalities of CLIP (Radford et
    al. 2021, arXiv 2103.00020); in latent space it is the VL-Mix of Oh et al. 2023, arXiv 2203.03897, with exact
    targets.

    >>> import torch
    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny_pairs
    >>> model, batch = tiny_pairs()
    >>> partner = torch.tensor([1, 0, 3, 2])
    >>> with Mixup({"method": "cross_modal", "text_mix": "late"})(model, batch, partner, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]  # M R M^T: 0.75**2 + 0.25**2 on the own caption
    tensor([0.6250, 0.3750, 0.0000, 0.0000])
    """

    name = "cross_modal"
    title = "Cross-Modal Mixup"
    blends = "image and text: both sides of a dual encoder's pairs, or all that a model fuses"
    paper = "arXiv:1710.09412, arXiv:2203.03897"
    begin_with = "alpha=1.0:image_mix=blend"
    citation = (
        "@inproceedings{oh2023geodesic, title={Geodesic Multi-Modal Mixup for Robust Fine-Tuning}, author={Oh, "
        "Changdae and So, Junhyuk and Byun, Hoyoon and Lim, YongTaek and Shin, Minchul and Jeon, Jong-June and Song, "
        "Kyungwoo}, booktitle={NeurIPS}, year={2023}}"
    )
    fuses = True

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        return super().alike(model) if is_dual_encoder(model) else "tokens"

    def enters(self, model: nn.Module, batch: Batch) -> bool:
        return super().enters(model, batch) if is_dual_encoder(model) else True

    def prepare(self, model: nn.Module) -> None:
        if is_dual_encoder(model):
            return
        if self.image_mix == "latent":
            install_blocks(model)
        elif takes(model, IDS):
            install_tables(model)

    def draw(self, request: Request) -> Draw:
        if self.image_mix == "cut" and not is_dual_encoder(request.model):
            self._refuse_cut(request.model, request.batch)
        return super().draw(request)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if is_dual_encoder(model):
            return super().apply(model, batch, draw, inplace)
        self._refuse_options(model, batch)
        if self.image_mix == "latent":
            return blend_at_fusion(model, batch, draw.partner, draw.lam)
        if isinstance(draw, BoxDraw):  # else the exchange of two samples whole, which has no box
            inputs = self._cutmix.apply(model, batch, draw, inplace)
            return mix_embeddings(model, inputs, draw.partner, draw.lam)
        return mix_streams(model, batch, draw.partner, draw.lam, inplace)

    def _refuse_options(self, model: nn.Module, batch: Batch) -> None:
        """Refuse samples with one input, and options that are for dual encoders."""
        name = type(model).__name__
        if not _floats(model, batch) or not is_looked_up(batch):
            held = ", ".join(batch)
            raise ValueError(
                f"method 'cross_modal' mixes what belongs together, image and text, and {name} is no dual encoder and "
                f"is given {held}: use 'mixup', which mixes whatever a sample holds"
            )
        if self.text_mix != "late" or self.keys is not None:
            option = f"text_mix={self.text_mix!r}" if self.keys is None else f"keys={self.keys!r}"
            raise ValueError(f"{option} is for dual encoders, and {name} fuses image and text: leave it out")

    def _refuse_cut(self, model: nn.Module, batch: Batch) -> None:
        """Refuse to cut where more than images would have to be."""
        floats, ragged = _floats(model, batch), ragged_rows(model, batch)
        whole = any(key not in ragged for key in floats)
        boxes = self._cutmix.cut_axes(model, batch, count_samples(batch)) if whole else {}
        stay = [key for key in floats if key not in boxes]
        if stay or entry_of(model, batch) == "fusion":
            what = f"of {stay[0]} no box can be cut" if stay else "its head reads more than images and tokens"
            raise ValueError(
                f"image_mix='cut' does not fit {type(model).__name__}: {what}: use image_mix='blend' or 'latent'"
            )


def _floats(model: nn.Module, batch: Batch) -> list[str]:
    """Return the inputs that are images, audio or features."""
    count = count_samples(batch)
    floats = [key for key, value in batch.items() if is_blendable(key, value, count)]
    return floats + [key for key in ragged_rows(model, batch) if batch[key].is_floating_point()]
