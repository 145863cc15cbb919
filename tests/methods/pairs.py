"""Image-text pairs: projections, losses and targets by hand."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPModel

from hf_mixup import Mixup

PARTNER = torch.tensor([3, 4, 5, 0, 2, 1])


class Tokenizer:
    """The little that joining captions asks of a tokenizer."""

    all_special_ids, pad_token_id, eos_token_id = [0, 58, 59], 0, 59


def mixup_of(method: str, **extra: Any) -> Mixup:
    return Mixup({"method": method, **extra}, tokenizer=Tokenizer())


def projections(model: CLIPModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    image = model.get_image_features(batch["pixel_values"]).pooler_output
    text = model.get_text_features(batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
    return image, text


def symmetric_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy in float64, each direction with its own sums."""
    logits, targets, total = logits.double(), targets.double(), torch.zeros((), dtype=torch.float64)
    for scores, wanted in ((logits, targets), (logits.T, targets.T)):
        for row, target in zip(scores, wanted):
            total = total - (target / target.sum() * row.log_softmax(-1)).sum() / (2 * len(logits))
    return total


def blended(values: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    share = lam.reshape(-1, *(1,) * (values.dim() - 1))
    return share * values + (1 - share) * values[PARTNER]


def operator(partner: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    return torch.diag(lam) + torch.diag(1 - lam) @ torch.eye(len(lam))[partner]


def published_geodesic(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of the authors' code: shares are not divided by their sum."""
    directions = [-(q * s.double().log_softmax(-1)).sum(1) for q, s in ((targets, logits), (targets.T, logits.T))]
    return ((directions[0] + directions[1]) / 2).mean()
