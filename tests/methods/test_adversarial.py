"""Adversarial training: clean and attacked samples, against an attack sample by sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMultipleChoice,
    BertForTokenClassification,
    CanineConfig,
    CanineForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from hf_mixup import Mixup, MixupConfig
from tests.conftest import CLASSES, batch_of, build
from tests.methods.attacks import climb, logits, logits_at, shared
from tests.segmenters import build_segmenter, segmentation_batch


@pytest.mark.parametrize("name", ["resnet", "vit", "bert"])
@pytest.mark.parametrize("attack", [None, "fgsm", "fgm", "pgd", "pgd_l2", "freelb"])
def test_the_loss_is_that_of_clean_and_moved_samples(name: str, attack: Any) -> None:
    model, batch, mean = build(name).eval(), batch_of(name, lengths=True), 0.4
    config = {"attack": attack, "epsilon": 0.3, "attack_steps": 2, "attack_step_size": 0.2, "clean_weight": mean}
    with Mixup(shared({"method": "adversarial", **config}))(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    assert mixed.rate == 1
    done = attack or ("fgm" if name == "bert" else "fgsm")
    steps, size = (1, 0.3) if done in ("fgsm", "fgm") else (2, 0.2)
    path = climb(model, batch, done, 0.3, steps, size, mixed.draw.seed)
    points = path[:2] if done == "freelb" else path[-1:]
    clean = F.cross_entropy(logits(model, batch), batch["labels"])
    moved = sum(F.cross_entropy(logits_at(model, batch, each), batch["labels"]) for each in points) / len(points)
    torch.testing.assert_close(mixed.loss(outputs), mean * clean + (1 - mean) * moved, rtol=1e-4, atol=1e-5)
    assert moved > clean + 0.005
    places = mixed.changed_places
    found = outputs.logits[places]
    torch.testing.assert_close(found, logits_at(model, batch, points[0]), rtol=1e-3, atol=1e-4)
    if done != "freelb":
        torch.testing.assert_close(mixed.accuracy(), (found.argmax(-1) == batch["labels"]).float().mean())
    torch.testing.assert_close(F.cross_entropy(logits(model, batch), batch["labels"]), clean)  # no hook stays active
    assert len(outputs.logits) == 6 * (1 + len(points))


def test_freelb_has_the_mean_gradient_of_its_points() -> None:
    model, batch = build("bert").eval(), batch_of("bert", lengths=True)
    with Mixup({"method": "adversarial", "attack": "freelb", "epsilon": 0.5})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    mixed.loss(outputs).backward()
    found = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    assert len(outputs.logits) == 18  # no clean rows
    shifts = mixed.draw.points["input_ids"]
    model.zero_grad()
    for shift in shifts:  # algorithm 1 adds up the gradients
        embeds = model.get_input_embeddings()(batch["input_ids"]) + shift
        (F.cross_entropy(logits_at(model, batch, embeds), batch["labels"]) / 3).backward()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, model.get_parameter(key).grad, rtol=1e-4, atol=1e-6, msg=key)
    for row, mask in enumerate(batch["attention_mask"]):
        assert (shifts[:, row, mask == 0] == 0).all()
        assert (shifts[:, row].norm(dim=(1, 2)) <= 0.5 + 1e-5).all()


@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize(("name", "attack"), [("resnet", "fgsm"), ("bert", "freelb")])
def test_samples_left_alone_count_in_full(name: str, attack: Any, weight: float) -> None:
    model, batch = build(name).eval(), batch_of(name, rows=5, lengths=True)
    batch["labels"][3] = -100
    config = {"attack": attack, "epsilon": 0.4, "clean_weight": weight, "prob": 0.5, "prob_per": "sample"}
    mixup, counts = Mixup({"method": "adversarial", **config}), set()
    clean = F.cross_entropy(logits(model, batch), batch["labels"], reduction="none")
    for _ in range(4):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        rows = mixed.draw.rows.tolist()
        counts.add(len(rows))
        expected = clean[[row for row in range(5) if row not in rows]].sum() + weight * clean[rows].sum()
        copies = 3 if attack == "freelb" else 1
        start = 5 if weight else 5 - len(rows)
        assert len(outputs.logits) == (start + copies * len(rows) if rows else 5)
        for copy in range(copies if rows else 0):
            moved = outputs.logits[start + copy * len(rows) :][: len(rows)]
            losses = F.cross_entropy(moved, batch["labels"][rows], reduction="none")
            expected = expected + (1 - weight) / copies * losses.sum()
            if attack == "fgsm":
                assert ((losses > clean[rows]) == (batch["labels"][rows] != -100)).all()
        torch.testing.assert_close(mixed.loss(outputs), expected / 4)
        torch.testing.assert_close(mixed.loss(outputs, num_items_in_batch=9), expected / 9)
        assert mixed.rate == len(rows) / 5
    assert len(counts) > 1


@pytest.mark.parametrize(
    ("name", "method"), [("resnet", "adversarial"), ("bert", "adversarial"), ("vit", "interpolated_adversarial")]
)
def test_the_attack_leaves_no_trace(name: str, method: str) -> None:
    model, batch = build(name).train(), batch_of(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model.get_submodule("classifier").eval()  # a mode of its own
    modes, buffers = [m.training for m in model.modules()], [b.clone() for b in model.buffers()]
    torch.manual_seed(3)
    state, given = torch.get_rng_state(), {key: value.clone() for key, value in batch.items()}
    with Mixup({"method": method, "attack": "pgd"})(model, batch) as mixed:
        assert torch.equal(torch.get_rng_state(), state)
        assert [m.training for m in model.modules()] == modes
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert all(torch.equal(one, other) for one, other in zip(buffers, model.buffers(), strict=True))
        assert all(not value.requires_grad for value in mixed.inputs.values())
    assert all(torch.equal(batch[key], value) for key, value in given.items())


@pytest.mark.parametrize("kind", ["multi-label", "regression", "smoothed", "bce", "weighted"])
def test_other_problem_types(kind: str) -> None:
    """The attack raises the very loss that is trained on."""
    model, batch = build("resnet").eval(), batch_of("resnet", rows=3)
    extra: dict[str, Any] = {}
    if kind == "multi-label":
        batch["labels"] = torch.rand(3, CLASSES).round()
    elif kind == "regression":
        model.config.num_labels, model.classifier[1] = 1, nn.Linear(12, 1)
        batch["labels"] = torch.randn(3)
    extra = {"smoothed": {"label_smoothing": 0.2}, "bce": {"loss": "bce"}}.get(kind, extra)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    if kind == "weighted":
        extra = {"class_weights": weights.tolist()}
    score = {
        "multi-label": lambda s, y: F.binary_cross_entropy_with_logits(s, y),
        "regression": lambda s, y: F.mse_loss(s[:, 0], y),
        "smoothed": lambda s, y: F.cross_entropy(s, y, label_smoothing=0.2),
        "bce": lambda s, y: F.binary_cross_entropy_with_logits(s, F.one_hot(y, CLASSES).float()),
        "weighted": lambda s, y: F.cross_entropy(s, y, weights),
    }[kind]
    with Mixup({"method": "adversarial", **extra})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    pixels, labels = batch["pixel_values"].clone().requires_grad_(), batch["labels"]
    clean = score(model(pixel_values=pixels).logits, labels)
    (gradient,) = torch.autograd.grad(clean, pixels)
    moved = score(model(pixel_values=pixels + 0.1 * gradient.sign()).logits, labels)
    torch.testing.assert_close(mixed.loss(outputs), (clean + moved) / 2, rtol=1e-4, atol=1e-6)
    assert moved > clean


def tokens_model() -> tuple[Any, dict[str, Tensor]]:
    model = BertForTokenClassification(BertConfig(**SMALL_BERT, num_labels=CLASSES))
    batch = batch_of("bert", lengths=True)
    batch["labels"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"] % CLASSES, -100)
    return model, batch


def causal_model() -> tuple[Any, dict[str, Tensor]]:
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 60, "n_positions": 16}
    model, batch = GPT2LMHeadModel(GPT2Config(**sizes)), batch_of("bert", lengths=True)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return model, batch


def seq2seq_model() -> tuple[Any, dict[str, Tensor]]:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 60, "pad_token_id": 0}
    model = BartForConditionalGeneration(BartConfig(d_model=16, eos_token_id=2, **sizes, **heads))
    batch = batch_of("bert", lengths=True)
    batch["labels"] = batch["input_ids"].flip(1)[:, :6].clone(memory_format=torch.contiguous_format)
    return model, batch


def choices_model() -> tuple[Any, dict[str, Tensor]]:
    model, ids = BertForMultipleChoice(BertConfig(**SMALL_BERT)), torch.randint(3, 60, (6, 3, 5))
    mask = torch.ones_like(ids)
    mask[1, 2, 3:] = 0
    return model, {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(6) % 3}


def xlnet_model() -> tuple[Any, dict[str, Tensor]]:
    sizes = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16, "vocab_size": 60, "num_labels": CLASSES}
    return XLNetForSequenceClassification(XLNetConfig(**sizes)), batch_of("bert")


SMALL_BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16} | {
    "vocab_size": 60
}


@pytest.mark.parametrize("make", [tokens_model, causal_model, seq2seq_model, choices_model, xlnet_model])
def test_embeddings_of_other_heads_move_up_the_models_own_loss(make: Any) -> None:
    """The clean half is the model's own loss; a small step raises it by epsilon times the gradient's norm."""
    torch.manual_seed(0)
    model, batch = make()
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    own = model(**batch).loss
    gap = {}
    for eps in (1e-2, 2e-2):
        with Mixup({"method": "adversarial", "epsilon": eps})(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        rows = next(v for v in mixed.inputs.values() if isinstance(v, Tensor))
        assert len(rows) == 12
        gap[eps] = (2 * (mixed.loss(outputs) - own)).item()
    assert gap[1e-2] > 1e-5
    assert gap[2e-2] == pytest.approx(2 * gap[1e-2], rel=0.2)
    shift = mixed.draw.points["input_ids"][0]
    torch.testing.assert_close(shift.flatten(1).norm(dim=1), torch.full((6,), 2e-2), rtol=1e-4, atol=0)
    assert (shift[batch["attention_mask"] == 0] == 0).all()


@pytest.mark.parametrize("name", ["segformer", "beit"])
def test_pixels_with_labels(name: str) -> None:
    """The model's own loss, of clean and of moved images; auxiliary heads count in it, not in the attack."""
    model, batch = build_segmenter(name), segmentation_batch(3)
    moved = batch["pixel_values"].clone().requires_grad_()
    labels = batch["labels"].masked_fill(batch["labels"] == 255, -100)
    scores = F.interpolate(model(pixel_values=moved).logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores, labels), moved)
    losses = [model(**batch).loss, model(**{**batch, "pixel_values": moved + 0.3 * gradient.sign()}).loss]
    with Mixup({"method": "adversarial", "epsilon": 0.3})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    torch.testing.assert_close(mixed.loss(outputs), sum(losses) / 2, rtol=1e-4, atol=1e-5)
    assert losses[1] > losses[0]


def test_padding_stays_and_several_inputs_move_together() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    conv = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
    groups = {"num_conv_pos_embedding_groups": 2, "num_conv_pos_embeddings": 4, "classifier_proj_size": 8}
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**sizes, **conv, **groups, num_labels=CLASSES)).eval()
    mask = torch.ones(3, 400, dtype=torch.long)
    mask[1, 250:] = 0
    batch = {"input_values": torch.randn(3, 400) * mask, "attention_mask": mask, "labels": torch.tensor([0, 1, 2])}
    with Mixup({"method": "adversarial", "attack": "pgd"})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    moved = mixed.inputs["input_values"][3:] - batch["input_values"]
    assert (moved[1, 250:] == 0).all()
    assert moved[1, :250].abs().amax() == pytest.approx(0.1, rel=1e-4)
    assert torch.equal(mixed.inputs["attention_mask"][3:], mask)
    assert mixed.loss(outputs) > F.cross_entropy(logits(model, batch), batch["labels"])

    class Sum(nn.Module):
        def forward(self, one: Tensor, other: Tensor, flag: bool) -> Any:
            return {"logits": torch.stack([one.sum(-1), (0 * one).sum(-1) + 2 * other.flatten(1).sum(-1)], dim=1)}

    floats = {"one": torch.zeros(2, 4), "other": torch.zeros(2, 3, 2, dtype=torch.bfloat16), "flag": True}
    floats["labels"] = torch.tensor([0, 1])
    model = Sum()
    with Mixup({"method": "adversarial", "attack": "fgm", "self_check": False})(model, floats) as mixed:
        pass
    norm = (4 * 1 + 6 * 4) ** 0.5  # the gradient of the difference of the logits: 1 at each of four, 2 at each of six
    torch.testing.assert_close(mixed.inputs["one"][2:], torch.tensor([[-1.0], [1.0]]).expand(2, 4) / norm)
    expected = torch.tensor([2.0, -2.0])[:, None, None].expand(2, 3, 2) / norm
    torch.testing.assert_close(mixed.inputs["other"][2:], expected.to(torch.bfloat16))
    assert mixed.inputs["flag"] is True


def test_the_start_depends_on_the_key_alone() -> None:
    model, batch = build("vit"), batch_of("vit")

    def drawn() -> list[Tensor]:
        mixup, found = Mixup({"method": "adversarial", "attack": "pgd", "attack_steps": 1}), []
        for _ in range(2):
            torch.rand(3)
            with mixup(model, batch) as mixed:
                found.append(mixed.inputs["pixel_values"])
        return found

    one, other = drawn(), drawn()
    assert torch.equal(torch.stack(one), torch.stack(other))
    assert not torch.equal(one[0], one[1])


def test_range_and_keys() -> None:
    model, batch = build("resnet").eval(), batch_of("resnet")
    batch["pixel_values"] = batch["pixel_values"].clamp(-1, 1)
    config = {"method": "adversarial", "epsilon": 0.5, "attack_range": [-1.0, 1.0], "keys": ["pixel_values"]}
    with torch.no_grad(), Mixup(config)(model, batch) as mixed:
        pixels = mixed.inputs["pixel_values"]
    assert pixels.abs().max() == 1
    assert (pixels[6:] - pixels[:6]).abs().max() == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"clean_weight": 1.0}, "clean_weight=1.0"),
        ({"attack": "pgdd"}, "did you mean 'pgd'"),
        ({"attack_steps": 0}, "attack_steps=0"),
        ({"attack_step_size": -1}, "attack_step_size=-1"),
        ({"attack_range": [1.0, -1.0]}, "attack_range"),
        ({"attack_range": [1.0]}, "attack_range"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixupConfig(method="adversarial", **settings)


def test_what_cannot_be_attacked_is_refused() -> None:
    for given in ({"partner": torch.arange(6)}, {"lam": 0.5}):
        with pytest.raises(ValueError, match="mixes no rows"):
            Mixup("adversarial")(build("resnet"), batch_of("resnet"), **given)
    with pytest.raises(ValueError, match="attack_range is for float inputs"):
        Mixup({"method": "adversarial", "attack_range": [-1.0, 1.0]})(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="dual encoder, and method 'adversarial' does not mix pairs"):
        Mixup("adversarial")(build("clip"), batch_of("clip"))
    text = batch_of("bert")
    text["attention_mask"] = torch.ones(6, 10, 10)
    with pytest.raises(ValueError, match="attention_mask"):
        Mixup("adversarial")(build("bert"), text)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    hashing = CanineForSequenceClassification(CanineConfig(**small, num_labels=CLASSES))
    with pytest.raises(ValueError, match="in no table"):
        Mixup("adversarial")(hashing, batch_of("bert"))
    with pytest.raises(ValueError, match="no floating-point input"):
        Mixup({"method": "adversarial", "self_check": False})(nn.Linear(2, 2), {"labels": torch.tensor([0, 1])})
