"""Semantic segmentation: labels of pixels mixed with the pixels, against loops over pixels in double precision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer

from hf_mixup import Mixup, MixupCollator, MixupTrainer
from hf_mixup.functional import paste_nearest
from hf_mixup.integrations.model_hooks import ModelHooks
from hf_mixup.utils.constants import IGNORE_INDEX
from tests.segmenters import CLASSES, SEGMENTERS, build_segmenter, segmentation_batch, side_of

PARTNER, LAM = torch.tensor([3, 4, 0, 2, 1]), torch.tensor([0.9, 0.2, 1.0, 0.7, 0.35])
CUTS = ["cutmix", "gridmix", "fmix", "saliencymix", "mosaic"]
STILL = {"classifier_dropout_prob": 0.0, "drop_path_rate": 0.0}  # nothing random in training


def by_pixel(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of cross-entropies over pixels, each by itself: logits [B, C, H, W], labels [B, H, W], -100 ignored."""
    total = torch.zeros((), dtype=torch.float64)
    for row, y, x in (labels != IGNORE_INDEX).nonzero().tolist():
        scores = logits[row, :, y, x].double()
        share = 1.0 if weights is None else float(weights[row])
        total = total + share * (scores.logsumexp(0) - scores[labels[row, y, x]])
    return total


def enlarged(logits: Tensor, labels: Tensor) -> Tensor:
    return F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)


def kept(labels: Tensor) -> Tensor:
    return labels.masked_fill(labels == 255, IGNORE_INDEX)


def addressed(rows: int, size: int) -> Tensor:
    """Make images whose pixels say where they are from: row, line and column."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (rows, size, size)), indexing="ij"))
    return grid.movedim(0, 1).contiguous()


class DeepForSemanticSegmentation(torch.nn.Module):
    """Three blocks, of which the first has a head of its own, that only the loss sees."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=CLASSES, auxiliary_loss_weight=0.4)
        self.blocks = torch.nn.ModuleList(torch.nn.Conv2d(size, 8, 1) for size in (3, 8, 8))
        self.head, self.auxiliary_head = (torch.nn.Conv2d(8, CLASSES, 1) for _ in range(2))

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        states, scores = pixel_values, []
        for block in self.blocks:
            states = block(states).tanh()
            scores.append(self.auxiliary_head(states) if not scores else states)
        logits, found = self.head(states), {}
        if labels is not None:
            found["loss"] = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(scores[0], labels)
        return {**found, "logits": logits}


def test_what_an_auxiliary_head_scores_is_exchanged_or_the_depth_is_refused() -> None:
    torch.manual_seed(0)
    model, batch = DeepForSemanticSegmentation(), segmentation_batch(size=8)
    batch["labels"] = batch["labels"].clamp(max=CLASSES - 1)
    with Mixup({"method": "manifold", "layers": [1]})(model, batch, partner=PARTNER, lam=0.0) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(found, model(**{key: value[PARTNER] for key, value in batch.items()})["loss"])
    with pytest.raises(RuntimeError, match="'manifold' at depth 2: with lam = 0 its outputs miss"):
        Mixup({"method": "manifold", "layers": [2]})(model, batch)


@pytest.mark.parametrize("kind", SEGMENTERS)
def test_unmixed_loss_is_the_models_own(kind: str) -> None:
    """With the auxiliary heads of those that have one; the trial before the first step passes, too."""
    model, batch = build_segmenter(kind), segmentation_batch(3, side_of(kind))
    own = model(**batch).loss
    own.backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with Mixup("cutmix")(model, batch, lam=1.0) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(loss, own, rtol=1e-5, atol=1e-6)
    loss.backward()
    for expected, parameter in zip(gradients, model.parameters()):
        assert (expected is None) == (parameter.grad is None)
        if expected is not None:
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5 * float(1 + expected.abs().max()))


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("method", CUTS)
def test_each_pixel_has_the_label_that_it_shows(method: str, lam_per: str) -> None:
    model, batch = build_segmenter("segformer"), segmentation_batch(4)
    batch["pixel_values"] = addressed(4, 32)
    labels = kept(batch["labels"])
    with Mixup({"method": method, "lam_per": lam_per, "draw_seed": 2, "lam": 0.6})(model, batch) as mixed:
        scores = enlarged(model(**mixed.inputs).logits, labels)
        loss = mixed.loss({"logits": scores})
    row, y, x = mixed.inputs["pixel_values"].long().unbind(1)
    shown, found = labels[row, y, x], mixed.inputs["pixel_values"]
    assert bool((row != torch.arange(4)[:, None, None]).any())
    for number in range(4):
        own = (row[number] == number).float().mean()
        torch.testing.assert_close(own, mixed.lam[number], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        loss.double(), by_pixel(scores, shown) / (labels != IGNORE_INDEX).sum(), rtol=1e-5, atol=0
    )
    hard = F.one_hot(shown.clamp(min=0), CLASSES) * (shown != IGNORE_INDEX)[..., None]
    torch.testing.assert_close(mixed.targets, hard.float(), rtol=0, atol=0)
    predicted, counted = scores.argmax(1), shown != IGNORE_INDEX
    accuracy = ((predicted == shown) & counted).sum() / counted.sum()
    torch.testing.assert_close(mixed.accuracy(), accuracy, rtol=1e-6, atol=0)
    assert found.shape == batch["pixel_values"].shape


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_resizemix_pastes_the_whole_mask_by_the_nearest(lam_per: str) -> None:
    model, batch = build_segmenter("segformer"), segmentation_batch(4)
    labels = kept(batch["labels"])
    with Mixup({"method": "resizemix", "lam_per": lam_per, "draw_seed": 1})(model, batch) as mixed:
        scores = enlarged(model(**mixed.inputs).logits, labels)
        loss = mixed.loss({"logits": scores})
    shown = labels.clone()
    for row in range(4):
        top, left, bottom, right = mixed.draw.boxes.expand(4, 4)[row].tolist()
        height, width = bottom - top, right - left
        for y in range(top, bottom):
            for x in range(left, right):
                source = int((y - top + 0.5) * 32 / height), int((x - left + 0.5) * 32 / width)
                shown[row, y, x] = labels[mixed.partner[row]][source]
    assert torch.equal(paste_nearest(labels, mixed.partner, mixed.draw.boxes), shown)
    torch.testing.assert_close(
        loss.double(), by_pixel(scores, shown) / (labels != IGNORE_INDEX).sum(), rtol=1e-5, atol=0
    )


def test_a_mask_of_blocks_resized_is_as_torch_resizes_it() -> None:
    labels = torch.randint(0, 9, (3, 12, 12))
    for side in (1, 3, 5, 12):
        pasted = paste_nearest(labels, torch.tensor([1, 2, 0]), torch.tensor([0, 0, side, side]))
        theirs = F.interpolate(labels[[1, 2, 0], None].float(), size=(side, side), mode="nearest-exact")[:, 0].long()
        assert torch.equal(pasted[:, :side, :side], theirs)


@pytest.mark.parametrize("method", ["mixup", "manifold", "regmixup"])
def test_linear_blends_weigh_two_labels_a_pixel(method: str) -> None:
    """With an auxiliary head, whose labels are mixed as the others are."""
    model, batch = build_segmenter("beit"), segmentation_batch(5)
    labels, heard = kept(batch["labels"]), []
    model.auxiliary_head.register_forward_hook(lambda module, args, output: heard.append(output))
    settings = {"layers": [0]} if method == "manifold" else {}
    with Mixup({"method": method, "self_check": False, **settings})(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    total = torch.zeros((), dtype=torch.float64)
    for logits, share in ((outputs.logits, 1.0), (heard[-1], model.config.auxiliary_loss_weight)):
        scores = enlarged(logits, labels)
        if method == "regmixup":
            changed = (LAM < 1).nonzero()[:, 0]
            total = total + share * by_pixel(scores[:5], labels)
            scores, own, other, lam = scores[5:], labels[changed], labels[PARTNER][changed], LAM[changed]
        else:
            own, other, lam = labels, labels[PARTNER], LAM
        total = total + share * (by_pixel(scores, own, lam) + by_pixel(scores, other, 1 - lam))
    torch.testing.assert_close(loss.double(), total / (labels != IGNORE_INDEX).sum(), rtol=1e-5, atol=0)


def test_what_the_model_ignores_is_ignored() -> None:
    """Class 0 here, and -100, which torch ignores; the number of logged items follows."""
    model, batch = build_segmenter("segformer", semantic_loss_ignore_index=0), segmentation_batch(2)
    batch["labels"] = batch["labels"].where(batch["labels"] != 255, 0)
    own = model(**batch).loss
    for value in (0, -100):
        with Mixup("mixup")(
            model, {**batch, "labels": batch["labels"].where(batch["labels"] != 0, value)}, lam=1.0
        ) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(loss, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_accumulated_batches_are_one_batch(method: str) -> None:
    model, batch, partner = build_segmenter("beit"), segmentation_batch(4), torch.tensor([1, 0, 3, 2])
    mixup, items, found = Mixup(method), (kept(batch["labels"]) != IGNORE_INDEX).sum(), []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        model.zero_grad()
        total = torch.zeros(())
        for part in parts:
            mixup.set_step(0)  # the same box
            some = {key: value[part] for key, value in batch.items()}
            with mixup(model, some, partner=partner[: len(some["labels"])], lam=0.7) as mixed:
                outputs = model(**mixed.inputs)
            loss = mixed.loss(outputs, items)
            loss.backward()
            total = total + loss.detach()
        found.append((total, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-6)
    for one, two in zip(found[0][1], found[1][1]):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5 * float(1 + one.abs().max()))


def test_a_compiled_model_with_an_auxiliary_head_is_traced_once() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    model, batch, mixup = build_segmenter("beit"), segmentation_batch(3), Mixup("cutmix")
    mixup.prepare(model)
    counter, losses, traced = CompileCounterWithBackend("eager"), [], []
    for runs in (torch.compile(model, backend=counter), model):
        mixup.set_step(0)
        for _ in range(3):
            with mixup(runs, batch) as mixed:
                outputs = runs(**mixed.inputs)
            losses.append(mixed.loss(outputs))
            traced.append(counter.frame_count)
    assert set(traced) == {1}
    torch.testing.assert_close(torch.stack(losses[:3]), torch.stack(losses[3:]), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def rows_of(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    return [dict(zip(batch, values)) for values in zip(*batch.values())]


@pytest.mark.parametrize("method", ["cutmix", "switch"])
def test_the_trainer_mixes_masks_and_evaluates_as_ever(method: str, arguments: Any) -> None:
    rows, held = rows_of(segmentation_batch(12)), rows_of(segmentation_batch(4, seed=7))
    model = build_segmenter("segformer")
    args = arguments(
        gradient_accumulation_steps=2, per_device_train_batch_size=3, logging_strategy="steps", logging_steps=1
    )
    trainer = MixupTrainer(model, args, mixup=method, train_dataset=rows, eval_dataset=held)
    counted = trainer._get_num_items_in_batch([segmentation_batch(3), segmentation_batch(2)], torch.device("cpu"))
    assert int(counted) == sum(
        int((kept(segmentation_batch(count)["labels"]) != IGNORE_INDEX).sum()) for count in (3, 2)
    )
    trainer.train()
    logs = trainer.state.log_history[0]
    assert 0 < logs["mixup_accuracy"] < 1
    assert 0 < logs["mixup_rate"] <= 1
    plain = Trainer(model, args, eval_dataset=held).evaluate()["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain, rel=1e-6)


def test_the_trainers_count_of_pixels_gives_shares_of_one() -> None:
    """It counts pixels that the model ignores, too: the collator's and the callback's loss is a share of its own."""
    found = []
    for items in (None, torch.tensor(4 * 32 * 32)):
        model, batch = build_segmenter("segformer", **STILL), segmentation_batch(2)
        hooks = ModelHooks(Mixup({"method": "mixup", "lam": 0.5, "pairing": "flip"}), model.train())
        given = {} if items is None else {"num_items_in_batch": items}
        found.append(model(**batch, **given).loss.item())
        hooks.remove()
    assert found[1] == pytest.approx(found[0] / 2, rel=1e-6)


def test_a_teacher_of_another_size_scores_pixels() -> None:
    model, teacher, batch = build_segmenter("segformer"), build_segmenter("sapiens2", seed=2), segmentation_batch(3)
    labels = kept(batch["labels"])
    with Mixup({"method": "cutmix", "distill_weight": 1.0}, teacher=teacher)(model, batch, lam=0.6) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    given = mixed.inputs["pixel_values"]
    q, p = (
        (enlarged(each, labels).double() / 2).softmax(1)
        for each in (outputs.logits, teacher(pixel_values=given).logits)
    )
    own = torch.ones(1, 32, 32, dtype=torch.bool)
    top, left, bottom, right = mixed.draw.boxes.tolist()
    own[:, top:bottom, left:right] = False
    shown = torch.where(own, labels, labels[mixed.partner])
    each = 4 * (p * (p / q).log()).sum(1)
    torch.testing.assert_close(
        loss.double(), each[shown != IGNORE_INDEX].sum() / (labels != IGNORE_INDEX).sum(), rtol=1e-5, atol=1e-7
    )


def test_refusals(arguments: Any) -> None:
    model, batch = build_segmenter("segformer"), segmentation_batch(2)

    def mix(method: Any, labels: Tensor | None = None, model: Any = model) -> None:
        Mixup(method)(model, {**batch, **({} if labels is None else {"labels": labels})})

    small = batch["labels"][:, ::2, ::2]
    for method in (*CUTS, "resizemix"):
        with pytest.raises(ValueError, match=f"labels of 16 x 16 pixels and images of 32 x 32: method '{method}'"):
            mix(method, small)
    mix("mixup", small)  # which cuts nothing
    for method in ("transmix", "sentence", {"method": "switch", "methods": ["mixup", "transmix"]}):
        with pytest.raises(ValueError, match=r"does not mix the labels of pixels that .* use one of mixup, cutmix"):
            mix(method)
    with pytest.raises(ValueError, match=r"labels of pixels hold torch\.float32: expected integers"):
        mix("mixup", batch["labels"].float())
    with pytest.raises(ValueError, match="label 9 is outside the model's 4 classes"):
        mix("mixup", torch.full_like(batch["labels"], 9))
    collator = MixupCollator(mixup="cutmix", model=build_segmenter("segformer"))
    with pytest.raises(ValueError, match="label 9 is outside the model's 4 classes"):
        collator([{**row, "labels": torch.full((32, 32), 9)} for row in rows_of(batch)])
    with pytest.raises(ValueError, match="num_labels=1: mixing labels of pixels needs a logit for each class"):
        mix("mixup", None, build_segmenter("segformer", num_labels=1))
    kind = type("MaskFormer", (torch.nn.Module,), {})
    with pytest.raises(ValueError, match="MaskFormer takes masks and their classes"):
        Mixup("mixup")(kind(), {"pixel_values": batch["pixel_values"], "mask_labels": []})
    unlabelled = [{**row, "labels": torch.full((32, 32), 255)} for row in rows_of(batch)]
    with pytest.raises(ValueError, match="all 2048 labels of the first batch are -100"):
        MixupTrainer(build_segmenter("segformer"), arguments(), train_dataset=unlabelled, mixup="cutmix").train()
