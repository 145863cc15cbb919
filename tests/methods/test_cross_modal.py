"""Mixup of images and captions together, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPModel

from tests.conftest import batch_of, build
from tests.methods.pairs import PARTNER, blended, mixup_of, operator, projections, symmetric_loss


@pytest.mark.parametrize("image_mix", ["blend", "latent"])
def test_cross_modal_by_hand(image_mix: str) -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("cross_modal", image_mix=image_mix)(model, batch, partner=PARTNER, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = projections(model, batch)
    if image_mix == "latent":
        image = blended(image, lam)
    else:
        pixels = blended(batch["pixel_values"], lam)
        image = projections(model, {**batch, "pixel_values": pixels})[0]
    text = blended(text, lam)
    logits = model.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    mix = operator(PARTNER, lam)
    torch.testing.assert_close(loss.double(), symmetric_loss(logits, mix @ mix.T), rtol=1e-5, atol=1e-5)
    q = mix @ mix.T
    torch.testing.assert_close(mixed.targets, q / q.sum(-1, keepdim=True))


def hidden_states(model: CLIPModel, embeds: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Run one caption's embeddings [T, D] through the text encoder under an additive mask [T, T]."""
    text = model.text_model
    return text.final_layer_norm(text.encoder(embeds[None], added[None, None]).last_hidden_state)[0]


@pytest.mark.parametrize("text_mix", ["two_eot", "aligned"])
def test_tokens_by_hand(text_mix: str) -> None:
    """Position by position, one sample at a time."""
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    mixup = mixup_of("one_sided", side="text", text_mix=text_mix)
    with mixup(model, batch, partner=PARTNER, lam=lam) as mixed:
        found = mixed.forward(model).text_embeds
    lowest, length = torch.finfo(torch.float32).min, 10
    for row in range(6):
        share, other = float(lam[row]), int(PARTNER[row])
        ends = [int((batch["input_ids"][each] == 59).nonzero()[0]) for each in (row, other)]
        tokens = [model.text_model.embeddings(batch["input_ids"][each][None])[0] for each in (row, other)]
        shifts = [max(ends) - end if text_mix == "aligned" else 0 for end in ends]
        embeds, added = torch.zeros(length, 16), torch.full((length, length), lowest)
        for place in range(length):
            here = [shift <= place <= end + shift for shift, end in zip(shifts, ends)]
            weights = [weight * is_here for weight, is_here in zip((share, 1 - share), here)]
            mass = sum(weights)
            if not any(here):
                continue
            for weight, shift, each, is_here in zip(weights, shifts, tokens, here):
                if is_here:
                    embeds[place] += weight / mass * each[place - shift]
            added[place:, place] = float(np.log(mass)) if text_mix == "aligned" else 0.0
        hidden = hidden_states(model, embeds, added)
        pooled = hidden[max(ends)]
        if text_mix == "two_eot":
            pooled = share * hidden[ends[0]] + (1 - share) * hidden[ends[1]]
        expected = F.normalize(model.text_projection(pooled), dim=-1)
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)
