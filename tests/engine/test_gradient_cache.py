"""Cached gradients: a batch of pairs in chunks is the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.engine.test_invariants import assert_same, weights
from tests.entry_points import ENTRY_POINTS
from tests.methods.pairs import PARTNER, mixup_of, operator, symmetric_loss
from tests.settings import PAIR_CASES


@pytest.mark.parametrize("chunk", [2, 4, 7])
@pytest.mark.parametrize(("method", "extra"), PAIR_CASES)
def test_cached_gradients_are_those_of_the_whole_batch(method: str, extra: dict[str, Any], chunk: int) -> None:
    batch, ends = batch_of("clip", rows=7), []
    for size in (None, chunk):
        model = build("clip")
        with mixup_of(method, chunk_size=size, **extra)(model, batch) as mixed:
            outputs = mixed.forward(model)
        loss = mixed.loss(outputs)
        (loss / 3).backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        ends.append((loss.detach(), grads, mixed.partner, mixed.lam, mixed.targets))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("text_mix", ["late", "aligned"])
def test_cached_gradients_repeat_dropout(text_mix: str) -> None:
    """Against chunks whose graphs are all kept: the second pass has to draw what the first drew."""
    batch, grads = batch_of("clip", rows=6), []
    for cached in (True, False):
        torch.manual_seed(5)
        model = build("clip", dropout=0.3)
        torch.manual_seed(7)
        mixup = mixup_of("cross_modal", text_mix=text_mix, chunk_size=3)
        with mixup(model, batch, partner=PARTNER, lam=0.6) as mixed:
            if cached:
                mixed.loss(mixed.forward(model)).backward()
            else:
                keep_graphs(mixed, model, text_mix)
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=2e-5)


def keep_graphs(mixed: Any, model: Any, text_mix: str) -> None:
    """Do what a cached pass does, with a graph all along."""
    from hf_mixup.engine.gradient_cache import CachedPass
    from hf_mixup.engine.similarity_head import Head

    state = torch.get_rng_state()
    whole = CachedPass(model, model, mixed.inputs, mixed.draw, 3, Head(model))
    torch.set_rng_state(state)
    parts = [whole._encode(chunk) for chunk in whole._chunks]
    embeds = [torch.cat(side) for side in zip(*parts)]
    lam, partner = mixed.lam, mixed.partner
    if text_mix == "late":
        embeds[1] = lam[:, None] * embeds[1] + (1 - lam[:, None]) * embeds[1][partner]
    image, text = (F.normalize(each, dim=-1) for each in embeds)
    mix = operator(partner, lam)
    symmetric_loss(model.logit_scale.exp() * image @ text.T, mix @ mix.T).float().backward()


def test_cached_gradients_take_the_memory_of_a_chunk() -> None:
    """Before the backward pass hardly a number is kept; it then keeps those of one chunk at a time."""
    model, batch = build("clip"), batch_of("clip", rows=32)
    peaks = {}
    for size in (None, 4):
        kept: list[int] = []

        def count(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            with mixup_of("cross_modal", chunk_size=size)(model, batch) as mixed:
                outputs = mixed.forward(model)
            mixed.loss(outputs)
        peaks[size] = sum(kept)
    assert peaks[4] < peaks[None] / 8


def test_batch_normalisation_cannot_be_cached() -> None:
    from tests import pair_models

    model = pair_models.build("AlignModel").train()
    mixup = Mixup({"method": "cross_modal", "chunk_size": 2, "label_smoothing": 0.1})  # as ALIGN smooths itself
    refused = pytest.raises(ValueError, match=r"AlignModel normalises over the batch")
    with mixup(model, pair_models.batch(model)) as mixed, refused:
        mixed.forward(model)


def test_chunks_need_an_entry_point_that_can_run_them(arguments: Any) -> None:
    for entry_point in ("collator", "callback"):
        config, data = MixupConfig("cross_modal", chunk_size=2), examples("clip", 8)
        with pytest.raises(ValueError, match="chunk_size needs MixupTrainer"):
            ENTRY_POINTS[entry_point](build("clip"), arguments(), config, train_dataset=data).train()


def test_accumulated_and_chunked_training_through_the_trainer(arguments: Any) -> None:
    ends = []
    for chunk_size in (None, 4):
        model = build("clip")
        args = arguments(per_device_train_batch_size=12, gradient_accumulation_steps=2, max_steps=2, optim="sgd")
        config = MixupConfig("cross_modal", chunk_size=chunk_size)
        MixupTrainer(model, args, mixup=config, train_dataset=examples("clip", 48)).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0], rtol=1e-4, atol=1e-5)
