"""SSMix: the least salient span of a sample gives way to the most salient one of its partner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.methods._spans import SpanMethod, on_cpu, one_a_token, ordinary_tokens, own_share
from hf_mixup.methods.base import Batch, Draw, Request, Term, TokenDraw, setting
from hf_mixup.methods.registry import register
from hf_mixup.models.batches import concat_batches
from hf_mixup.models.saliency import token_saliency


@register
class SSMix(SpanMethod):
    """Replace the span that matters least for a sample's loss by the partner's span that matters most for its own.

    The clean samples are trained on, too: the loss is clean_weight * clean + (1 - clean_weight) * mixed, with a
    `clean_weight` of 0.5 by default. One forward pass sees 2 B samples, first the clean ones, then the mixed ones. The
    logits are those of all 2 B, the accuracy is that of the mixed ones. At `clean_weight=0` the mixed samples take the
    place of the clean ones.

    A token's saliency is the norm of the gradient at the input of the first block (at the output of the word
    embeddings, in models whose first block sees other positions than the tokens). That costs one more forward and
    backward pass for each mixed batch, in evaluation mode (the authors' code has dropout there), through activations
    and not to the weights, and one wait for the device. A span has max(1, floor((1 - lam) * tokens)) tokens, or as many
    as both samples have; the paper takes a tenth, `lam=0.9`, and starts from a model fine-tuned without mixing. lam is
    then set to the share of tokens that stayed the sample's own. Where `token_type_ids` tell two sentences apart, each
    is mixed with its like. Special tokens, and the first and the last of a sample, stay and are not counted; where the
    tokenizer is not known, so do tokens that equal those two. A sample that is its own partner stays as it is.

    Raises:
        ValueError: for labels of tokens.

    Source: Yoon et al. 2021, "SSMix: Saliency-Based Span Mixup for Text Classification", arXiv 2106.08062, section 2;
    https://github.com/clovaai/ssmix.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup({"method": "ssmix", "lam": 0.9})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.inputs["input_ids"].shape, mixed.lam.shape  # four clean rows, then four mixed ones
    (torch.Size([8, 10]), torch.Size([4]))
    """

    name = "ssmix"
    title = "SSMix"
    blends = "the most salient span of token ids over the least salient one (one label a row)"
    paper = "arXiv:2106.08062"
    begin_with = "lam=0.9"
    citation = (
        "@inproceedings{yoon2021ssmix, title={{SSMix}: Saliency-Based Span Mixup for Text Classification}, "
        "author={Yoon, Soyoung and Kim, Gyuwan and Park, Kyumin}, booktitle={Findings of ACL}, year={2021}}"
    )

    keeps = ("token_type_ids",)  # a token goes to a position in its own sentence

    clean_weight: float = setting(
        0.5, "The clean samples' share of the loss; at 0 they are not run.", at_least=0, below=1
    )

    def draw(self, request: Request) -> Draw:
        drawn = super().draw(request)
        if one_a_token(request.labels):
            raise ValueError(
                f"method 'ssmix' moves tokens to other places and takes one label a row, found "
                f"{list(request.labels.shape)}: for labels of tokens use 'span_cut'"
            )
        alone = drawn.partner == torch.arange(request.rows)  # its own salient span again would be no mix
        draw = replace(drawn, lam=drawn.lam.masked_fill(alone, 1.0))
        if bool((draw.lam == 1).all()) and not request.together:  # also by the coin of `prob`
            return draw
        saliency = token_saliency(request.model, request.batch, request.labels)
        batch = on_cpu(request.batch, saliency=saliency)
        ordinary = ordinary_tokens(batch, self.special)
        places = torch.full_like(ordinary, -1, dtype=torch.long)
        for sentence in _sentences(batch, ordinary):
            places = places.maximum(salient_places(batch["saliency"], sentence, draw.partner, draw.lam))
        lam = own_share((places >= 0).sum(-1), ordinary.sum(-1))
        return draw.more(TokenDraw, lam=lam, positions=places)

    def apply(self, model: nn.Module, batch: Batch, draw: TokenDraw, inplace: bool) -> dict[str, Any]:
        mixed = super().apply(model, batch, draw, inplace)
        return concat_batches([batch, mixed], batch, len(draw.lam)) if self.clean_weight else mixed

    def changed_places(self, draw: Draw) -> Tensor | None:
        return len(draw.lam) + torch.arange(len(draw.lam)) if self.clean_weight else None

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        count, clean = len(labels), self.clean_weight
        if len(logits) == count:  # without clean samples beside them, or with nothing mixed
            return super().terms(logits, labels, draw)
        mixed = Term(logits[count:], labels, labels[draw.partner], draw.lam, 1 - clean)
        return [mixed, Term(logits[:count], labels, labels, torch.ones_like(draw.lam), clean)]


def _sentences(batch: Batch, ordinary: Tensor) -> list[Tensor]:
    """Return the ordinary tokens of each sentence, bool [B, T] each."""
    types = batch.get("token_type_ids")
    if not isinstance(types, Tensor) or types.shape != ordinary.shape:
        return [ordinary]
    return [ordinary & (types == each) for each in types.unique()]


def salient_places(saliency: Tensor, tokens: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """Return for each place in the least salient span of a sample the partner's place in its most salient span.

    Args:
        saliency: floats [B, T].
        tokens: bool [B, T], the places that spans may cover; they step over the others.
        partner: long [B].
        lam: share of its tokens that a sample keeps, [B]; a sample with lam = 1 keeps all.

    Returns:
        Long [B, T], -1 where the sample keeps its own.

    >>> saliency, tokens = torch.tensor([[5., 1., 2., 9.], [7., 3., 8., 1.]]), torch.ones(2, 4).bool()
    >>> salient_places(saliency, tokens, torch.tensor([1, 0]), torch.tensor([0.5, 0.75]))
    tensor([[-1,  1,  2, -1],
            [-1, -1, -1,  3]])
    """
    count = tokens.sum(-1)
    wanted = ((1 - lam.double()) * count + 1e-3).long().clamp(min=1).where(lam < 1, 0)  # lam is rounded to float32
    length = wanted.minimum(count).minimum(count[partner])
    order = tokens.long().argsort(dim=-1, descending=True, stable=True)  # the places of the tokens, in front
    ordered = saliency.double().where(tokens, 0).gather(1, order)
    own_start = _best_start(-ordered, count, length)
    other_start = _best_start(ordered[partner], count[partner], length)
    turn = tokens.long().cumsum(-1) - 1 - own_start[:, None]  # of each token within the span
    inside = tokens & (turn >= 0) & (turn < length[:, None])
    behind = (turn + other_start[:, None]).clamp(0, tokens.shape[1] - 1)
    return order[partner].gather(1, behind).where(inside, -1)


def _best_start(scores: Tensor, count: Tensor, length: Tensor) -> Tensor:
    """Return where the `length` [B] of each sample's first `count` [B] scores that sum to the most begin, long [B]."""
    before = F.pad(scores.cumsum(-1), (1, 0))
    starts = torch.arange(scores.shape[1])
    ends = (starts + length[:, None]).clamp(max=scores.shape[1])
    sums = before.gather(1, ends) - before[:, :-1]
    return sums.masked_fill(starts > (count - length)[:, None], -torch.inf).argmax(-1)
