"""Pairs of sentences in sentence-transformers: the mixed ranking loss by itself and in the plain trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertConfig, BertModel

from hf_mixup import MixupConfig, MixupTrainerMixin
from tests.integrations.parts import QUIET, WORDS, logged, moved, same, text, tokenizer, weights

st = pytest.importorskip("sentence_transformers")
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer  # noqa: E402

from hf_mixup.integrations.sentence_transformers import MixedNegativesRankingLoss  # noqa: E402

BOTH_WAYS = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


def embeddings(rows: int = 5, columns: int = 2, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(rows)
    return [torch.randn(rows, 6, generator=g, dtype=dtype).requires_grad_() for _ in range(columns)]


def slow(anchors: Any, positives: Any, negatives: Any, mix: Any, side: str, way: str, scale: float, both: bool) -> Any:
    """The loss with loops: the share of each pair's content in the other, row by row."""
    partner, lam = mix
    rows = len(anchors)

    def mixed(values: Any) -> Any:
        made = []
        for i in range(rows):
            one, other, t = values[i], values[partner[i]], lam[i]
            if way == "geodesic":
                one, other = one / one.norm(), other / other.norm()
                angle = torch.arccos((one * other).sum())
                made.append((torch.sin(t * angle) * one + torch.sin((1 - t) * angle) * other) / torch.sin(angle))
            else:
                made.append(t * one + (1 - t) * other)
        return made

    def content(is_mixed: bool) -> Any:
        shares = torch.zeros(rows, rows, dtype=torch.float64)
        for i in range(rows):
            shares[i, i] += lam[i] if is_mixed else 1
            shares[i, partner[i]] += 1 - lam[i] if is_mixed else 0
        return shares

    on = [side in ("both", name) for name in ("anchor", "positive")]
    first, second = (mixed(v) if is_on else list(v) for v, is_on in zip((anchors, positives), on))
    shares = [content(is_on) for is_on in on]

    def one_way(queries: Any, docs: Any, own: Any, theirs: Any) -> Any:
        total = 0.0
        for i, query in enumerate(queries):
            scores = torch.stack([scale * torch.cosine_similarity(query, doc, dim=0) for doc in docs])
            target = torch.stack([(own[i] * theirs[j]).sum() for j in range(rows)])
            target = target / target.sum()
            total = total - (target * scores.log_softmax(0)[:rows]).sum()
        return total / rows

    loss = one_way(first, [*second, *negatives], shares[0], shares[1])
    return (loss + one_way(second, first, shares[1], shares[0])) / 2 if both else loss


@pytest.mark.parametrize("settings", [{}, BOTH_WAYS])
@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("way", ["mixup", "geodesic"])
@pytest.mark.parametrize("side", ["both", "anchor", "positive"])
def test_loss_and_gradients_by_hand(side: Any, way: str, columns: int, settings: dict[str, Any]) -> None:
    config = MixupConfig(way, lam_per="sample", prob=0.8, prob_per="sample")
    loss = MixedNegativesRankingLoss(nn.Identity(), config, side=side, scale=7.0, **settings)
    drawn: list[Any] = []
    draw = loss.mixup.draw
    loss.mixup.draw = lambda *a: drawn.append(draw(*a)) or drawn[-1]  # type: ignore[method-assign]
    given = embeddings(5, columns)
    found = loss.compute_loss_from_embeddings(given, None)
    mix = (drawn[0].partner.tolist(), drawn[0].lam.double())
    negatives = [row for each in given[2:] for row in each]
    expected = slow(given[0], given[1], negatives, mix, side, way, 7.0, bool(settings))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    for got, wanted in zip(torch.autograd.grad(found, given), torch.autograd.grad(expected, given)):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, BOTH_WAYS])
@pytest.mark.parametrize("columns", [2, 3])
def test_unmixed_it_is_that_of_sentence_transformers(columns: int, settings: dict[str, Any]) -> None:
    given = embeddings(4, columns)
    model = nn.Identity()
    plain = MultipleNegativesRankingLoss(model, **settings).compute_loss_from_embeddings(given, None)
    for config in (MixupConfig("mixup", prob=0), MixupConfig("mixup", lam=1.0), MixupConfig("mixup", prob=1e-9)):
        loss = MixedNegativesRankingLoss(model, config, **settings)
        assert torch.equal(loss.compute_loss_from_embeddings(given, None), plain)
    loss = MixedNegativesRankingLoss(model.eval(), "mixup", **settings)
    assert torch.equal(loss.compute_loss_from_embeddings(given, None), plain)
    nearly = MixedNegativesRankingLoss(model.train(), {"lam": 1 - 1e-7}, **settings)  # through the mixed formula
    torch.testing.assert_close(nearly.compute_loss_from_embeddings(given, None), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_odd_batches_and_low_precision(rows: int, dtype: torch.dtype) -> None:
    given = embeddings(rows, 2, dtype)
    loss = MixedNegativesRankingLoss(nn.Identity(), {"lam": 0.3}).compute_loss_from_embeddings(given, None)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(each.grad).all() for each in given)


@pytest.mark.parametrize(
    ("mixup", "settings", "word"),
    [
        ("manifold", {}, "manifold"),
        ("mixup", {"side": "image"}, "side"),
        ({"method": "geodesic", "side": "image"}, {}, "side"),
        ({"pair_class": "same"}, {}, "pair_class"),
        ("mixup", {"directions": ("query_to_doc", "query_to_query")}, "directions"),
        ("mixup", {"hardness_mode": "all_negatives", "hardness_strength": 1.0}, "hardness_mode"),
    ],
)
def test_what_has_no_mixed_target_is_refused(mixup: Any, settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        MixedNegativesRankingLoss(nn.Identity(), mixup, **settings)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("bert"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=WORDS + 3, max_position_embeddings=32, **sizes)  # dropout on: draws must not differ
    BertModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def train(path: str, tmp: Path, make_loss: Any, bases: tuple[type, ...] = (), **settings: Any) -> Any:
    g = torch.Generator().manual_seed(0)
    rows = Dataset.from_list([{"anchor": text(g), "positive": text(g)} for _ in range(16)])
    args = st.SentenceTransformerTrainingArguments(str(tmp), **{**QUIET, **settings})
    model = st.SentenceTransformer(modules=[Transformer(path), Pooling(16)], device="cpu")
    loss = make_loss(model)
    callbacks = [loss.callback()] if hasattr(loss, "callback") else []
    trainer_class = type("Trainer", (*bases, st.SentenceTransformerTrainer), {})
    trainer = trainer_class(model, args, rows, rows, loss=loss, callbacks=callbacks)
    trainer.train()
    return trainer


def test_off_is_the_plain_trainer(path: str, tmp_path: Path) -> None:
    plain = train(path, tmp_path, MultipleNegativesRankingLoss)
    off = train(path, tmp_path, lambda model: MixedNegativesRankingLoss(model, {"prob": 0}))
    assert same(weights(plain), weights(off))
    assert logged(plain, "loss") == logged(off, "loss")
    assert plain.evaluate()["eval_loss"] == off.evaluate()["eval_loss"]


def test_mixed_training(path: str, tmp_path: Path) -> None:
    plain = train(path, tmp_path, MultipleNegativesRankingLoss)
    mixed = train(path, tmp_path, lambda model: MixedNegativesRankingLoss(model, {"lam": 0.6}), save_strategy="steps")
    assert all(one != other for one, other in zip(logged(plain, "loss"), logged(mixed, "loss")))
    assert logged(mixed, "mixup_rate", "mixup_lam") == [[1.0, pytest.approx(0.6)]] * 3
    assert moved(st.SentenceTransformer(modules=[Transformer(path), Pooling(16)], device="cpu"), mixed)
    plain.model.load_state_dict(mixed.model.state_dict())
    assert plain.evaluate()["eval_loss"] == mixed.evaluate()["eval_loss"]


def test_its_schedule_follows_the_trainer(path: str, tmp_path: Path) -> None:
    mixed = train(path, tmp_path, lambda model: MixedNegativesRankingLoss(model, {"disable_last_ratio": 0.34}))
    assert logged(mixed, "mixup_rate") == [[1.0], [1.0], [0.0]]


def test_the_mixin_points_to_the_loss(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MixedNegativesRankingLoss"):
        train(path, tmp_path, MultipleNegativesRankingLoss, (MixupTrainerMixin,))
