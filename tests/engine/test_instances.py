"""Instance and universal segmentation: masks of both samples with weights, or cut, against loops in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup import Mixup
from hf_mixup.engine.instances import weigh
from hf_mixup.models.hooks import hooks_of
from tests.instance_models import CLASSES, KINDS, SIDE, build, instances, pick

PARTNER, LAM = torch.tensor([1, 3, 0, 2]), torch.tensor([0.3, 0.8, 1.0, 0.0])
CUTS = ("cutmix", "resizemix", "fmix", "gridmix", "saliencymix", "mosaic")


def seeded(model: Any, inputs: dict[str, Any]) -> Any:
    """Run a model whose loss looks at random points, at the same ones each time."""
    torch.manual_seed(5)
    return model(**inputs)


def mixed_loss(model: Any, batch: dict[str, Any], method: Any, lam: float, partner: Tensor = PARTNER) -> Tensor:
    with Mixup(method)(model, batch, partner=partner, lam=lam) as mixed:
        return mixed.loss(seeded(model, mixed.inputs))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_1_give_the_models_own_loss_and_gradients(kind: str, training: bool) -> None:
    """Of all layers, and of a sample without masks."""
    model, batch, found = build(kind).train(training), instances(kind, counts=(2, 3, 0, 1)), []
    for weighted in (False, True):
        model.zero_grad()
        if weighted:
            weigh(model, [torch.ones(len(each)) for each in batch["class_labels"]])
        loss = seeded(model, batch).loss.sum()
        hooks_of(model).deactivate()
        loss.backward()
        found.append((loss.detach(), [None if p.grad is None else p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-6, atol=1e-6)
    largest = max(float(each.abs().max()) for each in found[0][1] if each is not None)
    for own, ours in zip(found[0][1], found[1][1]):
        assert (own is None) == (ours is None)
        if own is not None:
            torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("method", ["mixup", *CUTS])
def test_samples_without_instances_learn_that_there_are_none(method: str) -> None:
    model = build("mask2former")
    for counts in ((0, 2, 0, 1), (0, 0, 0, 0)):
        batch = instances("mask2former", counts=counts)
        with Mixup({"method": method, "draw_seed": 3})(model, batch) as mixed:
            loss = mixed.loss(seeded(model, mixed.inputs))
        loss.backward()
        assert bool(torch.isfinite(loss))
        for row, target in enumerate(mixed.targets):
            assert len(target["masks"]) == len(target["class_labels"]) == len(target["weights"])
            assert len(target["masks"]) or not counts[row] or method != "mixup"
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("method", ["mixup", "cutmix", "mosaic"])
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_ends_the_loss_is_the_samples_own_or_the_partners(kind: str, method: str) -> None:
    model, batch, partner = build(kind), instances(kind, counts=(2, 3, 0, 1)), torch.tensor([1, 0, 0, 2])
    if kind == "oneformer" and method != "mixup":
        batch["task_inputs"] = batch["task_inputs"][:1].expand(4, -1)  # tasks cannot be cut
    with torch.no_grad():
        own, others = seeded(model, batch).loss, seeded(model, pick(batch, partner.tolist())).loss
        ends = [mixed_loss(model, batch, method, lam, partner) for lam in (1.0, 0.0)]
        half = mixed_loss(model, batch, method, 0.5, partner)
    assert abs(own - others) > 1e-2
    torch.testing.assert_close(torch.stack(ends), torch.stack([own.reshape(()), others.reshape(())]), rtol=1e-5, atol=0)
    assert min(abs(half - end) for end in ends) > 1e-3


@pytest.mark.parametrize("shown", [1.0, 0.0])  # a trained EoMT predicts on its way in training alone
@pytest.mark.parametrize("kind", ["eomt", "eomt_dinov3"])
def test_what_is_predicted_on_the_way_is_mixed_or_the_depth_is_refused(kind: str, shown: float) -> None:
    model, batch, partner = build(kind).train(), instances(kind), torch.tensor([1, 0, 0, 2])
    model.attn_mask_probs.fill_(shown)
    with torch.no_grad():
        expected = seeded(model, pick(batch, partner.tolist())).loss
        for depth in (0, 1):
            found = mixed_loss(model, batch, {"method": "manifold", "layers": [depth]}, 0.0, partner)
            torch.testing.assert_close(found, expected.reshape(()), rtol=1e-5, atol=0)
        with pytest.raises(RuntimeError, match="at depth 2: with lam = 0 the model's own loss misses the partner's"):
            Mixup({"method": "manifold", "layers": [2]})(model, batch)
    assert model.training
    assert not hooks_of(model).active


class Watched:
    """What a criterion matches and where it looks, call by call."""

    def __init__(self, criterion: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.own = criterion.matcher.forward, getattr(criterion, "sample_points_using_uncertainty", None)
        criterion.matcher.forward = self.match
        if self.own[1] is not None:
            criterion.sample_points_using_uncertainty = self.look

    def match(self, masks: Tensor, classes: Tensor, *labels: Any) -> Any:
        found = self.own[0](masks, classes, *labels)
        self.calls.append({"masks": masks.double(), "classes": classes.double(), "matches": found, "points": None})
        return found

    def look(self, *args: Any) -> Tensor:
        points: Tensor = self.own[1](*args)
        self.calls[-1]["points"] = points.double()
        return points


def at_points(mask: Tensor, points: Tensor) -> Tensor:
    """A mask [H, W] read at points (x, y) in [0, 1], between pixels bilinearly, 0 outside, in loops."""
    height, width = mask.shape
    found = []
    for x, y in (points * torch.tensor([width, height]) - 0.5).tolist():
        left, top, value = int(x // 1), int(y // 1), torch.zeros((), dtype=torch.float64)
        for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                value = value + (1 - abs(x - column)) * (1 - abs(y - row)) * mask[row, column]
        found.append(value)
    return torch.stack(found)


def loss_by_hand(call: dict[str, Any], targets: list[dict[str, Tensor]], share: dict[str, float], eos: float) -> float:
    """The loss of one layer, mask by mask and query by query."""
    mass = max(1.0, sum(float(each["weights"].sum()) for each in targets))
    above = below = pixels = overlap = 0.0
    number = 0
    for row, target in enumerate(targets):
        taken = {int(q): int(t) for q, t in zip(*call["matches"][row])}
        for query in range(call["classes"].shape[1]):
            scores, mask = call["classes"][row, query], taken.get(query)
            wanted = CLASSES if mask is None else int(target["class_labels"][mask])
            weight = (eos if mask is None else float(target["weights"][mask])) * 1.0
            above += weight * (scores.logsumexp(0) - scores[wanted]).item()
            below += weight
        for query, mask in zip(*(each.tolist() for each in call["matches"][row])):
            weight = float(target["weights"][mask])
            score, wanted = call["masks"][row, query], target["masks"][mask].double()
            if call["points"] is None:
                size = wanted.shape
                score = F.interpolate(score[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
                score, wanted = score.flatten(), wanted.flatten()
            else:
                score, wanted = (at_points(each, call["points"][number]) for each in (score, wanted))
            number += 1
            p = score.sigmoid()
            each = -(wanted * F.logsigmoid(score) + (1 - wanted) * F.logsigmoid(-score))
            if call["points"] is None:  # focal
                each = each * (wanted * (1 - p) + (1 - wanted) * p) ** 2 * (0.25 * wanted + 0.75 * (1 - wanted))
            pixels += weight * each.mean().item()
            overlap += weight * (1 - (2 * (p * wanted).sum() + 1) / (p.sum() + wanted.sum() + 1)).item()
    parts = {"cross_entropy": above / below, "mask": pixels / mass, "dice": overlap / mass}
    return sum(share[f"loss_{name}"] * part for name, part in parts.items())


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_both_samples_count_by_their_weight(kind: str) -> None:
    model, batch = build(kind), instances(kind, counts=(2, 3, 0, 1))
    texts: list[Tensor] = []
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed, torch.no_grad():
        watched, criterion = Watched(model.criterion), model.criterion
        if kind == "oneformer":
            model.model.text_mapper.register_forward_hook(lambda module, args, output: texts.append(output))
        outputs = seeded(model, mixed.inputs)
        loss = float(mixed.loss(outputs))
    layers = [loss_by_hand(call, mixed.targets, model.weight_dict, criterion.eos_coef) for call in watched.calls]
    assert len(layers) > (0 if kind == "maskformer" else 1)
    expected = sum(layers)
    if kind == "oneformer":
        images, named = (
            outputs.transformer_decoder_contrastive_queries.double().flatten(1),
            texts[0].double().flatten(1),
        )
        scale = min(100.0, criterion.logit_scale.exp().item())
        compared = 0.0
        for row in range(4):
            for source, share in ((row, LAM[row].item()), (int(PARTNER[row]), 1 - LAM[row].item())):
                chosen = named if source == row else named[PARTNER]
                table = [[scale * F.cosine_similarity(one, other, 0).item() for other in chosen] for one in images]
                logits = torch.tensor(table, dtype=torch.float64)
                compared += (
                    share / 4 * sum((each.logsumexp(0) - each[row]).item() for each in (logits[row], logits[:, row]))
                )
        expected += model.weight_dict["loss_contrastive"] * compared
    assert loss == pytest.approx(expected, rel=2e-5)


def test_a_blend_has_the_masks_of_both_and_the_batch_stays_as_it_was() -> None:
    model, batch = build("mask2former"), instances("mask2former", counts=(2, 3, 0, 1))
    kept = {key: [each.clone() for each in value] for key, value in batch.items()}
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed:
        inputs = mixed.inputs
    masks, classes, x = batch["mask_labels"], batch["class_labels"], batch["pixel_values"]
    for row in range(4):
        lam, other = float(LAM[row]), int(PARTNER[row])
        parts = [(row, lam)] * (lam > 0) + [(other, 1 - lam)] * (lam < 1)
        torch.testing.assert_close(inputs["pixel_values"][row], lam * x[row] + (1 - lam) * x[other])
        assert torch.equal(inputs["mask_labels"][row], torch.cat([masks[source] for source, _ in parts]))
        assert torch.equal(inputs["class_labels"][row], torch.cat([classes[source] for source, _ in parts]))
        weights = torch.tensor([share for source, share in parts for _ in masks[source]])
        torch.testing.assert_close(mixed.targets[row]["weights"], weights)
    assert all(torch.equal(one, other) for key in kept for one, other in zip(batch[key], kept[key]))
    assert {"loss_masks", "loss_labels"}.isdisjoint(vars(model.criterion))


def addressed(rows: int) -> Tensor:
    """Images whose pixels say where they are from: sample, line and column."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (rows, SIDE, SIDE)), indexing="ij"))
    return grid.movedim(0, 1).contiguous()


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("method", ["cutmix", "fmix", "gridmix", "mosaic"])
def test_cut_masks_follow_their_pixels(method: str, lam_per: str) -> None:
    """Each pixel of a mixed mask is that of the mask which the image's pixel comes from."""
    model, batch, dropped = build("eomt"), instances("eomt", rows=5), 0
    batch["pixel_values"] = addressed(5)
    for seed in range(4):
        mixup = Mixup({"method": method, "lam_per": lam_per, "draw_seed": seed})
        with mixup(model, batch) as mixed:
            pixels = mixed.inputs["pixel_values"].long()
        for row, target in enumerate(mixed.targets):
            found = zip(target["class_labels"].tolist(), target["masks"].tolist(), target["weights"].tolist())
            sample, line, column = pixels[row]
            moved = torch.stack([sample, line, column], -1) - addressed(1)[0].long().movedim(0, -1)
            expected = []
            for part in moved.reshape(-1, 3).unique(dim=0):  # a source, and how far it was moved
                for label, mask in zip(batch["class_labels"][part[0]], batch["mask_labels"][part[0]]):
                    shown = mask[line, column] * (moved == part).all(-1)
                    if bool(shown.any()):
                        expected.append((int(label), shown.tolist(), float(shown.sum() / mask.sum())))
                    dropped += not bool(shown.any())
            assert sorted(found) == sorted(expected)
    assert dropped


def test_masks_move_into_the_box_with_the_image_that_is_made_smaller() -> None:
    model, batch = build("eomt"), instances("eomt", rows=2)
    with Mixup("resizemix")(model, batch, partner=torch.tensor([1, 0]), lam=0.75) as mixed:
        top, left, bottom, right = mixed.draw.boxes[0].tolist()
    own, other = batch["mask_labels"]
    small = torch.zeros(len(other), SIDE, SIDE)
    small[:, top:bottom, left:right] = other[:, 1::2, 1::2]  # of 2 x 2 pixels the nearest to the middle
    outside = own.clone()
    outside[:, top:bottom, left:right] = 0
    expected = [each for each in (*outside, *small) if each.any()]
    assert torch.equal(mixed.targets[0]["masks"], torch.stack(expected))
    shares = torch.cat([outside.sum((1, 2)) / own.sum((1, 2)), small.sum((1, 2)) / other.sum((1, 2))])
    torch.testing.assert_close(mixed.targets[0]["weights"], shares[shares > 0])


@pytest.mark.parametrize("method", CUTS)
def test_one_sample_is_left_alone(method: str) -> None:
    model, batch = build("mask2former"), instances("mask2former", rows=1)
    own = seeded(model, batch).loss
    for settings in ({"lam": 0.4} if method == "mosaic" else {}, {"prob": 1e-9}):
        with Mixup({"method": method, **settings})(model, batch) as mixed:
            torch.testing.assert_close(mixed.loss(seeded(model, mixed.inputs)), own, rtol=1e-6, atol=1e-6)
    assert {"loss_masks", "loss_labels"}.isdisjoint(vars(model.criterion))


def test_what_does_not_go_with_masks_is_refused_with_a_way_out() -> None:
    model, batch = build("eomt"), instances("eomt")
    for settings, message in (
        (
            {"method": "embedding"},
            "method 'embedding' does not mix the masks of instances that Eomt.* use one of mixup",
        ),
        ({"method": "regmixup"}, "method 'regmixup' does not mix the masks of instances"),
        ({"method": "attentive"}, "method 'attentive' asks a model for its classes .*: pass guide="),
        ({"loss": "bce"}, "loss='bce' does not go with the masks of instances: EomtForUniversalSegmentation computes"),
        ({"class_weights": [1.0, 2.0, 3.0]}, "class_weights does not go with the masks of instances"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1 does not go with"),
        ({"pair_class": "same"}, "pair_class='same' needs one integer label a row"),
    ):
        with pytest.raises(ValueError, match=message):
            Mixup({"method": "mixup", **settings})(model, batch)
    with pytest.raises(ValueError, match=r"mask_labels of several sizes, \[\(16, 16\), \(32, 32\)\]: pad those"):
        Mixup("mixup")(
            model, {**batch, "mask_labels": [batch["mask_labels"][0][:, ::2, ::2], *batch["mask_labels"][1:]]}
        )
    small = {**batch, "mask_labels": [each[:, ::2, ::2] for each in batch["mask_labels"]]}
    for method in CUTS:
        with pytest.raises(ValueError, match="labels of 16 x 16 pixels and images of 32 x 32"):
            Mixup(method)(model, small)
    Mixup("mixup")(model, small)  # which cuts nothing
    with pytest.raises(ValueError, match=r"masks of 2 samples and pixel_values \[4, 3, 32, 32\]"):
        Mixup("mixup")(model, {**batch, "mask_labels": batch["mask_labels"][:2]})
    other = type("SomeSegmenter", (torch.nn.Module,), {})()
    with pytest.raises(ValueError, match=r"SomeSegmenter learns masks by a loss that takes no weights: .*Mask2Former"):
        Mixup("mixup")(other, batch)
    tasks = instances("oneformer")
    with pytest.raises(RuntimeError, match=r"leaves task_inputs as they are .* Use 'mixup'"):
        Mixup("cutmix")(build("oneformer"), tasks)


def test_a_loss_of_another_release_is_found_out() -> None:
    model, batch = build("mask2former"), instances("mask2former")
    own = model.get_loss
    model.get_loss = lambda losses: 2 * own(losses)
    Mixup("mixup")(model, batch)  # what the model makes of the parts stays its own
    model = build("mask2former")
    kind = type("Other", (type(model.criterion),), {})
    kind.loss_labels = lambda self, *args: {"loss_cross_entropy": torch.ones(())}
    model.criterion.__class__ = kind
    with pytest.raises(RuntimeError, match=r"two samples is .* with weights that are all 1: this release"):
        Mixup("mixup")(model, batch)


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_in_half_precision_the_ends_stay(method: str) -> None:
    model, batch, partner = build("mask2former"), instances("mask2former"), torch.tensor([1, 0, 0, 2])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        own, others = seeded(model, batch).loss, seeded(model, pick(batch, partner.tolist())).loss
        ends = [mixed_loss(model, batch, method, lam, partner) for lam in (1.0, 0.0)]
    assert abs(own - others) > 1e-2
    torch.testing.assert_close(
        torch.stack(ends).float(), torch.stack([own, others]).reshape(2).float(), rtol=2e-3, atol=0
    )
