"""A number for each pixel (depth): blended or cut with the images, for the model's own loss, against loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor

from hf_mixup import Mixup, MixupConfig
from hf_mixup.engine.maps import MapBatch
from tests.dense_models import VIT, build, images

PARTNER, LAM = torch.tensor([1, 3, 0, 2]), torch.tensor([0.3, 0.8, 1.0, 0.0])
CUTS = ("cutmix", "resizemix", "fmix", "gridmix", "saliencymix", "mosaic")
ENDS = torch.tensor([1, 0, 0, 2])


def mixed_loss(model: Any, batch: dict[str, Any], method: Any, lam: float) -> Tensor:
    with Mixup(method)(model, batch, partner=ENDS, lam=lam) as mixed, torch.no_grad():
        return mixed.loss(model(**mixed.inputs))


@pytest.mark.parametrize("method", ["mixup", *CUTS])
def test_at_the_ends_the_loss_is_the_samples_own_or_the_partners(method: str) -> None:
    model, batch = build("glpn"), images("glpn")
    with torch.no_grad():
        own, others = model(**batch).loss, model(**{key: value[ENDS] for key, value in batch.items()}).loss
    assert abs(own - others) > 1e-4
    torch.testing.assert_close(mixed_loss(model, batch, method, 1.0), own, rtol=1e-5, atol=0)
    torch.testing.assert_close(mixed_loss(model, batch, method, 0.0), others, rtol=1e-5, atol=0)


def test_depths_are_blended_where_both_are_known() -> None:
    model, batch = build("glpn"), images("glpn")
    kept = {key: value.clone() for key, value in batch.items()}
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed, torch.no_grad():
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    expected, terms = batch["labels"].double(), []
    for row, line, column in torch.cartesian_prod(torch.arange(4), torch.arange(64), torch.arange(64)).tolist():
        own, other = (batch["labels"][each, line, column].item() for each in (row, int(PARTNER[row])))
        lam = LAM[row].item()
        unknown = (lam > 0 and own <= 0) or (lam < 1 and other <= 0)
        expected[row, line, column] = 0.0 if unknown else lam * own + (1 - lam) * other
        if not unknown:
            terms.append(
                math.log(lam * own + (1 - lam) * other) - outputs.predicted_depth[row, line, column].log().item()
            )
    torch.testing.assert_close(mixed.targets.double(), expected, rtol=1e-6, atol=0)
    square, mean = sum(each**2 for each in terms) / len(terms), sum(terms) / len(terms)
    assert loss.item() == pytest.approx(math.sqrt(square - mean**2 / 2), rel=1e-5)
    assert all(torch.equal(batch[key], kept[key]) for key in kept)


@pytest.mark.parametrize("method", ["cutmix", "fmix", "gridmix", "mosaic"])
def test_cut_depths_follow_their_pixels(method: str) -> None:
    model, batch = build("glpn"), images("glpn", rows=5)
    grid = torch.stack(torch.meshgrid(torch.arange(5.0), torch.arange(64.0), torch.arange(64.0), indexing="ij"))
    batch["pixel_values"] = grid.movedim(0, 1).contiguous()  # pixels that say where they are from
    changed = 0
    for seed in range(3):
        with Mixup({"method": method, "draw_seed": seed, "lam_per": "sample"})(model, batch) as mixed:
            sample, line, column = mixed.inputs["pixel_values"].long().unbind(1)
        assert torch.equal(mixed.inputs["labels"], batch["labels"][sample, line, column])
        changed += not torch.equal(mixed.inputs["labels"], batch["labels"])
    assert changed


class Painter(torch.nn.Module):
    """Says what it sees, for a loss that ignores some numbers, whatever the shape of the labels."""

    def __init__(self, ignores: Any) -> None:
        super().__init__()
        self.scale, self.ignores = torch.nn.Parameter(torch.ones(())), ignores

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.scale * pixel_values[:, 0]
        if labels is None:
            return {"logits": logits}
        labels = labels.reshape(logits.shape)
        valid = ~self.ignores(labels)
        return {"loss": (logits - labels)[valid].abs().mean(), "logits": logits}


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize(
    ("ignores", "numbers"),
    [
        (lambda x: torch.zeros_like(x, dtype=torch.bool), []),
        (lambda x: x <= 0, [0.0, -1.0, -3.5]),
        (lambda x: x == 0, [0.0]),
        (torch.isnan, [math.nan]),
        (lambda x: ~torch.isfinite(x), [math.nan, math.inf, -math.inf]),
        (lambda x: x < 0, [-1.0, -0.25]),
    ],
)
def test_what_a_loss_ignores_is_found_and_stays_unknown(ignores: Any, numbers: list[float], channel: bool) -> None:
    model, seen = Painter(ignores), [0.0, -1.0, -3.5, -0.25, 2.0, *(n for n in numbers if not math.isfinite(n))]
    own = torch.tensor(seen).repeat(len(seen), 1)
    labels = torch.stack([own, own.T])  # each number beside each
    labels = labels[:, None] if channel else labels
    batch = {"pixel_values": torch.randn(2, 3, len(seen), len(seen)), "labels": labels}
    with Mixup("mixup")(model, batch, partner=torch.tensor([1, 0]), lam=0.25) as mixed:
        loss = mixed.loss(mixed.forward(model))
    other = labels[[1, 0]]
    for mixed_number, one, two in zip(mixed.targets.flatten(), labels.flatten(), other.flatten()):
        unknown = [each for each in (one, two) if bool(ignores(each[None]))]
        if unknown:
            assert bool(ignores(mixed_number[None]))
            assert bool(torch.isclose(mixed_number, unknown[0], equal_nan=True))
        else:
            assert mixed_number == pytest.approx((0.25 * one + 0.75 * two).item())
    assert bool(torch.isfinite(loss))


@pytest.mark.parametrize("method", ["mixup", *CUTS])
def test_one_sample_is_left_alone(method: str) -> None:
    model, batch = build("glpn"), images("glpn", rows=1)
    with Mixup(method)(model, batch) as mixed, torch.no_grad():
        assert torch.equal(mixed.targets, batch["labels"])
        torch.testing.assert_close(mixed.loss(model(**mixed.inputs)), model(**batch).loss, rtol=1e-6, atol=0)


def test_half_precision_keeps_the_ends() -> None:
    model, batch = build("glpn"), images("glpn")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        own, others = model(**batch).loss, model(**{key: value[ENDS] for key, value in batch.items()}).loss
        ends = [mixed_loss(model, batch, "mixup", lam) for lam in (1.0, 0.0)]
    torch.testing.assert_close(torch.stack(ends), torch.stack([own, others]))


def depth_anything() -> Any:
    sizes = {key: value for key, value in VIT.items() if key != "intermediate_size"}
    backbone = tr.Dinov2Config(**sizes, out_features=["stage1", "stage2"], reshape_hidden_states=False)
    neck = {"reassemble_hidden_size": 16, "neck_hidden_sizes": [8, 8], "fusion_hidden_size": 8, "patch_size": 8}
    config = tr.DepthAnythingConfig(backbone_config=backbone, reassemble_factors=[2, 1], **neck)
    return tr.DepthAnythingForDepthEstimation(config)


def vitmatte() -> Any:
    backbone = tr.VitDetConfig(
        **{key: value for key, value in VIT.items() if key != "intermediate_size"},
        num_channels=4,
        out_features=["stage2"],
    )
    sizes = {"convstream_hidden_sizes": [4, 4, 4], "fusion_hidden_sizes": [8, 8, 8, 8]}
    return tr.VitMatteForImageMatting(tr.VitMatteConfig(backbone_config=backbone, hidden_size=16, **sizes))


def swin2sr() -> Any:
    config = tr.Swin2SRConfig(image_size=32, embed_dim=8, depths=[1], num_heads=[1], window_size=2, upscale=2)
    return tr.Swin2SRForImageSuperResolution(config)


def vitpose() -> Any:
    backbone = tr.VitPoseBackboneConfig(
        image_size=[32, 32], patch_size=[8, 8], hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return tr.VitPoseForPoseEstimation(tr.VitPoseConfig(backbone_config=backbone, num_labels=2, scale_factor=2))


@pytest.mark.parametrize("make", [depth_anything, vitmatte, swin2sr, vitpose])
def test_a_model_without_a_loss_is_named_with_the_reason(make: Any) -> None:
    """Depth, alpha mattes, larger images, and the heatmaps of keypoints: transformers has no loss for these."""
    model = make().eval()
    batch = {"pixel_values": torch.randn(2, 4 if make is vitmatte else 3, 32, 32), "labels": torch.rand(2, 1, 32, 32)}
    with pytest.raises(ValueError, match=rf"{type(model).__name__} has no loss to train on in transformers \(Training"):
        Mixup("mixup")(model, batch)


def test_what_does_not_go_with_depth_is_refused_with_a_way_out() -> None:
    model, batch = build("glpn"), images("glpn")
    for settings, message in (
        ({"method": "embedding"}, "method 'embedding' does not mix the numbers of pixels that GLPN.* use one of mixup"),
        ({"method": "regmixup"}, "method 'regmixup' does not mix the numbers of pixels"),
        ({"method": "attentive"}, "method 'attentive' asks a model for its classes .*: pass guide="),
        (
            {"loss": "bce"},
            "loss='bce' does not go with the numbers of pixels: GLPNForDepthEstimation computes",
        ),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1 does not go with"),
        ({"pair_class": "same"}, "pair_class='same' needs one integer label a row"),
    ):
        with pytest.raises(ValueError, match=message):
            Mixup({"method": "mixup", **settings})(model, batch)
    small = {**batch, "labels": batch["labels"][:, ::2, ::2]}
    with pytest.raises(ValueError, match="returns no loss for labels"):
        Mixup("mixup")(torch.nn.Identity(), batch)
    painter = Painter(torch.isnan)
    painter.forward = lambda pixel_values, labels=None: {"logits": pixel_values[:, 0], "loss": pixel_values.mean()}
    for method in CUTS:
        with pytest.raises(ValueError, match="labels of 32 x 32 pixels and images of 64 x 64"):
            Mixup(MixupConfig(method))(painter, small)


def test_other_floats_stay_what_they_were() -> None:
    assert not MapBatch.matches(build("vit"), {"pixel_values": torch.zeros(2, 3, 4, 4), "labels": torch.zeros(2, 3)})
    assert not MapBatch.matches(build("vit"), {"input_values": torch.zeros(2, 9), "labels": torch.zeros(2, 3, 4)})
