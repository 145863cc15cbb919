"""Labels of pixels, cut and pasted as the pixels are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hf_mixup.methods.base import BoxDraw, Draw, MaskDraw, Method, Request
from hf_mixup.methods.capabilities import AsksGuide, MixesPixelLabels
from hf_mixup.models.labels import expand_like


def is_map(labels: Tensor) -> bool:
    """Whether there is a label for each pixel, integers [B, H, W]."""
    return labels.dim() == 3 and not labels.is_floating_point()


def refuse_other_size(request: Request, size: Sequence[int], method: str) -> None:
    """Refuse segmentation masks that are not of the images' size, which a cut could not follow.

    Raises:
        ValueError: naming both sizes.
    """
    found = request.labels.shape[-2:]
    if is_map(request.labels) and list(found) != list(size):
        raise ValueError(
            f"labels of {found[0]} x {found[1]} pixels and images of {size[0]} x {size[1]}: method {method!r} cuts "
            "both at the same places; resize the masks (nearest) to the images' size, or use 'mixup'"
        )


def own_pixels(labels: Tensor, draw: Draw) -> Tensor:
    """Return 1 where a pixel stayed the sample's own and 0 where it is the partner's, float32 [B, H, W] or [1, H, W].

    >>> draw = BoxDraw("cutmix", torch.tensor([1, 0]), torch.ones(2), boxes=torch.tensor([0, 0, 1, 2]))
    >>> own_pixels(torch.zeros(2, 2, 2), draw)
    tensor([[[0., 0.],
             [1., 1.]]])
    """
    if isinstance(draw, MaskDraw):
        return draw.mask.float()
    if not isinstance(draw, BoxDraw):
        return draw.lam.new_ones(1, *labels.shape[-2:])
    top, left, bottom, right = draw.boxes.reshape(-1, 1, 1, 4).unbind(-1)
    row = torch.arange(labels.shape[-2], device=labels.device)[:, None]
    column = torch.arange(labels.shape[-1], device=labels.device)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return (~inside).float()


def mixed_maps(method: Method, draw: Draw, labels: Tensor, ignored: Callable[[Tensor], Tensor] = torch.isnan) -> Tensor:
    """Return the numbers of pixels of a mixed batch: blended, or cut and pasted as the pixels are.

    Args:
        labels: floats [B, H, W] or [B, C, H, W].
        ignored: tells which of them are none. Where one has a share, the mixed one is none.

    >>> from hf_mixup.methods import InputMixup
    >>> draw = Draw("mixup", torch.tensor([1, 0]), torch.tensor([0.25, 1.0]))
    >>> mixed_maps(InputMixup(), draw, torch.tensor([[[4.0, torch.nan]], [[8.0, 4.0]]]))
    tensor([[[7., nan]],
    <BLANKLINE>
            [[8., 4.]]])
    """
    rows, (height, width) = len(labels), labels.shape[-2:]
    places = torch.arange(rows * height * width, device=labels.device).reshape(rows, height, width)
    lam, origin = method.label_lam(places, draw), method.other_labels(places, draw)
    channels = labels.reshape(rows, -1, height, width)
    others = channels.transpose(0, 1).flatten(1)[:, origin].transpose(0, 1).reshape(labels.shape)
    lam = expand_like(lam, channels) if lam.dim() == 1 else lam[:, None]
    lam = lam.expand_as(channels).reshape(labels.shape)
    mixed = torch.where(lam == 1, labels, torch.where(lam == 0, others, lam * labels + (1 - lam) * others))
    mixed = torch.where((lam < 1) & ignored(others), others, mixed)
    return torch.where((lam > 0) & ignored(labels), labels, mixed).to(labels.dtype)


def refuse_for_targets(method: Method, model: nn.Module, guided: bool, learns: str, of_inputs: bool = False) -> None:
    """Refuse a method that has no rule for targets which lie on the pixels, and are given to the model's own loss.

    Args:
        guided: whether another model is asked where to look: the one in training has no scores of classes to ask.
        learns: what the model learns from, to be named.
        of_inputs: whether the targets are the inputs, which therefore have to be mixed themselves.

    Raises:
        ValueError: naming the method, and those that have a rule.
    """
    from hf_mixup.methods.registry import METHODS

    for each in method.choices():
        names = ", ".join(name for name, kind in METHODS.items() if _follows_pixels(kind, of_inputs))
        if not _follows_pixels(type(each), of_inputs):
            raise ValueError(
                f"method {each.name!r} does not mix {learns} that {type(model).__name__} learns from: use one of "
                f"{names}"
            )
        if isinstance(each, AsksGuide) and each.asks_guide and not guided:
            raise ValueError(
                f"method {each.name!r} asks a model for its classes where to look, and {type(model).__name__} learns "
                f"from {learns}: pass guide=, a pretrained image classifier, or use 'mixup' or 'cutmix'"
            )


def _follows_pixels(kind: type[Method], of_inputs: bool) -> bool:
    one_loss = kind.terms is Method.terms or not kind.own_loss
    return (
        issubclass(kind, MixesPixelLabels)
        and one_loss
        and not (of_inputs and (kind.enters_model or not kind.exchanges))
    )


def refuse_for_maps(method: Method, model: nn.Module) -> None:
    """Refuse a method that has no rule for the labels of pixels.

    Raises:
        ValueError: naming the method, and those that have one.
    """
    from hf_mixup.methods.registry import METHODS

    for each in method.choices():
        if not isinstance(each, MixesPixelLabels):
            names = ", ".join(name for name, kind in METHODS.items() if issubclass(kind, MixesPixelLabels))
            raise ValueError(
                f"method {each.name!r} does not mix the labels of pixels that {type(model).__name__} learns from: "
                f"use one of {names}"
            )
