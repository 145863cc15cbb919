"""An attack sample by sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**{key: value for key, value in batch.items() if key != "labels"}).logits


def logits_at(model: nn.Module, batch: dict[str, Tensor], moved: Tensor) -> Tensor:
    """Return the logits at moved pixels, or at moved embeddings of the tokens."""
    if "pixel_values" in batch:
        return model(pixel_values=moved).logits
    return model(inputs_embeds=moved, attention_mask=batch["attention_mask"]).logits


def start_of(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return what is moved, and where it may be."""
    if "pixel_values" in batch:
        return batch["pixel_values"], torch.ones_like(batch["pixel_values"])
    embeds = model.get_input_embeddings()(batch["input_ids"]).detach()
    return embeds, batch["attention_mask"][..., None].expand_as(embeds).to(embeds.dtype)


def climb(model: Any, batch: dict[str, Tensor], attack: str, eps: float, steps: int, size: float, seed: int) -> Any:
    """Attack sample by sample, in a way of its own; return the points after each step, [steps + 1, B, ...]."""
    x, allowed = start_of(model, batch)
    rng = torch.Generator().manual_seed(seed)
    long = attack in ("fgm", "pgd_l2", "freelb")
    shift = torch.zeros_like(x)
    if attack in ("pgd_l2", "freelb"):
        noise = torch.randn(x.shape, generator=rng) * allowed
        radius = torch.rand(len(x), *[1] * (x.dim() - 1), generator=rng)
        for row in range(len(x)):
            shift[row] = eps * radius[row] ** (1 / allowed[row].sum()) * noise[row] / noise[row].square().sum().sqrt()
    elif attack == "pgd":
        shift = eps * (2 * torch.rand(x.shape, generator=rng) - 1) * allowed
    path = [x + shift]
    for _ in range(steps):
        following = []
        for row in range(len(x)):
            one = {key: value[row : row + 1] for key, value in batch.items()}
            point = path[-1][row : row + 1].clone().requires_grad_()
            F.cross_entropy(logits_at(model, one, point), one["labels"]).backward()
            gradient = point.grad[0] * allowed[row]
            moved = path[-1][row] + size * (gradient / gradient.square().sum().sqrt() if long else gradient.sign())
            away = moved - x[row]
            if long:
                away = away * min(1.0, eps / float(away.square().sum().sqrt()))
            else:
                away = away.clamp(-eps, eps)
            following.append(x[row] + away)
        path.append(torch.stack(following))
    model.zero_grad()
    return torch.stack(path)
