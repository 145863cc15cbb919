"""The masks of instances or segments, with their classes: united, or cut and pasted as the pixels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hf_mixup.methods.base import Draw, Method

Instances = dict[str, Tensor]
"""`masks` [N, H, W] and `class_labels` [N] of a sample; mixed, also `weights` [N], float32."""


def mixed_instances(method: Any, draw: Draw, labels: Sequence[Instances]) -> list[Instances]:
    """Return the masks of each mixed image, with their classes and weights.

    Where images are blended, the masks of both samples, weighing lam and 1 - lam. Where they are cut, what is seen of
    each mask, weighing the share of its pixels that is left, without those of which nothing is: one wait for the
    device. A sample with lam = 1 keeps its own.

    >>> one, two = ({"masks": torch.ones(1, 2, 2), "class_labels": torch.tensor([label])} for label in (3, 5))
    >>> from hf_mixup.methods import InputMixup
    >>> draw = Draw("mixup", torch.tensor([1, 0]), torch.tensor([0.25, 1.0]))
    >>> [each["weights"].tolist() for each in mixed_instances(InputMixup(), draw, [one, two])]
    [[0.25, 0.75], [1.0]]
    """
    partners, lams = draw.partner.tolist(), draw.lam.tolist()
    device, (height, width) = labels[0]["masks"].device, labels[0]["masks"].shape[-2:]
    placed = draw.to(device)
    places = torch.arange(len(labels) * height * width, device=device).reshape(-1, height, width)
    own, origin = method.label_lam(places, placed), method.other_labels(places, placed)
    if own.dim() == 1 and type(method).other_labels is Method.other_labels:
        return [
            united_instances(labels[row], labels[other], 1.0 if other == row else lam)
            for row, (other, lam) in enumerate(zip(partners, lams))
        ]
    parts = method.pixel_parts(places, placed).expand_as(places)
    if own.dim() > 1:  # else the other labels are all that there is
        origin = torch.where(own.bool(), places, origin)
    origin = origin % (height * width)
    others = list(zip(partners, *(rows.tolist() for rows, _ in method.further_rows(draw))))
    alone = [lam == 1 or set(each) == {row} for row, (lam, each) in enumerate(zip(lams, others))]
    mixed = [
        united_instances(labels[row], labels[row], 1.0)
        if alone[row]
        else _seen([labels[each] for each in (row, *others[row])], parts[row], origin[row])
        for row in range(len(labels))
    ]
    return _without_empty(mixed, alone)


def united_instances(own: Mapping[str, Tensor], other: Mapping[str, Tensor], lam: float) -> Instances:
    """Return the masks of two samples with weights lam and 1 - lam; at the ends those of one alone."""
    parts = [(each, share) for each, share in ((own, lam), (other, 1 - lam)) if share > 0]
    return _joined([{**each, "weights": _weights(each["masks"], share)} for each, share in parts])


def _weights(masks: Tensor, share: float) -> Tensor:
    return torch.full((len(masks),), share, device=masks.device)


def _joined(parts: Sequence[Instances]) -> Instances:
    return {key: torch.cat([part[key] for part in parts]) for key in ("masks", "class_labels", "weights")}


def _seen(sources: Sequence[Instances], parts: Tensor, origin: Tensor) -> Instances:
    """Return what an image shows of the masks of its sources.

    Args:
        parts: which source each pixel is of, long [H, W].
        origin: which pixel of its source, long [H, W].
    """
    seen = []
    for part, source in enumerate(sources):
        whole = source["masks"]
        shown = whole.flatten(1)[:, origin.flatten()].reshape(whole.shape) * (parts == part)
        left, of = (each.flatten(1).sum(1, dtype=torch.float32) for each in (shown, whole))
        seen.append({**source, "masks": shown, "weights": (left / of.clamp(min=1)).clamp(max=1)})
    return _joined(seen)


def _without_empty(mixed: Sequence[Instances], alone: Sequence[bool]) -> list[Instances]:
    """Return the labels without masks that show nothing; those of a sample that is as it was keep all."""
    shows = [each["masks"].flatten(1).any(1) | whole for each, whole in zip(mixed, alone)]
    kept = torch.cat(shows).cpu().split([len(each) for each in shows])  # the one wait for the device
    return [
        {key: value[which.nonzero()[:, 0].to(value.device)] for key, value in each.items()}
        for each, which in zip(mixed, kept)
    ]
