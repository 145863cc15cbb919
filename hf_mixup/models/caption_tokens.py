"""Mixing the captions of a dual encoder token by token, exactly at both ends for captions of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.dual_encoder import DualEncoder, dual_encoder_of
from hf_mixup.models.embeddings import unite_masks
from hf_mixup.models.hooks import MixHook, hooks_of

SampleMixing = Callable[..., Tensor]
"""(module, its output, *state) -> the mixed output, sample by sample."""


class SampleHook(MixHook):
    """A hook that mixes each sample by itself, since it is given what it needs of the partners beforehand.

    So a batch can run through it in chunks, see `narrow`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._whole: tuple[Tensor, ...] = ()
        self._state: tuple[Tensor, ...] = ()
        self._sample_mixing: SampleMixing | None = None

    def activate_samples(self, partner: Tensor, lam: Tensor, mixing: SampleMixing, *state: Tensor) -> SampleHook:
        """Make the next forward pass mix here; each tensor of the state has an entry for each sample of the batch."""
        self.activate(partner, lam)
        self._sample_mixing, self._whole, self._state = mixing, state, state
        return self

    def narrow(self, samples: slice) -> None:
        """Make the next forward pass one over these samples of the batch only."""
        self.on, self.calls, self._state = True, 0, tuple(each[samples] for each in self._whole)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self._blends_now() or self._sample_mixing is None:
            return None
        self.count(module)
        return self._sample_mixing(module, output, *self._state)


def activate_captions(
    model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor, how: str
) -> dict[str, Any]:
    """Make the text encoder mix tokens in the next forward pass; return the inputs with matching ids and mask.

    Args:
        how: "two_eot" blends tokens position by position and pools both ends, lam * h[own end] + (1 - lam) * h[other
            end]; "aligned" shifts both captions to a common end and gives each position the weight of the tokens that
            lie there, in the blend and, as its logarithm, in the attention.

    Raises:
        ValueError: for a text encoder without an embedding module, or if its attention takes no such mask.
    """
    encoder, ids, mask = dual_encoder_of(model), batch["input_ids"], batch.get("attention_mask")
    if encoder.embeddings is None:
        raise ValueError(
            f"{type(model).__name__}: no module embeds its tokens, so text_mix={how!r} cannot mix them: use 'late'"
        )
    if mask is not None and mask.dim() != 2:
        raise ValueError(f"text_mix={how!r} needs an attention_mask [B, T], found {list(mask.shape)}")
    activate = _activate_two_eot if how == "two_eot" else _activate_aligned
    return {**batch, **activate(model, encoder, ids, mask, partner, lam)}


def _activate_two_eot(
    model: nn.Module, encoder: DualEncoder, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor
) -> dict[str, Tensor]:
    ends = None if encoder.pooled_at is None else encoder.pooled_at(ids, mask)
    visible = _visible(ids, mask, ends)
    united, weight = unite_masks(visible, visible[partner], lam)
    _mix_at(model, encoder.embeddings, partner, lam, _blend_tokens, ids[partner], weight)
    if ends is not None:
        _mix_at(model, encoder.hidden, partner, lam, _blend_ends, ends, ends[partner], lam)
    return {} if mask is None else {"attention_mask": united.to(mask.dtype)}


def _blend_tokens(module: nn.Module, output: Tensor, other_ids: Tensor, weight: Tensor) -> Tensor:
    share = weight[..., None]
    return (share * output + (1 - share) * _embed(module, other_ids)).to(output.dtype)


def _blend_ends(module: nn.Module, output: Tensor, own_end: Tensor, other_end: Tensor, lam: Tensor) -> Tensor:
    """Put the blend of both pooled states where the model pools, at the sample's own end."""
    samples, share = torch.arange(len(output), device=output.device), lam[:, None]
    blend = (share * output[samples, own_end] + (1 - share) * output[samples, other_end]).to(output.dtype)
    return output.index_put((samples, own_end), blend)


def _activate_aligned(
    model: nn.Module, encoder: DualEncoder, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor
) -> dict[str, Tensor]:
    _refuse_attention(model)
    length, share = ids.shape[1], lam[:, None]
    own_ends = None if encoder.pooled_at is None else encoder.pooled_at(ids, mask)
    visible = _visible(ids, mask, own_ends).float()
    ends = torch.zeros_like(partner) if own_ends is None else own_ends
    common = torch.maximum(ends, ends[partner])
    positions = torch.arange(length, device=ids.device)
    own_from = (positions - (common - ends)[:, None]).clamp(min=-1)  # which own token lies at each position
    other_from = (positions - (common - ends[partner])[:, None]).clamp(min=-1)
    own = share * _at(visible, own_from)
    other = (1 - share) * _at(visible[partner], other_from)
    mass = own + other
    # Where neither has a token, the padding is blended: SigLIP pools the last position, which attends to the others.
    own_share, other_share = (
        torch.where(mass > 0, part / mass.clamp(min=1e-12), rest) for part, rest in ((own, share), (other, 1 - share))
    )
    state = (ids, own_from, own_share, ids[partner], other_from, other_share)
    _mix_at(model, encoder.embeddings, partner, lam, _blend_aligned, *state)
    dtype = next(model.parameters()).dtype
    inputs = {"attention_mask": _log_mask(mass, encoder.ragged, dtype)}
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
    return module.forward(input_ids=ids)  # without the module's hooks, which would mix again


def _at(values: Tensor, source: Tensor) -> Tensor:
    """Return values [B, T, ...] from the positions `source` [B, T]; 0 where it is -1."""
    source = source.reshape(source.shape + (1,) * (values.dim() - 2))
    return values.gather(1, source.clamp(min=0).expand_as(values)) * (source >= 0)


def _visible(ids: Tensor, mask: Tensor | None, ends: Tensor | None) -> Tensor:
    """Return 1 at the tokens that count, [B, T]: up to the end of text, or as the mask says."""
    if ends is not None:
        return (torch.arange(ids.shape[1], device=ids.device) <= ends[:, None]).long()
    return torch.ones_like(ids) if mask is None else mask


def _log_mask(mass: Tensor, causal: bool, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask [B, 1, T, T] that weighs each key by the mass of its tokens."""
    lowest = torch.finfo(dtype).min
    added = torch.where(mass > 0, mass.clamp(min=torch.finfo(torch.float32).tiny).log(), lowest).clamp(min=lowest)
    added = added[:, None, None, :].expand(-1, 1, mass.shape[1], -1)
    if causal:
        future = torch.ones(mass.shape[1], mass.shape[1], dtype=torch.bool, device=mass.device).triu(1)
        added = added.masked_fill(future, lowest)
    return added.to(dtype).contiguous()


def _ids_ending_at(common: Tensor, ids: Tensor, ends: Tensor) -> Tensor:
    """Return ids whose end of text lies at `common` [B]; the model reads them for nothing else."""
    end = ids[torch.arange(len(ids), device=ids.device), ends]
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


def _mix_at(
    model: nn.Module, module: nn.Module | None, partner: Tensor, lam: Tensor, mixing: SampleMixing, *state: Tensor
) -> None:
    if module is None:
        raise RuntimeError("the text encoder lacks a part")  # `dual_encoder_of` found pooled_at without it
    hooks = hooks_of(model)
    hooks.track(hooks.after(module, SampleHook).activate_samples(partner, lam, mixing, *state))
