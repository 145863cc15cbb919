"""Adversarial samples: the kernels against closed forms and a peer, the methods against loops of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.testing
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
    Trainer,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.functional import ascent_points, fgm, fgsm, pgd
from tests.conftest import CLASSES, batch_of, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.segmenters import build_segmenter, segmentation_batch


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**{key: value for key, value in batch.items() if key != "labels"}).logits


# --- kernels


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 4 * 5, 4)).eval()


def images(rows: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(rows, 3, 6, 7, generator=generator), torch.randint(4, (rows,), generator=generator)


def test_one_step_on_a_linear_loss_is_the_closed_form() -> None:
    """A linear loss is largest at eps * sign(w) in L-infinity, and at eps * w / |w| in L2."""
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(4, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    w[1, 0, 0] = 0.0
    eps = torch.tensor([0.0, 0.3, 1.0, 2.0], dtype=torch.float64)
    for row in range(4):
        sign = torch.tensor([[(v > 0) - (v < 0) for v in line] for line in w[row].tolist()], dtype=torch.float64)
        expected = x[row] + eps[row] * sign
        torch.testing.assert_close(fgsm(x, lambda p: (p * w).sum(), eps)[row], expected)
        long = x[row] + eps[row] * w[row] / sum(v * v for v in w[row].flatten().tolist()) ** 0.5
        for found in (fgm(x, lambda p: (p * w).sum(), eps), pgd(x, lambda p: (p * w).sum(), eps, 3, norm="l2")):
            torch.testing.assert_close(found[row], long)


@pytest.mark.parametrize("kind", ["fgsm", "fgm", "linf", "l2"])
def test_a_peer_finds_the_same_points(kind: str) -> None:
    foolbox = pytest.importorskip("foolbox", reason="a peer of the dev extra")
    model, (x, labels) = small_net(), images()
    steps = {"abs_stepsize": 0.05, "steps": 4, "random_start": False}
    attacks: dict[str, Any] = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack(),
        "fgm": foolbox.attacks.L2FastGradientAttack(),
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack(**steps),
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack(**steps),
    }
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    expected = attacks[kind].run(peer, x, foolbox.criteria.Misclassification(labels), epsilon=0.12)

    def loss_of(points: Tensor) -> Tensor:
        return F.cross_entropy(model(points), labels, reduction="sum")

    ends = {"low": 0.0, "high": 1.0}
    if kind in ("fgsm", "fgm"):
        found = {"fgsm": fgsm, "fgm": fgm}[kind](x, loss_of, 0.12, **ends)
    else:
        found = pgd(x, loss_of, 0.12, 4, 0.05, kind, **ends)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - x).abs().max() > 0.01


def test_the_direction_is_that_of_finite_differences() -> None:
    model, (x, labels) = small_net().double(), images(2)
    x = x.double()
    moved = fgm(x, lambda p: F.cross_entropy(model(p), labels, reduction="sum"), 1.0) - x
    gradient = torch.zeros_like(x)
    for place in range(x[0].numel()):
        for sign in (1, -1):
            near = x.clone()
            near.flatten(1)[:, place] += sign * 1e-4
            gradient.flatten(1)[:, place] += sign * F.cross_entropy(model(near), labels, reduction="none").detach()
    for row in range(2):
        torch.testing.assert_close(
            moved[row], gradient[row] / gradient[row].square().sum().sqrt(), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_points_stay_where_they_may_be_and_the_loss_rises(norm: Any, dtype: torch.dtype) -> None:
    model, (x, labels) = small_net(), images()
    x[0, 0, 0] = 1.2  # outside the ends already
    x, mask = x.to(dtype), torch.ones(5, 1, 6, 7, dtype=torch.bool)
    mask[2, :, 3:] = False
    eps = torch.tensor([0.3, 0.0, 0.3, 0.2, 0.1])

    def losses(points: Tensor) -> Tensor:
        assert points.dtype == dtype
        return F.cross_entropy(model(points.float()), labels, reduction="none")

    generator = torch.Generator().manual_seed(3)
    found = pgd(x, losses, eps, 5, norm=norm, generator=generator, low=0.0, high=1.0, mask=mask)
    assert found.dtype == dtype
    assert not found.requires_grad
    shift, rounding = (found.double() - x.double()), 1e-6 if dtype == torch.float32 else 0.02
    size = shift.flatten(1).abs().amax(1) if norm == "linf" else shift.flatten(1).norm(dim=1)
    assert (size <= eps + rounding).all()
    assert (size[[0, 2, 3, 4]] > 0.9 * eps[[0, 2, 3, 4]]).all()
    assert (found <= x.clamp(min=1)).all()
    assert (found >= 0).all()
    assert torch.equal(found[1], x[1])
    assert torch.equal(found[2, :, 3:], x[2, :, 3:])
    rise = losses(found) - losses(x)
    assert (rise[[0, 2, 3, 4]] > 0).all()
    alone = [pgd(x[i : i + 1], lambda p, i=i: F.cross_entropy(model(p.float()), labels[i : i + 1]), eps[i : i + 1], 5,
                 norm=norm, low=0.0, high=1.0, mask=mask[i : i + 1]) for i in range(5)]  # fmt: skip
    together = pgd(x, losses, eps, 5, norm=norm, low=0.0, high=1.0, mask=mask)
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=0.02 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_start_is_uniform_in_the_ball(norm: Any) -> None:
    """Of a ball of d dimensions a share r**d lies within r; masked places are no dimensions."""
    x, mask = torch.zeros(20000, 1, 4), torch.tensor([True, True, True, False])
    points = ascent_points(
        x, lambda p: p.sum(), 2.0, 1, norm=norm, generator=torch.Generator().manual_seed(0), mask=mask
    )
    start = points[0, :, 0]
    assert (start[:, 3] == 0).all()
    size = start.abs().amax(1) if norm == "linf" else start.norm(dim=1)
    assert size.max() <= 2 + 1e-6
    for share in (0.3, 0.7, 0.9):
        assert (size < 2 * share).float().mean().item() == pytest.approx(share**3, abs=0.01)
    assert start[:, :3].mean(0).abs().max() < 0.02
    assert torch.corrcoef(start[:, :3].T).fill_diagonal_(0).abs().max() < 0.03
    again = ascent_points(
        x, lambda p: p.sum(), 2.0, 1, norm=norm, generator=torch.Generator().manual_seed(0), mask=mask
    )
    assert torch.equal(points, again)


def test_points_of_the_ascent_are_those_that_pgd_goes_through() -> None:
    model, (x, labels) = small_net(), images()

    def loss_of(p: Tensor) -> Tensor:
        return F.cross_entropy(model(p), labels, reduction="sum")

    points = ascent_points(x, loss_of, 0.5, 4, 0.2)
    assert torch.equal(points[0], x)
    for step in (1, 2, 3):
        torch.testing.assert_close(points[step], pgd(x, loss_of, 0.5, step, 0.2, "l2"))


def test_per_channel_reach_and_ends() -> None:
    eps, high = torch.tensor([0.1, 0.0, 0.3])[:, None, None], torch.tensor([9.0, 9.0, 0.2])[:, None, None]
    found = fgsm(torch.zeros(2, 3, 2, 2), lambda p: p.sum(), eps, high=high)
    for channel, value in enumerate([0.1, 0.0, 0.2]):
        torch.testing.assert_close(found[:, channel], torch.full((2, 2, 2), value))


def test_tiny_and_unusable_gradients() -> None:
    x = torch.zeros(3, 2)
    scale = torch.tensor([[1e-30], [float("nan")], [0.0]])
    found = fgm(x, lambda p: (p * torch.tensor([3.0, 4.0]) * scale).sum(), 5.0)
    torch.testing.assert_close(found, torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]))


def test_parameters_and_callers_are_left_alone() -> None:
    model, (x, labels) = small_net(), images()
    x.requires_grad_()
    with torch.no_grad():
        pgd(x, lambda p: F.cross_entropy(model(p), labels, reduction="sum"), 0.1, 2)
        assert not torch.is_grad_enabled()
    assert x.grad is None
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": -0.1}, "eps=-0.1"),
        ({"eps": torch.ones(3)}, r"eps of shape \[3\]"),
        ({"step_size": float("nan")}, "step_size=nan"),
        ({"steps": 0}, "steps=0"),
        ({"norm": "l1"}, "norm='l1'"),
        ({"eps": torch.ones(2, 1), "norm": "l2"}, r"a number or \[B\]"),
        ({"eps": torch.ones(3, 1)}, r"eps of shape \[3, 1\]"),
        ({"mask": torch.ones(1)}, "mask must be bool"),
        ({"x": torch.zeros(2)}, "two dimensions"),
        ({"x": torch.zeros(2, 2, dtype=torch.long)}, "floats"),
        ({"loss_of": lambda p: torch.zeros(())}, "does not depend on x"),
    ],
)
def test_kernels_refuse(given: dict[str, Any], message: str) -> None:
    settings = {"x": torch.zeros(2, 2, 2), "loss_of": lambda p: p.sum(), "eps": 0.1, **given}
    with pytest.raises(ValueError, match=message):
        pgd(**settings)


# --- adversarial


def logits_at(model: nn.Module, batch: dict[str, Tensor], moved: Tensor) -> Tensor:
    """Return the logits at moved pixels, or at moved embeddings of the tokens."""
    if "pixel_values" in batch:
        return model(pixel_values=moved).logits
    return model(inputs_embeds=moved, attention_mask=batch["attention_mask"]).logits


def start_of(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return what is moved, and where it may be."""
    if "pixel_values" in batch:
        return batch["pixel_values"], torch.ones_like(batch["pixel_values"])
    embeds = model.get_input_embeddings()(batch["input_ids"]).detach()
    return embeds, batch["attention_mask"][..., None].expand_as(embeds).to(embeds.dtype)


def climb(model: Any, batch: dict[str, Tensor], attack: str, eps: float, steps: int, size: float, seed: int) -> Any:
    """Attack row by row, in a way of its own; return the points after each step, [steps + 1, B, ...]."""
    x, allowed = start_of(model, batch)
    rng = torch.Generator().manual_seed(seed)
    long = attack in ("fgm", "pgd_l2", "freelb")
    shift = torch.zeros_like(x)
    if attack in ("pgd_l2", "freelb"):
        noise = torch.randn(x.shape, generator=rng) * allowed
        radius = torch.rand(len(x), *[1] * (x.dim() - 1), generator=rng)
        for row in range(len(x)):
            shift[row] = eps * radius[row] ** (1 / allowed[row].sum()) * noise[row] / noise[row].square().sum().sqrt()
    elif attack == "pgd":
        shift = eps * (2 * torch.rand(x.shape, generator=rng) - 1) * allowed
    path = [x + shift]
    for _ in range(steps):
        following = []
        for row in range(len(x)):
            one = {key: value[row : row + 1] for key, value in batch.items()}
            point = path[-1][row : row + 1].clone().requires_grad_()
            F.cross_entropy(logits_at(model, one, point), one["labels"]).backward()
            gradient = point.grad[0] * allowed[row]
            moved = path[-1][row] + size * (gradient / gradient.square().sum().sqrt() if long else gradient.sign())
            away = moved - x[row]
            if long:
                away = away * min(1.0, eps / float(away.square().sum().sqrt()))
            else:
                away = away.clamp(-eps, eps)
            following.append(x[row] + away)
        path.append(torch.stack(following))
    model.zero_grad()
    return torch.stack(path)


@pytest.mark.parametrize("name", ["resnet", "vit", "bert"])
@pytest.mark.parametrize("attack", [None, "fgsm", "fgm", "pgd", "pgd_l2", "freelb"])
def test_the_loss_is_that_of_clean_and_moved_rows(name: str, attack: Any) -> None:
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
def test_rows_left_alone_count_in_full(name: str, attack: Any, weight: float) -> None:
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


def test_padding_of_audios_stays_and_several_inputs_move_together() -> None:
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


# --- interpolated adversarial training


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"prob": 0.5, "prob_per": "sample", "by": {"method": "mixup", "lam_per": "sample"}},
        {"clean_weight": 0.0},
        {"epsilon": 0.0},
    ],
)
def test_interpolated_mixes_both_halves_alike(rows: int, extra: dict[str, Any]) -> None:
    model, batch = build("vit").eval(), batch_of("vit", rows=rows)
    mixup = Mixup({"method": "interpolated_adversarial", "epsilon": 0.2, **extra})
    weight, eps, pixels = extra.get("clean_weight", 0.5), extra.get("epsilon", 0.2), batch["pixel_values"]
    adversary = climb(model, batch, "fgsm", eps, 1, eps, 0)[-1]
    for _ in range(3):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        total = 0.0
        for row, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.tolist(), strict=True)):
            for source, share in ((pixels, weight if lam < 1 else 1.0), (adversary, 1 - weight if lam < 1 else 0.0)):
                blended = lam * source[row] + (1 - lam) * source[partner]
                scores = model(pixel_values=blended[None]).logits[0].log_softmax(-1)
                own, other = batch["labels"][row], batch["labels"][partner]
                total = total - share * (lam * scores[own] + (1 - lam) * scores[other])
        torch.testing.assert_close(mixed.loss(outputs), total / rows, rtol=1e-4, atol=1e-5)
        assert mixed.rate == sum(lam < 1 for lam in mixed.lam.tolist()) / rows
    if "epsilon" in extra:
        assert len(outputs.logits) == rows


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"attack": "freelb"},
        {"clean_weight": 0.0},
        {"clean_weight": 0.0, "prob": 0.5, "prob_per": "sample", "by": {"method": "embedding", "lam_per": "sample"}},
    ],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_interpolated_embeddings_are_blended_with_their_shifts(extra: dict[str, Any], rows: int) -> None:
    model, batch = build("bert").eval(), batch_of("bert", rows=rows, lengths=True)
    mixup = Mixup({"method": "interpolated_adversarial", "by": "embedding", "epsilon": 0.8, **extra})
    attack = extra.get("attack", "fgm")
    weight = extra.get("clean_weight", 0.0 if attack == "freelb" else 0.5)
    steps, size = (2, 2.5 * 0.8 / 3) if attack == "freelb" else (1, 0.8)
    plain, table = logits(model, batch), start_of(model, batch)[0]
    for _ in range(3):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        adversaries = climb(model, batch, attack, 0.8, steps, size, mixed.draw.seed)
        adversaries = adversaries if attack == "freelb" else adversaries[1:]
        total = 0.0
        for row, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.tolist(), strict=True)):
            own_mask, other_mask = (batch["attention_mask"][each].bool() for each in (row, partner))
            share = torch.where(own_mask & other_mask, lam, own_mask.float())[:, None]
            seen = (own_mask | other_mask) if lam < 1 else own_mask
            sources = [(table, weight if lam < 1 else 1.0)]
            sources += [(each, (1 - weight) / len(adversaries) if lam < 1 else 0.0) for each in adversaries]
            for source, part in sources:
                blended = share * source[row] + (1 - share) * source[partner] if lam < 1 else source[row]
                scores = model(inputs_embeds=blended[None], attention_mask=seen[None].long()).logits[0].log_softmax(-1)
                own, other = batch["labels"][row], batch["labels"][partner]
                total = total - part * (lam * scores[own] + (1 - lam) * scores[other])
        torch.testing.assert_close(mixed.loss(outputs), total / rows, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(logits(model, batch), plain)  # no hook stays active


@pytest.mark.parametrize("by", ["cutmix", "manifold"])
def test_by_other_methods(by: str) -> None:
    """The clean half is what the method alone gives for the same draw; so is the other, of moved rows."""
    model, batch = build("vit").eval(), batch_of("vit")
    adversary = {**batch, "pixel_values": climb(model, batch, "fgsm", 0.2, 1, 0.2, 0)[-1]}
    inner = {"method": by, **({"layers": [1]} if by == "manifold" else {})}
    with Mixup({"method": "interpolated_adversarial", "by": inner, "epsilon": 0.2, "draw_seed": 5})(
        model, batch
    ) as mixed:
        outputs = model(**mixed.inputs)
    losses = []
    for each in (batch, adversary):
        with Mixup({**inner, "draw_seed": 5})(model, each) as alone:
            losses.append(alone.loss(model(**alone.inputs)))
        assert torch.equal(alone.lam, mixed.lam)
    torch.testing.assert_close(mixed.loss(outputs), sum(losses) / 2)
    assert losses[1] > losses[0]


def test_interpolated_takes_partner_and_lam_and_refuses_what_does_not_fit() -> None:
    model, batch = build("resnet").eval(), batch_of("resnet")
    partner, lam = torch.tensor([1, 2, 3, 4, 5, 0]), 0.3
    with Mixup("interpolated_adversarial")(model, batch, partner=partner, lam=lam) as mixed:
        pixels = mixed.inputs["pixel_values"]
    torch.testing.assert_close(pixels[:6], lam * batch["pixel_values"] + (1 - lam) * batch["pixel_values"][partner])
    assert (pixels[6:] - pixels[:6]).abs().max() == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(ValueError, match="set by='embedding'"):
        Mixup("interpolated_adversarial")(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="needs tokens to move"):
        Mixup({"method": "interpolated_adversarial", "by": "embedding"})(model, batch)
    with pytest.raises(ValueError, match="did you mean 'manifold'"):
        MixupConfig(method="interpolated_adversarial", by="manifol")
    text, unrun = {"method": "interpolated_adversarial", "by": "embedding"}, build("bert").eval()
    outputs = unrun(**{key: value for key, value in batch_of("bert").items() if key != "labels"})
    with Mixup(text)(unrun, batch_of("bert")) as mixed, pytest.raises(RuntimeError, match="did not pass the place"):
        mixed.loss(outputs)


# --- both, as they are trained


@pytest.mark.parametrize("off", [{"epsilon": 0.0}, {"prob": 0.0}])
@pytest.mark.parametrize("name", ["resnet", "bert"])
def test_off_is_the_plain_trainer(name: str, off: dict[str, float], arguments: Any) -> None:
    plain, model = build(name), build(name)
    Trainer(plain, arguments(max_steps=2), train_dataset=examples(name, 8)).train()
    config = MixupConfig(method="adversarial", **off)
    assert config.plain
    MixupTrainer(model, arguments(max_steps=2), train_dataset=examples(name, 8), mixup=config).train()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


METHODS = [("adversarial", "vit", "pgd"), ("adversarial", "bert", "freelb"), ("interpolated_adversarial", "vit", None)]
TEXT = ("interpolated_adversarial", "bert", None)


def shared(settings: dict[str, Any]) -> MixupConfig:
    """Return the configuration of a method with those of the settings that it reads, also by what it mixes by."""
    own = dict(settings)
    if own["method"] == "interpolated_adversarial":
        mixing = {name: own.pop(name) for name in ("lam", "pairing") if name in own}
        own["by"] = {"method": own.get("by", "mixup"), **mixing}
    return SharedSettings(own).for_method(own["method"])


def by_tokens(method: str, name: str) -> dict[str, Any]:
    return {"by": "embedding"} if (method, name) == TEXT[:2] else {}


@pytest.mark.parametrize(("method", "name", "attack"), METHODS[1:])
@pytest.mark.parametrize("entry_point", [entry_point for entry_point in ENTRY_POINTS if entry_point != "trainer"])
def test_entry_points_train_to_the_same_weights(
    method: str, name: str, attack: Any, entry_point: str, arguments: Any
) -> None:
    """Two accumulated micro-batches of two rows; a collator alone knows no step, and draws other starts."""
    made = []
    config = {"method": method, "attack": attack, "lam": 0.3, "pairing": "flip", "draw_seed": 0, "epsilon": 0.3}
    if entry_point == "collator":
        config["attack"] = "fgm"
    for each in ("trainer", entry_point):
        model = build(name)
        args = arguments(max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2, optim="sgd")
        own = shared(config)
        trainer = ENTRY_POINTS[each](model, args, own, train_dataset=examples(name, 4))
        trainer.train()
        made.append((model.state_dict(), trainer.state.log_history[-1]["train_loss"]))
        assert trainer.evaluate(examples(name, 4))["eval_loss"] == pytest.approx(
            F.cross_entropy(logits(model.eval(), batch_of(name, rows=4)), batch_of(name, rows=4)["labels"]).item()
        )
    for key, value in made[0][0].items():
        torch.testing.assert_close(made[1][0][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert made[1][1] == pytest.approx(made[0][1], rel=1e-3)


@pytest.mark.parametrize(("method", "name", "attack"), METHODS)
def test_micro_batches_take_their_share_of_all_labels(method: str, name: str, attack: Any) -> None:
    """Rows do not bear on each other in the attack: parts of a batch add up to the whole."""
    model, batch = build(name).eval(), batch_of(name, rows=6)
    config = {"method": method, "attack": {"pgd": "fgsm", "freelb": "fgm"}.get(attack, attack), "lam": 0.4}
    batch["labels"][1] = -100
    total = 0.0
    for part in (slice(0, 4), slice(4, 6)):
        with Mixup(shared({**config, "pairing": "flip"}))(
            model, {key: value[part] for key, value in batch.items()}
        ) as mixed:
            total += mixed.loss(model(**mixed.inputs), num_items_in_batch=5)
    partner = torch.tensor([3, 2, 1, 0, 5, 4]) if method.startswith("inter") else None
    with Mixup(shared(config))(model, batch, partner=partner) as mixed:
        torch.testing.assert_close(total, mixed.loss(model(**mixed.inputs), num_items_in_batch=5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "name", "attack"), [*METHODS, TEXT])
@pytest.mark.parametrize("setting", ["checkpointing", "autocast"])
def test_checkpointing_and_autocast_change_rounding_alone(method: str, name: str, attack: Any, setting: str) -> None:
    gradients = []
    for on in (False, True):
        model, batch = build(name).train(), batch_of(name, lengths=True)
        if on and setting == "checkpointing":
            model.gradient_checkpointing_enable()
        low = torch.autocast("cpu", torch.bfloat16, enabled=on and setting == "autocast")
        config = {"method": method, "attack": attack, "epsilon": 0.05, **by_tokens(method, name)}
        with low, Mixup(config)(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        loss.backward()
        assert loss.dtype == torch.float32
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    if setting == "checkpointing":
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
    else:
        one, other = (torch.cat([g.flatten() for g in each.values()]) for each in gradients)
        assert F.cosine_similarity(one, other, dim=0) > 0.98


@pytest.mark.parametrize(("method", "name", "attack"), [METHODS[1], TEXT])
def test_compiled_models_give_the_same_and_do_not_recompile(method: str, name: str, attack: Any) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    model, batch = build(name).eval(), batch_of(name)
    eager, mixup = (Mixup({"method": method, "attack": attack, **by_tokens(method, name)}) for _ in range(2))
    mixup.prepare(model)
    compiled = torch.compile(model, backend=counter)
    for step in range(4):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        with eager(model, batch) as mixed, torch.compiler.set_stance("force_eager"):
            expected = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, expected)
        if step == 1:
            frames = counter.frame_count
    assert counter.frame_count == frames > 0
    torch._dynamo.reset()


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


def test_switch_may_choose_it() -> None:
    model, batch = build("vit").eval(), batch_of("vit")
    methods = ["adversarial", "interpolated_adversarial", "cutmix"]
    mixup, chosen = Mixup({"method": "switch", "methods": methods}), set()
    for _ in range(12):
        with mixup(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        assert torch.isfinite(loss)
        chosen.add(mixed.draw.method)
    assert chosen == set(methods)


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
