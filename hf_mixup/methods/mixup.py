"""Mixup of raw inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.methods.base import ALPHA, Batch, Blend, Draw, FloatInputs, Term, setting
from hf_mixup.methods.capabilities import MixesBoxes, MixesForecasts, MixesPixelLabels, MixesTranscripts
from hf_mixup.methods.registry import register
from hf_mixup.models.batches import IDS
from hf_mixup.models.decoders import decode_twice, install_encoder
from hf_mixup.models.embeddings import install_tables
from hf_mixup.models.inputs import takes
from hf_mixup.models.streams import blend_inputs, is_looked_up, mix_streams
from hf_mixup.utils.constants import IGNORE_INDEX


@register
class InputMixup(Blend, FloatInputs, MixesPixelLabels, MixesBoxes, MixesForecasts, MixesTranscripts):
    """Blend all content of a sample with its partner's: pixels, audio and features as they are.

    Tokens, decoder tokens, boxes and other integers are blended inside the model, where it looks up their vectors. What
    is not exact there is blended at the fusion point, the input of the first block that sees all of a sample (see
    `models.streams`). With `keys` only these inputs are blended; `keys` that leave out some content are refused.

    Audio clips may differ in length: their masks are united. Series may have gaps: the blend counts as observed where
    both samples were. For forecasts (`future_values`) past and future are blended alike, and the loss is the model's
    own on the blend.

    With CTC both transcripts are scored for the one blend. A decoder that writes a text for audio or an image reads a
    blend of both texts (`decoder="blend"`, one pass), or each of them (`decoder="two"`: one pass of the encoder, two of
    the decoder), as in Meng et al. 2021, "MixSpeech: Data Augmentation for Low-resource Automatic Speech Recognition",
    arXiv 2102.12664 (there alpha = 0.5, for 15 % of a batch: `prob=0.15, prob_per="sample"`).

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412, equation 1.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("mixup")(model, batch, partner=torch.tensor([1, 0, 3, 2]), lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]
    tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """

    name = "mixup"
    title = "Mixup"
    blends = "all of a sample: pixels, audio and features as they are, tokens where they are looked up"
    modalities = ("image", "text", "audio", "video")
    paper = "arXiv:1710.09412"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{zhang2018mixup, title={mixup: Beyond Empirical Risk Minimization}, author={Zhang, Hongyi and "
        "Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David}, booktitle={ICLR}, year={2018}}"
    )

    alpha: float = setting(1.0, f"{ALPHA} On large datasets begin with 0.2.", at_least=0)

    decoder: Literal["blend", "two"] = setting(
        "blend",
        "Of models that write a text for audio or an image: the decoder reads a blend of both texts, or runs twice, "
        "with each of them (MixSpeech).",
    )

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        return "tokens"

    def enters(self, model: nn.Module, batch: Batch) -> bool:
        return self.keys is None and self.decoder == "blend" and is_looked_up(batch)

    def prepare(self, model: nn.Module) -> None:
        if self.decoder == "two":
            install_encoder(model)
        if self.keys is None and takes(model, IDS):
            install_tables(model)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if self.enters(model, batch):
            return mix_streams(model, batch, draw.partner, draw.lam, inplace)
        mixed = blend_inputs(batch, draw.partner, draw.lam, self.name, self.keys, inplace)
        return mixed if self.decoder == "blend" else decode_twice(model, batch, mixed, draw.partner)

    def changed_places(self, draw: Draw) -> Tensor | None:
        """Return where the partner's texts are decoded: behind the samples' own."""
        return None if self.decoder == "blend" else len(draw.lam) + torch.arange(len(draw.lam))

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        """Return the loss of a text for each row of the logits: if these are twice as many, the partners' follow."""
        if len(logits) != 2 * len(labels):
            return super().terms(logits, labels, draw)
        none = torch.full_like(labels, IGNORE_INDEX)
        own, others = torch.cat([labels, none]), torch.cat([none, self.other_labels(labels, draw)])
        return [Term(logits, own, others, draw.lam.repeat(2))]

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], draw: Draw, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        """Return the boxes of both rows, weighing lam and 1 - lam; at the ends, and of a row with itself, its own."""
        drawn = zip(draw.partner.tolist(), draw.lam.tolist())
        return [
            united_boxes(labels[row], labels[other], 1.0 if other == row else lam)
            for row, (other, lam) in enumerate(drawn)
        ]


def united_boxes(own: Mapping[str, Tensor], other: Mapping[str, Tensor], lam: float) -> dict[str, Tensor]:
    """Return the boxes of two rows with weights lam and 1 - lam; at the ends those of one alone.

    >>> one, two = ({"class_labels": torch.tensor([label]), "boxes": torch.rand(1, 4)} for label in (0, 1))
    >>> united_boxes(one, two, 0.25)["weights"]
    tensor([0.2500, 0.7500])
    """
    parts = [(each, share) for each, share in ((own, lam), (other, 1 - lam)) if share > 0]
    union = {key: torch.cat([each[key] for each, _ in parts]) for key in ("class_labels", "boxes")}
    shares = [torch.full((len(each["boxes"]),), share, device=each["boxes"].device) for each, share in parts]
    return {**union, "weights": torch.cat(shares)}
