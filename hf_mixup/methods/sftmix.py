"""SFTMix: a mixed loss beside the plain one, between samples the model is sure of and samples it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional import pair_by_confidence, token_losses
from hf_mixup.methods.base import Batch, Draw, DrawnLam, Request, Term, setting
from hf_mixup.methods.capabilities import SettlesLater
from hf_mixup.methods.registry import register
from hf_mixup.utils.constants import IGNORE_INDEX


@register
class SFTMix(DrawnLam, SettlesLater):
    """Add to the plain loss of a language model the loss of its last hidden states, blended between two responses.

    Samples with a high confidence are paired with samples with a low one. Confidence is measured by the mean loss of
    the labelled tokens in the same forward pass; the paper ranks the whole dataset, by a model trained before. Two
    responses are aligned at their first labelled tokens, and the rest of the longer one is left out. The mixed term has
    the weight `loss_weight` (by default the paper's 0.2), and is a mean per token as the plain loss is. As the head is
    linear, logits are blended in place of hidden states; this costs three times the memory of the responses' logits.

    Raises:
        ValueError: for labels other than one a token; `pairing`, `pair_class` or `lam_per="pair"`, which do not go
            with it.

    Source: Xiao et al. 2024, "SFTMix: Elevating Language Model Instruction Tuning with Mixup Recipe", arXiv 2410.05248
    (there alpha = 0.5, loss_weight = 0.2).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("causal-lm", "llama")
    >>> with Mixup({"method": "sftmix", "alpha": 0.5, "loss_weight": 0.2})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.inputs["input_ids"] is batch["input_ids"]  # mixed in the loss, after the pass
    True
    """

    name = "sftmix"
    title = "SFTMix"
    blends = "last hidden states of responses (language models), as a second loss"
    modalities = ("text",)
    paper = "arXiv:2410.05248"
    begin_with = "alpha=0.5:loss_weight=0.2"
    citation = (
        "@article{xiao2024sftmix, title={SFTMix: Elevating Language Model Instruction Tuning with Mixup Recipe}, "
        "author={Xiao, Yuxin and Zhang, Shujian and Zhou, Wenxuan and Ghassemi, Marzyeh and Zhao, Sanqiang}, "
        "journal={arXiv:2410.05248}, year={2024}}"
    )
    own_loss = True
    exchanges = False  # samples are mixed in the loss, behind the model

    loss_weight: float = setting(0.2, "Weight of the mixed loss beside the plain one.", at_least=0)

    def draw(self, request: Request) -> Draw:
        labels = request.labels
        if labels.dim() != 2 or labels.is_floating_point():
            raise ValueError(
                f"method 'sftmix' needs one label a token, found {labels.dtype} {list(labels.shape)}: for one label a "
                "row use 'sentence'"
            )
        if self.lam_per == "pair":
            raise ValueError(
                "lam_per='pair': method 'sftmix' pairs rows when the logits are known; use 'batch' or 'row'"
            )
        if request.partner is not None:
            raise ValueError("method 'sftmix' pairs sure rows with unsure ones: leave partner")
        return replace(super().draw(request), open=True)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return dict(batch)

    def settle(self, logits: Tensor, labels: Tensor, draw: Draw) -> Draw:
        with torch.no_grad():
            losses, counts = token_losses(logits, labels).sum(-1), (labels != IGNORE_INDEX).sum(-1)
            partner = pair_by_confidence(-losses / counts.clamp(min=1))
        return replace(draw, partner=partner, open=False)

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        plain = super().terms(logits, labels, draw)
        left_alone = (draw.lam == 1)[:, None]  # by the coin of `prob`
        rows, places, others = side_by_side(labels, draw.partner, left_alone)
        own, other, lam = logits[rows, places], logits[draw.partner[rows], others], draw.lam[rows]
        share = lam.to(logits.dtype)[:, None]
        mixed = Term(
            share * own + (1 - share) * other,
            labels[rows, places],
            labels[draw.partner[rows], others],
            lam,
            self.loss_weight,
        )
        return [*plain, mixed]

    def other_labels(self, labels: Tensor, draw: Draw) -> Tensor:
        return labels

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return torch.ones_like(draw.lam)


def side_by_side(labels: Tensor, partner: Tensor, left_alone: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where both a sample and its partner have a label, counted from the first label of each.

    Args:
        labels: long [B, T], -100 where there is none.
        partner: long [B].
        left_alone: bool [B, 1], samples to leave out.

    Returns:
        Three long tensors [P]: sample, place in it, and place in its partner.

    >>> labels = torch.tensor([[-100, 5, 6], [7, 8, -100]])
    >>> side_by_side(labels, torch.tensor([1, 0]), torch.zeros(2, 1).bool())
    (tensor([0, 0, 1, 1]), tensor([1, 2, 0, 1]), tensor([0, 1, 1, 2]))
    """
    labelled = labels != IGNORE_INDEX
    first = labelled.long().argmax(-1)
    beside = torch.arange(labels.shape[1], device=labels.device) + (first[partner] - first)[:, None]
    inside = (beside >= 0) & (beside < labels.shape[1])
    beside = beside.clamp(0, labels.shape[1] - 1)
    rows, places = (labelled & inside & labelled[partner].gather(1, beside) & ~left_alone).nonzero(as_tuple=True)
    return rows, places, beside[rows, places]
