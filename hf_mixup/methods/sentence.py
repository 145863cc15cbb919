"""Mixup of the vectors that the last layer scores."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hf_mixup.methods.base import Batch, Blend, Draw, Request, Term
from hf_mixup.methods.registry import register
from hf_mixup.models.hooks import blend_states


@register
class SentenceMixup(Blend):
    """Blend each sample's pooled vector before the last layer, which scores it.

    That layer is linear, so that the logits of a blend are the blend of the logits. The model therefore runs unchanged,
    on any architecture and modality, and the logits are blended in the loss. (Where a model caps or scales its logits
    afterwards, the capped or scaled ones are blended.)

    Raises:
        ValueError: for labels of tokens or spans.

    Source: Guo et al. 2019, "Augmenting Data with Mixup for Sentence Classification" (senMixup), arXiv 1905.08941; Sun
    et al. 2020, "Mixup-Transformer", arXiv 2010.02394.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup("sentence")(model, batch) as mixed:
    ...     outputs = model(**mixed.inputs)  # of the rows as they are
    ...     loss = mixed.loss(outputs)  # of their blended scores
    >>> mixed.inputs["input_ids"] is batch["input_ids"]
    True
    """

    name = "sentence"
    title = "Sentence mixup"
    blends = "the pooled vectors that the last layer scores, in the loss"
    modalities = ("image", "text", "audio", "video", "table")
    paper = "arXiv:1905.08941, arXiv:2010.02394"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{sun2020mixup, title={Mixup-Transformer: Dynamic Data Augmentation for {NLP} Tasks}, "
        "author={Sun, Lichao and Xia, Congying and Yin, Wenpeng and Liang, Tingting and Yu, Philip S. and He, Lifang}, "
        "booktitle={COLING}, year={2020}}"
    )
    own_loss = True
    exchanges = False  # samples are mixed in the loss, behind the model

    def draw(self, request: Request) -> Draw:
        labels = request.labels
        if labels.dim() > 1 and not labels.is_floating_point():
            raise ValueError(
                f"method 'sentence' blends one vector a row, found labels {list(labels.shape)}: for labels of tokens "
                "or spans use 'embedding', 'manifold' or 'features'"
            )
        return super().draw(request)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return dict(batch)

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        blended = blend_states(logits, draw.partner, draw.lam)
        return [Term(blended, labels, labels[draw.partner], draw.lam)]
