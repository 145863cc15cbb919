"""CutMix for text: a span of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_mixup.methods._spans import SpanMethod, on_cpu, one_a_token, ordinary_tokens, own_share
from hf_mixup.methods._tokens import taken
from hf_mixup.methods.base import Draw, Request, TokenDraw
from hf_mixup.methods.cutmix import CutMix
from hf_mixup.methods.registry import register


@register
class SpanCut(SpanMethod):
    """Replace a span of each sample's tokens by the partner's tokens at the same positions: CutMix in one dimension.

    The span covers round((1 - lam) * tokens) of those places where both samples have an ordinary token, or all of them
    if they are fewer. Special tokens, and the first and the last token of a sample, stay and are not counted; where the
    tokenizer is not known, so do tokens that equal those two. lam is then set to the share of the sample's ordinary
    tokens that stayed its own; at a lam of 0 the sample is its partner in full. Token types, boxes and the like go with
    their tokens. With one label a token, each label goes with its token, and lam is for the log alone.

    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv 1905.04899, eq. 1-2,
    carried over to tokens.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup("span_cut")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> taken = mixed.inputs["input_ids"] != batch["input_ids"]
    >>> taken[:, 0].any() or taken[:, -1].any()  # the first and the last token of a row stay
    tensor(False)
    """

    name = "span_cut"
    title = "CutMix for tokens"
    blends = "a span of token ids, cut and pasted (one label a row or a token)"
    paper = "arXiv:1905.04899"
    begin_with = "alpha=1.0"
    citation = CutMix.citation

    def draw(self, request: Request) -> TokenDraw:
        draw = super().draw(request)
        ordinary = ordinary_tokens(on_cpu(request.batch), self.special)
        common = ordinary & ordinary[draw.partner]
        tokens, room = ordinary.sum(-1), common.sum(-1)
        length = ((1 - draw.lam.double()) * tokens).round().long().minimum(room)
        draws = torch.rand(request.rows, generator=request.rng, dtype=torch.float64)[self.shared_with(draw.partner)]
        places = same_places(common, (draws * (room - length + 1)).long(), length)
        whole = draw.lam == 0
        places = torch.where(whole[:, None], torch.arange(places.shape[1]), places)
        return draw.more(TokenDraw, lam=own_share(length, tokens).masked_fill(whole, 0.0), positions=places)

    def other_labels(self, labels: Tensor, draw: TokenDraw) -> Tensor:
        return taken(labels, draw) if one_a_token(labels) else super().other_labels(labels, draw)

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        if not isinstance(draw, TokenDraw) or not one_a_token(labels):
            return super().label_lam(labels, draw)
        return (draw.positions < 0).float()


def same_places(common: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Return the places of a span, each going with itself, -1 for the others, long [B, T].

    Args:
        common: bool [B, T], the places that the span may cover; it steps over the others.
        start, length: the span among those places, long [B].

    >>> same_places(torch.tensor([[False, True, True, False, True]]), torch.tensor([1]), torch.tensor([2]))
    tensor([[-1, -1,  2, -1,  4]])
    """
    rank = common.long().cumsum(-1) - 1
    inside = common & (rank >= start[:, None]) & (rank < (start + length)[:, None])
    return torch.arange(common.shape[1]).expand_as(rank).where(inside, -1)
