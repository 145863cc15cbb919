"""The modules of a dual encoder at which pairs are mixed, found by watching a forward pass over two samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.trace import Call, watch

OTHER_SIDES = ("image", "audio", "video", "speech")  # the modalities that a text is paired with
Positions = Callable[[Tensor, Tensor | None], Tensor]
"""(ids [B, T], mask [B, T] or None) -> the position [B] that the text encoder pools."""


@dataclass(frozen=True)
class DualEncoder:
    """Modules of a dual encoder.

    Args:
        image, text: their outputs are the joint embeddings of the image and the text, before normalisation.
        embeddings: its output are the text's token embeddings, positions included; None if none was found.
        hidden: its output are the hidden states that the text is pooled from, if `pooled_at` is not None.
        pooled_at: where the text is pooled if that depends on the sample; None if it is the same position in each.
    """

    image: nn.Module
    text: nn.Module
    embeddings: nn.Module | None
    hidden: nn.Module | None
    pooled_at: Positions | None

    @property
    def ragged(self) -> bool:
        """Whether the text is pooled at its own end, in a causal encoder."""
        return self.pooled_at is not None


def embeds_pairs(model: nn.Module | type[nn.Module]) -> bool:
    """Whether a model, or its class, returns features of texts and of another modality."""
    return hasattr(model, "get_text_features") and any(hasattr(model, f"get_{side}_features") for side in OTHER_SIDES)


def is_dual_encoder(model: nn.Module) -> bool:
    """Whether a model embeds texts and another modality into one space and compares them at some temperature.

    >>> is_dual_encoder(nn.Linear(2, 2))
    False
    """
    return embeds_pairs(model) and bool(scale_owners(model))


SCALES = ("temperature", "logit_scale", "logit_scale_a", "logit_scale_t")


def scale_owners(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that own the scale and bias of similarities, by the parameter's name; cached.

    Owners rather than parameters, because wrappers such as FSDP replace parameters.
    """
    cache = hooks_of(model).cache
    if "scales" not in cache:
        found = {
            name: module
            for module in reversed(list(model.modules()))  # the outermost one wins
            for name, _ in module.named_parameters(recurse=False)
            if name in (*SCALES, "logit_bias")
        }
        cache["scales"] = found if set(SCALES) & set(found) else {}
    return cache["scales"]


def embeds_of(outputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the embeddings of images (or audio clips, or videos) [B, D] and of texts [B, D].

    Raises:
        ValueError: if the outputs hold none.
    """
    for side in OTHER_SIDES:
        if isinstance(outputs.get(f"{side}_embeds"), Tensor) and isinstance(outputs.get("text_embeds"), Tensor):
            return outputs[f"{side}_embeds"], outputs["text_embeds"]
    raise ValueError(f"{type(outputs).__name__} has no pair of embeddings, only {', '.join(outputs)}")


def pair_logits_of(outputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the similarities as the model scales them, by image [B, B] and by text [B, B].

    Raises:
        ValueError: if the outputs hold none.
    """
    for side in OTHER_SIDES:
        logits = outputs.get(f"logits_per_{side}")
        if isinstance(logits, Tensor):
            per_text = outputs.get("logits_per_text")
            return logits, per_text if isinstance(per_text, Tensor) else logits.mT
    raise ValueError(f"{type(outputs).__name__} has no similarities (logits_per_image), only {', '.join(outputs)}")


def dual_encoder_of(model: nn.Module, pair: Mapping[str, Any] | None = None) -> DualEncoder:
    """Return the modules of a dual encoder; found on first use, then cached.

    Args:
        pair: model inputs of two samples, with texts of different length if possible; needed on first use, with the
            model in evaluation mode.

    Raises:
        ValueError: if no module returns the joint embeddings.
    """
    cache = hooks_of(model).cache
    if "dual encoder" not in cache:
        if pair is None:
            raise RuntimeError("the modules of the dual encoder have not been found yet")
        cache["dual encoder"] = _find(model, pair)
    return cache["dual encoder"]


@torch.no_grad()
def _find(model: nn.Module, pair: Mapping[str, Any]) -> DualEncoder:
    *calls, whole = watch(model, pair, model.modules())  # the model itself returns last
    image, text = embeds_of(whole.output)
    image_call = _returning(calls, image)
    text_call = _returning(calls, text) if text.dim() == 2 else _named(calls, model, "text_projection")
    if image_call is None or text_call is None:
        side = "image" if image_call is None else "text"
        raise ValueError(f"{type(model).__name__}: no module returns its {side} embedding, so it cannot be mixed")
    ids, mask = pair["input_ids"], pair.get("attention_mask")
    hidden, pooled_at = _pooling(calls, text_call, model, ids, mask)
    return DualEncoder(image_call.module, text_call.module, _embeddings(calls, model, ids), hidden, pooled_at)


def _returning(calls: list[Call], embeds: Tensor) -> Call | None:
    """Return the last call with this output before normalisation; preferably one that returns a tensor."""
    wanted = F.normalize(embeds.double(), dim=-1, eps=1e-100)
    found = [call for call in calls if _same_direction(_vectors(call.output), wanted)]
    tensors = [call for call in found if isinstance(call.output, Tensor)]
    return tensors[-1] if tensors else found[-1] if found else None


def _vectors(output: Any) -> Tensor | None:
    if isinstance(output, Mapping):
        output = output.get("pooler_output")
    return output.flatten(1) if isinstance(output, Tensor) and output.dim() >= 2 else None


def _same_direction(vectors: Tensor | None, wanted: Tensor) -> bool:
    if vectors is None or vectors.shape != wanted.shape or not vectors.is_floating_point():
        return False
    return bool(((F.normalize(vectors.double(), dim=-1, eps=1e-100) - wanted).abs() < 1e-2).all())


def _named(calls: list[Call], model: nn.Module, name: str) -> Call | None:
    modules = {module for path, module in model.named_modules() if path.split(".")[-1] == name}
    return next((call for call in reversed(calls) if call.module in modules), None)


def _embeddings(calls: list[Call], model: nn.Module, ids: Tensor) -> nn.Module | None:
    """Return the module around the token table, which adds positions and the like."""
    tables = {
        call.module
        for call in calls
        if isinstance(call.module, nn.Embedding) and call.given and _is_ids(call.given[0], ids)
    }
    for path, module in model.named_modules():
        if module in tables and "." in path:
            return model.get_submodule(path.rpartition(".")[0])
    return None


def _is_ids(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == ids.shape and bool((value == ids).all())


def _pooling(
    calls: list[Call], projection: Call, model: nn.Module, ids: Tensor, mask: Tensor | None
) -> tuple[nn.Module | None, Positions | None]:
    """Find the hidden states that the text is pooled from, if the position depends on the sample."""
    pooled = next((value for value in projection.given if isinstance(value, Tensor)), None)
    if pooled is None or pooled.dim() != 2:
        return None, None
    fixed: list[Positions] = [_first, _last]
    for call in reversed(calls[: calls.index(projection)]):
        if not isinstance(call.output, Tensor) or call.output.shape != (*ids.shape, pooled.shape[-1]):
            continue
        for rule in (_largest_id, *_end_rules(model, ids), *fixed, _last_visible):
            at = rule(ids, mask)
            if torch.allclose(call.output[torch.arange(len(ids), device=ids.device), at], pooled, atol=1e-4):
                return (call.module, rule) if rule not in fixed else (None, None)
    return None, None


def _largest_id(ids: Tensor, mask: Tensor | None) -> Tensor:
    return ids.int().argmax(-1)


def _end_rules(model: nn.Module, ids: Tensor) -> list[Positions]:
    config = getattr(getattr(model, "config", None), "text_config", None)
    eos = getattr(config, "eos_token_id", None)
    if not isinstance(eos, int) or not bool((ids == eos).any(-1).all()):
        return []

    def first_end(ids: Tensor, mask: Tensor | None) -> Tensor:
        return (ids == eos).int().argmax(-1)

    return [first_end]


def _last_visible(ids: Tensor, mask: Tensor | None) -> Tensor:
    return _last(ids, mask) if mask is None else mask.long().sum(-1) - 1


def _first(ids: Tensor, mask: Tensor | None) -> Tensor:
    return torch.zeros(len(ids), dtype=torch.long, device=ids.device)


def _last(ids: Tensor, mask: Tensor | None) -> Tensor:
    return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
