"""Methods that blend single vectors of a row: `sentence`, `intra` and `sftmix`, against the same by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DebertaV2Config,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    XLNetConfig,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional import pair_by_confidence, token_losses
from hf_mixup.methods.intra import shuffled
from hf_mixup.methods.sftmix import side_by_side
from hf_mixup.utils.constants import IGNORE_INDEX
from tests.conftest import batch_of, build

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS: list[PreTrainedConfig] = [
    BertConfig(vocab_size=40, max_position_embeddings=16, num_labels=5, **SIZES),
    DebertaV2Config(vocab_size=40, max_position_embeddings=16, num_labels=5, **SIZES),
    XLNetConfig(vocab_size=40, d_model=16, n_layer=2, n_head=2, d_inner=32, num_labels=5),  # rows on the second axis
]


def lively(model: Any) -> Any:
    """Make weights so large that rows score apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return model.double().eval()


def tagger(config: PreTrainedConfig = CONFIGS[0]) -> Any:
    torch.manual_seed(0)
    return lively(AutoModelForTokenClassification.from_config(config))


def tagged(rows: int = 4, length: int = 9) -> dict[str, Tensor]:
    """Make rows of different length; the ends and some tokens in between have no label."""
    torch.manual_seed(1)
    ids, mask = torch.randint(5, 40, (rows, length)), torch.ones(rows, length, dtype=torch.long)
    labels = torch.randint(0, 5, (rows, length))
    for row in range(rows):
        end = length - 2 * row
        mask[row, end:] = 0
        labels[row, [0, *range(end - 1, length)]] = IGNORE_INDEX
    labels[0, 3] = IGNORE_INDEX
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# sentence


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_sentence_is_a_blend_before_the_last_layer(name: str) -> None:
    model, batch = build(name).double().eval(), batch_of(name)
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    partner, lam = torch.tensor([2, 0, 1, 5, 3, 4]), torch.tensor([0.3, 1.0, 0.0, 0.6, 0.5, 0.9])
    with Mixup("sentence")(model, batch, partner=partner, lam=lam) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    def blend(module: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        share = lam.double()[:, None]
        return share * args[0] + (1 - share) * args[0][partner]

    handle = model.classifier.register_forward_pre_hook(blend)
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    handle.remove()
    labels = batch["labels"]
    pairs = (lam * F.cross_entropy(logits, labels, reduction="none"), (1 - lam) * F.cross_entropy(
        logits, labels[partner], reduction="none"))  # fmt: skip
    expected = sum(pairs).mean()
    torch.testing.assert_close(loss, expected)
    for one, other in zip(found, torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)
    mass = mixed.accuracy()
    hits = logits.argmax(-1)
    assert mass == pytest.approx(float((lam * (hits == labels) + (1 - lam) * (hits == labels[partner])).mean()))


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_sentence_blends_other_targets_too(kind: str) -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, num_labels=1 if kind == "regression" else 3, **SIZES)
    model, batch = BertForSequenceClassification(config).eval(), batch_of("bert")
    batch["labels"] = torch.rand(6) if kind == "regression" else torch.rand(6, 3).round()
    with Mixup("sentence")(model, batch, lam=0.3) as mixed:
        outputs = model(**mixed.inputs)
    logits = 0.3 * outputs.logits + 0.7 * outputs.logits[mixed.partner]
    target = 0.3 * batch["labels"] + 0.7 * batch["labels"][mixed.partner]
    expected = (
        F.mse_loss(logits[:, 0], target) if kind == "regression" else F.binary_cross_entropy_with_logits(logits, target)
    )
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_sentence_refuses_labels_of_tokens() -> None:
    with pytest.raises(ValueError, match=r"one vector a row, found labels \[4, 9\].*use 'embedding'"):
        Mixup("sentence")(tagger(), tagged())


# intra


def shuffle_by_hand(states: Tensor, places: Tensor, lam: Tensor) -> Tensor:
    """Blend each state [B, T, H] with that of the place named, one at a time."""
    out = states.clone()
    for row in range(len(states)):
        for place in range(states.shape[1]):
            if places[row, place] >= 0:
                out[row, place] = lam[row] * states[row, place] + (1 - lam[row]) * states[row, places[row, place]]
    return out


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_intra_is_a_shuffle_of_the_last_states(config: PreTrainedConfig) -> None:
    model, batch = tagger(config), tagged()
    lam = torch.tensor([0.3, 0.0, 0.8, 1.0])
    with Mixup("intra")(model, batch, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    places = mixed.draw.positions
    assert places is not None
    seen: list[Tensor] = []
    handle = model.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(batch["input_ids"], attention_mask=batch["attention_mask"])
    handle.remove()
    logits = model.classifier(shuffle_by_hand(seen[0], places, lam.double()))
    torch.testing.assert_close(outputs.logits, logits)
    total, labels = torch.zeros((), dtype=torch.float64), batch["labels"]
    for row in range(len(labels)):
        for place in range(labels.shape[1]):
            if labels[row, place] == IGNORE_INDEX:
                continue
            scores = logits[row, place].log_softmax(-1)
            other = labels[row, places[row, place]] if places[row, place] >= 0 else labels[row, place]
            total -= lam[row] * scores[labels[row, place]] + (1 - lam[row]) * scores[other]
    torch.testing.assert_close(loss, total / (labels != IGNORE_INDEX).sum())


def test_intra_at_a_depth_goes_through_the_blocks_above() -> None:
    model, batch = tagger(), tagged()
    lam = torch.tensor([0.3, 0.5, 0.8, 0.2])
    with Mixup(MixupConfig("intra", layers=[1]))(model, batch, lam=lam) as mixed:
        found = model(**mixed.inputs).logits
    places = mixed.draw.positions
    assert places is not None

    def shuffle(module: nn.Module, args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        states = shuffle_by_hand(states, places, lam.double())
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = model.bert.encoder.layer[0].register_forward_hook(shuffle)
    expected = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    handle.remove()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("settings", [{}, {"alpha": 60.0, "beta": 1.5}, {"alpha": 0.3, "lam_per": "sample"}], ids=str)
def test_intra_keeps_the_larger_half_of_each_token(settings: dict[str, Any]) -> None:
    """As LADA's code folds lam; a lam that is given is taken as it is."""
    model, batch, found = tagger(), tagged(), []
    mixup = Mixup(MixupConfig("intra", **settings))
    for _ in range(40):
        with mixup(model, batch) as mixed:
            found.append(mixed.lam)
    lam = torch.cat(found)
    assert lam.min() >= 0.5
    assert lam.max() <= 1
    assert lam.std() > 0.001
    with Mixup(MixupConfig("intra", lam=0.2))(model, batch) as mixed:
        assert (mixed.lam == torch.tensor(0.2)).all()


@pytest.mark.parametrize("seed", range(5))
def test_intra_moves_labelled_tokens_in_one_cycle(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.rand(8, 11, generator=rng) < 0.6
    chosen[0], chosen[1, 1:], chosen[1, 0] = False, False, True
    places = shuffled(chosen, rng)
    assert (places[~chosen] == -1).all()
    assert places[1, 0] == 0  # alone
    for row in range(2, 8):
        mine = chosen[row].nonzero().flatten().tolist()
        at, seen = mine[0], []
        while at not in seen:
            seen.append(at)
            at = int(places[row, at])
        assert sorted(seen) == mine


def test_intra_draws_every_order() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = shuffled(torch.ones(6000, 4, dtype=torch.bool), rng)
    cycles, counts = drawn.unique(dim=0, return_counts=True)
    assert len(cycles) == 6
    assert counts.min() > 850


def test_intra_trains_and_refuses_one_label_a_row(arguments: Any) -> None:
    model = BertForTokenClassification(CONFIGS[0])
    data = [{key: value[row] for key, value in tagged().items()} for row in range(4)]
    trainer = MixupTrainer(model, arguments(max_steps=3, logging_steps=1), mixup="intra", train_dataset=data)
    assert trainer.train().training_loss > 0
    with pytest.raises(ValueError, match=r"needs a label for each, found labels \[6\]"):
        Mixup("intra")(build("bert"), batch_of("bert"))


# sftmix


def causal() -> Any:
    torch.manual_seed(0)
    return lively(GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2)))


def responses() -> dict[str, Tensor]:
    """Make prompts and responses of different lengths; one row has no label at all."""
    torch.manual_seed(2)
    ids = torch.randint(1, 30, (5, 10))
    labels, mask = ids.clone(), torch.ones_like(ids)
    for row, (start, end) in enumerate([(3, 8), (5, 10), (2, 9), (4, 5), (10, 10)]):
        labels[row, :start] = IGNORE_INDEX
        labels[row, end:], mask[row, end:] = IGNORE_INDEX, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def sftmix_by_hand(logits: Tensor, labels: Tensor, partner: Tensor, lam: Tensor, weight: float) -> Tensor:
    scores, total = logits.log_softmax(-1), torch.zeros((), dtype=torch.float64)
    answers = [[place for place in range(9) if labels[row, place + 1] != IGNORE_INDEX] for row in range(5)]
    for row in range(5):
        for place in answers[row]:
            total = total - scores[row, place, labels[row, place + 1]]
        if lam[row] == 1:
            continue
        for own, other in zip(answers[row], answers[partner[row]]):
            blended = lam[row] * logits[row, own] + (1 - lam[row]) * logits[partner[row], other]
            mixed = blended.log_softmax(-1)
            first, second = labels[row, own + 1], labels[partner[row], other + 1]
            total = total - weight * (lam[row] * mixed[first] + (1 - lam[row]) * mixed[second])
    return total / sum(len(answer) for answer in answers)


@pytest.mark.parametrize("name", ["sftmix", "intra"])
def test_methods_that_choose_the_partners_refuse_one_that_is_given(name: str) -> None:
    with pytest.raises(ValueError, match=f"method '{name}' .*leave partner"):
        Mixup(name)(causal(), responses(), partner=torch.tensor([2, 0, 3, 1, 0]))


def test_sftmix_is_a_mixed_loss_beside_the_plain_one() -> None:
    model, batch = causal(), responses()
    lam = torch.tensor([0.3, 0.9, 0.5, 0.0, 1.0])
    with Mixup(MixupConfig("sftmix", loss_weight=0.7))(model, batch, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    logits, labels = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    torch.testing.assert_close(outputs.logits, logits)
    means = []
    for row in range(5):
        losses = F.cross_entropy(logits[row, :-1], labels[row, 1:], reduction="none", ignore_index=IGNORE_INDEX)
        means.append(losses.sum() / (labels[row, 1:] != IGNORE_INDEX).sum().clamp(min=1))
    order = torch.stack(means).argsort().tolist()
    partner = torch.empty(5, dtype=torch.long)
    for one, other in ((0, 3), (1, 4), (3, 0), (4, 1), (2, 0)):
        partner[order[one]] = order[other]
    assert mixed.partner.tolist() == partner.tolist()
    expected = sftmix_by_hand(logits, labels, partner, lam.double(), 0.7)
    torch.testing.assert_close(loss, expected)
    for one, other in zip(*(torch.autograd.grad(each, list(model.parameters())) for each in (loss, expected))):
        torch.testing.assert_close(one, other)


def test_sftmix_without_weight_is_the_plain_loss() -> None:
    model, batch = causal(), responses()
    with Mixup(MixupConfig("sftmix", loss_weight=0.0))(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(loss, model(**batch).loss.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7])
def test_confident_rows_meet_unsure_ones(rows: int) -> None:
    confidence = torch.rand(rows, generator=torch.Generator().manual_seed(rows))
    partner, order = pair_by_confidence(confidence), confidence.argsort(descending=True).tolist()
    for rank, row in enumerate(order[: rows // 2]):
        assert partner[row] == order[rows - rows // 2 + rank]
        assert partner[partner[row]] == row
    assert rows == 1 or (partner != torch.arange(rows)).all()
    with pytest.raises(ValueError, match=r"shape \[B\], got \[2, 2\]"):
        pair_by_confidence(torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_token_losses_are_the_cross_entropy_of_each_token(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, 11).to(dtype), torch.randint(0, 11, (3, 7))
    labels[0, 2:] = IGNORE_INDEX
    wide = torch.promote_types(dtype, torch.float32)
    expected = F.cross_entropy(logits.to(wide).mT, labels, reduction="none")
    torch.testing.assert_close(token_losses(logits, labels), expected)


def test_responses_are_laid_side_by_side() -> None:
    labels = responses()["labels"]
    left_alone = torch.tensor([[False], [False], [False], [True], [False]])
    rows, places, others = side_by_side(labels, torch.tensor([1, 0, 3, 2, 1]), left_alone)
    found = list(zip(rows.tolist(), places.tolist(), others.tolist()))
    assert found == [(0, 3 + k, 5 + k) for k in range(5)] + [(1, 5 + k, 3 + k) for k in range(5)] + [(2, 2, 4)]


def test_sftmix_trains_and_refuses_what_it_cannot_pair(arguments: Any) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2))
    data = [{key: value[row] for key, value in responses().items()} for row in range(4)]
    trainer = MixupTrainer(model, arguments(max_steps=3), mixup="sftmix", train_dataset=data)
    assert trainer.train().training_loss > 0
    with pytest.raises(ValueError, match="needs one label a token"):
        Mixup("sftmix")(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match=r"pairing=.flip.: method .sftmix. does not read it"):
        Mixup(MixupConfig("sftmix", pairing="flip"))(causal(), responses())
