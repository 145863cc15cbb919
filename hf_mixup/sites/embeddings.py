"""Blending token embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_mixup.sites.hooks import Site, sites_of

if TYPE_CHECKING:
    from hf_mixup.methods.base import Params


def embedding_sites(model: nn.Module) -> list[Site]:
    """Return the sites at which the model looks its tokens up, installing them on first use.

    Raises:
        ValueError: for a model without an embedding table.
    """
    lookup: Any = getattr(model, "get_input_embeddings", lambda: None)
    try:
        table = lookup()
    except NotImplementedError:  # how transformers says that there is none
        table = None
    if not isinstance(table, nn.Embedding):
        raise ValueError(
            f"{type(model).__name__} has no table of token embeddings to mix at: use method='mixup' for float inputs "
            "or 'manifold' for hidden states"
        )
    return [sites_of(model).after(table)]


def arm_embeddings(model: nn.Module, batch: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """Arm the embedding table; return the inputs with the mask of the mixed rows.

    Raises:
        ValueError: for a mask that is not [B, T].
    """
    mask, weight, inputs = batch.get("attention_mask"), params.lam, dict(batch)
    if mask is not None:
        if mask.dim() != 2:
            raise ValueError(f"method 'embedding' needs an attention_mask [B, T], found {list(mask.shape)}")
        inputs["attention_mask"], weight = unite(mask, mask[params.partner], params.lam)
    sites_of(model).arm(*(site.arm(params.partner, weight) for site in embedding_sites(model)))
    return inputs


def unite(own_mask: Tensor, other_mask: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return the union of both rows' masks [B, T] and the own row's weight at each position [B, T].

    A row with no share (lam = 0 or 1) adds nothing to the union, so both ends are exact for any lengths.
    """
    share = lam[:, None]
    own = own_mask.bool() & (share > 0)
    other = other_mask.bool() & (share < 1)
    weight = torch.where(own & ~other, 1.0, torch.where(other & ~own, 0.0, share))
    return (own | other).to(own_mask.dtype), weight
