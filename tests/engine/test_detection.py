"""Object detection: images blended, boxes of both with weights, against loops over queries in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer, YolosConfig, YolosForObjectDetection
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher
from transformers.loss.loss_for_object_detection import HungarianMatcher
from transformers.loss.loss_lw_detr import LwDetrHungarianMatcher
from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.engine.detection import _weigh
from hf_mixup.methods.mixup import united_boxes
from hf_mixup.models.hooks import hooks_of
from tests.detectors import CLASSES, DETECTORS, SIDE, boxed, build_detector
from tests.entry_points import ENTRY_POINTS

PARTNER, LAM = torch.tensor([1, 3, 0, 2]), torch.tensor([0.3, 0.8, 1.0, 0.0])
COSTS = ("class_cost", "bbox_cost", "giou_cost")


def batch_for(kind: str, rows: int = 4, seed: int = 1) -> dict[str, Any]:
    batch = boxed(rows, seed)
    if kind == "yolos":
        del batch["pixel_mask"]
    return batch


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", DETECTORS)
def test_weights_of_1_give_the_models_own_loss_and_gradients(kind: str, training: bool) -> None:
    """With auxiliary, encoder and denoising outputs, and rows without boxes."""
    model, batch, found = build_detector(kind).train(training), batch_for(kind), []
    for weighted in (False, True):
        model.zero_grad()
        labels = [united_boxes(each, each, 1.0) for each in batch["labels"]] if weighted else batch["labels"]
        if weighted:
            _weigh(model)
        torch.manual_seed(0)
        loss = model(**{**batch, "labels": labels}).loss
        hooks_of(model).deactivate()
        loss.backward()
        found.append((loss.detach(), [None if p.grad is None else p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-6, atol=1e-6)
    for own, ours in zip(found[0][1], found[1][1]):
        assert (own is None) == (ours is None)
        if own is not None:
            torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-6 * float(1 + own.abs().max()))


def overlaps(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU and generalised IoU of two boxes (center x, center y, width, height)."""
    (al, at, ar, ab), (bl, bt, br, bb) = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b))
    inner = max(0.0, min(ar, br) - max(al, bl)) * max(0.0, min(ab, bb) - max(at, bt))
    union = (ar - al) * (ab - at) + (br - bl) * (bb - bt) - inner
    hull = (max(ar, br) - min(al, bl)) * (max(ab, bb) - min(at, bt))
    return inner / union, inner / union - (hull - union) / hull


def losses_by_hand(
    family: str, config: Any, logits: Tensor, boxes: Tensor, targets: Any, matches: Any
) -> dict[str, float]:
    """The three parts of the loss, query by query."""
    mass = max(1.0, sum(float(each["weights"].sum()) for each in targets))
    sides = overlap = above = below = 0.0
    for row, target in enumerate(targets):
        taken = {int(q): int(t) for q, t in zip(*matches[row])}
        for query in range(logits.shape[1]):
            scores = logits[row, query].double()
            box, wanted, weight, iou = taken.get(query), CLASSES, 1.0, 0.0
            if box is not None:
                wanted, weight = int(target["class_labels"][box]), float(target["weights"][box])
                pair = boxes[row, query].tolist(), target["boxes"][box].tolist()
                iou, general = overlaps(*pair)
                sides += weight * sum(abs(a - b) for a, b in zip(*pair))
                overlap += weight * (1 - general)
            if family == "softmax":
                share = weight * (config.eos_coefficient if wanted == CLASSES else 1.0)
                above += share * (scores.logsumexp(0) - scores[wanted]).item()
                below += share
                continue
            for label, score in enumerate(scores[:CLASSES]):
                p, hit = score.sigmoid().item(), label == wanted
                no, yes = F.softplus(score).item(), F.softplus(-score).item()
                if family == "focal":
                    alpha = config.focal_alpha
                    above += weight * (alpha * (1 - p) ** 2 * yes if hit else (1 - alpha) * p**2 * no)
                elif family == "vfl":
                    quality = iou if hit else 0.0
                    share = quality if hit else config.focal_loss_alpha * p**config.focal_loss_gamma
                    above += weight * share * (quality * yes + (1 - quality) * no)
                else:
                    quality = max(0.01, p**config.focal_alpha * iou ** (1 - config.focal_alpha))
                    above += weight * (quality * yes + (1 - quality) * no if hit else p**2 * no)
    classes = above / (below if family == "softmax" else mass)
    return {"class": classes, "bbox": sides / mass, "giou": overlap / mass}


@pytest.mark.parametrize(
    ("kind", "family"), [("detr", "softmax"), ("deformable_detr", "focal"), ("rt_detr", "vfl"), ("lw_detr", "quality")]
)
def test_boxes_of_both_rows_count_by_their_weight(kind: str, family: str) -> None:
    model, batch = build_detector(kind, **({"group_detr": 1} if kind == "lw_detr" else {})), batch_for(kind)
    config = model.config
    with torch.no_grad():  # scores that differ
        for name, parameter in model.named_parameters():
            if "class" in name and parameter.dim() > 1:
                parameter.mul_(20)
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
    costs = {cost: getattr(config, cost) for cost in COSTS if hasattr(config, cost)}
    scored = {"logits": outputs.logits, "pred_boxes": outputs.pred_boxes}
    if family == "quality":
        matches = LwDetrHungarianMatcher(**costs)(scored, mixed.targets, 1)
    elif family == "vfl":
        matches = RTDetrHungarianMatcher(config)(scored, mixed.targets)
    else:
        matcher = HungarianMatcher if family == "softmax" else DeformableDetrHungarianMatcher
        matches = matcher(**costs)(scored, mixed.targets)
    expected = losses_by_hand(family, config, outputs.logits, outputs.pred_boxes, mixed.targets, matches)
    shares = {"class": 1.0, "bbox": 1.0, "giou": 1.0}
    if family == "vfl":
        shares = {"class": config.weight_loss_vfl, "bbox": config.weight_loss_bbox, "giou": config.weight_loss_giou}
    names = {"class": "loss_vfl" if family == "vfl" else "loss_ce", "bbox": "loss_bbox", "giou": "loss_giou"}
    for part, name in names.items():
        found = outputs.loss_dict[name].item()
        assert found == pytest.approx(shares[part] * expected[part], rel=2e-4), part
    assert torch.equal(mixed.loss(outputs), outputs.loss)


def test_mixed_images_have_the_boxes_of_both() -> None:
    model, batch = build_detector("detr"), batch_for("detr")
    kept = {key: value.clone() for key, value in batch.items() if key != "labels"}
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed:
        inputs = mixed.inputs
        assert model.loss_function is not type(model).loss_function
    labels, x = batch["labels"], batch["pixel_values"]
    for row in range(4):
        lam, other = float(LAM[row]), int(PARTNER[row])
        torch.testing.assert_close(inputs["pixel_values"][row], lam * x[row] + (1 - lam) * x[other])
        parts = [(labels[row], lam)] * (lam > 0) + [(labels[other], 1 - lam)] * (lam < 1)
        seen = torch.zeros(SIDE, SIDE, dtype=torch.long)
        for source, share in ((row, lam), (other, 1 - lam)):
            seen |= batch["pixel_mask"][source] * (share > 0)
        assert torch.equal(inputs["pixel_mask"][row], seen)
        target = inputs["labels"][row]
        for key in ("class_labels", "boxes"):
            assert torch.equal(target[key], torch.cat([part[key] for part, _ in parts]))
        weights = [share for part, share in parts for _ in part["boxes"]]
        torch.testing.assert_close(target["weights"], torch.tensor(weights))
    assert all(torch.equal(batch[key], value) for key, value in kept.items())
    assert all(set(each) == {"class_labels", "boxes"} for each in batch["labels"])
    assert "_loss_function" not in vars(model)


def test_one_row_and_rows_left_alone_are_as_they_were() -> None:
    model, batch = build_detector("yolos"), batch_for("yolos", rows=1)
    own = model(**batch).loss
    for settings in ({"lam": 0.4}, {"prob": 1e-9}):
        with Mixup({"method": "mixup", **settings})(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        torch.testing.assert_close(mixed.loss(outputs), own, rtol=1e-6, atol=1e-6)
    with pytest.raises(RuntimeError, match="boom"), Mixup("mixup")(model, batch_for("yolos")):
        raise RuntimeError("boom")
    torch.testing.assert_close(model(**batch).loss, own, rtol=0, atol=0)  # the model's own loss again


@pytest.mark.slow
def test_a_compiled_detector_has_the_same_loss() -> None:
    """The loss with weights, and matching, are never compiled."""
    torch._dynamo.reset()
    model, batch, mixup = build_detector("yolos"), batch_for("yolos"), Mixup("mixup")
    compiled, found = torch.compile(model, backend="eager"), []
    for runs in (compiled, model):
        mixup.set_step(0)
        with mixup(runs, batch) as mixed:
            found.append(mixed.loss(runs(**mixed.inputs)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    torch._dynamo.reset()


def rows_of(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(batch, values)) for values in zip(*batch.values())]


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    stacked = {key: torch.stack([row[key] for row in rows]) for key in rows[0] if key != "labels"}
    return {**stacked, "labels": [row["labels"] for row in rows]}


@pytest.mark.parametrize(("entry_point", "kind"), [("trainer", "yolos"), ("trainer", "rt_detr"), ("callback", "detr")])
def test_a_trainer_mixes_boxes_and_evaluates_as_ever(entry_point: str, kind: str, arguments: Any) -> None:
    model, held = build_detector(kind), rows_of(batch_for(kind, seed=5))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    args = arguments(
        gradient_accumulation_steps=2,
        per_device_train_batch_size=3,
        prediction_loss_only=True,
        logging_strategy="steps",
        logging_steps=1,
        remove_unused_columns=False,
    )
    settings = {"train_dataset": rows_of(batch_for(kind, 12)), "eval_dataset": held, "data_collator": collate}
    trainer = ENTRY_POINTS[entry_point](model, args, MixupConfig("mixup", alpha=1.5), **settings)
    trainer.train()
    logs = trainer.state.log_history[0]
    assert logs["mixup_rate"] == 1
    assert 0 < logs["mixup_lam"] < 1
    assert any(not torch.equal(one, other) for one, other in zip(before, model.parameters()))
    plain = Trainer(model, args, eval_dataset=held, data_collator=collate).evaluate()["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain, rel=1e-6)


def addressed(rows: int, size: int) -> Tensor:
    """Make images whose pixels say where they are from: row, line and column."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (rows, size, size)), indexing="ij"))
    return grid.movedim(0, 1).contiguous()


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_a_mosaic_has_what_it_shows_of_each_box(lam_per: str) -> None:
    """Of boxes on whole pixels, by looking for their pixels: all of four images, cut, tiny rests dropped."""
    model, generator, rows, dropped = build_detector("yolos"), torch.Generator().manual_seed(0), 6, 0
    labels = []
    for _ in range(rows):
        start = torch.randint(0, SIDE - 4, (5, 2), generator=generator)
        side = torch.minimum(torch.randint(1, 16, (5, 2), generator=generator), SIDE - start)
        corners = torch.cat([start, side], -1).float() / SIDE
        boxes = torch.cat([corners[:, :2] + corners[:, 2:] / 2, corners[:, 2:]], -1)
        labels.append({"class_labels": torch.arange(5) % CLASSES, "boxes": boxes})
    batch = {"pixel_values": addressed(rows, SIDE), "labels": labels}
    for seed in range(8):
        with Mixup({"method": "mosaic", "lam_per": lam_per, "draw_seed": seed})(model, batch) as mixed:
            seen = mixed.inputs["pixel_values"].long()
        for row in range(rows):
            source, y, x = seen[row]
            own = (source == row).float().mean()
            torch.testing.assert_close(own, mixed.lam[row], rtol=0, atol=1e-6)
            expected = []
            y0, x0 = mixed.draw.center.expand(rows, 2)[row].tolist()
            lower, right = torch.arange(SIDE)[:, None] >= y0, torch.arange(SIDE) >= x0
            for corner in ((~lower & ~right), (~lower & right), (lower & ~right), (lower & right)):
                if not corner.any():
                    continue
                where = int(source[corner][0])
                for box, label in zip(labels[where]["boxes"].tolist(), labels[where]["class_labels"].tolist()):
                    left, top, across, down = (round(SIDE * value) for value in (
                        box[0] - box[2] / 2, box[1] - box[3] / 2, box[2], box[3]))  # fmt: skip
                    inside = corner & (x >= left) & (x < left + across) & (y >= top) & (y < top + down)
                    count, places = int(inside.sum()), inside.nonzero()
                    if not count:
                        continue
                    (low_y, low_x), (high_y, high_x) = places.amin(0).tolist(), places.amax(0).tolist()
                    wide, high = high_x - low_x + 1, high_y - low_y + 1
                    if count < across * down and (count < 0.1 * across * down or min(wide, high) < 2):
                        dropped += 1
                        continue
                    expected.append(
                        (label, (low_x + wide / 2) / SIDE, (low_y + high / 2) / SIDE, wide / SIDE, high / SIDE)
                    )
            target = mixed.targets[row]
            found = [(int(label), *box) for label, box in zip(target["class_labels"], target["boxes"].tolist())]
            assert len(found) == len(expected)
            for one, other in zip(sorted(found), sorted(expected)):
                assert one == pytest.approx(other, abs=1e-5)
            assert bool((target["weights"] == 1).all())
    assert dropped > 20


def test_a_mosaic_trains_and_cuts_the_masks_of_padding(arguments: Any) -> None:
    model, batch = build_detector("detr"), batch_for("detr")
    with Mixup("mosaic")(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    loss.backward()
    both = torch.cat([batch["pixel_values"], batch["pixel_mask"][:, None].float()], 1)
    unchecked = Mixup({"method": "mosaic", "self_check": False})  # no model takes such pixels
    with unchecked(model, {"pixel_values": both, "labels": batch["labels"]}) as joined:
        pass
    assert torch.equal(joined.inputs["pixel_values"][:, 3].long(), mixed.inputs["pixel_mask"])
    for lam, expected in ((1.0, batch["pixel_values"]), (None, None)):
        one = {key: value[:1] for key, value in batch.items()}
        with Mixup("mosaic")(model, batch if lam else one, lam=lam) as alone:
            pass  # one row has nobody to be put beside
        assert torch.equal(alone.inputs["pixel_values"], one["pixel_values"] if expected is None else expected)
    args = arguments(max_steps=2, remove_unused_columns=False)
    rows = rows_of(batch_for("yolos", 8))
    config = MixupConfig("switch", methods=["mixup", "mosaic"])
    MixupTrainer(build_detector("yolos"), args, mixup=config, train_dataset=rows, data_collator=collate).train()


def test_refusals() -> None:
    model, batch = build_detector("yolos"), batch_for("yolos")

    def mix(method: Any, model: Any = model, **kwargs: Any) -> None:
        Mixup(method, **kwargs)(model, batch)

    for method in ("cutmix", "manifold", {"method": "switch", "methods": ["mixup", "cutmix"]}):
        with pytest.raises(ValueError, match=r"does not mix boxes: .*mixup"):
            mix(method)
    for setting in ({"label_smoothing": 0.1}, {"class_weights": [1.0] * 3}, {"loss": "bce"}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}.* does not go with boxes: Yolos"):
            mix({"method": "mixup", **setting})
    with pytest.raises(ValueError, match=r"distill_weight=0.5 \(a teacher\) does not go with boxes"):
        mix("mixup", teacher=build_detector("yolos", seed=1))
    other = type("DFineForObjectDetection", (YolosForObjectDetection,), {"loss_function": lambda *args: None})
    with pytest.raises(ValueError, match="DFineForObjectDetection learns boxes by a loss that takes no weights"):
        mix("mixup", other(YolosConfig(**model.config.to_diff_dict())))
    changed = build_detector("yolos")
    changed.config.eos_coefficient = 0.9
    own = changed.loss_function

    def heavier(*args: Any, **kwargs: Any) -> Any:
        loss, parts, auxiliary = own(*args, **kwargs)
        return loss * (1.0 if "weights" in args[1][0] else 1.5), parts, auxiliary

    import hf_mixup.engine.detection_loss as room

    room.WEIGHTED[heavier] = room.WEIGHTED[own]
    changed.loss_function = heavier
    try:
        with pytest.raises(RuntimeError, match=r"on two rows is .*, and .* with weights that are all 1"):
            mix("mixup", changed)
    finally:
        del room.WEIGHTED[heavier]
    assert changed.loss_function is heavier
