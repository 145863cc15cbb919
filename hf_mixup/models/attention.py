"""The attention of a model's last layer, or the energy of its last feature map, on the grid of patches.

Nothing here names an architecture: the shapes of the outputs decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.probe import eval_without_side_effects

MAX_EXTRA = 16
"""Tokens beside the patches if the size of a patch is known: class token, distillation token, registers."""

MAX_GUESSED = 2
"""Tokens beside the patches if it is not known: with more, other tokens could be taken for patches."""


def attention_grid(model: nn.Module, batch: Mapping[str, Any], pixels: Tensor, rollout: bool = False) -> Tensor:
    """Return how much a model attends to each cell of its grid, by one more forward pass in evaluation mode.

    If the model has attention over the patches of the whole image, it is that attention, see `class_attention`. The
    pass runs with attn_implementation="eager", since no other returns attention, and the model's own is restored
    afterwards (data2vec-vision reads it when it is loaded, so load it that way). Otherwise it is the energy of the last
    feature map that forms a grid: the mean square over its channels, instead of a class activation map, which would
    have to know the classifier. The pass has no side effects.

    Args:
        batch: the model inputs, without labels.
        pixels: the images among them, [B, C, H, W].
        rollout: follow attention through all layers instead of the last alone, see `class_attention`.

    Returns:
        float32 [B, h, w], not negative.

    Raises:
        ValueError: if the model returns neither attention nor such a feature map.

    >>> from transformers import ViTConfig, ViTForImageClassification
    >>> model = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1,
    ...     num_attention_heads=1, intermediate_size=8))
    >>> pixels = torch.rand(3, 3, 16, 16)
    >>> attention_grid(model, {"pixel_values": pixels}, pixels).shape
    torch.Size([3, 2, 2])
    """
    with eval_without_side_effects(model), eager_attention(model):
        try:
            outputs = model(**batch, output_attentions=True, output_hidden_states=True)
        except (TypeError, ValueError):  # some models have no attention and refuse the argument
            outputs = model(**batch, output_hidden_states=True)
    found = class_attention(outputs, pixels, patch_of(model), rollout)
    if found is None:
        found = _energy(outputs, pixels, patch_of(model))
    if found is None:
        held = ", ".join(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ValueError(
            f"{type(model).__name__} returns neither attention nor features on a grid of more than one cell for "
            f"images {list(pixels.shape[-2:])} (it returns {held}): give it larger images, or use "
            "method='saliencymix', which needs none"
        )
    return found


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Let a transformers model compute attention so that it can be returned, and restore its implementation."""
    held: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in held if hasattr(config, "_attn_implementation_internal")}
    before = [(config, config._attn_implementation_internal) for config in configs.values()]
    try:
        for config, _ in before:
            config._attn_implementation_internal = "eager"
        yield
    finally:
        for config, own in before:
            config._attn_implementation_internal = own


def patch_of(model: nn.Module) -> tuple[int, int] | None:
    """Return height and width of a patch by the model's configuration, None if it does not say.

    >>> patch_of(nn.Identity()) is None
    True
    """
    config: Any = getattr(model, "config", None)
    for part in (config, getattr(config, "vision_config", None)):
        patch = getattr(part, "patch_size", None)
        if isinstance(patch, int):
            return patch, patch
        if isinstance(patch, (list, tuple)) and len(patch) == 2 and all(isinstance(side, int) for side in patch):
            return patch[0], patch[1]
    return None


def class_attention(
    outputs: Any, pixels: Tensor, patch: tuple[int, int] | None, rollout: bool = False
) -> Tensor | None:
    """Return the attention that the class token pays to each patch in the last layer, averaged over the heads.

    Without a class token: the attention that all patches pay to a patch, on average.

    Source of the rollout: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv 2005.00928,
    section 3: the product of all layers' attention, half of it replaced by the identity for the residual connection.

    Args:
        outputs: what a model returned, with `attentions`, [B, heads, T, T] each; of the T tokens the patches come last.
        pixels: the images, [B, C, H, W].
        patch: height and width of a patch, None to go by the shape of the image.
        rollout: follow attention through all layers.

    Returns:
        float32 [B, h, w]; None where there is no attention among the patches of the whole image.

    >>> outputs = {"attentions": (torch.full((1, 2, 7, 7), 1 / 7),)}
    >>> class_attention(outputs, torch.zeros(1, 3, 16, 24), patch=(8, 8)).shape
    torch.Size([1, 2, 3])
    """
    layers = outputs.get("attentions") if isinstance(outputs, Mapping) else None
    last = layers[-1] if layers else None
    if not isinstance(last, Tensor) or last.dim() != 4 or last.shape[-1] != last.shape[-2] or len(last) != len(pixels):
        return None
    grid = grid_of(last.shape[-1], pixels, patch)
    if grid is None:
        return None
    cells = grid[0] * grid[1]
    extra = last.shape[-1] - cells
    mean = last.detach().float().mean(1)
    if rollout and layers:
        mean = _rolled_out([layer.detach().float().mean(1) for layer in layers if isinstance(layer, Tensor)], mean)
    return (mean[:, 0, extra:] if extra else mean.mean(1)).reshape(-1, *grid)


def _rolled_out(layers: list[Tensor], last: Tensor) -> Tensor:
    """Return the share of each input token in each token, [B, T, T]; layers over other tokens are left out."""
    whole = torch.eye(last.shape[-1], device=last.device).expand_as(last)
    for layer in layers:
        if layer.shape == last.shape:
            whole = (layer @ whole + whole) / 2
    return whole


def grid_of(
    tokens: int, pixels: Tensor, patch: tuple[int, int] | None, guessed: int = MAX_GUESSED
) -> tuple[int, int] | None:
    """Return rows and columns of the patches among so many tokens, None if none fit.

    Args:
        tokens: patches and others, of which there are at most 16.
        pixels: the images, [B, C, H, W].
        patch: height and width of a patch; None for a grid of the image's shape, and up to `guessed` other tokens.

    >>> images = torch.zeros(1, 3, 224, 224)
    >>> grid_of(201, images, (16, 16)), grid_of(198, images, None), grid_of(300, images, (16, 16))
    ((14, 14), (14, 14), None)
    """
    height, width = pixels.shape[-2:]
    if patch is not None:
        rows, columns = height // patch[0], width // patch[1]
        return (rows, columns) if rows * columns > 1 and 0 <= tokens - rows * columns <= MAX_EXTRA else None
    for cells in range(tokens, max(1, tokens - guessed - 1), -1):
        rows = round((cells * height / width) ** 0.5)
        if rows and cells % rows == 0 and rows * width == cells // rows * height:
            return rows, cells // rows
    return None


def _energy(outputs: Any, pixels: Tensor, patch: tuple[int, int] | None) -> Tensor | None:
    """Return the mean square over the channels of the last hidden states that form a grid over the image, [B, h, w]."""
    if not isinstance(outputs, Mapping):
        return None
    states = (*(outputs.get("hidden_states") or ()), *(outputs.get("reshaped_hidden_states") or ()))
    for state in reversed(states):
        if isinstance(state, Tensor) and len(state) == len(pixels):
            grid = _on_grid(state, pixels, patch)
            if grid is not None:
                return grid.float().square().mean(-1)
    return None


def _on_grid(state: Tensor, pixels: Tensor, patch: tuple[int, int] | None) -> Tensor | None:
    """Return hidden states as a grid over the image, channels last, [B, h, w, C]; None where they form none."""
    if state.dim() == 4:  # channels first, or last
        return next((each for each in (state.movedim(1, -1), state) if _like(each.shape[1:3], pixels)), None)
    if state.dim() != 3:
        return None
    size = None if patch is None else grid_of(state.shape[1], pixels, patch)
    size = size or grid_of(state.shape[1], pixels, None, guessed=0)
    return None if size is None else state[:, -size[0] * size[1] :].unflatten(1, size)


def _like(grid: torch.Size, pixels: Tensor) -> bool:
    """Whether a grid of several cells has the shape of the image, up to rounding by a cell."""
    height, width = pixels.shape[-2:]
    return grid.numel() > 1 and abs(grid[0] * width - grid[1] * height) <= max(height, width)
