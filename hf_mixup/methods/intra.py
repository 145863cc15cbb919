"""Intra-LADA: each token blended with another of its own sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods._tokens import taken
from hf_mixup.methods.base import Batch, DrawnLam, Request, TokenDraw, setting
from hf_mixup.methods.manifold import DepthDraw, HiddenStates
from hf_mixup.methods.registry import register
from hf_mixup.models.blocks import activate_layer
from hf_mixup.models.hooks import blend_positions
from hf_mixup.utils.constants import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class IntraDraw(DepthDraw, TokenDraw):
    """A draw of a depth, and of another token for each."""


@register
class IntraLADA(DrawnLam, HiddenStates):
    """Blend the hidden state of each labelled token with that of another labelled token of the same sample.

    The labelled tokens of a sample change places at random, in one cycle, so that each has another for its partner;
    tokens without a label (-100: special tokens, padding, later pieces of a word) stay. By default this is done after
    the last block, as in the authors' code. As there, the states of one forward pass are blended with one another, and
    a token never keeps less than half: lam becomes max(lam, 1 - lam), unless it is given.

    The authors' code differs in three points. Each token draws its partner by itself, which may be the token itself or
    be drawn twice, and tokens are blended one after the other. Later pieces of a word have its label, and are blended,
    too. And lam is drawn from Beta(60, 1.5), which is `alpha=60, beta=1.5` here.

    The paper's other half (inter-LADA, between sentences) is method 'manifold' with `layers=[0.67, 0.75, 0.83]`,
    `alpha=60`, `beta=1.5`, `lam_at_least_half=True`, but for its nearest neighbours and its mask, the union of both
    samples'.

    Raises:
        ValueError: for labels other than one a token, or a partner that is given.

    Source: Chen et al. 2020, "Local Additivity Based Data Augmentation for Semi-supervised NER", arXiv 2010.01677;
    https://github.com/SALT-NLP/LADA.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("token-classification", "bert")
    >>> with Mixup("intra")(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.positions.shape  # for each token the one that it is blended with
    torch.Size([4, 10])
    """

    name = "intra"
    alone = True
    title = "Intra-LADA"
    blends = "hidden states of tokens within a row (token labels)"
    modalities = ("text",)
    paper = "arXiv:2010.01677"
    begin_with = "alpha=60.0:beta=1.5"
    citation = (
        "@inproceedings{chen2020local, title={Local Additivity Based Data Augmentation for Semi-supervised {NER}}, "
        "author={Chen, Jiaao and Wang, Zhenghui and Tian, Ran and Yang, Zichao and Yang, Diyi}, booktitle={EMNLP}, "
        "year={2020}}"
    )
    own_loss = True

    lam_at_least_half: bool = setting(True, "Fold lam to max(lam, 1 - lam), so that a token's own content dominates.")

    def draw(self, request: Request) -> IntraDraw:
        labels = request.labels
        if labels.dim() != 2 or labels.is_floating_point():
            raise ValueError(
                f"method 'intra' blends tokens of a row and needs a label for each, found labels {list(labels.shape)}: "
                "for one label a row use 'manifold'"
            )
        if request.partner is not None:
            raise ValueError("method 'intra' blends tokens of a row with each other: leave partner")
        draw = super().draw(request)
        places = shuffled((labels != IGNORE_INDEX).cpu(), request.rng)
        return IntraDraw(self.name, torch.arange(request.rows), draw.lam, depth=draw.depth, positions=places)

    def apply(self, model: nn.Module, batch: Batch, draw: DepthDraw, inplace: bool) -> dict[str, Any]:
        if not isinstance(draw, IntraDraw):  # the trial whether this depth holds all of a sample: by exchanging samples
            return super().apply(model, batch, draw, inplace)
        mixing, depths = partial(blend_positions, positions=draw.positions), self.depths(model, batch)
        stack = self._stack(model, batch)
        activate_layer(model, stack, draw.partner, draw.lam, draw.depth, mixing, depths)
        return dict(batch)

    def other_labels(self, labels: Tensor, draw: IntraDraw) -> Tensor:
        return taken(labels, draw)

    def _layers(self, model: nn.Module) -> list[float]:
        return self.layers or [-1]


def shuffled(chosen: Tensor, rng: torch.Generator) -> Tensor:
    """Return for each chosen place the next in one random cycle of its sample's, -1 for the others, long [B, T].

    >>> shuffled(torch.tensor([[False, True, True, False]]), torch.Generator())
    tensor([[-1,  2,  1, -1]])
    """
    order = torch.rand(chosen.shape, generator=rng).masked_fill(~chosen, 2.0).argsort(-1)  # the chosen ones in front
    count = chosen.sum(-1, keepdim=True)
    turn = torch.arange(chosen.shape[1]).expand_as(order)
    following = order.gather(1, (turn + 1) % count.clamp(min=1))
    return torch.empty_like(order).scatter_(1, order, following.where(turn < count, -1))
