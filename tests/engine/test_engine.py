"""The engine's contract and its arithmetic, against references that share no code with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods import METHODS, BoxDraw
from hf_mixup.methods.base import TokenDraw
from hf_mixup.models.blocks import stack_of
from hf_mixup.models.losses import mixed_loss_sum
from tests.conftest import CLASSES, TEXT_MODELS, batch_of, build
from tests.settings import ALL, CASES, ROWS


def permuted(batch: dict[str, torch.Tensor], partner: torch.Tensor) -> dict[str, torch.Tensor]:
    return {key: value[partner] for key, value in batch.items()}


def logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**{k: v for k, v in batch.items() if k != "labels"}).logits


def scored(mixup: Mixup, mixed: Any, outputs: Any) -> torch.Tensor:
    """Return the logits that the loss scores: a method may blend them only there."""
    return mixup.method.chosen(mixed.draw).terms(outputs.logits, mixed.labels, mixed.draw)[0].logits


def test_every_method_has_a_row() -> None:
    assert set(ROWS) == set(METHODS)


@pytest.mark.parametrize(("method", "name", "extra"), ALL)
def test_ends(method: str, name: str, extra: dict[str, Any]) -> None:
    """lam = 1 is the batch, lam = 0 the permuted batch, and a row blended with itself does not change."""
    model, batch = build(name).eval(), batch_of(name)
    partner = torch.tensor([3, 4, 5, 0, 2, 1])
    mixup = Mixup(MixupConfig(method=method, **extra))
    plain, own = logits(model, batch), torch.arange(6)
    for lam, who, expected in [(1.0, partner, plain), (0.0, partner, plain[partner]), (0.3, own, plain)]:
        with mixup(model, batch, partner=who, lam=lam) as mixed:
            found = scored(mixup, mixed, model(**mixed.inputs))
        if method == "resizemix" and who is own:
            continue  # an image in a box of itself is another image
        if lam == 0 and isinstance(mixed.draw, (BoxDraw, TokenDraw)):
            continue  # the largest box is clipped at the border around its random centre, as its definition says
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(model, batch), plain, rtol=0, atol=0)  # no hook stays active


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_embedding_ends_at_different_lengths(name: str) -> None:
    model, batch = build(name).eval(), batch_of(name, lengths=True)
    partner, plain = torch.tensor([3, 4, 5, 0, 2, 1]), logits(build(name).eval(), batch_of(name, lengths=True))
    mixup = Mixup("embedding")
    for lam, expected in [(1.0, plain), (0.0, plain[partner])]:
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            found = model(**mixed.inputs).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with mixup(model, batch, partner=torch.arange(6), lam=0.4) as mixed:
        torch.testing.assert_close(model(**mixed.inputs).logits, plain, rtol=1e-4, atol=1e-5)


def test_embedding_equals_blending_the_table_by_hand() -> None:
    model, batch = build("bert").eval(), batch_of("bert", lengths=True)
    partner, lam = torch.tensor([1, 2, 3, 4, 5, 0]), torch.tensor([0.9, 0.2, 0.5, 0.7, 0.35, 0.6])
    table, mask = model.get_input_embeddings().weight, batch["attention_mask"]
    embeds = torch.zeros(6, 10, 16)
    united = torch.zeros_like(mask)
    for row in range(6):
        for place in range(10):
            a, b = (table[batch["input_ids"][r, place]] for r in (row, partner[row]))
            has_a, has_b = bool(mask[row, place]), bool(mask[partner[row], place])
            embeds[row, place] = lam[row] * a + (1 - lam[row]) * b if has_a == has_b else a if has_a else b
            united[row, place] = has_a or has_b
    expected = model(inputs_embeds=embeds, attention_mask=united).logits
    with Mixup("embedding")(model, batch, partner=partner, lam=lam) as mixed:
        found = model(**mixed.inputs).logits
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_manifold_equals_running_the_blocks_by_hand(depth: int) -> None:
    model, batch = build("vit").eval(), batch_of("vit")
    partner, lam = torch.tensor([1, 2, 3, 4, 5, 0]), torch.tensor([0.9, 0.2, 0.5, 0.7, 0.35, 0.6])
    states = model.vit.embeddings(batch["pixel_values"])
    blocks = [block.module for block in stack_of(model, {"pixel_values": batch["pixel_values"]}).blocks]
    for index, block in enumerate([*blocks, None]):
        if index == depth:
            share = lam[:, None, None]
            states = share * states + (1 - share) * states[partner]
        if block is not None:
            output = block(states)
            states = output[0] if isinstance(output, tuple) else output
    expected = model.classifier(model.vit.layernorm(states)[:, 0])
    with Mixup({"method": "manifold", "layers": [depth]})(model, batch, partner=partner, lam=lam) as mixed:
        torch.testing.assert_close(model(**mixed.inputs).logits, expected)
    assert mixed.draw.depth == depth


@pytest.mark.parametrize(("method", "name"), CASES)
def test_unique_labels_give_two_targets_that_sum_to_one(method: str, name: str) -> None:
    model, batch = build(name), batch_of(name, rows=4)
    batch["labels"] = torch.tensor([2, 0, 3, 1])
    sides = {"box_sides": [0.3, 0.7]}
    boxed: dict[str, Any] = sides if method in ("cutmix", "resizemix") else {"lam": 0.35}
    if method == "switch":
        boxed = {"methods": ["mixup", {"method": "cutmix", **sides}]}
    with Mixup({"method": method, **boxed})(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs))
    assert mixed.targets.dtype == mixed.lam.dtype == torch.float32
    assert ((mixed.targets > 0).sum(-1) == 2).all()
    torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(4))
    torch.testing.assert_close(mixed.targets[torch.arange(4), batch["labels"]], mixed.lam)


@pytest.mark.parametrize(("method", "name"), CASES)
def test_loss_is_soft_cross_entropy(method: str, name: str) -> None:
    model, batch = build(name), batch_of(name, rows=5)
    alone = {"clean_weight": 0.0} if method == "ssmix" else {}  # the mixed rows, without the clean ones beside them
    mixup = Mixup({"method": method, "label_smoothing": 0.1, **alone})
    with mixup(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    loss = mixed.loss(outputs)
    scores, expected = scored(mixup, mixed, outputs).double().log_softmax(-1), 0.0
    for row in range(5):
        for label, share in [
            (batch["labels"][row], mixed.lam[row]),
            (batch["labels"][mixed.partner[row]], 1 - mixed.lam[row]),
        ]:
            target = torch.full((CLASSES,), 0.1 / CLASSES, dtype=torch.float64)
            target[label] += 0.9
            expected = expected - float(share) * (target * scores[row]).sum() / 5
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    loss.backward()  # after the context has closed
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_class_weights_take_the_pair_form() -> None:
    model, batch, weights = build("resnet"), batch_of("resnet"), [0.5, 1.0, 2.0, 4.0]
    with Mixup({"method": "mixup", "class_weights": weights})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    own, other = batch["labels"], batch["labels"][mixed.partner]
    lam, scale = mixed.lam[0], torch.tensor(weights)
    expected = lam * F.cross_entropy(outputs.logits, own, scale) + (1 - lam) * F.cross_entropy(
        outputs.logits, other, scale
    )
    torch.testing.assert_close(mixed.loss(outputs), expected)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_pair_loss_is_torchs_cross_entropy_twice(weights: list[float] | None, smoothing: float) -> None:
    """With an ignored label, weights and smoothing together, loss and gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, CLASSES, generator=generator, dtype=torch.float64, requires_grad=True)
    labels, partner = torch.tensor([0, 3, -100, 1, 2]), torch.tensor([2, 0, 1, 4, 3])
    lam = torch.rand(5, generator=generator)
    scale = None if weights is None else torch.tensor(weights)
    found = mixed_loss_sum(logits, labels, labels[partner], lam, "single_label_classification", smoothing, scale)

    def twice(one: torch.Tensor) -> torch.Tensor:
        double = None if scale is None else scale.double()
        return F.cross_entropy(logits, one, double, reduction="none", label_smoothing=smoothing)

    expected = (lam * twice(labels) + (1 - lam) * twice(labels[partner])).sum()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


def test_other_problem_types() -> None:
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([0.2, 0.7, 0.4])
    batch = batch_of("resnet", rows=3)
    multi = torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 0]])
    share = lam[:, None]
    model = build("resnet")
    with Mixup("mixup")(model, {**batch, "labels": multi}, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    expected = F.binary_cross_entropy_with_logits(outputs.logits, share * multi + (1 - share) * multi[partner])
    torch.testing.assert_close(mixed.loss(outputs), expected)
    assert model.config.problem_type is None  # reading labels writes nothing into the model

    with Mixup({"method": "mixup", "loss": "bce"})(model, batch, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    hot = F.one_hot(batch["labels"], CLASSES).float()
    expected = F.binary_cross_entropy_with_logits(outputs.logits, share * hot + (1 - share) * hot[partner])
    torch.testing.assert_close(mixed.loss(outputs), expected)

    model = build("resnet")
    model.config.num_labels = 1
    model.classifier[1] = torch.nn.Linear(12, 1)
    values = torch.tensor([0.5, -2.0, 3.0])
    with Mixup("mixup")(model, {**batch, "labels": values}, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    expected = F.mse_loss(outputs.logits[:, 0], lam * values + (1 - lam) * values[partner])
    torch.testing.assert_close(mixed.loss(outputs), expected)


@pytest.mark.parametrize(("method", "name"), CASES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_any_number_of_rows(method: str, name: str, rows: int) -> None:
    model, batch = build(name).eval(), batch_of(name, rows=rows)
    for pairing in ("random", "match", "flip", "roll"):
        settings: dict[str, Any] = {"pairing": pairing}
        if method == "switch":  # each of its methods has settings of its own
            settings = {"methods": [{"method": each, **settings} for each in ("mixup", "cutmix")]}
        with Mixup({"method": method, **settings})(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        assert torch.isfinite(loss)
        assert rows == 1 or bool((mixed.partner != torch.arange(rows)).all())


@pytest.mark.parametrize(("method", "name"), CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_low_and_high_precision(method: str, name: str, dtype: torch.dtype) -> None:
    model = build(name).to(dtype)
    batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch_of(name).items()}
    with Mixup(method)(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    assert outputs.logits.dtype == dtype
    assert mixed.lam.dtype == torch.float32
    assert mixed.loss(outputs).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize(("method", "name"), CASES)
def test_the_batch_is_not_touched(method: str, name: str) -> None:
    model, batch = build(name), batch_of(name)
    before = {key: value.clone() for key, value in batch.items()}
    with Mixup(method)(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs)).backward()
    for key, value in before.items():
        assert torch.equal(batch[key], value), key


def test_draws_depend_on_the_key_alone() -> None:
    model, batch = build("resnet"), batch_of("resnet")

    def draws(mixup: Mixup) -> list[Any]:
        found = []
        for _ in range(4):
            torch.rand(3)  # somebody else uses torch's generator
            with mixup(model, batch) as mixed:
                found.append((mixed.lam.tolist(), mixed.partner.tolist()))
        return found

    first = draws(Mixup("mixup"))
    torch.manual_seed(123)
    assert draws(Mixup("mixup")) == first
    assert len({str(d) for d in first}) == 4
    assert draws(Mixup({"draw_seed": 5})) != first

    half = Mixup("mixup")
    assert [*draws_of(half, model, batch, 2)] == first[:2]
    resumed = Mixup("mixup")
    resumed.load_state_dict(half.state_dict())
    assert [*draws_of(resumed, model, batch, 2)] == first[2:]


def draws_of(mixup: Mixup, model: torch.nn.Module, batch: Any, count: int) -> Iterable[Any]:
    for _ in range(count):
        with mixup(model, batch) as mixed:
            yield mixed.lam.tolist(), mixed.partner.tolist()


def test_prob_and_rate() -> None:
    model, batch = build("resnet"), batch_of("resnet", rows=8)
    mixup = Mixup({"prob": 0.3, "prob_per": "sample"})
    shares = [(lam < 1).float().mean() for lam in lams(mixup, model, batch, 200)]
    assert abs(float(torch.stack(shares).mean()) - 0.3) < 0.05
    assert len({float(s) for s in shares}) > 3
    mixup = Mixup({"prob": 0.3})
    shares = [float((lam < 1).float().mean()) for lam in lams(mixup, model, batch, 200)]
    assert set(shares) == {0.0, 1.0}
    assert abs(sum(shares) / 200 - 0.3) < 0.1


def lams(mixup: Mixup, model: torch.nn.Module, batch: Any, count: int) -> Iterable[torch.Tensor]:
    for _ in range(count):
        with mixup(model, batch) as mixed:
            yield mixed.lam


def test_lam_per_pair_is_shared_by_the_pair() -> None:
    model, batch = build("resnet"), batch_of("resnet", rows=8)
    for method in ("mixup", "cutmix"):
        with Mixup({"method": method, "lam_per": "pair"})(model, batch) as mixed:
            assert torch.equal(mixed.lam, mixed.lam[mixed.partner])
            assert torch.equal(mixed.partner[mixed.partner], torch.arange(8))
            assert len(mixed.lam.unique()) == 4


def test_pair_class() -> None:
    model, batch = build("resnet"), batch_of("resnet", rows=8)
    batch["labels"] = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    for choice, same in (("same", True), ("different", False)):
        with Mixup({"pair_class": choice})(model, batch) as mixed:
            assert ((batch["labels"] == batch["labels"][mixed.partner]) == same).all()


def test_switch_chooses_by_its_probabilities() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    mixup = Mixup({"method": "switch", "probs": [0.2, 0.8]})
    chosen = []
    for _ in range(200):
        with mixup(model, batch) as mixed:
            chosen.append(mixed.draw.method)
    assert set(chosen) == {"mixup", "cutmix"}
    assert abs(chosen.count("cutmix") / 200 - 0.8) < 0.1


def test_a_model_that_was_never_run_inside_is_refused() -> None:
    model, batch = build("bert"), batch_of("bert")
    outputs = model(**{k: v for k, v in batch.items() if k != "labels"})
    with Mixup("manifold")(model, batch) as mixed, pytest.raises(RuntimeError, match="did not pass the place"):
        mixed.loss(outputs)


class Beside(torch.nn.Module):
    """A block that reads the token embeddings again, beside what it is given."""

    def __init__(self, block: Any, table: Any) -> None:
        super().__init__()
        self.block, self.table, self.ids = block, table, torch.zeros(0)

    def forward(self, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(states + self.table(self.ids), *args, **kwargs)


def reading_twice(block: int) -> Any:
    """Make a BERT of which one block goes past whatever is blended below it."""
    model = build("bert").eval()
    layers = model.bert.encoder.layer
    layers[block] = beside = Beside(layers[block], model.bert.embeddings.word_embeddings)

    def keep(module: Any, args: Any, kwargs: Any) -> None:
        beside.ids = kwargs["input_ids"]

    model.register_forward_pre_hook(keep, with_kwargs=True)
    return model


def test_default_depths_that_leak_are_left_out() -> None:
    model, batch = reading_twice(2), batch_of("bert")
    mixup, depths = Mixup("manifold"), set()
    assert mixup.method.depths(model, batch) == [2, 3]
    with pytest.warns(UserWarning, match=r"at depths \[3\] only: at its other default depths, \[2\]"):
        mixup(model, batch)
    for _ in range(8):
        with mixup(model, batch) as mixed:
            mixed.loss(model(**mixed.inputs))
        depths.add(mixed.draw.depth)
    assert depths == {3}
    with pytest.raises(RuntimeError, match="'manifold' at depth 2"):
        Mixup({"method": "manifold", "layers": [2, 3]})(model, batch)


@pytest.mark.parametrize("method", ["mixup", "cutmix", "fmix", "gridmix", "saliencymix"])
def test_rows_of_a_pair_toss_their_own_coins(method: str) -> None:
    model, batch = build("resnet").eval(), batch_of("resnet", rows=400)
    config = {"method": method, "lam_per": "pair", "prob": 0.5, "prob_per": "sample", "beta": 8.0, "alpha": 8.0}
    with Mixup({**config, "self_check": False})(model, batch) as mixed:
        assert 0.4 < mixed.rate < 0.6
