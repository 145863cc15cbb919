"""Methods that exchange spans of tokens: `span_cut` and `ssmix`, against loops over tokens."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    CTRLConfig,
    CTRLForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedConfig,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.methods._spans import exchange, ordinary_tokens
from hf_mixup.methods.base import Draw, TokenDraw
from hf_mixup.methods.span_cut import same_places
from hf_mixup.methods.ssmix import salient_places
from hf_mixup.models.saliency import token_saliency
from hf_mixup.utils.constants import IGNORE_INDEX
from tests.conftest import batch_of, build, examples

PAD, CLS, SEP = 0, 1, 2
SPECIAL = (PAD, CLS, SEP)
TOKENIZER = SimpleNamespace(all_special_ids=list(SPECIAL), unk_token_id=None, pad_token_id=PAD)
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = BertConfig(vocab_size=60, max_position_embeddings=32, num_labels=4, **SIZES)


def texts(counts: list[int], left: bool = False, seed: int = 0, pairs: bool = False) -> dict[str, Tensor]:
    """Make rows CLS words SEP (CLS words SEP words SEP for pairs) with so many words, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    length = max(counts) + 4
    names = ("input_ids", "attention_mask", "token_type_ids")
    made = {name: torch.zeros(len(counts), length, dtype=torch.long) for name in names}
    for row, count in enumerate(counts):
        words = torch.randint(3, 60, (count,), generator=generator).tolist()
        half = count // 2
        ids = [CLS, *words[:half], SEP, *words[half:], SEP] if pairs else [CLS, *words, SEP]
        at = slice(length - len(ids), length) if left else slice(0, len(ids))
        made["input_ids"][row, at] = torch.tensor(ids)
        made["attention_mask"][row, at] = 1
        if pairs:
            made["token_type_ids"][row, at] = torch.tensor([0] * (half + 2) + [1] * (count - half + 1))
    return made


def lively(model: Any) -> Any:
    """Make weights so large that rows score apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    return model.eval()


def classifier(config: PreTrainedConfig = BERT, head: Any = BertForSequenceClassification) -> Any:
    torch.manual_seed(0)
    return lively(head(config))


def words_of(batch: dict[str, Tensor], row: int) -> list[int]:
    """Return the places of a row's words, found one by one."""
    visible = [t for t in range(batch["input_ids"].shape[1]) if batch["attention_mask"][row, t]]
    return [t for t in visible[1:-1] if int(batch["input_ids"][row, t]) not in SPECIAL]


def mixed_by(config: MixupConfig | str, batch: dict[str, Any], model: Any = None, **kwargs: Any) -> Any:
    """Return a mixed batch after its context."""
    rows = len(batch["input_ids"])
    labels = torch.arange(rows) % 4
    model = model or classifier()
    with Mixup(config, tokenizer=TOKENIZER)(model, {"labels": labels, **batch}, **kwargs) as mixed:
        return mixed


ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


# which tokens


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_ordinary_tokens_are_the_words(left: bool, pairs: bool) -> None:
    batch = texts([5, 0, 1, 8, 2], left, pairs=pairs)
    expected = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for row in range(5):
        expected[row, words_of(batch, row)] = True
    assert torch.equal(ordinary_tokens(batch, SPECIAL), expected)
    assert torch.equal(ordinary_tokens(batch, None), expected)  # CLS and SEP are the ends of each row
    without = {"input_ids": batch["input_ids"]}
    if not left:
        assert torch.equal(ordinary_tokens(without, SPECIAL), expected)


def test_the_ends_of_a_row_stay_whatever_they_are() -> None:
    batch = {"input_ids": torch.tensor([[7, 8, 9, 8, 5]])}
    assert ordinary_tokens(batch, SPECIAL).tolist() == [[False, True, True, True, False]]
    batch = {"input_ids": torch.tensor([[8, 8, 9, 5, 4, 5]])}
    assert ordinary_tokens(batch, None).tolist() == [[False, False, True, False, True, False]]
    nothing = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.zeros(1, 3)}
    assert not ordinary_tokens(nothing, SPECIAL).any()


# span_cut


@settings(max_examples=60, deadline=None)
@given(counts=ROWS, lam=st.floats(0, 1), seed=st.integers(0, 99), left=st.booleans(), pairs=st.booleans())
def test_span_cut_by_hand(counts: list[int], lam: float, seed: int, left: bool, pairs: bool) -> None:
    batch = texts(counts, left, seed, pairs)
    config = MixupConfig("span_cut", lam_per="sample", draw_seed=seed, self_check=False)
    mixed = mixed_by(config, batch, lam=lam)
    for row, other in enumerate(mixed.partner.tolist()):
        own, common = words_of(batch, row), sorted(set(words_of(batch, row)) & set(words_of(batch, other)))
        wanted = round((1 - float(torch.tensor(lam))) * len(own))  # halves to even, as torch does
        cut = [t for t in range(batch["input_ids"].shape[1]) if mixed.draw.positions[row, t] >= 0]
        if torch.tensor(lam) == 0:  # the partner in full
            assert mixed.lam[row] == 0
            assert all(torch.equal(mixed.inputs[name][row], batch[name][other]) for name in batch if name != "labels")
            continue
        assert len(cut) == min(wanted, len(common))
        assert not cut or common[common.index(cut[0]) :][: len(cut)] == cut  # one span of the places both have
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
def test_rows_that_share_lam_share_the_span(lam_per: str) -> None:
    batch = texts([20] * 8)
    mixed = mixed_by(MixupConfig("span_cut", lam_per=lam_per, alpha=4.0), batch)
    spans = {tuple(row.tolist()) for row in mixed.draw.positions}
    paired = {tuple(sorted((row, other))) for row, other in enumerate(mixed.partner.tolist())}
    if lam_per == "pair":
        for one, other in paired:
            assert torch.equal(mixed.draw.positions[one], mixed.draw.positions[other])
    assert len(spans) == 1 if lam_per == "batch" else len(spans) > 2


def test_the_coin_leaves_rows_alone() -> None:
    batch = texts([9] * 30)
    config = MixupConfig("span_cut", lam=0.5, prob=0.5, prob_per="sample", lam_per="sample")
    mixed = mixed_by(config, batch)
    alone = mixed.lam == 1
    assert 5 < alone.sum() < 25
    assert mixed.rate == pytest.approx(1 - float(alone.float().mean()))
    assert torch.equal(mixed.inputs["input_ids"][alone], batch["input_ids"][alone])
    assert (mixed.draw.positions[alone] == -1).all()
    assert (mixed.draw.positions[~alone] >= 0).sum(-1).unique().tolist() == [4]  # 4.5, half to even


def test_what_goes_with_the_tokens() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 50, (2, 6))
    batch = {
        "input_ids": ids,
        "bbox": torch.randint(0, 9, (2, 6, 4)),
        "token_type_ids": torch.randint(0, 2, (2, 6)),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1] * 6]),
        "global_attention_mask": torch.tensor([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),
        "position_ids": torch.tensor([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]),
        "pixel_values": torch.rand(2, 6, 3),
        "use_cache": False,
    }
    before = {key: value.clone() if isinstance(value, Tensor) else value for key, value in batch.items()}
    places = torch.tensor([[-1, 1, 4, -1, -1, -1], [-1, -1, -1, 2, -1, -1]])
    found = exchange(batch, TokenDraw("span_cut", torch.tensor([1, 0]), torch.ones(2), positions=places))
    for key, value in before.items():
        assert batch[key] is value or torch.equal(batch[key], value)  # type: ignore[arg-type]
        expected = value.clone() if isinstance(value, Tensor) else value
        if key in ("input_ids", "bbox", "token_type_ids"):
            expected[0, 1], expected[0, 2], expected[1, 3] = value[1, 1], value[1, 4], value[0, 2]
        assert found[key] is value or torch.equal(found[key], expected)


def test_loss_of_row_labels_is_weighted_by_the_true_share() -> None:
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


# what is refused


@pytest.mark.parametrize("name", ["span_cut", "ssmix"])
def test_refusals(name: str) -> None:
    batch = texts([5, 3])
    mixup, rows = Mixup(name), torch.tensor([0, 1])
    ids = batch["input_ids"]
    bert = {key: getattr(BERT, key) for key in ("vocab_size", "max_position_embeddings", *SIZES)}
    cases: list[tuple[Any, dict[str, Tensor], str]] = [
        (BertForMaskedLM(BERT), {**batch, "labels": ids}, "would change the text that BertForMaskedLM predicts"),
        (
            GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2)),
            {"input_ids": ids, "labels": ids},
            "would change the text that GPT2LMHeadModel predicts",
        ),
        (
            BertForQuestionAnswering(BertConfig(**bert)),
            {**batch, "start_positions": rows, "end_positions": rows},
            r"found \[2, 2\] beside input_ids \[2, 9\]: the ends of an answer",
        ),
        (
            BertForMultipleChoice(BertConfig(**bert)),
            {key: value[:, None].repeat(1, 3, 1) for key, value in batch.items()} | {"labels": rows},
            r"needs input_ids \[B, T\], found shape \[2, 3, 9\]",
        ),
        (classifier(), {"inputs_embeds": torch.rand(2, 5, 16), "labels": rows}, r"found none: .*inputs_embeds"),
        (
            classifier(),
            {**batch, "attention_mask": torch.ones(2, 1, 9, 9), "labels": rows},
            r"needs an attention_mask \[B, T\], found \[2, 1, 9, 9\]",
        ),
    ]
    for model, inputs, message in cases:
        with pytest.raises(ValueError, match=message):
            mixup(model.eval(), inputs, lam=0.5)


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


# ssmix


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


ARCHITECTURES: dict[str, Any] = {
    "bert": lambda: (BERT, BertForSequenceClassification),
    "roberta": lambda: (
        RobertaConfig(vocab_size=60, max_position_embeddings=32, num_labels=4, pad_token_id=PAD, **SIZES),
        RobertaForSequenceClassification,
    ),
    "gpt2": lambda: (
        GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2, num_labels=4, pad_token_id=PAD),
        GPT2ForSequenceClassification,
    ),
    "ctrl": lambda: (  # scales the embeddings in place
        CTRLConfig(
            vocab_size=60, n_positions=32, n_embd=16, dff=32, n_layer=1, n_head=2, num_labels=4, pad_token_id=PAD
        ),
        CTRLForSequenceClassification,
    ),
    "xlnet": lambda: (
        XLNetConfig(vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=32, num_labels=4),  # [T, B, D] inside
        XLNetForSequenceClassification,
    ),
    "bart": lambda: (
        BartConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
            num_labels=4, pad_token_id=PAD, eos_token_id=SEP, decoder_start_token_id=SEP,
        ),
        BartForSequenceClassification,
    ),
    "t5": lambda: (
        T5Config(
            vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, num_labels=4, pad_token_id=PAD,
            eos_token_id=SEP, decoder_start_token_id=PAD,
        ),
        T5ForSequenceClassification,
    ),
}  # fmt: skip


FIRST_BLOCK = {
    "bert": "bert.encoder.layer.0",
    "roberta": "roberta.encoder.layer.0",
    "gpt2": "transformer.h.0",
    "ctrl": "transformer.h.0",
    "xlnet": "transformer.layer.0",
    "bart": "model.encoder.layers.0",
    "t5": "transformer.encoder.block.0",
}


def inputs_of(name: str) -> dict[str, Tensor]:
    batch = texts([5, 3, 8, 2])
    return {key: value for key, value in batch.items() if key != "token_type_ids" or name == "bert"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saliency_is_the_gradient_by_finite_differences(name: str) -> None:
    model, batch, labels = classifier(*ARCHITECTURES[name]()).double(), inputs_of(name), torch.tensor([0, 1, 2, 3])
    found = token_saliency(model, batch, labels)
    assert found.shape == batch["input_ids"].shape
    # T5 computes its norms in single precision
    step, relative, absolute = (1e-3, 5e-3, 1e-3) if name == "t5" else (1e-5, 1e-4, 1e-7)
    shift = torch.zeros(4, batch["input_ids"].shape[1], 16, dtype=torch.float64)

    def add(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        moved = shift.transpose(0, 1) if name == "xlnet" else shift
        if args:
            return (args[0] + moved, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + moved}

    def losses() -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(**batch).logits, labels, reduction="none")

    handle = model.get_submodule(FIRST_BLOCK[name]).register_forward_pre_hook(add, with_kwargs=True)
    for place in range(0, shift.shape[1], 3):
        squares = torch.zeros(4, dtype=torch.float64)
        for unit in range(shift.shape[2]):
            shift[:, place, unit] = step
            above = losses()
            shift[:, place, unit] = -step
            squares += ((above - losses()) / (2 * step)) ** 2
            shift[:, place, unit] = 0
        torch.testing.assert_close(found[:, place].double(), squares.sqrt(), rtol=relative, atol=absolute)
    handle.remove()
    assert found.max() > 1e-4


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
        expected -= (mix + clean[row].log_softmax(-1)[labels[row]]) / 2 / 4  # half of the loss is the clean rows'
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_ssmix_mixes_each_sentence_of_a_pair_with_its_like() -> None:
    model, batch, labels = classifier(), texts([9, 6, 12, 3, 0], pairs=True), torch.tensor([0, 1, 2, 3, 0])
    mixed = mixed_by(MixupConfig("ssmix", lam_per="sample"), {**batch, "labels": labels}, model, lam=0.6)
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


@pytest.mark.parametrize("name", ["span_cut", "ssmix"])
@pytest.mark.parametrize("counts", [[6], [0, 0], [0, 1, 2], [7, 0, 3, 1, 2]], ids=str)
@pytest.mark.parametrize("left", [False, True])
def test_few_rows_and_few_words(name: str, counts: list[int], left: bool) -> None:
    batch = texts(counts, left)
    mixed = mixed_by(MixupConfig(name, lam_per="sample"), batch, lam=0.05)
    if name == "ssmix" and len(counts) == 1:
        assert not isinstance(mixed.draw, TokenDraw)
        assert mixed.lam.tolist() == [1.0]
        return
    for row, other in enumerate(mixed.partner.tolist()):
        own, theirs = words_of(batch, row), words_of(batch, other)
        taken = mixed.draw.positions[row][mixed.draw.positions[row] >= 0]
        assert set(taken.tolist()) <= set(theirs)
        assert (len(taken) == 0) == (mixed.lam[row] == 1)
        kept = [t for t in range(batch["input_ids"].shape[1]) if t not in own]
        assert torch.equal(mixed.inputs["input_ids"][row, kept], batch["input_ids"][row, kept])


def test_ssmix_leaves_rows_that_have_no_other_partner() -> None:
    batch = texts([7, 5, 6])
    mixed = mixed_by("ssmix", batch, lam=0.5, partner=torch.tensor([1, 1, 0]))
    assert (mixed.lam < 1).tolist() == [True, False, True]
    assert torch.equal(mixed.inputs["input_ids"][3 + 1], batch["input_ids"][1])


def published_window(length: int, share: float) -> int:
    """How many tokens the authors' code exchanges of a row with so many, the two ends left out, at 10 or so percent."""
    return max(int(length * (100 * share / 100.0)), 1)


@pytest.mark.parametrize("percent", [5, 10, 20, 50])
def test_ssmix_exchanges_as_many_tokens_as_the_published_code(percent: int) -> None:
    counts = [1, 4, 9, 10, 19, 20, 25]
    mixed = mixed_by(MixupConfig("ssmix", lam=1 - percent / 100), texts(counts), partner=torch.full((7,), 6))
    exchanged = (mixed.draw.positions >= 0).sum(-1).tolist()
    assert exchanged[:-1] == [published_window(count, percent / 100) for count in counts[:-1]]
    assert exchanged[-1] == 0  # a row that is its own partner


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, None])
@pytest.mark.parametrize("rows", [1, 4, 5])
def test_the_clean_rows_have_their_share_of_the_loss(weight: float | None, rows: int) -> None:
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
    with torch.no_grad():  # the row that is left alone has its plain loss
        torch.testing.assert_close(expected[0], F.cross_entropy(clean, labels, reduction="none")[0])
    assert 0 <= mixed.rate < 1
    assert rows == 1 or 0 <= float(mixed.accuracy()) <= 1


def test_saliency_falls_back_on_the_table_where_blocks_hold_no_tokens() -> None:
    """A model whose first block sees a mean of neighbours: the gradient there is of no token alone."""

    class Smeared(nn.Module):
        main_input_name = "input_ids"

        def __init__(self) -> None:
            super().__init__()
            self.config = BertConfig(vocab_size=60, num_labels=4, **SIZES)
            self.table, self.head = nn.Embedding(60, 16), nn.Linear(16, 4)
            self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

        def get_input_embeddings(self) -> nn.Module:
            return self.table

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            states = self.table(input_ids)
            states = (states + states.roll(1, 1)) / 2
            for block in self.blocks:
                states = block(states).tanh()
            return {"logits": self.head(states.mean(1))}

    torch.manual_seed(0)
    model, batch, labels = Smeared().eval(), texts([5, 3]), torch.tensor([0, 1])
    del batch["token_type_ids"]
    ids = batch["input_ids"]
    found = token_saliency(model, batch, labels)
    embedded = model.table(ids).detach().requires_grad_()
    handle = model.table.register_forward_hook(lambda module, args, output: embedded)
    F.cross_entropy(model(ids)["logits"], labels, reduction="sum").backward()
    handle.remove()
    assert embedded.grad is not None
    torch.testing.assert_close(found, embedded.grad.norm(dim=-1))


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


def test_ssmix_costs_two_passes_for_a_mixed_batch_and_one_for_another() -> None:
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
def test_ssmix_is_the_plain_step_on_the_mixed_rows(how: str) -> None:
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
    plain = mixed_by("ssmix", batch, build("bert"), lam=0.7)
    adapted = peft.get_peft_model(build("bert"), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2))
    adapted.enable_input_require_grads()
    mixed = mixed_by("ssmix", batch, adapted, lam=0.7)
    assert torch.equal(mixed.draw.positions, plain.draw.positions)  # a fresh adapter changes nothing


@pytest.mark.parametrize("name", ["span_cut", "ssmix"])
def test_training(name: str, arguments: Any) -> None:
    config = MixupConfig(name, lam=0.6)
    model = build("bert")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = MixupTrainer(
        model,
        arguments(max_steps=2, logging_strategy="steps", logging_steps=1),
        mixup=config,
        train_dataset=examples("bert", 8, lengths=True),
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 2
    assert all(0 < log["mixup_lam"] < 1 for log in logs)
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_same_places_steps_over_what_is_not_common() -> None:
    common = batch_of("bert", 5)["input_ids"] % 3 > 0
    for row, start in ((0, 0), (1, 1), (2, 2)):
        places = common[row].nonzero().flatten().tolist()
        found = same_places(common[row : row + 1], torch.tensor([start]), torch.tensor([3]))[0]
        assert found[found >= 0].tolist() == places[start : start + 3]
