"""SSMix: the most salient span of the partner into the least salient one, by trying all."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertForTokenClassification

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods.ssmix import salient_places
from hf_mixup.models.saliency import token_saliency
from tests.conftest import build
from tests.methods.texts import ARCHITECTURES, BERT, TOKENIZER, classifier, inputs_of, mixed_texts, texts, words_of


def test_ssmix_refuses_labels_of_tokens() -> None:
    batch = texts([5, 3])
    labels = torch.zeros_like(batch["input_ids"])
    with pytest.raises(ValueError, match=r"takes one label a row, found \[2, 9\]: .*'span_cut'"):
        Mixup("ssmix")(classifier(BERT, BertForTokenClassification), {**batch, "labels": labels})


def test_ssmix_refuses_a_model_without_a_table_of_words() -> None:
    class Hashed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(60, 8), nn.Linear(8, 4)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.head(self.table((input_ids * 7 + 1) % 60).mean(1))

    batch = {"input_ids": torch.randint(0, 60, (3, 6)), "labels": torch.tensor([0, 1, 2])}
    with pytest.raises(ValueError, match=r"Hashed has no table that reads input_ids as they are.*'span_cut'"):
        Mixup(MixupConfig("ssmix", self_check=False))(Hashed(), batch)


def best_span(scores: list[float], length: int) -> int:
    """Return where the span with the largest sum begins, trying all."""
    sums = [sum(scores[start : start + length]) for start in range(len(scores) - length + 1)]
    return sums.index(max(sums))


def places_by_hand(saliency: Tensor, words: list[list[int]], partner: list[int], lam: list[float]) -> Tensor:
    places = torch.full(saliency.shape, -1)
    values = saliency.double().tolist()
    for row, other in enumerate(partner):
        mine, theirs = words[row], words[other]
        # As the published code cuts the length of a window, of a lam with few digits.
        whole = int((1 - Fraction(lam[row]).limit_denominator(1000)) * len(mine))
        length = min(max(1, whole), len(mine), len(theirs)) if lam[row] < 1 else 0
        if not length:
            continue
        own = best_span([-values[row][t] for t in mine], length)
        best = best_span([values[other][t] for t in theirs], length)
        for turn in range(length):
            places[row, mine[own + turn]] = theirs[best + turn]
    return places


@settings(max_examples=100, deadline=None)
@given(data=st.data(), rows=st.integers(1, 5), length=st.integers(1, 9), seed=st.integers(0, 999))
def test_salient_places_by_trying_all(data: Any, rows: int, length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    saliency = torch.rand(rows, length, generator=generator)
    tokens = torch.rand(rows, length, generator=generator) < 0.7
    partner = torch.randint(0, rows, (rows,), generator=generator)
    lam = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.62, 0.9, 1.0]), min_size=rows, max_size=rows))
    words = [[t for t in range(length) if tokens[row, t]] for row in range(rows)]
    shares = torch.tensor(lam)
    expected = places_by_hand(saliency, words, partner.tolist(), shares.tolist())
    assert torch.equal(salient_places(saliency, tokens, partner, shares), expected)


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart"])
def test_ssmix_by_hand(name: str) -> None:
    model, batch, labels = classifier(*ARCHITECTURES[name]()), inputs_of(name), torch.tensor([0, 1, 2, 3])
    lam = torch.tensor([0.9, 0.5, 0.3, 1.0])
    with Mixup("ssmix", tokenizer=TOKENIZER)(model, {**batch, "labels": labels}, lam=lam) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    saliency = token_saliency(model, batch, labels)
    words = [words_of(batch, row) for row in range(4)]
    partner = mixed.partner.tolist()
    places = places_by_hand(saliency, words, partner, lam.tolist())
    assert torch.equal(mixed.draw.positions, places)
    ids, shares = batch["input_ids"].clone(), []
    for row, other in enumerate(partner):
        for t in range(ids.shape[1]):
            if places[row, t] >= 0:
                ids[row, t] = batch["input_ids"][other, places[row, t]]
        shares.append(1 - int((places[row] >= 0).sum()) / len(words[row]))
    assert torch.equal(mixed.inputs["input_ids"], torch.cat([batch["input_ids"], ids]))
    assert mixed.lam.tolist() == pytest.approx(shares, abs=1e-7)
    logits, expected = model(**{**batch, "input_ids": ids}).logits.double(), torch.zeros((), dtype=torch.float64)
    clean = model(**batch).logits.double()
    for row, other in enumerate(partner):
        scores = logits[row].log_softmax(-1)
        mix = shares[row] * scores[labels[row]] + (1 - shares[row]) * scores[labels[other]]
        expected -= (mix + clean[row].log_softmax(-1)[labels[row]]) / 2 / 4  # half of the loss is the clean samples'
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_ssmix_mixes_each_sentence_of_a_pair_with_its_like() -> None:
    model, batch, labels = classifier(), texts([9, 6, 12, 3, 0], pairs=True), torch.tensor([0, 1, 2, 3, 0])
    mixed = mixed_texts(MixupConfig("ssmix", lam_per="sample"), {**batch, "labels": labels}, model, lam=0.6)
    types, saliency = batch["token_type_ids"], token_saliency(model, batch, labels)
    partner = mixed.partner.tolist()
    expected = torch.full_like(types, -1)
    for sentence in (0, 1):
        words = [[t for t in words_of(batch, row) if types[row, t] == sentence] for row in range(5)]
        places = places_by_hand(saliency, words, partner, [float(torch.tensor(0.6))] * 5)
        expected = torch.where(places >= 0, places, expected)
    assert torch.equal(mixed.draw.positions, expected)
    assert torch.equal(mixed.inputs["token_type_ids"], torch.cat([types, types]))
    counts = torch.tensor([len(words_of(batch, row)) for row in range(5)])
    torch.testing.assert_close(mixed.lam, 1 - (expected >= 0).sum(-1) / counts.clamp(min=1))


def test_ssmix_leaves_samples_that_have_no_other_partner() -> None:
    batch = texts([7, 5, 6])
    mixed = mixed_texts("ssmix", batch, lam=0.5, partner=torch.tensor([1, 1, 0]))
    assert (mixed.lam < 1).tolist() == [True, False, True]
    assert torch.equal(mixed.inputs["input_ids"][3 + 1], batch["input_ids"][1])


def published_window(length: int, share: float) -> int:
    """Return how many of so many tokens (without the two ends) the authors' code exchanges, at 10 percent or so."""
    return max(int(length * (100 * share / 100.0)), 1)


@pytest.mark.parametrize("percent", [5, 10, 20, 50])
def test_ssmix_exchanges_as_many_tokens_as_the_published_code(percent: int) -> None:
    counts = [1, 4, 9, 10, 19, 20, 25]
    mixed = mixed_texts(MixupConfig("ssmix", lam=1 - percent / 100), texts(counts), partner=torch.full((7,), 6))
    exchanged = (mixed.draw.positions >= 0).sum(-1).tolist()
    assert exchanged[:-1] == [published_window(count, percent / 100) for count in counts[:-1]]
    assert exchanged[-1] == 0  # a sample that is its own partner


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, None])
@pytest.mark.parametrize("rows", [1, 4, 5])
def test_the_clean_samples_have_their_share_of_the_loss(weight: float | None, rows: int) -> None:
    model, batch, labels = classifier(), texts([5, 3, 8, 2, 6][:rows]), torch.arange(rows) % 4
    lam = torch.tensor([1.0, 0.5, 0.8, 0.1, 0.6][:rows])
    with Mixup(MixupConfig("ssmix", clean_weight=weight), tokenizer=TOKENIZER)(
        model, {**batch, "labels": labels}, lam=lam
    ) as mixed:
        outputs = model(**mixed.inputs)
        found = mixed.loss(outputs)
    share = 0.5 if weight is None else weight
    assert len(outputs.logits) == (2 * rows if share and rows > 1 else rows)
    behind = {key: value[-rows:] for key, value in mixed.inputs.items()}
    scores, clean = model(**behind).logits.double(), model(**batch).logits.double()
    both = [F.cross_entropy(scores, each, reduction="none") for each in (labels, labels[mixed.partner])]
    own = mixed.lam.double()
    expected = (1 - share) * (own * both[0] + (1 - own) * both[1]) + share * F.cross_entropy(
        clean, labels, reduction="none"
    )
    torch.testing.assert_close(found.double(), expected.mean(), rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # the sample that is left alone has its plain loss
        torch.testing.assert_close(expected[0], F.cross_entropy(clean, labels, reduction="none")[0])
    assert 0 <= mixed.rate < 1
    assert rows == 1 or 0 <= float(mixed.accuracy()) <= 1


def test_ssmix_leaves_no_trace() -> None:
    model, batch = build("bert").train(), texts([5, 3, 8, 2])
    model.norm = nn.BatchNorm1d(16)
    model.bert.pooler.register_forward_hook(lambda module, args, output: model.norm(output))
    model.bert.embeddings.requires_grad_(False)
    model.dropout.p = 0.5
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    model.bert.encoder.layer[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, hooks = [m.training for m in model.modules()], [len(m._forward_hooks) for m in model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    request = {**batch, "labels": torch.tensor([0, 1, 2, 3])}
    mixed = Mixup("ssmix")(model, request, lam=0.7)
    again = Mixup("ssmix")(model, request, lam=0.7)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for parameter in model.parameters():
        assert parameter.grad is None or (parameter.grad == 1).all()
    assert (mixed.draw.positions >= 0).any()
    assert torch.equal(mixed.draw.positions, again.draw.positions)  # drawn from the key, saliency from model and batch


def test_a_mixed_batch_costs_two_passes_and_another_one() -> None:
    model, batch = build("bert"), {**texts([5, 3, 8, 2]), "labels": torch.tensor([0, 1, 2, 3])}
    mixup = Mixup(MixupConfig("ssmix", prob=0.5, self_check=False))
    mixup(model, batch)  # finds the first block
    calls = 0

    def count(module: nn.Module, args: Any) -> None:
        nonlocal calls
        calls += 1

    model.bert.encoder.layer[0].register_forward_pre_hook(count)
    expected, kinds = 0, set()
    for _ in range(12):
        with mixup(model, batch) as mixed:
            mixed.loss(model(**mixed.inputs))
        kinds.add(mixed.rate > 0)
        expected += 2 if mixed.rate else 1
    assert calls == expected
    assert kinds == {True, False}


def gradients(model: Any, loss: Tensor) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True))


@pytest.mark.parametrize("how", ["autocast", "checkpointing", "frozen"])
def test_ssmix_is_the_plain_step_on_the_mixed_samples(how: str) -> None:
    model, batch = build("bert").train(), texts([5, 3, 8, 2])
    if how == "checkpointing":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if how == "frozen":
        model.get_input_embeddings().requires_grad_(False)
    labels = torch.tensor([0, 1, 2, 3])
    low = torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast")
    with low, Mixup("ssmix")(model, {**batch, "labels": labels}, lam=0.6) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    with low:
        logits = model(**mixed.inputs).logits.float()
    share, (clean, logits) = mixed.lam, logits.chunk(2)
    losses = [F.cross_entropy(logits, each, reduction="none") for each in (labels, labels[mixed.partner])]
    expected = (share * losses[0] + (1 - share) * losses[1]).mean() / 2 + F.cross_entropy(clean, labels) / 2
    assert mixed.rate > 0
    torch.testing.assert_close(found, expected)
    for one, other in zip(gradients(model, found), gradients(model, expected), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_ssmix_under_peft_takes_the_spans_of_the_model_itself() -> None:
    peft = pytest.importorskip("peft")
    batch = {**texts([5, 3, 8, 2]), "labels": torch.tensor([0, 1, 2, 3])}
    plain = mixed_texts("ssmix", batch, build("bert"), lam=0.7)
    adapted = peft.get_peft_model(build("bert"), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2))
    adapted.enable_input_require_grads()
    mixed = mixed_texts("ssmix", batch, adapted, lam=0.7)
    assert torch.equal(mixed.draw.positions, plain.draw.positions)  # a fresh adapter changes nothing
