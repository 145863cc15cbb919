"""Span CutMix: the same positions exchanged, token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import BertConfig, BertForTokenClassification

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods.span_cut import same_places
from hf_mixup.utils.constants import IGNORE_INDEX
from tests.conftest import batch_of
from tests.methods.texts import BERT, TOKENIZER, classifier, mixed_texts, texts, words_of

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, lam=st.floats(0, 1), seed=st.integers(0, 99), left=st.booleans(), pairs=st.booleans())
def test_span_cut_by_hand(counts: list[int], lam: float, seed: int, left: bool, pairs: bool) -> None:
    batch = texts(counts, left, seed, pairs)
    config = MixupConfig("span_cut", lam_per="sample", draw_seed=seed, self_check=False)
    mixed = mixed_texts(config, batch, lam=lam)
    for row, other in enumerate(mixed.partner.tolist()):
        own, common = words_of(batch, row), sorted(set(words_of(batch, row)) & set(words_of(batch, other)))
        wanted = round((1 - float(torch.tensor(lam))) * len(own))  # halves to even, as torch does
        cut = [t for t in range(batch["input_ids"].shape[1]) if mixed.draw.positions[row, t] >= 0]
        if torch.tensor(lam) == 0:  # the partner in full
            assert mixed.lam[row] == 0
            assert all(torch.equal(mixed.inputs[name][row], batch[name][other]) for name in batch if name != "labels")
            continue
        assert len(cut) == min(wanted, len(common))
        assert not cut or common[common.index(cut[0]) :][: len(cut)] == cut  # one span of the positions both have
        assert mixed.draw.positions[row, cut].tolist() == cut
        assert mixed.lam[row] == torch.tensor(1 - len(cut) / max(len(own), 1))
        for name in ("input_ids", "token_type_ids"):
            for t in range(batch["input_ids"].shape[1]):
                assert mixed.inputs[name][row, t] == batch[name][other if t in cut else row, t]
    assert torch.tensor(lam) == 0 or torch.equal(mixed.inputs["attention_mask"], batch["attention_mask"])


def test_every_start_of_a_span_is_as_likely() -> None:
    batch, found = texts([6, 6]), torch.zeros(5)
    mixup, model = Mixup(MixupConfig("span_cut", lam=2 / 3), tokenizer=TOKENIZER), classifier()
    for _ in range(1000):
        draw = mixup.draw(model, batch, torch.tensor([0, 1]))
        found[int((draw.positions[0] >= 0).int().argmax()) - 1] += 1
    assert found.sum() == 1000
    assert (found - 200).abs().max() < 60  # more than four standard deviations


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
def test_samples_that_share_lam_share_the_span(lam_per: str) -> None:
    batch = texts([20] * 8)
    mixed = mixed_texts(MixupConfig("span_cut", lam_per=lam_per, alpha=4.0), batch)
    spans = {tuple(row.tolist()) for row in mixed.draw.positions}
    paired = {tuple(sorted((row, other))) for row, other in enumerate(mixed.partner.tolist())}
    if lam_per == "pair":
        for one, other in paired:
            assert torch.equal(mixed.draw.positions[one], mixed.draw.positions[other])
    assert len(spans) == 1 if lam_per == "batch" else len(spans) > 2


def test_the_coin_leaves_samples_alone() -> None:
    batch = texts([9] * 30)
    config = MixupConfig("span_cut", lam=0.5, prob=0.5, prob_per="sample", lam_per="sample")
    mixed = mixed_texts(config, batch)
    alone = mixed.lam == 1
    assert 5 < alone.sum() < 25
    assert mixed.rate == pytest.approx(1 - float(alone.float().mean()))
    assert torch.equal(mixed.inputs["input_ids"][alone], batch["input_ids"][alone])
    assert (mixed.draw.positions[alone] == -1).all()
    assert (mixed.draw.positions[~alone] >= 0).sum(-1).unique().tolist() == [4]  # 4.5, half to even


def test_loss_of_sample_labels_is_weighted_by_the_true_share() -> None:
    model, batch = classifier(), texts([5, 3, 8, 2, 7])
    labels = torch.tensor([0, 1, 2, 3, 1])
    with Mixup("span_cut", tokenizer=TOKENIZER)(model, {**batch, "labels": labels}, lam=0.4) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    logits, expected = model(**mixed.inputs).logits.double(), torch.zeros((), dtype=torch.float64)
    for row, other in enumerate(mixed.partner.tolist()):
        swapped = len([t for t in words_of(batch, row) if mixed.draw.positions[row, t] >= 0])
        share = 1 - swapped / len(words_of(batch, row))
        scores = logits[row].log_softmax(-1)
        expected -= (share * scores[labels[row]] + (1 - share) * scores[labels[other]]) / len(labels)
    assert mixed.rate > 0
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("left", [False, True])
def test_labels_of_tokens_go_with_their_tokens(left: bool) -> None:
    model, batch = classifier(BERT, BertForTokenClassification), texts([6, 3, 9, 5, 8], left)
    torch.manual_seed(1)
    labels = torch.randint(0, 4, batch["input_ids"].shape)
    for row in range(5):
        silent = set(range(labels.shape[1])) - set(words_of(batch, row))
        labels[row, sorted(silent)] = IGNORE_INDEX
        labels[row, words_of(batch, row)[-1]] = IGNORE_INDEX  # a later piece of a word
    with Mixup("span_cut", tokenizer=TOKENIZER)(model, {**batch, "labels": labels}, lam=0.3) as mixed:
        outputs = model(**mixed.inputs)
        found = mixed.loss(outputs)
    total, hits, mass = torch.zeros((), dtype=torch.float64), 0, 0
    logits, exchanged = outputs.logits.double(), 0
    for row, other in enumerate(mixed.partner.tolist()):
        for t in range(labels.shape[1]):
            cut = bool(mixed.draw.positions[row, t] >= 0)
            label = int(labels[other if cut else row, t])
            exchanged += cut
            expected = torch.zeros(4)
            if label != IGNORE_INDEX:
                total -= logits[row, t].log_softmax(-1)[label]
                expected[label] = 1
                hits, mass = hits + int(logits[row, t].argmax() == label), mass + 1
            torch.testing.assert_close(mixed.targets[row, t], expected)
    assert exchanged > 5
    torch.testing.assert_close(found.double(), total / (labels != IGNORE_INDEX).sum(), rtol=1e-5, atol=1e-6)
    assert float(mixed.accuracy()) == pytest.approx(hits / mass)


def test_other_kinds_of_labels() -> None:
    batch = texts([5, 3, 8])
    for kind, labels in (("regression", torch.rand(3)), ("multi_label_classification", torch.rand(3, 4).round())):
        config = BertConfig(**{**BERT.to_dict(), "num_labels": 1 if kind == "regression" else 4, "problem_type": None})
        model = classifier(config)
        for name in ("span_cut", "ssmix"):
            with Mixup(name, tokenizer=TOKENIZER)(model, {**batch, "labels": labels}, lam=0.5) as mixed:
                outputs = model(**mixed.inputs)
                found = mixed.loss(outputs)
            share = mixed.lam if labels.dim() == 1 else mixed.lam[:, None]
            targets = share * labels + (1 - share) * labels[mixed.partner]
            score = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
            *clean, scores = outputs.logits.split(3)
            expected = score(scores.reshape(targets.shape), targets)
            if clean:
                expected = (expected + score(clean[0].reshape(labels.shape), labels)) / 2
            torch.testing.assert_close(found, expected)


def test_same_places_steps_over_what_is_not_common() -> None:
    common = batch_of("bert", 5)["input_ids"] % 3 > 0
    for row, start in ((0, 0), (1, 1), (2, 2)):
        places = common[row].nonzero().flatten().tolist()
        found = same_places(common[row : row + 1], torch.tensor([start]), torch.tensor([3]))[0]
        assert found[found >= 0].tolist() == places[start : start + 3]
