"""Mixing the captions of a dual encoder token by token, exactly at both ends for captions of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.dual_encoder import DualEncoder, dual_encoder_of
from hf_mixup.models.embeddings import unite_masks
from hf_mixup.models.hooks import MixHook, hooks_of

RowMixing = Callable[..., Tensor]
"""(module, its output, *state) -> mixed output, row by row."""


class SampleHook(MixHook):
    """A hook whose rows need nothing of the others: what it knows of their partners came with the batch.

    So a batch can run through it in chunks, see `narrow`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._whole: tuple[Tensor, ...] = ()
        self._state: tuple[Tensor, ...] = ()
        self._row_mixing: RowMixing | None = None

    def activate_samples(self, partner: Tensor, lam: Tensor, mixing: RowMixing, *state: Tensor) -> SampleHook:
        """Make the next forward pass mix here; each tensor of the state has a row for each row of the batch."""
        self.activate(partner, lam)
        self._row_mixing, self._whole, self._state = mixing, state, state
        return self

    def narrow(self, rows: slice) -> None:
        """Make the next forward pass one over these rows of the batch only."""
        self.on, self.calls, self._state = True, 0, tuple(each[rows] for each in self._whole)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self._blends_now() or self._row_mixing is None:
            return None
        self.count(module)
        return self._row_mixing(module, output, *self._state)


def activate_captions(
    model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor, how: str
) -> dict[str, Any]:
    """Arm the text tower to mix tokens; return the inputs with the ids and mask that go with it.

    Args:
        how: "two_eot" blends tokens place by place and pools both ends, lam * h[own end] + (1 - lam) * h[other end];
            "aligned" shifts both captions to a common end and gives each place the weight of the tokens that lie there,
            in the blend and, as its logarithm, in the attention.

    Raises:
        ValueError: for a tower without an embedding module, or whose attention takes no such mask.
    """
    towers, ids, mask = dual_encoder_of(model), batch["input_ids"], batch.get("attention_mask")
    if towers.embeddings is None:
        raise ValueError(
            f"{type(model).__name__}: no module embeds its tokens, so text_mix={how!r} cannot mix them: use 'late'"
        )
    if mask is not None and mask.dim() != 2:
        raise ValueError(f"text_mix={how!r} needs an attention_mask [B, T], found {list(mask.shape)}")
    activate = _activate_two_eot if how == "two_eot" else _activate_aligned
    return {**batch, **activate(model, towers, ids, mask, partner, lam)}


def _activate_two_eot(
    model: nn.Module, towers: DualEncoder, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor
) -> dict[str, Tensor]:
    ends = None if towers.pooled_at is None else towers.pooled_at(ids, mask)
    visible = _visible(ids, mask, ends)
    united, weight = unite_masks(visible, visible[partner], lam)
    hooks, other = hooks_of(model), ids[partner]
    hooks.track(
        hooks.after(_module(towers.embeddings), SampleHook).activate_samples(partner, lam, _blend_tokens, other, weight)
    )
    if ends is not None:
        state = (ends, ends[partner], lam)
        hooks.track(hooks.after(_module(towers.hidden), SampleHook).activate_samples(partner, lam, _blend_ends, *state))
    return {} if mask is None else {"attention_mask": united.to(mask.dtype)}


def _blend_tokens(module: nn.Module, output: Tensor, other_ids: Tensor, weight: Tensor) -> Tensor:
    share = weight[..., None]
    return (share * output + (1 - share) * _embed(module, other_ids)).to(output.dtype)


def _blend_ends(module: nn.Module, output: Tensor, own_end: Tensor, other_end: Tensor, lam: Tensor) -> Tensor:
    """Put the blend of both pooled states where the model pools, at the row's own end."""
    rows, share = torch.arange(len(output), device=output.device), lam[:, None]
    blend = (share * output[rows, own_end] + (1 - share) * output[rows, other_end]).to(output.dtype)
    return output.index_put((rows, own_end), blend)


def _activate_aligned(
    model: nn.Module, towers: DualEncoder, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor
) -> dict[str, Tensor]:
    _refuse_attention(model)
    length, share = ids.shape[1], lam[:, None]
    own_ends = None if towers.pooled_at is None else towers.pooled_at(ids, mask)
    visible = _visible(ids, mask, own_ends).float()
    ends = torch.zeros_like(partner) if own_ends is None else own_ends
    common = torch.maximum(ends, ends[partner])
    places = torch.arange(length, device=ids.device)
    own_from = (places - (common - ends)[:, None]).clamp(min=-1)  # which token of the own caption lies at each place
    other_from = (places - (common - ends[partner])[:, None]).clamp(min=-1)
    own = share * _at(visible, own_from)
    other = (1 - share) * _at(visible[partner], other_from)
    mass = own + other
    # Where neither has a token, the padding is blended: SigLIP pools the last place, which looks back from there.
    own_share, other_share = (
        torch.where(mass > 0, part / mass.clamp(min=1e-12), rest) for part, rest in ((own, share), (other, 1 - share))
    )
    state = (ids, own_from, own_share, ids[partner], other_from, other_share)
    hooks = hooks_of(model)
    hooks.track(
        hooks.after(_module(towers.embeddings), SampleHook).activate_samples(partner, lam, _blend_aligned, *state)
    )
    dtype = next(model.parameters()).dtype
    inputs = {"attention_mask": _log_mask(mass, towers.ragged, dtype)}
    if own_ends is not None:
        inputs["input_ids"] = _ids_ending_at(common, ids, ends)
    return inputs


def _blend_aligned(
    module: nn.Module,
    output: Tensor,
    own_ids: Tensor,
    own_from: Tensor,
    own_share: Tensor,
    other_ids: Tensor,
    other_from: Tensor,
    other_share: Tensor,
) -> Tensor:
    own = _at(_embed(module, own_ids), own_from)
    other = _at(_embed(module, other_ids), other_from)
    return (own_share[..., None] * own + other_share[..., None] * other).to(output.dtype)


def _embed(module: nn.Module, ids: Tensor) -> Tensor:
    return module.forward(input_ids=ids)  # past the module's hooks, which would mix again


def _at(values: Tensor, source: Tensor) -> Tensor:
    """Return values [B, T, ...] from the places `source` [B, T]; 0 where it is -1."""
    source = source.reshape(source.shape + (1,) * (values.dim() - 2))
    return values.gather(1, source.clamp(min=0).expand_as(values)) * (source >= 0)


def _visible(ids: Tensor, mask: Tensor | None, ends: Tensor | None) -> Tensor:
    """Return 1 at the tokens that count, [B, T]: those up to the end of text, or those the mask shows."""
    if ends is not None:
        return (torch.arange(ids.shape[1], device=ids.device) <= ends[:, None]).long()
    return torch.ones_like(ids) if mask is None else mask


def _log_mask(mass: Tensor, causal: bool, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask [B, 1, T, T] that weighs each key by the mass of the tokens there."""
    lowest = torch.finfo(dtype).min
    added = torch.where(mass > 0, mass.clamp(min=torch.finfo(torch.float32).tiny).log(), lowest).clamp(min=lowest)
    added = added[:, None, None, :].expand(-1, 1, mass.shape[1], -1)
    if causal:
        future = torch.ones(mass.shape[1], mass.shape[1], dtype=torch.bool, device=mass.device).triu(1)
        added = added.masked_fill(future, lowest)
    return added.to(dtype).contiguous()


def _ids_ending_at(common: Tensor, ids: Tensor, ends: Tensor) -> Tensor:
    """Return ids whose end of text lies at `common` [B]; they are read for nothing else."""
    rows = torch.arange(len(ids), device=ids.device)
    end = ids[rows, ends]
    filler = torch.where(end == 0, 1, 0)[:, None]
    return filler.expand_as(ids).scatter(1, common[:, None], end[:, None])


def _refuse_attention(model: nn.Module) -> None:
    config = getattr(model, "config", None)
    text = getattr(config, "text_config", config)
    kind = getattr(text, "_attn_implementation", None) or "eager"
    if kind not in ("eager", "sdpa"):
        raise ValueError(
            f"text_mix='aligned' weighs tokens in the attention mask, which attention {kind!r} does not take: load the "
            "model with attn_implementation='sdpa', or use text_mix 'late' or 'two_eot'"
        )


def _module(module: nn.Module | None) -> nn.Module:
    if module is None:
        raise RuntimeError(
            "the text tower lacks a part that was looked for"
        )  # dual_encoder_of found pooled_at without it
    return module
